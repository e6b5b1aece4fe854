package e2e_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
)

// postedOnBothSides makes one payment after another. Each is 201 and booked on both sides, and its answer is the answer.
func (x *crossing) postedOnBothSides(t *testing.T) {
	const payments = 30
	alpha, beta := x.on(t, 0), x.on(t, 1)
	payer, payee := alpha.account("KRW", "1000"), beta.account("KRW", "0")
	body, key := payment(payer, payee, "10", "KRW"), uuid.NewString()
	first := alpha.call(http.MethodPost, "/v1/transfers", body, "Idempotency-Key", key).expect(t, http.StatusCreated, "")
	if first.field("state") != "posted" || first.header.Get("Location") != "/v1/transfers/"+first.field("id") || first.header.Get("Consistency-Token") == "" {
		t.Errorf("a transfer to another system is answered with %v and %v", first, first.header)
	}
	for _, base := range x.sides[0].bases() {
		alpha.at(base).repeats(first, "/v1/transfers", body, key)
	}
	other := alpha.call(http.MethodPost, "/v1/transfers", payment(payer, payee, "11", "KRW"), "Idempotency-Key", key)
	other.expect(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	var took []time.Duration
	for range payments - 1 {
		began := time.Now()
		alpha.post("/v1/transfers", payment(payer, payee, "10", "KRW")).expect(t, http.StatusCreated, "")
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("one client: %d transfers, p50 %v, p90 %v", len(took), took[len(took)/2], took[len(took)*9/10])
	eventually(t, "the payee has it all", func() bool { return beta.posted(payee) == fmt.Sprint(10*payments) })
	if got := alpha.balance(payer); got != "700 posted, 0 held, 700 available" {
		t.Errorf("after %d payments of 10 out of 1000 the payer has %s", payments, got)
	}
	alpha.steps(first.field("id"), "held", "posted", "credited")
	beta.steps(first.field("id"), "reserved", "posted")
	for side, c := range map[string]caller{payer: alpha, payee: beta} {
		if lines := c.statement(side, 50); lines[0].Kind != "transfer" || lines[0].Counterparty != map[string]string{payer: payee, payee: payer}[side] {
			t.Errorf("the statement of %s begins with %+v", side, lines[0])
		}
	}
}

// steps waits for a transfer's timeline to have these steps, each with its time.
func (c caller) steps(id string, want ...string) {
	c.Helper()
	var got answer
	eventually(c, "the timeline of "+id+" is "+strings.Join(want, ", "), func() bool {
		got = c.fresh("/v1/transfers/" + id)
		var steps []string
		for i := 0; got.field("timeline", fmt.Sprint(i), "at") != ""; i++ {
			steps = append(steps, got.field("timeline", fmt.Sprint(i), "step"))
		}
		return slices.Equal(steps, want)
	})
	if got.field("state") != "posted" || got.field("finished_at") == "" {
		c.Errorf("a transfer with all its steps reads %v", got)
	}
}

// pendingIsAccepted hinders the payee's system. Until it is let go every answer is 202, with one id; then there is one 201.
func (x *crossing) pendingIsAccepted(t *testing.T) {
	alpha, beta := x.on(t, 0), x.on(t, 1)
	payer, payee := alpha.account("KRW", "1000"), beta.account("KRW", "0")
	body, key := payment(payer, payee, "10", "KRW"), uuid.NewString()
	ask := func(base, wait string) answer {
		return alpha.at(base).call(http.MethodPost, "/v1/transfers", body, "Idempotency-Key", key, "Prefer", "wait="+wait)
	}
	release := x.sides[1].lockAccount(t, payee)
	first := ask(x.sides[0].balancer, "1").expect(t, http.StatusAccepted, "")
	id := first.field("id")
	if first.field("state") != "pending" || first.header.Get("Location") != "/v1/transfers/"+id {
		t.Errorf("a transfer that is not decided in time is answered with %v and %v", first, first.header)
	}
	for _, node := range x.sides[0].nodes {
		again := ask(node, "1").expect(t, http.StatusAccepted, "")
		if !same(again, first) {
			t.Errorf("while it is pending one answer is %v, and another %v", first, again)
		}
	}
	if got := alpha.balance(payer); got != "1000 posted, 10 held, 990 available" {
		t.Errorf("while a payment of 10 is pending its payer has %s", got)
	}
	alpha.call(http.MethodPost, "/v1/transfers", payment(payer, payee, "11", "KRW"), "Idempotency-Key", key).
		expect(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
	release()
	done := ask(x.sides[0].balancer, "30").expect(t, http.StatusCreated, "")
	if done.field("id") != id {
		t.Errorf("what was pending as %s is posted as %v", id, done)
	}
	for _, base := range x.sides[0].bases() {
		alpha.at(base).repeats(done, "/v1/transfers", body, key)
	}
}

// refusalsReleaseTheHold asks for what cannot be. Each is refused for its own reason, for good, and nothing stays held.
func (x *crossing) refusalsReleaseTheHold(t *testing.T) {
	alpha, beta := x.on(t, 0), x.on(t, 1)
	payer, foreign := alpha.account("KRW", "1000"), beta.account("USD", "0")
	frozen, closed := beta.account("KRW", "0"), beta.account("KRW", "0")
	beta.call(http.MethodPatch, "/v1/accounts/"+frozen, object{"status": "frozen"}).expect(t, http.StatusOK, "")
	beta.call(http.MethodPatch, "/v1/accounts/"+closed, object{"status": "closed"}).expect(t, http.StatusOK, "")
	const far = 999_999_999
	for _, refused := range []struct{ to, amount, code string }{
		{string(ledger.NewNumber("beta", far)), "10", "payee_not_found"},
		{frozen, "10", "account_frozen"},
		{closed, "10", "account_closed"},
		{foreign, "10", "currency_mismatch"},
		{string(ledger.NewNumber("gamma", far)), "10", "peer_unknown"},
		{frozen, "1001", "insufficient_funds"},
	} {
		body, key := payment(payer, refused.to, refused.amount, "KRW"), uuid.NewString()
		first := alpha.call(http.MethodPost, "/v1/transfers", body, "Idempotency-Key", key)
		first.expect(t, http.StatusUnprocessableEntity, refused.code)
		if got := alpha.balance(payer); got != "1000 posted, 0 held, 1000 available" {
			t.Errorf("after a payment was refused with %s its payer has %s", refused.code, got)
		}
		if first.field("outcome") != "not_applied" || first.field("retry") == "same-key" {
			t.Errorf("the refusal is %v", first)
		}
		for _, base := range x.sides[0].bases() {
			alpha.at(base).repeats(first, "/v1/transfers", body, key)
		}
	}
}

// capHolds has 100 payments of 10 at once ask for room of 300, at two nodes of the payee's system.
func (x *crossing) capHolds(t *testing.T) {
	const payments, room = 100, 30
	x.introduceAlpha(t, "--cap", "JPY=300")
	alpha, beta := x.on(t, 0).inHaste(), x.on(t, 1)
	payer, payee := alpha.account("JPY", "10000"), beta.account("JPY", "0")
	nodes := x.admins[2:]
	before := [2]int64{x.counted(t, "lockstep_remit_prepares_total", nodes[0])[""], x.counted(t, "lockstep_remit_prepares_total", nodes[1])[""]}
	var made, refused atomic.Int64
	var all sync.WaitGroup
	for i := range payments {
		all.Go(func() {
			got := alpha.at(x.sides[0].nodes[i%2]).post("/v1/transfers", payment(payer, payee, "10", "JPY"), "Prefer", "wait=30")
			switch {
			case got.status == http.StatusCreated:
				made.Add(1)
			case got.status == http.StatusUnprocessableEntity && got.field("code") == "peer_cap_exceeded":
				refused.Add(1)
			default:
				t.Errorf("a payment under a cap is answered with %v", got)
			}
		})
	}
	all.Wait()
	shares := [2]int64{}
	for i, node := range nodes {
		if shares[i] = x.counted(t, "lockstep_remit_prepares_total", node)[""] - before[i]; shares[i] == 0 {
			t.Errorf("node %d of the payee's system was asked for nothing", i+1)
		}
	}
	t.Logf("%d made, %d refused; the payee's nodes were asked for %v", made.Load(), refused.Load(), shares)
	if made.Load() != room || refused.Load() != payments-room {
		t.Errorf("%d payments were made and %d refused, want %d and %d", made.Load(), refused.Load(), room, payments-room)
	}
	if got := alpha.balance(payer); got != "9700 posted, 0 held, 9700 available" {
		t.Errorf("after %d payments of 10 out of 10000 the payer has %s", room, got)
	}
	both := x.alike(t, alikeMaxWait)
	if e := both[1].exposures["JPY"]; e.credited != 10*room {
		t.Errorf("the payee's side has %+v on a cap of %d", e, 10*room)
	}
	alpha.post("/v1/transfers", payment(payer, payee, "1", "JPY")).expect(t, http.StatusUnprocessableEntity, "peer_cap_exceeded")
}

// bothDirections has 64 clients pay both ways for a while, over the same two accounts and over a hundred others, during
// which alpha's key is replaced. Nobody is refused, nor has to ask twice.
func (x *crossing) bothDirections(t *testing.T) {
	const clients, activeIn = 64, 8 * time.Second
	loaded, perSecondMin := formOf(0, 30*time.Second), formOf(20.0, 100.0)
	l := x.load(t, x.books, "1", clients, across(x.population(t)))
	began := time.Now()
	stop := l.start(t)
	x.command(t, "alpha", "keygen", "--rotate", "--active-in", activeIn.String(), "--out", x.alphaKeys())
	rotated := time.Now()
	x.introduceAlpha(t)
	if late := time.Since(rotated); late > activeIn-2*time.Second {
		t.Logf("the other side has pinned the new key only %v before it signs", activeIn-late)
	}
	eventually(t, "the new key signs", func() bool { return x.signers(t, rotated) > 1 })
	l.flows(t, 5, 0, 1, 2, 3)
	time.Sleep(loaded - time.Since(began)) // it is a load for a time, and nothing is waited for
	took := time.Since(began)
	stop()
	perSecond, all := float64(l.total())/took.Seconds(), time.Since(began)
	t.Logf("%d clients: %.0f transfers a second for %.1f s (%.1f s with the last); %d by the first answer",
		clients, perSecond, took.Seconds(), all.Seconds(), l.first.Load())
	l.expect(t, 50, "Accepted", "insufficient_funds")
	if perSecond < perSecondMin {
		t.Errorf("only %.0f transfers a second were made", perSecond)
	}
	if share := float64(l.first.Load()) / float64(max(l.total(), 1)); share < 0.99 {
		t.Errorf("only %.1f%% of the transfers were done by their first answer", 100*share)
	}
}

// signers counts the keys of alpha on which credits in beta rest. The header of a statement names its key, and tells whether
// it shares its signature, as do its parts.
func (x *crossing) signers(tb testing.TB, since time.Time) int64 {
	tb.Helper()
	return x.sides[1].journal(tb, "SELECT COALESCE(MAX(headers), 0) FROM (SELECT COUNT(DISTINCT SUBSTRING_INDEX(word, '.', 1)) AS headers "+
		"FROM remittances r JOIN (SELECT id AS of_id, statement AS word FROM remittance_statements) w ON of_id = r.id "+
		"WHERE payer_system = 'alpha' AND state = 'posted' AND created_at > ? "+
		"GROUP BY LENGTH(word) - LENGTH(REPLACE(word, '.', ''))) AS of_a_form", since.UTC().Add(-time.Second))
}
