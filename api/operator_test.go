package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/events"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/saga"
)

// hang begins a transfer to beta, which gives no answer, and tells its id.
func (p *peered) hang(t *testing.T) (from, id string) {
	t.Helper()
	p.asker.says(func(context.Context) (peers.PrepareResult, error) { return peers.PrepareResult{}, peers.ErrUnavailable })
	from = p.open(t, "alice", "100")
	return from, p.pending(t, uuid.NewString(), toBeta(from)).field("id")
}

func (p *peered) steer(t *testing.T, id, what, key string) answer {
	t.Helper()
	return p.do(t, "POST", "/v1/admin/sagas/"+id+"/"+what, "", as("operator", key)...)
}

// An operator sees what hangs, with the transfer that hangs in it.
func TestOperatorsSeeTransfersThatHang(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	_, id := p.hang(t)
	list := p.get(t, "operator", "/v1/admin/sagas").expect(t, 200, "")
	for path, want := range map[string]string{
		"id": id, "kind": "remit", "state": "running", "payer": "alpha", "payee": "beta", "transfer/state": "pending", "transfer/amount": "10",
	} {
		if got := list.field(append([]string{"sagas", "0"}, strings.Split(path, "/")...)...); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	for state, there := range map[string]bool{"pending": true, "stuck": false, "parked": false, "done": false} {
		list := p.get(t, "operator", "/v1/admin/sagas?state="+state).expect(t, 200, "")
		if (list.field("sagas", "0", "id") == id) != there {
			t.Errorf("%s: got %v", state, list)
		}
	}
	for _, query := range []string{"state=all", "limit=0", "limit=x", "cursor=x", "kind=remit"} {
		p.get(t, "operator", "/v1/admin/sagas?"+query).expect(t, 400, "invalid_request")
	}
	p.get(t, "alice", "/v1/admin/sagas").expect(t, 403, "forbidden")
}

// Before the pivot an operator may give a transfer up, once for all; the client's key then says so.
func TestAnAbortGivesThePaymentBack(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	from, id := p.hang(t)
	key := uuid.NewString()
	first := p.steer(t, id, "abort", key).expect(t, 200, "")
	if first.field("transfer", "state") != "voided" || first.field("state") != "done" || p.available(t, from) != "100" {
		t.Errorf("got %v", first)
	}
	same(t, first, p.steer(t, id, "abort", key))
	p.steer(t, id, "abort", uuid.NewString()).expect(t, 200, "") // it stands as it was wanted
	p.steer(t, id, "retry", uuid.NewString()).expect(t, 409, "invalid_state")
	p.do(t, "POST", "/v1/admin/sagas/"+id+"/abort", "", as("operator", "")...).expect(t, 400, "idempotency_key_missing")
	p.do(t, "POST", "/v1/admin/sagas/"+id+"/abort", `{"force":true}`, as("operator", uuid.NewString())...).expect(t, 400, "invalid_request")
	p.do(t, "POST", "/v1/admin/sagas/"+id+"/abort", "", as("alice", uuid.NewString())...).expect(t, 403, "forbidden")
}

// After the pivot a transfer only goes forward, and in the payee's system nobody decides.
func TestAnAbortIsRefusedAfterThePivotAndByThePayee(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	from := p.open(t, "alice", "100")
	posted := p.post(t, "alice", "/v1/transfers", toBeta(from)).expect(t, 201, "").field("id")
	promised := uuid.NewString()
	p.ask(t, "beta", "POST", preparePath, prepareOf(p.open(t, "bob", ""), promised)).expect(t, 200, "")
	for _, id := range []string{posted, promised} {
		p.steer(t, id, "abort", uuid.NewString()).expect(t, 409, "invalid_state")
	}
	if p.available(t, from) != "90" || p.bank.remitted[ledger.TransferID(promised)].State != ledger.Pending {
		t.Error("an abort that was refused had an effect")
	}
	for _, id := range []string{uuid.NewString(), "x"} {
		p.steer(t, id, "abort", uuid.NewString()).expect(t, 404, "not_found")
		p.steer(t, id, "retry", uuid.NewString()).expect(t, 404, "not_found")
	}
}

func TestARetryMakesAParkedSagaDue(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	_, id := p.hang(t)
	p.bank.set(func() {
		parked := p.bank.sagas[id]
		parked.State, parked.Attempt, parked.Reason = saga.StateParked, 9, "a conflict"
		p.bank.sagas[id] = parked
	})
	list := p.get(t, "operator", "/v1/admin/sagas?state=parked").expect(t, 200, "")
	if list.field("sagas", "0", "reason") != "a conflict" || list.field("sagas", "0", "next_at") != "" {
		t.Errorf("got %v", list)
	}
	key := uuid.NewString()
	first := p.steer(t, id, "retry", key).expect(t, 200, "")
	if first.field("state") != "running" || first.field("attempt") != "0" || first.field("next_at") == "" {
		t.Errorf("got %v", first)
	}
	same(t, first, p.steer(t, id, "retry", key))
}

// Of a change that was made and whose answer could not be kept nobody may say that it was not made.
func TestAChangeWhoseAnswerIsLostIsUnknown(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	from, id := p.hang(t)
	p.bank.set(func() {
		p.bank.onceFail = ledger.Refuse(ledger.SourceUnavailable, "the database went away")
	})
	key := uuid.NewString()
	p.steer(t, id, "abort", key).expect(t, 504, "outcome_unknown")
	p.bank.set(func() { p.bank.onceFail = nil })
	p.steer(t, id, "abort", key).expect(t, 200, "")
	if p.available(t, from) != "100" {
		t.Errorf("available is %s", p.available(t, from))
	}
}

// letterFrom is a statement of a peer's that nobody could apply.
func letterFrom(t *testing.T, system, id string, fact peers.Fact) events.DeadLetter {
	t.Helper()
	directory, err := peers.OpenDirectory(t.Context(), system, keysOf(system), newBank().neighbours, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer directory.Close()
	statement, err := directory.State(fact)
	if err != nil {
		t.Fatal(err)
	}
	data, err := events.Pack([]events.Event{{ID: fact.ID, Source: "lockstep:" + system, Type: "lockstep." + fact.Type, Subject: fact.ID, Statement: statement}})
	if err != nil {
		t.Fatal(err)
	}
	return events.DeadLetter{ID: id, Subject: events.Transfer(system, "alpha", "committed"), Data: data, Reason: "parked", Delivered: 3, At: time.Unix(1, 0)}
}

// A letter whose matter has ended as it states leaves by itself; one that contradicts the books, or that cannot be
// believed, stays for an operator.
func TestDeadLettersSettleWhenTheBooksAgree(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	payee, done, open := p.open(t, "bob", ""), uuid.NewString(), uuid.NewString()
	p.ask(t, "beta", "POST", preparePath, prepareOf(payee, done, open)).expect(t, 200, "")
	fact := func(id, kind, amount string) peers.Fact {
		return peers.Fact{ID: id, Type: kind, From: "beta", To: "alpha", Epoch: 1, Payer: account("beta", 1000), Payee: payee, Amount: amount, Currency: "KRW"}
	}
	p.letters.list = []events.DeadLetter{
		letterFrom(t, "beta", "a1", fact(done, ledger.EventCommitted, "1")),
		letterFrom(t, "beta", "a2", fact(done, ledger.EventCommitted, "2")),
		letterFrom(t, "beta", "a3", fact(done, ledger.EventAborted, "1")),
		letterFrom(t, "beta", "a4", fact(open, ledger.EventCommitted, "1")),
		letterFrom(t, "gamma", "a5", fact(done, ledger.EventCommitted, "1")),
		letterFrom(t, "beta", "a0", fact("nöne", ledger.EventCredited, "1")),
		{ID: "a6", Subject: "odd", Data: []byte("{"), Reason: "no batch"},
		{ID: "a7", Subject: "odd", Data: []byte("[]"), Reason: "no event"},
	}
	if got := p.letterIDs(t); got != "a1 a2 a3 a4 a5 a0 a6 a7" {
		t.Errorf("before it is settled: %s", got)
	}
	p.settleByInquiry(t, fact(done, ledger.EventCommitted, "1"))
	if got := p.letterIDs(t); got != "a2 a3 a4 a5 a0 a6 a7" || len(p.letters.list) != 7 {
		t.Errorf("after: %s", got)
	}
	letter := p.get(t, "operator", "/v1/admin/dead-letters").expect(t, 200, "")
	for path, want := range map[string]string{
		"id": "a2", "source": "peer", "peer": "beta", "types/0": "transfer.committed", "transfer_ids/0": done, "reason": "parked", "attempts": "3",
	} {
		if got := letter.field(append([]string{"dead_letters", "0"}, strings.Split(path, "/")...)...); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// letterIDs lists the ids of the letters.
func (p *peered) letterIDs(t *testing.T) string {
	t.Helper()
	var body struct {
		Letters []struct{ ID string } `json:"dead_letters"`
	}
	if err := json.Unmarshal(p.get(t, "operator", "/v1/admin/dead-letters").expect(t, 200, "").body, &body); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, letter := range body.Letters {
		ids = append(ids, letter.ID)
	}
	return strings.Join(ids, " ")
}

// settleByInquiry books what the payer's system answers when it is asked.
func (p *peered) settleByInquiry(t *testing.T, fact peers.Fact) {
	t.Helper()
	if err := p.desk.Apply(t.Context(), fact, "asked"); err != nil {
		t.Fatal(err)
	}
}

func TestDeadLettersAreReplayedWhereTheyLie(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	message := saga.ParkedMessage{
		Message:  saga.Message{ID: uuid.NewString(), Destination: "beta", Events: []byte(`{"told":[{"type":"transfer.aborted","ids":["t1"]}]}`)},
		Attempts: 50, Reason: "no broker", ParkedAt: p.bank.now(),
	}
	own := saga.ParkedMessage{Message: saga.Message{
		ID: uuid.NewString(), Destination: "events", Events: []byte(`{"hold.voided":["h1"],"transfer.posted":["t2","t3"]}`),
	}}
	unreadable := saga.ParkedMessage{Message: saga.Message{ID: uuid.NewString(), Destination: "beta", Events: []byte("{")}}
	p.letters.list, p.parked.list = []events.DeadLetter{{ID: "a1"}}, []saga.ParkedMessage{message, own, unreadable}
	list := p.get(t, "operator", "/v1/admin/dead-letters").expect(t, 200, "")
	if list.field("dead_letters", "1", "source") != "outbox" || list.field("dead_letters", "1", "transfer_ids", "0") != "t1" || list.field("broker") != "up" {
		t.Errorf("got %v", list)
	}
	for path, want := range map[string]string{
		"1/reason": "no broker", "1/attempts": "50", "2/peer": "events", "2/types/0": "hold.voided", "2/types/2": "transfer.posted",
		"2/transfer_ids/1": "t3", "2/transfer_ids/2": "", "3/source": "outbox", "3/types/0": "", "3/transfer_ids/0": "",
	} {
		if got := list.field(append([]string{"dead_letters"}, strings.Split(path, "/")...)...); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	p.parked.list = p.parked.list[:1]
	replay := func(id, key string) answer {
		return p.do(t, "POST", "/v1/admin/dead-letters/"+id+"/replay", "", as("operator", key)...)
	}
	key := uuid.NewString()
	first := replay("a1", key).expect(t, 200, "")
	same(t, first, replay("a1", key)) // once: it may have died again meanwhile
	if len(p.letters.replayed) != 1 {
		t.Errorf("replayed %v", p.letters.replayed)
	}
	replay(message.ID, uuid.NewString()).expect(t, 200, "")
	if len(p.parked.list) != 0 || p.letterIDs(t) != "" {
		t.Errorf("left are %s", p.letterIDs(t))
	}
	for _, id := range []string{"a1", message.ID, "%20"} {
		replay(id, uuid.NewString()).expect(t, 404, "not_found")
	}
	p.letters.down = fmt.Errorf("%w: no", events.ErrUnavailable)
	replay("a1", uuid.NewString()).expect(t, 504, "outcome_unknown") // it may have been sent
	if list := p.get(t, "operator", "/v1/admin/dead-letters").expect(t, 200, ""); list.field("broker") != "down" {
		t.Errorf("got %v", list)
	}
	p.letters.down = errors.New("odd")
	p.get(t, "operator", "/v1/admin/dead-letters").expect(t, 500, "internal")
}

func TestOperatorsSeePeersAndWhatTheyOwe(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	p.ask(t, "beta", "POST", preparePath, prepareOf(p.open(t, "bob", ""), uuid.NewString())).expect(t, 200, "")
	from := p.open(t, "alice", "100")
	p.post(t, "alice", "/v1/transfers", toBeta(from)).expect(t, 201, "")
	p.ask(t, "beta", "POST", "/peer/v1/epoch", `{"epoch":5}`).expect(t, 200, "")
	p.get(t, "alice", "/v1/payees/"+account("gamma", 1000)).expect(t, 503, "peer_unavailable") // nobody listens there
	list := p.get(t, "operator", "/v1/admin/peers").expect(t, 200, "")
	for path, want := range map[string]string{
		"system": "alpha", "epoch": "3", "key_ids/0": "alpha-peer-1", "peers/0/id": "beta", "peers/0/epoch": "5", "peers/0/key_ids/0": "beta-peer-1",
		"peers/0/reach": "unknown", "peers/1/reach": "down", "peers/0/exposures/0/reserved": "1", "peers/0/exposures/0/posted": "10",
		"peers/0/exposures/0/open": "-9", "peers/0/exposures/0/cap": "", "peers/1/exposures/0/open": "",
	} {
		if got := list.field(strings.Split(path, "/")...); got != want {
			t.Errorf("%s is %q, want %q: %v", path, got, want, list)
		}
	}
	if list.field("peers", "1", "last_error") == "" || list.field("peers", "1", "asked_at") == "" {
		t.Errorf("got %v", list)
	}
}
