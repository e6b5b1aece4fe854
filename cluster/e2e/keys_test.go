package e2e_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// A key is sent 50 times at once, to both nodes and to one: whatever the request does, it does it once, and every answer
// is the first one, byte for byte, or says that the first is still on its way.
func TestFiftyRequestsWithOneKeyHaveOneEffect(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.operator)
	alice, bob := c.account("KRW", "1000000"), c.account("KRW", "0")
	const asked = 50
	rounds := 0
	for name, request := range onceRequests(c, alice, bob) {
		for place, bases := range map[string][]string{"both nodes": s.nodes, "one node": s.nodes[:1], "the balancer": {s.balancer}} {
			path, body, count := request(uuid.NewString())
			before := count()
			key := uuid.NewString()
			answers := make([]answer, asked)
			var wg sync.WaitGroup
			for i := range asked {
				wg.Go(func() {
					answers[i] = c.at(bases[i%len(bases)]).call(http.MethodPost, path, body, "Idempotency-Key", key, "Prefer", "wait=30")
				})
			}
			wg.Wait()
			first := oneFirst(t, name+" at "+place, answers)
			for _, base := range s.bases() {
				c.at(base).repeats(first, path, body, key)
			}
			if effects := count() - before; effects != 1 {
				t.Errorf("%s at %s: %d requests with one key had %d effects", name, place, asked, effects)
			}
			rounds++
		}
	}
	if rounds != 21 {
		t.Errorf("%d rounds were played, want 21", rounds)
	}
	s.verify(t)
}

// onceRequests makes one request of each kind that changes something, and counts its effects in the journal. mark is
// unlike any other request's.
func onceRequests(c caller, alice, bob string) map[string]func(mark string) (path string, body object, count func() int64) {
	s := c.site
	transfers := func(mark string) func() int64 {
		return func() int64 {
			return s.journal(c, `SELECT COUNT(*) FROM transfers t JOIN entries e ON e.transfer_id = t.id WHERE t.reference = ?`, mark) / 2
		}
	}
	marked := func(path string, body object) func(mark string) (string, object, func() int64) {
		return func(mark string) (string, object, func() int64) {
			return path, object{"account": body["account"], "from": body["from"], "to": body["to"], "amount": "10", "currency": "KRW", "reference": mark}.compact(), transfers(mark)
		}
	}
	held := func() int64 { return minor(c, c.fresh("/v1/accounts/"+alice).field("balance", "pending_debit")) / 10 }
	return map[string]func(mark string) (string, object, func() int64){
		"deposit":    marked("/v1/deposits", object{"account": alice}),
		"withdrawal": marked("/v1/withdrawals", object{"account": alice}),
		"transfer":   marked("/v1/transfers", object{"from": alice, "to": bob}),
		"batch": func(mark string) (string, object, func() int64) {
			one := payment(alice, bob, "1", "KRW")
			one["reference"] = mark
			return "/v1/batches", object{"transfers": []object{one}}, transfers(mark)
		},
		"hold": func(string) (string, object, func() int64) { return "/v1/holds", cash(alice, "10", "KRW"), held },
		"capture": func(string) (string, object, func() int64) {
			hold := c.post("/v1/holds", cash(alice, "10", "KRW")).expect(c, http.StatusCreated, "").field("id")
			return "/v1/holds/" + hold + "/capture", object{"to": bob}, func() int64 {
				return s.journal(c, "SELECT COUNT(*) FROM transfers WHERE hold_id = ?", hold)
			}
		},
		"account": func(mark string) (string, object, func() int64) {
			return "/v1/accounts", object{"currency": "KRW", "label": mark}, func() int64 {
				return s.journal(c, "SELECT COUNT(*) FROM accounts WHERE label = ?", mark)
			}
		},
	}
}

// compact leaves out what is not there.
func (o object) compact() object {
	for name, value := range o {
		if value == nil {
			delete(o, name)
		}
	}
	return o
}

// oneFirst requires that one of the answers is the first and every other one the same again, or "in progress".
func oneFirst(tb testing.TB, name string, answers []answer) answer {
	tb.Helper()
	var firsts []answer
	for _, got := range answers {
		if got.status >= 200 && got.status < 300 && got.header.Get("Idempotency-Replayed") == "" {
			firsts = append(firsts, got)
		}
	}
	if len(firsts) != 1 {
		tb.Fatalf("%s: %d of %d answers are a first one: %v", name, len(firsts), len(answers), answers)
	}
	replayed, waiting := 0, 0
	for _, got := range answers {
		switch {
		case got.status == http.StatusConflict && got.field("code") == "request_in_progress" &&
			got.field("outcome") == "unknown" && got.field("retry") == "same-key" && got.header.Get("Retry-After") != "":
			waiting++
		case same(got, firsts[0]):
			replayed++
		default:
			tb.Errorf("%s: an answer is %v with %v, the first is %v", name, got, got.header, firsts[0])
		}
	}
	tb.Logf("%s: 1 first answer, %d replays, %d in progress", name, replayed-1, waiting)
	return firsts[0]
}

// same tells whether two answers are the same byte for byte, but for what is each answer's own.
func same(a, b answer) bool {
	return a.status == b.status && bytes.Equal(a.body, b.body) && a.header.Get("Location") == b.header.Get("Location") &&
		a.header.Get("Content-Type") == b.header.Get("Content-Type")
}

// repeats requires the first answer to a repeated request, now that it is there.
func (c caller) repeats(first answer, path string, body any, key string) {
	c.Helper()
	got := c.call(http.MethodPost, path, body, "Idempotency-Key", key, "Accept-Language", "ko")
	if !same(got, first) || got.header.Get("Idempotency-Replayed") != "true" {
		c.Errorf("the repeat of %s at %s is %v with %v, the first answer was %v", path, c.base, got, got.header, first)
	}
}

// A key stands for what was asked: another body, another hold with the same body, another currency under it is refused
// and does nothing, and so is its repeat; white space and the order of fields are no other request. A refusal is an
// answer too.
func TestKeyStandsForWhatWasAsked(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.client)
	alice, bob := c.account("KRW", "1000"), c.account("KRW", "0")
	under := func(key, base, path string, body any) answer {
		return c.at(base).call(http.MethodPost, path, body, "Idempotency-Key", key)
	}
	key := uuid.NewString()
	first := under(key, s.nodes[0], "/v1/transfers", payment(alice, bob, "100", "KRW")).expect(t, http.StatusCreated, "")
	reused := 0
	for _, base := range s.bases() {
		for _, body := range []object{payment(alice, bob, "101", "KRW"), payment(bob, alice, "100", "KRW"), payment(alice, bob, "100", "USD")} {
			got := under(key, base, "/v1/transfers", body).expect(t, 422, "idempotency_key_reused")
			if got.field("outcome") != "not_applied" || got.field("retry") != "new-key" {
				t.Errorf("a reused key is answered with %v", got)
			}
			reused++
		}
		spaced := "{ \"currency\":\"KRW\",\n\"amount\" : \"100\", \"to\":\"" + bob + "\", \"from\":\"" + alice + "\" }"
		c.at(base).repeats(first, "/v1/transfers", spaced, key)
		quoted := under(`"`+key+`"`, base, "/v1/transfers", payment(alice, bob, "100", "KRW"))
		if !same(quoted, first) {
			t.Errorf("the quoted key gets %v", quoted)
		}
	}
	// The scope of a key is the caller and the route.
	under(key, s.balancer, "/v1/withdrawals", cash(alice, "1", "KRW")).expect(t, http.StatusCreated, "")
	s.as(t, s.operator).call(http.MethodPost, "/v1/deposits", cash(alice, "1", "KRW"), "Idempotency-Key", key).expect(t, http.StatusCreated, "")

	poor := uuid.NewString()
	refused := under(poor, s.nodes[0], "/v1/transfers", payment(bob, alice, "101", "KRW")).expect(t, 422, "insufficient_funds")
	c.post("/v1/deposits", cash(bob, "500", "KRW")).expect(t, http.StatusCreated, "")
	c.at(s.nodes[1]).repeats(refused, "/v1/transfers", payment(bob, alice, "101", "KRW"), poor)
	if got := [2]string{c.posted(alice), c.posted(bob)}; got != [2]string{"900", "600"} || reused != 9 {
		t.Errorf("after %d reused keys the accounts have %v", reused, got)
	}
}

// The same key and the same body on two holds are two requests: the path belongs to what was asked.
func TestKeyOfOneHoldIsNotThatOfAnother(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.client)
	alice, bob := c.account("KRW", "1000"), c.account("KRW", "0")
	hold := func() string {
		body := cash(alice, "10", "KRW")
		body["to"] = bob
		return "/v1/holds/" + c.post("/v1/holds", body).expect(t, http.StatusCreated, "").field("id")
	}
	for _, end := range []string{"/capture", "/void"} {
		one, two, key := hold(), hold(), uuid.NewString()
		first := c.at(s.nodes[0]).call(http.MethodPost, one+end, object{}, "Idempotency-Key", key).expect(t, http.StatusOK, "")
		for _, base := range s.bases() {
			c.at(base).call(http.MethodPost, two+end, object{}, "Idempotency-Key", key).expect(t, 422, "idempotency_key_reused")
			c.at(base).repeats(first, one+end, object{}, key)
		}
		if state := c.fresh(two).field("state"); state != "pending" {
			t.Errorf("after %s under the key of another hold it is %s", end, state)
		}
	}
	if got := c.balance(alice); got != "990 posted, 20 held, 970 available" {
		t.Errorf("the payer has %s", got)
	}
}

// Keys of any visible text of up to 255 characters are good, and each is a key of its own.
func TestKeysMayBeAnyVisibleText(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.client)
	number := c.account("KRW", "0")
	keys := []string{"a", "A", strings.Repeat("k", 255), strings.Repeat("k", 254), `"` + strings.Repeat("q", 255) + `"`, "~!@#$%^&*()_+{}|:<>?`-=[];',./", `"with\"quotes\""`}
	for _, key := range keys {
		c.call(http.MethodPost, "/v1/deposits", cash(number, "1", "KRW"), "Idempotency-Key", key).expect(t, http.StatusCreated, "")
		again := c.call(http.MethodPost, "/v1/deposits", cash(number, "1", "KRW"), "Idempotency-Key", key).expect(t, http.StatusCreated, "")
		if again.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("the key %.30q was new a second time", key)
		}
	}
	if got := minor(t, c.posted(number)); got != int64(len(keys)) {
		t.Errorf("%d keys had %d effects", len(keys), got)
	}
}
