package remit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/cluster/events"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/remit"
	"lockstep/saga"
)

// named are books of which only the system's name is read.
type named struct{ remit.Books }

func (named) System() string { return "alpha" }

// heap keeps what is published.
type heap struct {
	remit.Bus
	messages []events.Message
	parked   int
	err      error
}

func (h *heap) Park(context.Context, events.Delivery, events.Event, string) error {
	h.parked++
	return nil
}

func (h *heap) Publish(_ context.Context, m events.Message) error {
	h.messages = append(h.messages, m)
	return h.err
}

func carrierOver(t *testing.T, bus remit.Bus) *remit.Carrier {
	t.Helper()
	desk, err := remit.Open(t.Context(), remit.DefaultConfig(), named{}, nil, nil, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(desk.Close)
	return remit.NewCarrier(desk, bus)
}

// A broker that cannot be reached is no attempt; one that gives no acknowledgement, or refuses, is. What cannot be read is
// told apart before anything of its company is published.
func TestOnlyABrokerThatIsAwayIsNoAttempt(t *testing.T) {
	t.Parallel()
	readable := saga.Message{ID: "row", Destination: posting.OwnEvents, Events: []byte(`{"transfer.posted":["a"]}`)}
	for failure, away := range map[error]bool{
		events.ErrDisconnected: true, events.ErrClosed: true, events.ErrUnavailable: false, events.ErrRefused: false,
	} {
		err := carrierOver(t, &heap{err: failure}).Publish(t.Context(), readable)
		if !errors.Is(err, failure) || errors.Is(err, saga.ErrAway) != away {
			t.Errorf("%v becomes %v", failure, err)
		}
	}
	bus := &heap{}
	unreadable := saga.Message{ID: "bad", Destination: posting.OwnEvents, Events: []byte("{")}
	err := carrierOver(t, bus).PublishAll(t.Context(), []saga.Message{readable, unreadable})
	if err == nil || errors.Is(err, saga.ErrAway) || len(bus.messages) != 0 {
		t.Errorf("with a row that cannot be read %d messages were published, and the error is %v", len(bus.messages), err)
	}
}

// What is published again has its first id, and the broker drops it; what is published together with something new has
// another one, or the broker would drop that too.
func TestMessageIDStandsForAllThatAMessageTells(t *testing.T) {
	t.Parallel()
	bus := &heap{}
	carrier := carrierOver(t, bus)
	row := func(id string) saga.Message {
		return saga.Message{ID: "row-" + id, Destination: posting.OwnEvents, Events: []byte(`{"transfer.posted":["` + id + `"]}`)}
	}
	for _, rows := range [][]saga.Message{{row("a"), row("b")}, {row("a"), row("b")}, {row("a"), row("c")}, {row("a")}} {
		if err := carrier.PublishAll(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
	}
	ids := map[string]int{}
	for _, m := range bus.messages {
		ids[m.ID]++
	}
	retold := &heap{}
	for epoch := range int64(2) {
		event := ledger.PeerEvent{Peer: "beta", Type: ledger.EventAborted, Epoch: epoch, ID: "a"}
		if err := remit.NewCarrier(newDesk(t, nil), retold).Publish(t.Context(), saga.Message{Destination: "beta", Known: []ledger.PeerEvent{event}}); err != nil {
			t.Fatal(err)
		}
	}
	if retold.messages[0].ID == retold.messages[1].ID {
		t.Error("what is told again in a new epoch has its old id, and the broker drops it")
	}
	if len(bus.messages) != 4 || bus.messages[0].ID != bus.messages[1].ID || len(ids) != 3 {
		t.Errorf("two messages of which one is repeated, and two others, have the ids %v", ids)
	}
}

// teller signs by showing the fact.
type teller struct{ remit.Directory }

func (teller) StateAll(facts []peers.Fact) (stated []string, err error) {
	for _, fact := range facts {
		text, err := json.Marshal(fact)
		if err != nil {
			return nil, err
		}
		stated = append(stated, string(text))
	}
	return stated, nil
}

func (teller) Read(stated string) (fact peers.Fact, err error) {
	return fact, json.Unmarshal([]byte(stated), &fact)
}

func (teller) Peer(id string) (peers.Peer, bool) { return peers.Peer{ID: id, Settlement: 10}, true }

// A decision is stated by itself, for its receiver keeps the word; credits are stated together, as far as they are of one
// epoch and currency and do not become too many.
func TestCreditsAreStatedTogetherAndDecisionsAlone(t *testing.T) {
	t.Parallel()
	bus := &heap{}
	carrier := remit.NewCarrier(newDesk(t, nil), bus)
	var told []ledger.PeerEvent
	add := func(kind string, count int, epoch int64, currency ledger.Currency) {
		for range count {
			told = append(told, ledger.PeerEvent{
				Peer: "beta", Type: kind, Epoch: epoch, ID: ledger.TransferID(fmt.Sprint(len(told))),
				From: "a", To: "b", Amount: ledger.Money{Minor: 1, Currency: currency},
			})
		}
	}
	add(ledger.EventCredited, peers.BatchMax+1, 1, "KRW")
	add(ledger.EventCommitted, 2, 1, "KRW")
	add(ledger.EventCredited, 1, 1, "USD")
	add(ledger.EventCredited, 1, 2, "KRW")
	var rows []saga.Message
	for part := range slices.Chunk(told, 100) {
		rows = append(rows, saga.Message{Destination: "beta", Known: part})
	}
	if err := carrier.PublishAll(t.Context(), rows); err != nil {
		t.Fatal(err)
	}
	sizes, seen := []int{}, map[string]bool{}
	for _, m := range bus.messages {
		list, _ := events.Unpack(m.Data)
		for _, event := range list {
			fact, err := teller{}.Read(event.Statement)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range fact.Transfers() {
				seen[id] = true
			}
			if sizes = append(sizes, len(fact.Transfers())); fact.Type == ledger.EventCommitted && (fact.ID == "" || fact.Amount != "1") {
				t.Errorf("a decision is stated as %+v", fact)
			}
		}
	}
	slices.Sort(sizes)
	if want := []int{1, 1, 1, 1, 1, peers.BatchMax}; !slices.Equal(sizes, want) || len(seen) != len(told) {
		t.Errorf("the statements are about %v transfers, and about %d of %d in all", sizes, len(seen), len(told))
	}
}

// shelf are books with remittances.
type shelf struct {
	named
	rows map[ledger.TransferID]ledger.Remittance
}

func (s shelf) Remittances(_ context.Context, ids ...ledger.TransferID) (map[ledger.TransferID]ledger.Remittance, error) {
	found := map[ledger.TransferID]ledger.Remittance{}
	for _, id := range ids {
		if r, there := s.rows[id]; there {
			found[id] = r
		}
	}
	return found, nil
}

// A row that was left by its node is told as that node would have told it, from the books. What they do not say is not told.
func TestARowThatWasLeftIsToldFromTheBooks(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 7, 1, 12, 0, 0, 123456000, time.UTC)
	books := shelf{rows: map[ledger.TransferID]ledger.Remittance{}}
	var known []ledger.PeerEvent
	for id, state := range map[ledger.TransferID]ledger.State{"a": ledger.Posted, "b": ledger.Voided, "c": ledger.Posted} {
		books.rows[id] = ledger.Remittance{
			ID: id, Payer: "alpha", Payee: "beta", State: state, PayerEpoch: 7, PayeeEpoch: 8, Origin: "sealed", FinishedAt: at,
			Transfer: &ledger.Transfer{ID: id, From: "alpha-1", To: "beta-2", Amount: ledger.Money{Minor: 5, Currency: "KRW"}, Description: "rent"},
		}
		known = append(known, ledger.DecisionOf(books.rows[id], 6))
	}
	known = append(known, ledger.PeerEvent{
		Peer: "beta", Type: ledger.EventCredited, Epoch: 6, ID: "of beta", Amount: ledger.Money{Currency: "KRW"}, At: at,
	})
	known[0].Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	tell := func(row saga.Message) (told []string, err error) {
		bus := &heap{}
		desk, err := remit.Open(t.Context(), remit.DefaultConfig(), books, nil, teller{}, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer desk.Close()
		row.Destination = "beta"
		err = remit.NewCarrier(desk, bus).Publish(t.Context(), row)
		for _, m := range bus.messages {
			list, _ := events.Unpack(m.Data)
			for _, event := range list {
				told = append(told, event.Trace+event.Statement)
			}
		}
		slices.Sort(told)
		return told, err
	}
	want, err := tell(saga.Message{Known: known})
	if err != nil || len(want) != len(known) {
		t.Fatalf("what is known is told as %v, %v", want, err)
	}
	rowOf := func(list []ledger.PeerEvent) saga.Message {
		text, err := json.Marshal(ledger.OutlineOf(list))
		if err != nil {
			t.Fatal(err)
		}
		return saga.Message{Events: text}
	}
	if told, err := tell(rowOf(known)); err != nil || !slices.Equal(told, want) {
		t.Errorf("what was left is told as\n%v, %v, not as\n%v", told, err, want)
	}
	for name, change := range map[string]func(*ledger.Remittance){
		"pending":        func(r *ledger.Remittance) { r.State = ledger.Pending },
		"ended else":     func(r *ledger.Remittance) { r.State = ledger.Voided },
		"another peer's": func(r *ledger.Remittance) { r.Payee = "gamma" },
		"not ours":       func(r *ledger.Remittance) { r.Payer = "gamma" },
		"not there":      func(r *ledger.Remittance) { *r = ledger.Remittance{} },
	} {
		r := books.rows["c"]
		row := rowOf([]ledger.PeerEvent{ledger.DecisionOf(r, 6)})
		change(&r)
		kept := books
		books = shelf{rows: map[ledger.TransferID]ledger.Remittance{"c": r}}
		if told, err := tell(row); err == nil || len(told) > 0 {
			t.Errorf("%s: told %v", name, told)
		}
		books = kept
	}
	// A failover may lose a row and its end, and a node may remember the row: meanwhile a tombstone may stand there.
	tombstone := books.rows["b"]
	row := rowOf([]ledger.PeerEvent{ledger.DecisionOf(tombstone, 6)})
	tombstone.Transfer = nil
	books.rows["b"] = tombstone
	if told, err := tell(row); err == nil || len(told) > 0 {
		t.Errorf("a tombstone: told %v", told)
	}
}

// notes refuses what is about one transfer.
type notes struct {
	posting.Submitter
	wrong ledger.TransferID
	code  ledger.Code
	noted []ledger.TransferID
}

func (n *notes) Submit(_ context.Context, c posting.Command) (posting.Outcome, error) {
	note := c.Operation.(ledger.NoteCredit) //nolint:forcetypeassert // the test sends nothing else
	if slices.Contains(note.IDs, n.wrong) {
		return posting.Outcome{Refusal: &ledger.Error{Code: n.code}}, nil
	}
	n.noted = append(n.noted, note.IDs...)
	return posting.Outcome{Result: ledger.Result{Remittance: &ledger.Remittance{}}}, nil
}

// One credit of many that contradicts our books is shown to an operator, and the others are noted all the same.
func TestOneWrongCreditKeepsNoOtherFromBeingNoted(t *testing.T) {
	t.Parallel()
	first, wrong, last := uuid.NewString(), uuid.NewString(), uuid.NewString()
	tell := func(engine *notes, ids ...string) error {
		return newDesk(t, engine).Apply(t.Context(), peers.Fact{IDs: ids, Type: ledger.EventCredited, From: "beta", Currency: "KRW", Epoch: 1}, "")
	}
	for code, parks := range map[ledger.Code]bool{ledger.TransferConflict: true, ledger.StaleEpoch: false} {
		engine := &notes{wrong: ledger.TransferID(wrong), code: code}
		err := tell(engine, first, wrong, last)
		if !slices.Equal(engine.noted, []ledger.TransferID{ledger.TransferID(first), ledger.TransferID(last)}) || remit.Contradicts(err) != parks || remit.Stale(err) == parks {
			t.Errorf("%s: noted %v, then %v", code, engine.noted, err)
		}
	}
	engine := &notes{wrong: ledger.TransferID(wrong), code: ledger.SourceUnavailable}
	if err := tell(engine, first, wrong); err == nil || remit.Contradicts(err) || len(engine.noted) > 0 {
		t.Errorf("without a source: noted %v, then %v", engine.noted, err)
	}
	for name, ids := range map[string][]string{"nothing": nil, "no id": {"none"}, "an id in capitals": {strings.ToUpper(first)}} {
		if err := tell(engine, ids...); !remit.Contradicts(err) || len(engine.noted) > 0 {
			t.Errorf("about %s: noted %v, then %v", name, engine.noted, err)
		}
	}
	if err := tell(engine, first, "none"); !remit.Contradicts(err) || !slices.Equal(engine.noted, []ledger.TransferID{ledger.TransferID(first)}) {
		t.Errorf("with one that has no id: noted %v, then %v", engine.noted, err)
	}
}

func newDesk(t *testing.T, engine posting.Submitter) *remit.Desk {
	t.Helper()
	desk, err := remit.Open(t.Context(), remit.DefaultConfig(), named{}, engine, teller{}, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(desk.Close)
	return desk
}
