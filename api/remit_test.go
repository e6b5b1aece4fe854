package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lockstep/api"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/saga"
)

// toBeta is a transfer of 10 KRW to an account of beta.
func toBeta(from string) string {
	return fmt.Sprintf(`{"from":%q,"to":%q,"amount":"10","currency":"KRW","reference":"r"}`, from, account("beta", 1000))
}

// same checks that a repeat got the first answer again, byte for byte, and was told so.
func same(t *testing.T, first, repeat answer) {
	t.Helper()
	if repeat.status != first.status || !bytes.Equal(repeat.body, first.body) || repeat.header.Get("Location") != first.header.Get("Location") ||
		repeat.header.Get("Content-Type") != first.header.Get("Content-Type") {
		t.Errorf("the repeat got\n%v\nthe first\n%v", repeat, first)
	}
	if repeat.header.Get("Idempotency-Replayed") != "true" || repeat.header.Get("Consistency-Token") == "" {
		t.Errorf("the repeat has the headers %v", repeat.header)
	}
}

// pending waits for a peer that does not answer, and is told what to ask later.
func (p *peered) pending(t *testing.T, key, body string) answer {
	t.Helper()
	got := p.do(t, "POST", "/v1/transfers", body, as("alice", key, "Prefer", "wait=1")...).expect(t, 202, "")
	if got.field("state") != "pending" || got.header.Get("Location") != "/v1/transfers/"+got.field("id") || got.field("finished_at") != "" {
		t.Errorf("got %v, %v", got, got.header)
	}
	return got
}

func (p *peered) available(t *testing.T, number string) string {
	t.Helper()
	return p.get(t, "operator", "/v1/accounts/"+number).expect(t, 200, "").field("balance", "available")
}

// promisesAfter is a peer that takes its time.
func promisesAfter(signal <-chan struct{}) func(context.Context) (peers.PrepareResult, error) {
	return func(ctx context.Context) (peers.PrepareResult, error) {
		select {
		case <-signal:
			return peers.PrepareResult{State: peers.Reserved, Epoch: 7}, nil
		case <-ctx.Done():
			return peers.PrepareResult{}, ctx.Err()
		}
	}
}

// soon polls for what has to become true.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not so within %s: %s", patience, what)
		}
	}
}

// While nobody knows, a repeat waits and hears 202 again. Then every repeat gets one answer, which ends with the decision;
// what comes later shows on GET only.
func TestATransferToAPeerIsAnsweredOnceForAll(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	from, key, promise := p.open(t, "alice", "100"), uuid.NewString(), make(chan struct{})
	p.asker.says(promisesAfter(promise))
	first := p.pending(t, key, toBeta(from))
	if first.header.Get("Idempotency-Replayed") != "" || p.available(t, from) != "90" {
		t.Errorf("got %v", first.header)
	}
	repeat := p.pending(t, key, toBeta(from))
	if repeat.field("id") != first.field("id") || repeat.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the repeat got %v, the first %v", repeat, first)
	}
	p.do(t, "POST", "/v1/transfers", strings.Replace(toBeta(from), `"10"`, `"11"`, 1), as("alice", key)...).expect(t, 422, "idempotency_key_reused")
	close(promise)
	posted := p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key)...).expect(t, 201, "")
	if posted.field("id") != first.field("id") || posted.field("timeline", "1", "step") != "posted" || posted.field("timeline", "2", "step") != "" {
		t.Errorf("got %v", posted)
	}
	same(t, posted, p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key, "Accept-Language", "ko")...))
	p.bank.pass(time.Minute)
	if _, err := p.bank.Submit(t.Context(), posting.Command{Operation: ledger.NoteCredit{
		IDs: []ledger.TransferID{ledger.TransferID(posted.field("id"))}, Peer: ledger.Peer{System: "beta"}, Epoch: 7, Currency: "KRW",
	}}); err != nil {
		t.Fatal(err)
	}
	same(t, posted, p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key)...))
	read := p.get(t, "alice", "/v1/transfers/"+posted.field("id")).expect(t, 200, "")
	if read.field("timeline", "2", "step") != "credited" || read.field("timeline", "1", "at") != posted.field("timeline", "1", "at") {
		t.Errorf("got %v", read)
	}
	p.do(t, "POST", "/v1/transfers", strings.Replace(toBeta(from), `"10"`, `"11"`, 1), as("alice", key)...).expect(t, 422, "idempotency_key_reused")
	if p.available(t, from) != "90" {
		t.Errorf("available is %s", p.available(t, from))
	}
}

// The answer of the first request is that of all, also when it did not have to wait.
func TestAPromptTransferIsRepeatedByteForByte(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	from, key := p.open(t, "alice", "100"), uuid.NewString()
	posted := p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key)...).expect(t, 201, "")
	same(t, posted, p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key)...))
	list := p.get(t, "alice", "/v1/transfers?limit=1").expect(t, 200, "")
	if list.field("transfers", "0", "timeline", "0", "step") != "held" || list.field("transfers", "0", "id") != posted.field("id") {
		t.Errorf("the list shows %v", list)
	}
}

// What was promised by a newer release is rendered by a newer release: a node that cannot must not invent the bytes, also
// not for a repeat that has waited for the end.
func TestAWaitingRepeatIsRenderedAsItsClaimSays(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	from, key, promise := p.open(t, "alice", "100"), uuid.NewString(), make(chan struct{})
	p.asker.says(promisesAfter(promise))
	p.pending(t, key, toBeta(from))
	p.bank.set(func() {
		for id, claim := range p.bank.claims {
			claim.renderer++
			p.bank.claims[id] = claim
		}
	})
	done := make(chan answer)
	commands := func() (count int) { p.bank.set(func() { count = len(p.bank.commands) }); return count }
	before := commands()
	go func() {
		got, err := p.try("POST", "/v1/transfers", strings.NewReader(toBeta(from)), as("alice", key, "Prefer", "wait=10")...)
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	soon(t, "the repeat has asked", func() bool { return commands() > before })
	close(promise)
	(<-done).expect(t, 504, "outcome_unknown")
}

// A refusal of the peer's is told in the language, and with the request id, of the first request.
func TestAPeersRefusalIsToldAsTheFirstRequestAsked(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{"account_frozen": "account_frozen", "payee_not_found": "payee_not_found", "odd": "peer_refused"} {
		p := newPeered(t)
		from, key := p.open(t, "alice", "100"), uuid.NewString()
		p.asker.says(func(context.Context) (peers.PrepareResult, error) {
			return peers.PrepareResult{State: peers.Refused, Code: code}, nil
		})
		first := p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key, "Accept-Language", "ko", "Request-Id", "first-1")...).expect(t, 422, want)
		if first.field("title") != api.Words(want)[3] || first.field("request_id") != "first-1" {
			t.Errorf("got %v", first)
		}
		repeat := p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key, "Accept-Language", "en", "Request-Id", "second-2")...)
		same(t, first, repeat)
		if repeat.header.Get("Request-Id") != "second-2" {
			t.Errorf("the repeat is answered as %s", repeat.header.Get("Request-Id"))
		}
		id := p.get(t, "alice", "/v1/transfers?limit=1").field("transfers", "0", "id")
		read := p.get(t, "alice", "/v1/transfers/"+id).expect(t, 200, "")
		if read.field("state") != "voided" || read.field("failure", "code") != want || read.field("failure", "detail") == "" || p.available(t, from) != "100" {
			t.Errorf("got %v", read)
		}
	}
}

// A peer that gave no answer in time: the transfer is given up, the money is back, and that answer is final too.
func TestAPeerThatDoesNotAnswerIsGivenUpForGood(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	from, key := p.open(t, "alice", "100"), uuid.NewString()
	p.asker.says(func(context.Context) (peers.PrepareResult, error) { return peers.PrepareResult{}, peers.ErrUnavailable })
	id := p.pending(t, key, toBeta(from)).field("id")
	if s := p.desk.Remitting(t.Context(), saga.Saga{ID: id}); fmt.Sprint(s) == fmt.Sprint(saga.Settled()) {
		t.Errorf("it was settled before its time: %v", s)
	}
	p.bank.pass(time.Minute)
	p.desk.Remitting(t.Context(), saga.Saga{ID: id})
	gone := p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key)...).expect(t, 503, "peer_unavailable")
	if gone.field("outcome") != "not_applied" || gone.field("retry") != "new-key" || gone.header.Get("Retry-After") == "" ||
		strings.Contains(gone.field("detail"), api.EarlierRequest("en")) || p.available(t, from) != "100" {
		t.Errorf("got %v, %v", gone, gone.header)
	}
	repeat := p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key, "Accept-Language", "ko")...)
	if same(t, gone, repeat); repeat.header.Get("Retry-After") == "" {
		t.Errorf("the repeat has no Retry-After: %v", repeat.header)
	}
	p.asker.says(nil)
	same(t, gone, p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key)...)) // the peer is back: it stays as it was told
	p.post(t, "alice", "/v1/transfers", toBeta(from)).expect(t, 201, "")
}

// Whoever waits for a peer that is away takes no place from payments inside the system; when many wait, more of them hear
// at once that nobody knows yet.
func TestAPeerThatIsAwayDoesNotStopOtherPayments(t *testing.T) {
	t.Parallel()
	const takes = 2
	p := newPeered(t, func(d *api.Deps) { d.RequestsMax = takes })
	gone := make(chan struct{})
	p.asker.says(promisesAfter(gone))
	from := p.open(t, "alice", "100")
	var waiting sync.WaitGroup
	for range takes {
		waiting.Go(func() {
			if got := p.post(t, "alice", "/v1/transfers", toBeta(from), "Prefer", "wait=20"); got.status != 201 {
				t.Errorf("whoever waited got %v", got)
			}
		})
	}
	want := fmt.Sprintf("# HELP lockstep_http_requests_in_hand Requests that the node works on.\n# TYPE lockstep_http_requests_in_hand gauge\n"+
		"lockstep_http_requests_in_hand{kind=\"change\"} 0\nlockstep_http_requests_in_hand{kind=\"read\"} 0\nlockstep_http_requests_in_hand{kind=\"wait\"} %d\n", takes)
	soon(t, "all of them wait, and none is a change in hand", func() bool {
		return testutil.GatherAndCompare(p.registry, strings.NewReader(want), "lockstep_http_requests_in_hand") == nil
	})
	for range takes + 1 {
		p.post(t, "teller", "/v1/deposits", fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, from)).expect(t, 201, "")
		p.post(t, "alice", "/v1/transfers", toBeta(from), "Prefer", "wait=20").expect(t, 202, "")
	}
	close(gone)
	waiting.Wait()
}

// What this system refuses itself is decided with the claim, and no peer is asked.
func TestOwnRefusalsAskNoPeer(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	p.asker.says(func(context.Context) (peers.PrepareResult, error) {
		t.Error("the peer was asked")
		return peers.PrepareResult{}, peers.ErrUnavailable
	})
	from, key := p.open(t, "alice", "5"), uuid.NewString()
	first := p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key)...).expect(t, 422, "insufficient_funds")
	same(t, first, p.do(t, "POST", "/v1/transfers", toBeta(from), as("alice", key)...))
	p.post(t, "bob", "/v1/transfers", toBeta(from)).expect(t, 404, "account_not_found")
	p.post(t, "alice", "/v1/transfers", strings.Replace(toBeta(from), account("beta", 1000), account("delta", 1000), 1)).expect(t, 422, "peer_unknown")
	p.post(t, "alice", "/v1/batches", `{"transfers":[`+toBeta(from)+`]}`).expect(t, 422, "peer_unknown")
}

// remitted is a transfer to beta in its final state, of which answers are rendered again.
func remitted(state ledger.State, failure ledger.Code, in string) ledger.Remittance {
	at := time.Date(2026, 1, 31, 18, 0, 0, 123456789, time.FixedZone("KST", 9*3600))
	return ledger.Remittance{
		ID: "019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d2e", Payer: "alpha", Payee: "beta", State: state, PayerEpoch: 3, PayeeEpoch: 7, Failure: failure,
		Language: in, RequestID: "first-1", CreatedAt: at, FinishedAt: at.Add(time.Second), CreditedAt: at.Add(time.Minute),
		Transfer: &ledger.Transfer{
			ID: "019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d2e", Kind: ledger.Payment, State: state, From: ledger.NewNumber("alpha", 1000),
			To: ledger.NewNumber("beta", 1000), Amount: ledger.Money{Minor: 1234, Currency: "USD"}, Description: `"R&D" <월세>`, Reference: "r1",
			CreatedAt: at, FinishedAt: at.Add(time.Second),
		},
	}
}

// These answers are not kept: they are rendered again from the row for thirty days, by this release and by later ones. So
// the bytes of version 1 are a promise, the words of the refusals included. Whoever has to change them makes version 2.
func TestVersionOneRendersTheseBytesOfTransfersToPeers(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/remittances.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	failures := []ledger.Code{
		ledger.PayeeNotFound, ledger.AccountFrozen, ledger.AccountClosed, ledger.CurrencyMismatch, ledger.BalanceOutOfRange, ledger.PeerCapExceeded,
		ledger.PeerRefused, ledger.PeerUnavailable,
	}
	got := map[string]string{}
	for _, in := range []string{"en", "ko"} {
		render := func(r ledger.Remittance) string {
			other := api.NewRenderer("alpha", map[string]string{"en": "ko", "ko": "en"}[in], "second-2")
			answer := other.Render(1, ledger.Result{Transfer: r.Transfer, Remittance: &r}, nil)
			return fmt.Sprintf("%d %s %s %s", answer.Status, answer.ContentType, answer.Location, answer.Body)
		}
		got["posted "+in] = render(remitted(ledger.Posted, "", in))
		for _, code := range failures {
			got[string(code)+" "+in] = render(remitted(ledger.Voided, code, in))
		}
	}
	for name, answer := range got {
		if answer != want[name] {
			t.Errorf("%s: got\n%s\nwant\n%s", name, answer, want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d answers are rendered, %d are written down", len(got), len(want))
	}
	if got["posted en"] != got["posted ko"] {
		t.Error("a success depends on the language")
	}
	if !strings.HasPrefix(got["peer_unavailable en"], "503 application/problem+json") {
		t.Errorf("got %s", got["peer_unavailable en"])
	}
}
