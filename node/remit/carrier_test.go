package remit_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/cluster/events"
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
	err      error
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
	if len(bus.messages) != 4 || bus.messages[0].ID != bus.messages[1].ID || len(ids) != 3 {
		t.Errorf("two messages of which one is repeated, and two others, have the ids %v", ids)
	}
}
