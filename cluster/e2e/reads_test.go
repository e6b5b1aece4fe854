package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/google/uuid"
)

// A label is its owner's to change; a payer sees it masked.
func TestLabelIsTheOwnersAndPayersSeeItMasked(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c, operator := s.as(t, s.client), s.as(t, s.operator)
	number := c.account("KRW", "0")
	for _, base := range s.bases() {
		label := "홍길동 " + uuid.NewString()[:8]
		got := c.at(base).call(http.MethodPatch, "/v1/accounts/"+number, object{"label": label}).expect(t, http.StatusOK, "")
		if got.field("label") != label || c.fresh("/v1/accounts/"+number).field("label") != label {
			t.Errorf("the label %q is answered with %v", label, got)
		}
	}
	payee := operator.fresh("/v1/payees/" + number)
	if name := payee.field("name"); payee.field("currency") != "KRW" || name[:len("홍*동 ")] != "홍*동 " {
		t.Errorf("the payee reads %v", payee)
	}
	operator.get("/v1/payees/"+nobody("alpha"), "Cache-Control", "no-cache").expect(t, http.StatusNotFound, "account_not_found")
	operator.get("/v1/payees/"+nobody("nowhere")).expect(t, 422, "peer_unknown")
}

// Filters of transfers and entries show what they name and nothing else.
func TestFiltersShowWhatTheyName(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.client)
	alice, bob := c.account("KRW", "1000"), c.account("KRW", "0")
	reference := uuid.NewString()
	noted := payment(alice, bob, "10", "KRW")
	noted["reference"], noted["description"] = reference, "집세, rent"
	first := c.post("/v1/transfers", noted).expect(t, http.StatusCreated, "")
	c.post("/v1/transfers", payment(alice, bob, "20", "KRW")).expect(t, http.StatusCreated, "")
	c.post("/v1/withdrawals", cash(alice, "30", "KRW")).expect(t, http.StatusCreated, "")
	held := c.post("/v1/holds", cash(alice, "40", "KRW")).expect(t, http.StatusCreated, "")
	last := c.post("/v1/holds/"+held.field("id")+"/capture", object{"to": bob}).expect(t, http.StatusOK, "")
	ended := c.fresh("/v1/transfers/" + last.field("transfer_id")).field("created_at")
	for filter, want := range map[string]int{ // of alice's five: a deposit, two transfers, a withdrawal, a capture
		"":                              5,
		"kind=transfer":                 2,
		"kind=deposit":                  1,
		"kind=withdrawal":               1,
		"kind=capture":                  1,
		"reference=" + reference:        1,
		"reference=" + uuid.NewString(): 0,
		"state=posted":                  5,
		"state=voided":                  0,
		"kind=transfer&state=posted":    2,
		"created_from=" + url.QueryEscape(first.field("created_at")): 4,
		"created_to=" + url.QueryEscape(first.field("created_at")):   1,
		"created_from=" + url.QueryEscape(ended):                     1,
		"created_from=2999-01-01T00:00:00Z":                          0,
		"created_to=1999-01-01T00:00:00Z":                            0,
	} {
		transfers := c.fresh("/v1/transfers?account=" + alice + "&" + filter)
		entries := c.fresh("/v1/accounts/" + alice + "/entries?" + filter)
		if got := [2]int{transfers.length("transfers"), entries.length("entries")}; got != [2]int{want, want} {
			t.Errorf("%q shows %d transfers and %d entries, want %d", filter, got[0], got[1], want)
		}
	}
	one := c.fresh("/v1/transfers?reference=" + reference)
	if one.field("transfers", "0", "id") != first.field("id") || one.field("transfers", "0", "description") != "집세, rent" {
		t.Errorf("the reference leads to %v", one)
	}
}

// length counts the items of a list.
func (a answer) length(list string) int {
	var read map[string]json.RawMessage
	var items []json.RawMessage
	if json.Unmarshal(a.body, &read) != nil || json.Unmarshal(read[list], &items) != nil {
		return -1
	}
	return len(items)
}

// Pages of any size lead through a list once, and a cursor fits no other list.
func TestCursorsLeadThroughAListOnce(t *testing.T) {
	t.Parallel()
	s := shared(t)
	owner := s.newClient(t, "accounts:read accounts:write money:deposit money:read")
	c := s.as(t, owner)
	var numbers []string
	for range 9 {
		numbers = append(numbers, c.account("KRW", "0"))
	}
	for range 9 {
		c.post("/v1/deposits", cash(numbers[0], "1", "KRW")).expect(t, http.StatusCreated, "")
	}
	slices.Sort(numbers)
	for _, limit := range []int{1, 2, 3, 8, 9, 10, 200} {
		var accounts, transfers, entries int
		var read []string
		pages := c.pages(fmt.Sprintf("/v1/accounts?limit=%d", limit), func(page []byte) {
			a := answer{body: page}
			for i := range a.length("accounts") {
				read = append(read, a.field("accounts", fmt.Sprint(i), "number"))
			}
			accounts += a.length("accounts")
		})
		c.pages(fmt.Sprintf("/v1/transfers?limit=%d", limit), func(page []byte) { transfers += answer{body: page}.length("transfers") })
		c.pages(fmt.Sprintf("/v1/accounts/%s/entries?limit=%d", numbers[0], limit), func(page []byte) {
			entries += answer{body: page}.length("entries")
		})
		if !slices.Equal(read, numbers) || transfers != 9 || entries != 9 {
			t.Errorf("by pages of %d there are %d accounts, %d transfers and %d entries, want 9 each", limit, accounts, transfers, entries)
		}
		if want := max(1, (9+limit-1)/limit); pages != want {
			t.Errorf("9 accounts came on %d pages of %d, want %d", pages, limit, want)
		}
	}
	cursor := c.fresh("/v1/accounts?limit=1").field("next_cursor")
	for _, path := range []string{"/v1/transfers?cursor=" + cursor, "/v1/accounts/" + numbers[0] + "/entries?cursor=" + cursor} {
		c.get(path).expect(t, http.StatusBadRequest, "invalid_request")
	}
	other := c.fresh("/v1/accounts/" + numbers[0] + "/entries?limit=1").field("next_cursor")
	c.get("/v1/accounts/"+numbers[1]+"/entries?cursor="+other).expect(t, http.StatusBadRequest, "invalid_request")
	operator := s.as(t, s.operator)
	if got := operator.fresh("/v1/accounts?owner=client:" + owner.ClientID).length("accounts"); got != 9 {
		t.Errorf("the operator sees %d accounts of the owner, want 9", got)
	}
	c.get("/v1/accounts?owner=client:"+s.operator.ClientID).expect(t, http.StatusForbidden, "forbidden")
}

// A read that carries the token of a write sees it, wherever it goes; one that asks for no cache reads the source.
func TestConsistencyTokenReadsOnesOwnWrites(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.client)
	number := c.account("KRW", "0")
	from := map[string]int{}
	const rounds = 60
	for i := 1; i <= rounds; i++ {
		paid := c.at(s.bases()[i%3]).post("/v1/deposits", cash(number, "1", "KRW")).expect(t, http.StatusCreated, "")
		token := paid.header.Get("Consistency-Token")
		got := c.at(s.bases()[(i+1)%3]).get("/v1/accounts/"+number, "Consistency-Token", token).expect(t, http.StatusOK, "")
		from[got.header.Get("Read-From")]++
		if posted := got.field("balance", "posted"); posted != fmt.Sprint(i) {
			t.Fatalf("after %d deposits a read with the token from the %s shows %s", i, got.header.Get("Read-From"), posted)
		}
		if sourced := c.fresh("/v1/accounts/" + number); sourced.header.Get("Read-From") != "source" {
			t.Errorf("a read with no-cache came from the %s", sourced.header.Get("Read-From"))
		}
	}
	t.Logf("%d reads with a token came from %v", rounds, from)
	if from["replica"] == 0 {
		t.Error("no read with a token came from a replica, so the token was not put to the test")
	}
	if from["replica"]+from["source"] != rounds {
		t.Errorf("Read-From says %v", from)
	}
	for _, odd := range []string{"nonsense", "", "AQ"} {
		c.get("/v1/accounts/"+number, "Consistency-Token", odd).expect(t, http.StatusOK, "")
	}
}

// The trial balance sums every currency to zero, and shows what is held.
func TestTrialBalanceIsBalanced(t *testing.T) {
	t.Parallel()
	s := shared(t)
	operator := s.as(t, s.operator)
	number := operator.account("JPY", "500") // no other test keeps yen
	operator.post("/v1/holds", cash(number, "120", "JPY")).expect(t, http.StatusCreated, "")
	got := operator.fresh("/v1/proofs/trial-balance")
	if got.field("balanced") != "true" || got.field("system") != "alpha" {
		t.Errorf("the trial balance is %v", got)
	}
	for i := range got.length("currencies") {
		line := func(name string) string { return got.field("currencies", fmt.Sprint(i), name) }
		if line("currency") == "JPY" {
			if sums := line("entries") + " " + line("posted") + " " + line("pending_debit"); sums != "0 0 120" {
				t.Errorf("entries, posted and pending debit in yen sum to %s, want 0 0 120", sums)
			}
			return
		}
	}
	t.Errorf("there is no line for yen: %v", got)
}
