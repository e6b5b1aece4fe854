package api_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
	"lockstep/node/posting"
)

func TestMoneyGoesInAcrossAndOut(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	alice, bob := e.open(t, "alice", "10000"), e.open(t, "bob", "")
	paid := e.post(t, "alice", "/v1/transfers", fmt.Sprintf(`{"from":%q,"to":%q,"amount":"1500","currency":"KRW","reference":"r1"}`, alice, bob)).expect(t, 201, "")
	if got := paid.header.Get("Location"); got != "/v1/transfers/"+paid.field("id") {
		t.Errorf("Location is %q", got)
	}
	if paid.header.Get("Consistency-Token") != "t1" || paid.header.Get("Content-Type") != "application/json" {
		t.Errorf("headers are %v", paid.header)
	}
	e.post(t, "bob", "/v1/withdrawals", fmt.Sprintf(`{"account":%q,"amount":"500","currency":"KRW"}`, bob)).expect(t, 201, "")
	for number, want := range map[string]string{alice: "8500", bob: "1000"} {
		got := e.get(t, "operator", "/v1/accounts/"+number).expect(t, 200, "")
		if got.field("balance", "available") != want {
			t.Errorf("%s has %v, want %s", number, got, want)
		}
	}
}

func TestOverdraftIsRefusedInBothLanguages(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "100")
	body := fmt.Sprintf(`{"account":%q,"amount":"101","currency":"KRW"}`, account)
	english := e.post(t, "alice", "/v1/withdrawals", body).expect(t, 422, "insufficient_funds")
	if english.field("title") != "Insufficient funds" || english.field("retry") != "new-key" || english.field("outcome") != "not_applied" {
		t.Errorf("got %v", english)
	}
	korean := e.post(t, "alice", "/v1/withdrawals", body, "Accept-Language", "ko-KR,ko;q=0.9,en;q=0.8").expect(t, 422, "insufficient_funds")
	if korean.field("title") != "잔액부족" || strings.Contains(korean.field("detail"), "account") {
		t.Errorf("got %v", korean)
	}
	if korean.field("request_id") != korean.header.Get("Request-Id") || korean.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %v with %v", korean, korean.header)
	}
}

func TestRepeatGetsTheFirstAnswerByteForByte(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "100")
	for _, amount := range []string{"60", "70"} { // posted, then refused for the rest is 40
		key := uuid.NewString()
		body := fmt.Sprintf(`{"account":%q,"amount":%q,"currency":"KRW"}`, account, amount)
		first := e.do(t, "POST", "/v1/withdrawals", body, as("alice", key)...)
		spaced := strings.NewReplacer(":", " : ", ",", " ,\n").Replace(body)
		repeat := e.do(t, "POST", "/v1/withdrawals", spaced, as("alice", `"`+key+`"`, "Accept-Language", "ko")...)
		if first.status != repeat.status || !bytes.Equal(first.body, repeat.body) || first.header.Get("Location") != repeat.header.Get("Location") {
			t.Errorf("first %v, repeat %v", first, repeat)
		}
		if first.header.Get("Idempotency-Replayed") != "" || repeat.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("replayed: first %q, repeat %q", first.header.Get("Idempotency-Replayed"), repeat.header.Get("Idempotency-Replayed"))
		}
		if first.header.Get("Request-Id") == repeat.header.Get("Request-Id") {
			t.Error("the repeat has the request id of the first")
		}
	}
}

func TestKeyIsOfItsCallerRouteAndContents(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "1000")
	key := uuid.NewString()
	body := fmt.Sprintf(`{"account":%q,"amount":"10","currency":"KRW"}`, account)
	e.do(t, "POST", "/v1/withdrawals", body, as("alice", key)...).expect(t, 201, "")
	e.do(t, "POST", "/v1/withdrawals", strings.Replace(body, `"10"`, `"11"`, 1), as("alice", key)...).expect(t, 422, "idempotency_key_reused")
	// An agent of the same owner has keys of its own, and another route has as well.
	fresh := e.do(t, "POST", "/v1/withdrawals", body, as("agent", key)...).expect(t, 201, "")
	if fresh.header.Get("Idempotency-Replayed") != "" {
		t.Error("the key of one client was taken for that of another")
	}
	e.do(t, "POST", "/v1/deposits", body, as("alice", key)...).expect(t, 201, "")
}

// The same body and key on two holds are two requests: the path is part of the meaning.
func TestFingerprintCoversThePath(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "1000")
	body := fmt.Sprintf(`{"account":%q,"amount":"10","currency":"KRW"}`, account)
	one := e.post(t, "alice", "/v1/holds", body).expect(t, 201, "").field("id")
	two := e.post(t, "alice", "/v1/holds", body).expect(t, 201, "").field("id")
	key := uuid.NewString()
	e.do(t, "POST", "/v1/holds/"+one+"/void", "{}", as("alice", key)...).expect(t, 200, "")
	e.do(t, "POST", "/v1/holds/"+two+"/void", "{}", as("alice", key)...).expect(t, 422, "idempotency_key_reused")
	again := e.do(t, "POST", "/v1/holds/"+one+"/void", "", as("alice", key)...).expect(t, 200, "")
	if again.header.Get("Idempotency-Replayed") != "true" {
		t.Error("no body is another request than an empty object")
	}
}

func TestBatchIsAllOrNoneUnlessItSaysOtherwise(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	alice, bob := e.open(t, "alice", "100"), e.open(t, "bob", "")
	transfers := fmt.Sprintf(`[{"from":%q,"to":%q,"amount":"60","currency":"KRW"},{"from":%q,"to":%q,"amount":"70","currency":"KRW"}]`, alice, bob, alice, bob)
	refused := e.post(t, "alice", "/v1/batches", `{"transfers":`+transfers+`}`).expect(t, 422, "insufficient_funds")
	if !strings.HasPrefix(refused.field("detail"), "Transfer 2 of the batch") {
		t.Errorf("got %v", refused)
	}
	mixed := e.post(t, "alice", "/v1/batches", `{"atomic":false,"transfers":`+transfers+`}`).expect(t, 201, "")
	if mixed.field("results", "0", "state") != "posted" || mixed.field("results", "1", "code") != "insufficient_funds" {
		t.Errorf("got %v", mixed)
	}
	e.post(t, "alice", "/v1/batches", `{"transfers":[]}`).expect(t, 400, "invalid_request")
	many := strings.Repeat(transfers[1:len(transfers)-1]+",", 50) + transfers[1:len(transfers)-1]
	e.post(t, "alice", "/v1/batches", `{"transfers":[`+many+`]}`).expect(t, 400, "invalid_request")
}

func TestHoldIsCapturedOrVoidedOnce(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	alice, bob := e.open(t, "alice", "100"), e.open(t, "bob", "")
	hold := func(more string) string {
		t.Helper()
		made := e.post(t, "alice", "/v1/holds", fmt.Sprintf(`{"account":%q,"amount":"40","currency":"KRW"%s}`, alice, more)).expect(t, 201, "")
		if made.header.Get("Location") != "/v1/holds/"+made.field("id") || made.field("state") != "pending" {
			t.Errorf("got %v", made)
		}
		return "/v1/holds/" + made.field("id")
	}
	toBob := hold(fmt.Sprintf(`,"to":%q,"expires_in_seconds":60`, bob))
	e.post(t, "bob", toBob+"/capture", "{}").expect(t, 404, "hold_not_found")
	e.get(t, "bob", toBob).expect(t, 404, "hold_not_found")
	e.get(t, "operator", toBob).expect(t, 200, "")
	e.post(t, "alice", toBob+"/capture", `{"amount":"41"}`).expect(t, 422, "hold_exceeded")
	captured := e.post(t, "alice", toBob+"/capture", `{"amount":"30"}`).expect(t, 200, "")
	if captured.field("state") != "posted" || captured.field("captured") != "30" {
		t.Errorf("got %v", captured)
	}
	transfer := e.get(t, "bob", "/v1/transfers/"+captured.field("transfer_id")).expect(t, 200, "")
	if transfer.field("kind") != "capture" || transfer.field("amount") != "30" || transfer.field("hold_id") != captured.field("id") {
		t.Errorf("got %v", transfer)
	}
	e.post(t, "alice", toBob+"/void", "").expect(t, 409, "invalid_state")

	open := hold("")
	e.post(t, "alice", open+"/capture", "").expect(t, 400, "invalid_request") // to whom?
	e.post(t, "alice", open+"/capture", fmt.Sprintf(`{"to":%q}`, bob)).expect(t, 200, "")
	if got := e.get(t, "alice", "/v1/accounts/"+alice).field("balance"); got != "map[available:30 pending_credit:0 pending_debit:0 posted:30]" {
		t.Errorf("balance is %s", got)
	}
}

func TestHoldPastItsTimeReadsAsExpired(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	alice := e.open(t, "alice", "100")
	made := e.post(t, "alice", "/v1/holds", fmt.Sprintf(`{"account":%q,"amount":"40","currency":"KRW","expires_in_seconds":60}`, alice)).expect(t, 201, "")
	e.bank.pass(time.Minute)
	if got := e.get(t, "alice", "/v1/holds/"+made.field("id")); got.field("state") != "expired" {
		t.Errorf("got %v", got)
	}
}

// A hold of a stranger, one that is not there and a text that is no id give the same answer.
func TestCaptureTellsNothingAboutAStrangersHold(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	alice := e.open(t, "alice", "100")
	id := e.post(t, "alice", "/v1/holds", fmt.Sprintf(`{"account":%q,"amount":"40","currency":"KRW"}`, alice)).expect(t, 201, "").field("id")
	for _, hold := range []string{id, uuid.NewString(), "no-id", strings.Repeat("x", 300), "%ED%95%9C"} {
		for _, body := range []string{"{}", `{"amount":"1.5"}`} {
			e.post(t, "bob", "/v1/holds/"+hold+"/capture", body).expect(t, 404, "hold_not_found")
		}
	}
}

func TestPreferSaysHowLongToWait(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "")
	for prefer, want := range map[string]time.Duration{"": 5 * time.Second, "wait=12": 12 * time.Second, "respond-async, wait=600": 30 * time.Second} {
		e.post(t, "alice", "/v1/deposits", fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, account), "Prefer", prefer).expect(t, 201, "")
		e.bank.set(func() {
			if got := e.bank.waits[len(e.bank.waits)-1]; got > want || got < want-time.Second {
				t.Errorf("Prefer %q waits %s, want %s", prefer, got, want)
			}
		})
	}
}

// After a command was handed over nothing unexpected may be called "not applied".
func TestFailureAfterSubmitIsUnknown(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "")
	body := fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, account)
	failures := map[string]func(posting.Command) error{
		"panic": func(posting.Command) error { panic("a bug") },
		"error": func(posting.Command) error { return fmt.Errorf("no such thing") },
		"said":  func(posting.Command) error { return ledger.Refuse(ledger.OutcomeUnknown, "COMMIT got no answer") },
	}
	for name, fail := range failures {
		e.bank.set(func() { e.bank.fail = fail })
		got := e.post(t, "alice", "/v1/deposits", body).expect(t, 504, "outcome_unknown")
		if got.field("outcome") != "unknown" || got.field("retry") != "same-key" || strings.Contains(string(got.body), "bug") {
			t.Errorf("%s: got %v", name, got)
		}
	}
	e.bank.set(func() {
		e.bank.fail = func(posting.Command) error { return ledger.Refuse(ledger.Internal, "column amount overflowed") }
	})
	got := e.post(t, "alice", "/v1/deposits", body).expect(t, 500, "internal")
	if got.field("outcome") != "not_applied" || strings.Contains(string(got.body), "column") {
		t.Errorf("got %v", got)
	}
	if !strings.Contains(e.logs.String(), "column amount overflowed") || !strings.Contains(e.logs.String(), got.field("request_id")) {
		t.Error("the failure is not in the log")
	}
}
