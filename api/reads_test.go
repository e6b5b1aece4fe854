package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"lockstep/api"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// Pages read one after the other, while entries are added, show each entry of the beginning once.
func TestPagesMissAndRepeatNothing(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "1000")
	pay := func() {
		e.post(t, "alice", "/v1/withdrawals", fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, account)).expect(t, 201, "")
	}
	for range 6 {
		pay()
	}
	for _, list := range []struct{ path, items, id string }{
		{"/v1/accounts/" + account + "/entries", "entries", "id"}, {"/v1/transfers", "transfers", "id"},
	} {
		var seen []string
		for cursor := ""; ; {
			page := e.get(t, "alice", list.path+"?limit=3&cursor="+cursor).expect(t, 200, "")
			pay()
			for i := 0; ; i++ {
				id := page.field(list.items, fmt.Sprint(i), list.id)
				if id == "" {
					break
				}
				seen = append(seen, id)
			}
			if cursor = page.field("next_cursor"); cursor == "" {
				break
			}
		}
		unique := slices.Clone(seen)
		slices.Sort(unique)
		if len(slices.Compact(unique)) != len(seen) || len(seen) < 7 {
			t.Errorf("%s: %v", list.path, seen)
		}
	}
}

func TestAccountsPageInOrder(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	var opened []string
	for range 5 {
		opened = append(opened, e.open(t, "alice", ""))
		e.open(t, "bob", "")
	}
	var seen []string
	for cursor := ""; ; {
		page := e.get(t, "alice", "/v1/accounts?limit=2&cursor="+cursor).expect(t, 200, "")
		for i := 0; page.field("accounts", fmt.Sprint(i), "number") != ""; i++ {
			seen = append(seen, page.field("accounts", fmt.Sprint(i), "number"))
		}
		if cursor = page.field("next_cursor"); cursor == "" {
			break
		}
	}
	if !slices.Equal(seen, opened) {
		t.Errorf("saw %v, opened %v", seen, opened)
	}
	if all := e.get(t, "operator", "/v1/accounts"); all.field("accounts", "9", "number") == "" {
		t.Errorf("an operator sees %v", all)
	}
	if bobs := e.get(t, "operator", "/v1/accounts?owner=client:bob"); bobs.field("accounts", "5", "number") != "" || bobs.field("accounts", "4", "owner") != "client:bob" {
		t.Errorf("an operator sees of bob %v", bobs)
	}
}

func TestStatementShowsBothDirections(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "1000")
	e.post(t, "alice", "/v1/withdrawals", fmt.Sprintf(`{"account":%q,"amount":"300","currency":"KRW"}`, account)).expect(t, 201, "")
	statement := e.get(t, "alice", "/v1/accounts/"+account+"/entries").expect(t, 200, "")
	for path, want := range map[string]string{
		"0 direction": "debit", "0 amount": "300", "0 balance_after": "700", "0 counterparty": "cash", "0 sequence": "2",
		"1 direction": "credit", "1 amount": "1000", "1 balance_after": "1000", "1 kind": "deposit", "1 id": account + ".1",
	} {
		if got := statement.field(append([]string{"entries"}, strings.Fields(path)...)...); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// To a stranger an account that is there and one that is not are the same.
func TestStrangersSeeNothing(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	alice := e.open(t, "alice", "1000")
	missing := ledger.NewNumber("alpha", 999_999)
	deposit := e.get(t, "alice", "/v1/transfers").field("transfers", "0", "id")
	for _, number := range []string{alice, string(missing), string(ledger.NewNumber("beta", 1000)), string(ledger.NewNumber("alpha", 1))} {
		for _, path := range []string{"/v1/accounts/" + number, "/v1/accounts/" + number + "/entries", "/v1/transfers?account=" + number} {
			got := e.get(t, "bob", path).expect(t, 404, "account_not_found")
			if got.field("detail") != "There is no account "+number+"." {
				t.Errorf("got %v", got)
			}
		}
		body := fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, number)
		e.post(t, "bob", "/v1/withdrawals", body).expect(t, 404, "account_not_found")
		e.post(t, "bob", "/v1/holds", body).expect(t, 404, "account_not_found")
		e.do(t, "PATCH", "/v1/accounts/"+number, `{"label":"mine"}`, as("bob", "")...).expect(t, 404, "account_not_found")
		e.do(t, "PATCH", "/v1/accounts/"+number, `{"overdraft_limit":"1"}`, as("bob", "")...).expect(t, 404, "account_not_found")
	}
	for _, id := range []string{deposit, uuid.NewString(), "x", strings.ToUpper(deposit)} {
		e.get(t, "bob", "/v1/transfers/"+id).expect(t, 404, "transfer_not_found")
	}
	e.get(t, "alice", "/v1/transfers/"+deposit).expect(t, 200, "")
	e.get(t, "agent", "/v1/transfers/"+deposit).expect(t, 200, "")
	e.get(t, "operator", "/v1/transfers/"+deposit).expect(t, 200, "")
	// An operator looks at everything, and pays from nothing that is not its own.
	e.get(t, "operator", "/v1/accounts/"+alice).expect(t, 200, "")
	e.post(t, "operator", "/v1/withdrawals", fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, alice)).expect(t, 404, "account_not_found")
}

func TestPayeeSeesTheTransfer(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	alice, bob := e.open(t, "alice", "10"), e.open(t, "bob", "")
	id := e.post(t, "alice", "/v1/transfers", fmt.Sprintf(`{"from":%q,"to":%q,"amount":"1","currency":"KRW"}`, alice, bob)).expect(t, 201, "").field("id")
	e.get(t, "bob", "/v1/transfers/"+id).expect(t, 200, "")
	if got := e.get(t, "bob", "/v1/transfers?kind=transfer"); got.field("transfers", "0", "id") != id {
		t.Errorf("the payee lists %v", got)
	}
	e.get(t, "carol", "/v1/transfers/"+id).expect(t, 404, "transfer_not_found")
}

// A person may deposit into an own account only; a program with the scope into any.
func TestDepositorsAreProgramsOrOwners(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	alice, carol := e.open(t, "alice", ""), e.open(t, "carol", "")
	deposit := func(who, account string) answer {
		return e.post(t, who, "/v1/deposits", fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, account))
	}
	deposit("teller", alice).expect(t, 201, "")
	deposit("carol", carol).expect(t, 201, "")
	deposit("carol", alice).expect(t, 404, "account_not_found")
}

func TestOperatorsAmendAndOwnersRelabel(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	alice := e.open(t, "alice", "10")
	patch := func(who, body string) answer { return e.do(t, "PATCH", "/v1/accounts/"+alice, body, as(who, "")...) }
	if got := patch("alice", `{"label":"Rent"}`).expect(t, 200, ""); got.field("label") != "Rent" || got.header.Get("Consistency-Token") == "" {
		t.Errorf("got %v", got)
	}
	patch("alice", `{"status":"frozen"}`).expect(t, 403, "forbidden")
	patch("alice", `{"overdraft_limit":"5"}`).expect(t, 403, "forbidden")
	patch("operator", `{"status":"melted"}`).expect(t, 400, "invalid_request")
	patch("operator", `{"owner":"nobody"}`).expect(t, 400, "invalid_request")
	patch("operator", `{"overdraft_limit":"1.5"}`).expect(t, 400, "invalid_amount")
	patch("operator", `{}`).expect(t, 400, "invalid_request")
	patch("operator", `{"status":"closed"}`).expect(t, 409, "invalid_state")
	if got := patch("operator", `{"overdraft_limit":"50","status":"frozen"}`).expect(t, 200, ""); got.field("balance", "available") != "60" || got.field("status") != "frozen" {
		t.Errorf("got %v", got)
	}
	e.post(t, "alice", "/v1/withdrawals", fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, alice)).expect(t, 422, "account_frozen")
}

func TestOnlyOperatorsOpenForOthers(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	body := `{"currency":"USD","owner":"user:dora","overdraft_limit":"12.34"}`
	e.post(t, "alice", "/v1/accounts", body).expect(t, 403, "forbidden")
	opened := e.post(t, "operator", "/v1/accounts", body).expect(t, 201, "")
	if opened.field("owner") != "user:dora" || opened.field("balance", "available") != "12.34" || opened.header.Get("Location") != "/v1/accounts/"+opened.field("number") {
		t.Errorf("got %v", opened)
	}
	if got := e.post(t, "agent", "/v1/accounts", `{"currency":"KRW"}`).expect(t, 201, ""); got.field("owner") != "client:alice" {
		t.Errorf("an agent's account belongs to %v", got)
	}
	e.post(t, "alice", "/v1/accounts", `{"currency":"JPY"}`).expect(t, 400, "invalid_request")
	e.post(t, "alice", "/v1/accounts", `{"currency":"KRW","label":"`+strings.Repeat("가", 101)+`"}`).expect(t, 400, "invalid_request")
}

func TestPayeeIsShownMasked(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	number := e.post(t, "bob", "/v1/accounts", `{"currency":"KRW","label":"홍길동 생활비"}`).field("number")
	if got := e.get(t, "alice", "/v1/payees/"+number).expect(t, 200, ""); got.field("name") != "홍*동 생*비" || got.field("currency") != "KRW" {
		t.Errorf("got %v", got)
	}
	e.get(t, "alice", "/v1/payees/"+string(ledger.NewNumber("alpha", 77777))).expect(t, 404, "account_not_found")
	e.get(t, "alice", "/v1/payees/"+string(ledger.NewNumber("beta", 1000))).expect(t, 422, "peer_unknown")
	for name, want := range map[string]string{"": "", "A": "A", "Al": "A*", "Bob": "B*b", "  Jo  Smith ": "J* S***h"} {
		if got := api.Masked(name); got != want {
			t.Errorf("%q is masked as %q, want %q", name, got, want)
		}
	}
}

func TestReadsSayHowFreshTheyAreAndShouldBe(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "10")
	for _, c := range []struct {
		headers []string
		want    store.Consistency
		from    string
	}{
		{nil, store.Consistency{}, "replica"},
		{[]string{"Consistency-Token", "t1"}, store.Consistency{Token: "t1"}, "replica"},
		{[]string{"Cache-Control", "max-age=0, No-Cache"}, store.Consistency{Source: true}, "source"},
	} {
		for _, path := range []string{"/v1/accounts/" + account, "/v1/accounts", "/v1/accounts/" + account + "/entries", "/v1/transfers", "/v1/proofs/trial-balance"} {
			got := e.get(t, "operator", path, c.headers...).expect(t, 200, "")
			e.bank.set(func() {
				if last := e.bank.wants[len(e.bank.wants)-1]; last != c.want || got.header.Get("Read-From") != c.from {
					t.Errorf("%s with %v asked for %+v and says %q", path, c.headers, last, got.header.Get("Read-From"))
				}
			})
		}
	}
	e.bank.set(func() { e.bank.readFail = func() error { return ledger.Refuse(ledger.SourceUnavailable, "away") } })
	got := e.get(t, "alice", "/v1/accounts/"+account).expect(t, 503, "source_unavailable")
	if got.header.Get("Retry-After") == "" || got.header.Get("Read-From") != "" {
		t.Errorf("headers are %v", got.header)
	}
}
