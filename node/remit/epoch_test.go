package remit_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/cluster/events"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/remit"
	"lockstep/node/store"
	"lockstep/saga"
)

// scene is a system that begins another epoch while its desk waits for the peer's answer.
type scene struct {
	remit.Books
	mu         sync.Mutex
	remittance ledger.Remittance
	epoch      int64
	answered   peers.InquiryAnswer
	submitted  []ledger.Operation
	missing    bool // the remittance
	refusals   []*ledger.Error
	inquiries  int
}

const (
	before = 4
	after  = 5
)

func (s *scene) System() string   { return "alpha" }
func (s *scene) Epoch() int64     { return s.epoch }
func (s *scene) Reconciled() bool { return true }
func (s *scene) Now() time.Time   { return s.remittance.CreatedAt }

func (s *scene) Remittances(context.Context, ...ledger.TransferID) (map[ledger.TransferID]ledger.Remittance, error) {
	if s.missing {
		return nil, nil
	}
	return map[ledger.TransferID]ledger.Remittance{s.remittance.ID: s.remittance}, nil
}

func (s *scene) InsideIDs(context.Context, ...ledger.TransferID) (map[ledger.TransferID]bool, error) {
	return nil, nil
}

func (s *scene) Peer(id string) (peers.Peer, bool) {
	return peers.Peer{ID: id, Settlement: 10, Epoch: after}, true
}
func (s *scene) State(peers.Fact) (string, error)        { return "", nil }
func (s *scene) StateAll([]peers.Fact) ([]string, error) { return nil, nil }
func (s *scene) Read(stated string) (peers.Fact, error)  { return teller{}.Read(stated) }
func (s *scene) Submit(_ context.Context, c posting.Command) (posting.Outcome, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.submitted = append(s.submitted, c.Operation)
	if len(s.refusals) > 0 {
		refusal := s.refusals[0]
		s.refusals = s.refusals[1:]
		return posting.Outcome{Refusal: refusal}, nil
	}
	return posting.Outcome{Result: ledger.Result{Remittance: &s.remittance}, Token: store.Token("")}, nil
}

func (s *scene) Prepare(_ context.Context, _ string, transfer peers.Transfer) (peers.PrepareResult, error) {
	s.epoch = after
	return peers.PrepareResult{ID: transfer.ID, State: peers.Reserved, Epoch: 7}, nil
}

func (s *scene) Inquire(context.Context, string, string, string, ...string) (peers.InquiryAnswer, error) {
	s.inquiries++
	if len(s.answered.Results) == 0 {
		return s.answered, errors.New("the peer is away")
	}
	return s.answered, nil
}

func newScene(t *testing.T, payer, payee string) (*scene, *remit.Desk) {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := &scene{epoch: before, remittance: ledger.Remittance{
		ID: "0197a0b2-0000-7000-8000-000000000001", Payer: payer, Payee: payee, State: ledger.Pending, PayerEpoch: before, CreatedAt: now,
		ExpiresAt: now.Add(time.Minute),
		Transfer: &ledger.Transfer{
			From: ledger.NewNumber(payer, 1000), To: ledger.NewNumber(payee, 1000), Amount: ledger.Money{Minor: 5, Currency: "KRW"},
		},
	}}
	desk, err := remit.Open(context.Background(), remit.DefaultConfig(), s, s, s, s, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(desk.Close)
	return s, desk
}

// A decision tells in which epoch the promise was asked for, not in which it was heard.
func TestAPivotTellsTheEpochOfItsQuestion(t *testing.T) {
	t.Parallel()
	s, desk := newScene(t, "alpha", "beta")
	desk.Remitting(context.Background(), saga.Saga{ID: string(s.remittance.ID)})
	if len(s.submitted) != 1 {
		t.Fatalf("submitted %v", s.submitted)
	}
	if pivot, is := s.submitted[0].(ledger.Conclude); !is || pivot.End != ledger.Posted || pivot.Epoch != before || pivot.PayeeEpoch != 7 {
		t.Errorf("submitted %+v", s.submitted[0])
	}
}

// A promise is released in the epoch of the answer that says so, however new an epoch of the peer is known by then.
func TestAReleaseTellsTheEpochOfItsAnswer(t *testing.T) {
	t.Parallel()
	s, desk := newScene(t, "beta", "alpha")
	s.answered = peers.InquiryAnswer{Epoch: before, Results: []peers.InquiryResult{{ID: string(s.remittance.ID), State: peers.Aborted}}}
	desk.Awaiting(context.Background(), saga.Saga{ID: string(s.remittance.ID)})
	if len(s.submitted) != 1 {
		t.Fatalf("submitted %v", s.submitted)
	}
	if release, is := s.submitted[0].(ledger.Release); !is || release.Epoch != before {
		t.Errorf("submitted %+v", s.submitted[0])
	}
}

// A promise that is there was not lost with the epoch in which it was made: it counts in this one.
func TestAPromiseIsToldInTheEpochInWhichItIsThere(t *testing.T) {
	t.Parallel()
	s, desk := newScene(t, "beta", "alpha")
	s.remittance.PayeeEpoch = before - 1
	transfer := peers.Transfer{
		ID: string(s.remittance.ID), Payer: peers.Account{Account: string(s.remittance.Transfer.From)},
		Payee: peers.Account{Account: string(s.remittance.Transfer.To)}, Amount: "5", Currency: "KRW",
	}
	results := desk.Prepare(context.Background(), "beta", peers.PrepareRequest{Epoch: after, Transfers: []peers.Transfer{transfer}})
	if len(results) != 1 || results[0].State != peers.Reserved || results[0].Epoch != before {
		t.Errorf("promised as %+v, want epoch %d", results, before)
	}
	transfer.ID = strings.ToUpper(transfer.ID) // an id has one form only, in which lists go on from it
	results = desk.Prepare(context.Background(), "beta", peers.PrepareRequest{Epoch: after, Transfers: []peers.Transfer{transfer}})
	if len(results) != 1 || results[0].State != peers.Refused || results[0].Code != string(ledger.InvalidRequest) {
		t.Errorf("in capitals: %+v", results)
	}
}

// A decision of an epoch that is over changes nothing by itself. When the promise is lost as well nobody but its hearer can ask
// the payer's system, and it does so before the event is done with.
func TestADecisionOfAnEpochThatIsOverIsAskedAbout(t *testing.T) {
	t.Parallel()
	s, desk := newScene(t, "beta", "alpha")
	word := func(id string, epoch int64) string {
		stated, err := teller{}.StateAll([]peers.Fact{{
			ID: id, Type: ledger.EventCommitted, From: "beta", To: "alpha", Epoch: epoch, PayeeEpoch: before - 1, Amount: "5", Currency: "KRW",
			Payer: string(s.remittance.Transfer.From), Payee: string(s.remittance.Transfer.To),
		}})
		if err != nil {
			t.Fatal(err)
		}
		return stated[0]
	}
	id := string(s.remittance.ID)
	event := events.Event{
		ID: id + ".transfer.committed", Source: "lockstep:beta", Type: "lockstep." + ledger.EventCommitted, Subject: id,
		Time: s.remittance.CreatedAt, Epoch: before, Statement: word(id, before),
	}
	handle := func(bus remit.Bus, list ...events.Event) events.Verdict {
		data, err := events.Pack(list)
		if err != nil {
			t.Fatal(err)
		}
		return remit.NewCarrier(desk, bus).Handle(context.Background(), events.Delivery{Subject: events.Transfer("beta", "alpha", "committed"), Data: data})
	}
	for name, c := range map[string]struct {
		state             ledger.State // of the promise, if it is there
		answer            peers.InquiryResult
		submitted, parked int
		done              bool
	}{
		"no answer":            {submitted: 1},
		"undecided":            {answer: peers.InquiryResult{State: peers.Pending}, submitted: 1},
		"committed":            {answer: peers.InquiryResult{State: peers.Committed, Statement: word(id, after)}, submitted: 2, done: true},
		"about another":        {answer: peers.InquiryResult{State: peers.Committed, Statement: word("another", after)}, submitted: 1, parked: 1, done: true},
		"aborted":              {answer: peers.InquiryResult{State: peers.Aborted}, submitted: 1, done: true},
		"aborted, promised":    {state: ledger.Pending, answer: peers.InquiryResult{State: peers.Aborted}, submitted: 2, done: true},
		"ended here meanwhile": {state: ledger.Posted, submitted: 1, done: true},
	} {
		s.missing, s.remittance.State, s.submitted = c.state == "", c.state, nil
		s.refusals, s.answered = []*ledger.Error{{Code: ledger.StaleEpoch}}, peers.InquiryAnswer{Epoch: after}
		if c.answer.State != "" {
			s.answered.Results = []peers.InquiryResult{c.answer}
		}
		bus := &heap{}
		if done := handle(bus, event) == events.Done(); done != c.done || len(s.submitted) != c.submitted || bus.parked != c.parked {
			t.Errorf("%s: done %v, submitted %+v, parked %d", name, done, s.submitted, bus.parked)
		}
		if credit, is := s.submitted[len(s.submitted)-1].(ledger.Credit); name == "committed" && (!is || credit.Epoch != after) {
			t.Errorf("%s: submitted %+v", name, s.submitted)
		}
	}
	aborted := peers.InquiryResult{State: peers.Aborted}
	s.missing, s.inquiries, s.refusals = true, 0, []*ledger.Error{{Code: ledger.StaleEpoch}, {Code: ledger.StaleEpoch}}
	s.answered.Results = []peers.InquiryResult{aborted, aborted}
	if verdict := handle(&heap{}, event, event); verdict != events.Done() || s.inquiries != 1 {
		t.Errorf("two together: %+v after %d requests", verdict, s.inquiries)
	}
}

// Whoever finds a transfer decided leaves its saga to the transaction that has decided: after a failover it may be open.
func TestASagaThatIsFoundDecidedIsNotEnded(t *testing.T) {
	t.Parallel()
	for payer, payee := range map[string]string{"alpha": "beta", "beta": "alpha"} {
		s, desk := newScene(t, payer, payee)
		s.remittance.State = ledger.Voided
		handler := desk.Remitting
		if payee == "alpha" {
			handler = desk.Awaiting
		}
		if outcome := handler(context.Background(), saga.Saga{ID: string(s.remittance.ID)}); outcome != saga.Settled() || len(s.submitted) > 0 {
			t.Errorf("paid by %s: %+v, submitted %v", payer, outcome, s.submitted)
		}
	}
}
