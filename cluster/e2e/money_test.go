package e2e_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Money goes in, across and out through the balancer and through each node, in currencies of no, two and three
// decimals; the answers, the balances and the statements say the same.
func TestDepositTransferAndWithdrawalMoveMoney(t *testing.T) {
	t.Parallel()
	s := shared(t)
	moved := 0
	for _, base := range s.bases() {
		for currency, amounts := range map[string][4]string{ // in, across, out, what is left of in
			"KRW": {"10000", "1500", "500", "8500"},
			"USD": {"100.00", "12.34", "2.30", "87.66"},
			"KWD": {"5.000", "1.234", "0.001", "3.766"},
		} {
			c := s.as(t, s.client).at(base)
			alice, bob := c.account(currency, "0"), c.account(currency, "0")
			steps := []struct{ path, from, to, amount, kind string }{
				{"/v1/deposits", "cash", alice, amounts[0], "deposit"},
				{"/v1/transfers", alice, bob, amounts[1], "transfer"},
				{"/v1/withdrawals", bob, "cash", amounts[2], "withdrawal"},
			}
			books := newRecord(currency)
			books.balances[alice], books.balances[bob] = 0, 0
			for _, step := range steps {
				got := books.pay(c, step.path, step.from, step.to, step.amount).expect(t, http.StatusCreated, "")
				c.shows(got, step.kind)
				moved++
			}
			books.audit(c)
			if got := c.posted(alice); got != amounts[3] {
				t.Errorf("%s has %s %s left, want %s", alice, got, currency, amounts[3])
			}
		}
	}
	if moved != 27 {
		t.Errorf("%d payments were made, want 27", moved)
	}
}

// shows requires that a payment's answer, its address and both statements agree.
func (c caller) shows(paid answer, kind string) {
	c.Helper()
	location := paid.header.Get("Location")
	if location != "/v1/transfers/"+paid.field("id") || paid.field("kind") != kind || paid.header.Get("Consistency-Token") == "" {
		c.Errorf("a %s was answered with %v and %v", kind, paid, paid.header)
	}
	if read := c.fresh(location); string(read.body) != string(paid.body) {
		c.Errorf("the address of a %s shows %s, its answer was %s", kind, read.body, paid.body)
	}
	for _, side := range []struct{ number, other, direction string }{
		{paid.field("from"), paid.field("to"), "debit"}, {paid.field("to"), paid.field("from"), "credit"},
	} {
		if side.number == "cash" {
			continue
		}
		entry := c.statement(side.number, 50)[0]
		if entry.TransferID != paid.field("id") || entry.Direction != side.direction || entry.Counterparty != side.other ||
			entry.Amount != paid.field("amount") || entry.BalanceAfter != c.posted(side.number) || entry.Kind != kind {
			c.Errorf("the statement of %s begins with %+v after %v", side.number, entry, paid)
		}
	}
}

// An overdraft is refused in the reader's language, and nothing moves.
func TestOverdraftIsRefusedInEnglishAndKorean(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.client)
	number, other := c.account("KRW", "1000"), c.account("KRW", "0")
	for language, title := range map[string]string{"ko": "잔액부족", "ko-KR,ko;q=0.9,en;q=0.5": "잔액부족", "en": "Insufficient funds", "fr": "Insufficient funds"} {
		for _, got := range []answer{
			c.post("/v1/withdrawals", cash(number, "1001", "KRW"), "Accept-Language", language),
			c.post("/v1/transfers", payment(number, other, "1001", "KRW"), "Accept-Language", language),
			c.post("/v1/holds", cash(number, "1001", "KRW"), "Accept-Language", language),
		} {
			got.expect(t, http.StatusUnprocessableEntity, "insufficient_funds")
			if got.field("title") != title || got.field("outcome") != "not_applied" || got.field("retry") != "new-key" {
				t.Errorf("in %q the answer is %v", language, got)
			}
		}
	}
	if got := c.balance(number); got != "1000 posted, 0 held, 1000 available" {
		t.Errorf("after 12 refusals the account has %s", got)
	}
	if entries := c.statement(number, 50); len(entries) != 1 {
		t.Errorf("after 12 refusals the statement has %d entries, want the deposit's", len(entries))
	}
}

// An operator's overdraft limit lets the balance go below zero, and not further.
func TestOverdraftLimitIsAnOperatorsToSet(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c, operator := s.as(t, s.client), s.as(t, s.operator)
	number := c.account("KRW", "0")
	limit := object{"overdraft_limit": "500"}
	c.call(http.MethodPatch, "/v1/accounts/"+number, limit).expect(t, http.StatusForbidden, "forbidden")
	c.post("/v1/accounts", object{"currency": "KRW", "overdraft_limit": "500"}).expect(t, http.StatusForbidden, "forbidden")
	operator.call(http.MethodPatch, "/v1/accounts/"+number, limit).expect(t, http.StatusOK, "")
	c.post("/v1/withdrawals", cash(number, "501", "KRW")).expect(t, http.StatusUnprocessableEntity, "insufficient_funds")
	c.post("/v1/withdrawals", cash(number, "500", "KRW")).expect(t, http.StatusCreated, "")
	if got := c.balance(number); got != "-500 posted, 0 held, 0 available" {
		t.Errorf("at its limit the account has %s", got)
	}
	operator.call(http.MethodPatch, "/v1/accounts/"+number, object{"overdraft_limit": "499"}).expect(t, http.StatusConflict, "invalid_state")
	opened := operator.post("/v1/accounts", object{"currency": "KRW", "owner": "client:" + s.client.ClientID, "overdraft_limit": "20"})
	theirs := opened.expect(t, http.StatusCreated, "").field("number")
	c.post("/v1/withdrawals", cash(theirs, "20", "KRW")).expect(t, http.StatusCreated, "")
}

// Whatever the ledger refuses has its code, and leaves both accounts as they were.
func TestRefusedPaymentsMoveNothing(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c, operator := s.as(t, s.client), s.as(t, s.operator)
	won, other, dollars := c.account("KRW", "1000"), c.account("KRW", "1000"), c.account("USD", "10.00")
	frozen, closed := c.account("KRW", "1000"), c.account("KRW", "0")
	operator.call(http.MethodPatch, "/v1/accounts/"+frozen, object{"status": "frozen"}).expect(t, http.StatusOK, "")
	operator.call(http.MethodPatch, "/v1/accounts/"+closed, object{"status": "closed"}).expect(t, http.StatusOK, "")
	stranger := operator.account("KRW", "1000")
	cases := []struct {
		path   string
		body   object
		status int
		code   string
	}{
		{"/v1/transfers", payment(won, won, "1", "KRW"), 422, "same_account"},
		{"/v1/transfers", payment(won, dollars, "1", "KRW"), 422, "currency_mismatch"},
		{"/v1/transfers", payment(won, other, "1", "USD"), 422, "currency_mismatch"},
		{"/v1/deposits", cash(won, "1", "USD"), 422, "currency_mismatch"},
		{"/v1/transfers", payment(won, nobody("alpha"), "1", "KRW"), 422, "payee_not_found"},
		{"/v1/transfers", payment(won, nobody("nowhere"), "1", "KRW"), 422, "peer_unknown"},
		{"/v1/transfers", payment(nobody("alpha"), won, "1", "KRW"), 404, "account_not_found"},
		{"/v1/transfers", payment(stranger, won, "1", "KRW"), 404, "account_not_found"},
		{"/v1/withdrawals", cash(stranger, "1", "KRW"), 404, "account_not_found"},
		{"/v1/holds", cash(stranger, "1", "KRW"), 404, "account_not_found"},
		{"/v1/deposits", cash(nobody("alpha"), "1", "KRW"), 404, "account_not_found"},
		{"/v1/transfers", payment(frozen, won, "1", "KRW"), 422, "account_frozen"},
		{"/v1/transfers", payment(won, frozen, "1", "KRW"), 422, "account_frozen"},
		{"/v1/withdrawals", cash(frozen, "1", "KRW"), 422, "account_frozen"},
		{"/v1/deposits", cash(frozen, "1", "KRW"), 422, "account_frozen"},
		{"/v1/transfers", payment(won, closed, "1", "KRW"), 422, "account_closed"},
		{"/v1/deposits", cash(closed, "1", "KRW"), 422, "account_closed"},
	}
	for _, refused := range cases {
		got := c.post(refused.path, refused.body).expect(t, refused.status, refused.code)
		if got.field("outcome") != "not_applied" {
			t.Errorf("%s is answered with %v", refused.code, got)
		}
	}
	for number, want := range map[string]string{won: "1000", other: "1000", frozen: "1000", closed: "0", dollars: "10.00"} {
		if got := c.posted(number); got != want {
			t.Errorf("after %d refusals %s has %s, want %s", len(cases), number, got, want)
		}
	}
	if entries := c.statement(won, 50); len(entries) != 1 {
		t.Errorf("after %d refusals the statement has %d entries", len(cases), len(entries))
	}
}

// A batch posts all of its transfers or none, unless each is to stand for itself.
func TestBatchIsAllOrNoneUnlessEachStandsForItself(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.client)
	alice, bob, carol := c.account("KRW", "100"), c.account("KRW", "0"), c.account("KRW", "0")
	three := func(amounts ...string) []object {
		return []object{
			payment(alice, bob, amounts[0], "KRW"), payment(bob, carol, amounts[1], "KRW"), payment(alice, carol, amounts[2], "KRW"),
		}
	}
	refused := c.post("/v1/batches", object{"transfers": three("60", "60", "41")}).expect(t, 422, "insufficient_funds")
	if got := [3]string{c.posted(alice), c.posted(bob), c.posted(carol)}; got != [3]string{"100", "0", "0"} {
		t.Errorf("a refused batch moved money: %v after %v", got, refused)
	}
	// The second transfer pays with what the first brought: in order, each sees what those before it did.
	done := c.post("/v1/batches", object{"atomic": true, "transfers": three("60", "50", "40")}).expect(t, http.StatusCreated, "")
	if got := [3]string{c.posted(alice), c.posted(bob), c.posted(carol)}; got != [3]string{"0", "10", "90"} {
		t.Errorf("a batch left %v after %v", got, done)
	}
	key := uuid.NewString()
	mixed := object{"atomic": false, "transfers": three("1", "10", "1")}
	single := c.post("/v1/batches", mixed, "Idempotency-Key", key).expect(t, http.StatusCreated, "")
	codes := [3]string{single.field("results", "0", "code"), single.field("results", "1", "state"), single.field("results", "2", "code")}
	if codes != [3]string{"insufficient_funds", "posted", "insufficient_funds"} {
		t.Errorf("each for itself gives %v: %v", codes, single)
	}
	again := c.post("/v1/batches", mixed, "Idempotency-Key", key).expect(t, http.StatusCreated, "")
	if string(again.body) != string(single.body) {
		t.Errorf("the repeat of a batch is %s, it was %s", again.body, single.body)
	}
	if got := [3]string{c.posted(alice), c.posted(bob), c.posted(carol)}; got != [3]string{"0", "0", "100"} {
		t.Errorf("the transfers that stood for themselves left %v", got)
	}
	for i := range 3 { // each of the batch is a transfer with an address of its own
		id := done.field("results", fmt.Sprint(i), "id")
		if read := c.fresh("/v1/transfers/" + id); read.field("state") != "posted" {
			t.Errorf("transfer %d of the batch reads %v", i+1, read)
		}
	}
}

// A hold is captured in part or whole, voided or expired, once; what it is no longer about is available again.
func TestHoldIsCapturedVoidedOrExpiredOnce(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.client)
	alice, bob := c.account("KRW", "1000"), c.account("KRW", "0")
	hold := func(amount string, more object) string {
		t.Helper()
		body := cash(alice, amount, "KRW")
		for name, value := range more {
			body[name] = value
		}
		got := c.post("/v1/holds", body).expect(t, http.StatusCreated, "")
		if got.header.Get("Location") != "/v1/holds/"+got.field("id") || got.field("state") != "pending" {
			t.Errorf("a hold is answered with %v", got)
		}
		return "/v1/holds/" + got.field("id")
	}
	has := func(when, want string) {
		t.Helper()
		if got := c.balance(alice); got != want {
			t.Errorf("%s the payer has %s, want %s", when, got, want)
		}
	}
	partial := hold("400", object{"to": bob})
	has("with a hold", "1000 posted, 400 held, 600 available")
	c.post("/v1/withdrawals", cash(alice, "601", "KRW")).expect(t, 422, "insufficient_funds")
	c.post(partial+"/capture", object{"amount": "401"}).expect(t, 422, "hold_exceeded")
	captured := c.post(partial+"/capture", object{"amount": "150"}).expect(t, http.StatusOK, "")
	if captured.field("state") != "posted" || captured.field("captured") != "150" {
		t.Errorf("a capture is answered with %v", captured)
	}
	has("after a capture in part", "850 posted, 0 held, 850 available")
	transfer := c.fresh("/v1/transfers/" + captured.field("transfer_id"))
	if transfer.field("kind") != "capture" || transfer.field("amount") != "150" || transfer.field("to") != bob {
		t.Errorf("the capture's transfer is %v", transfer)
	}
	c.post(partial+"/capture", object{}).expect(t, http.StatusConflict, "invalid_state")
	c.post(partial+"/void", nil).expect(t, http.StatusConflict, "invalid_state")

	voided := hold("850", nil)
	has("with all held", "850 posted, 850 held, 0 available")
	c.post(voided+"/void", nil).expect(t, http.StatusOK, "")
	has("after a void", "850 posted, 0 held, 850 available")
	c.post(voided+"/capture", object{"to": bob}).expect(t, http.StatusConflict, "invalid_state")

	c.post(hold("50", nil)+"/capture", object{"to": bob}).expect(t, http.StatusOK, "")
	if got := c.posted(bob); got != "200" {
		t.Errorf("the payee has %s, want 200", got)
	}
	expiring := hold("800", object{"expires_in_seconds": 1})
	has("with all held for a second", "800 posted, 800 held, 0 available")
	eventually(t, "the hold's money is available again", func() bool {
		return c.balance(alice) == "800 posted, 0 held, 800 available"
	})
	if got := c.fresh(expiring).field("state"); got != "expired" {
		t.Errorf("after its time the hold is %s", got)
	}
	c.post(expiring+"/capture", object{"to": bob}).expect(t, http.StatusConflict, "invalid_state")
	has("after it all", "800 posted, 0 held, 800 available")
}

// A frozen account stands still until it is opened again; a closed one is empty and stays closed.
func TestFreezeAndCloseAreAnOperators(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c, operator := s.as(t, s.client), s.as(t, s.operator)
	number := c.account("KRW", "300")
	set := func(who caller, status string) answer {
		return who.call(http.MethodPatch, "/v1/accounts/"+number, object{"status": status})
	}
	set(c, "frozen").expect(t, http.StatusForbidden, "forbidden")
	set(operator, "frozen").expect(t, http.StatusOK, "")
	c.post("/v1/withdrawals", cash(number, "1", "KRW")).expect(t, 422, "account_frozen")
	set(operator, "open").expect(t, http.StatusOK, "")
	held := c.post("/v1/holds", cash(number, "100", "KRW")).expect(t, http.StatusCreated, "")
	c.post("/v1/withdrawals", cash(number, "200", "KRW")).expect(t, http.StatusCreated, "")
	set(operator, "closed").expect(t, http.StatusConflict, "invalid_state") // posted and held
	c.post("/v1/holds/"+held.field("id")+"/void", nil).expect(t, http.StatusOK, "")
	set(operator, "closed").expect(t, http.StatusConflict, "invalid_state") // posted
	c.post("/v1/withdrawals", cash(number, "100", "KRW")).expect(t, http.StatusCreated, "")
	if got := set(operator, "closed").expect(t, http.StatusOK, ""); got.field("status") != "closed" {
		t.Errorf("closing is answered with %v", got)
	}
	set(operator, "open").expect(t, http.StatusConflict, "invalid_state")
	c.post("/v1/deposits", cash(number, "1", "KRW")).expect(t, 422, "account_closed")
	if entries := c.statement(number, 50); len(entries) != 3 {
		t.Errorf("the closed account's statement has %d entries, want 3", len(entries))
	}
}

// nobody is a well-formed number that no account has.
func nobody(system string) string {
	remainder := 0
	for _, char := range system + "99999999999900" {
		switch {
		case char >= 'a':
			remainder = (remainder*100 + int(char-'a') + 10) % 97
		default:
			remainder = (remainder*10 + int(char-'0')) % 97
		}
	}
	return fmt.Sprintf("%s-999999999999%02d", system, 98-remainder)
}

const patience = 20 * time.Second

// eventually asks again and again until something is so.
func eventually(tb testing.TB, what string, is func() bool) {
	tb.Helper()
	inTime(tb, patience, what, is)
}

// inTime is eventually with a patience of its own.
func inTime(tb testing.TB, patience time.Duration, what string, is func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !is(); {
		if time.Now().After(deadline) {
			tb.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
