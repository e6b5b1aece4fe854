package remit_test

import (
	"context"
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
}

func (h *heap) Publish(_ context.Context, m events.Message) error {
	h.messages = append(h.messages, m)
	return nil
}

// What is published again has its first id, and the broker drops it; what is published together with something new has
// another one, or the broker would drop that too.
func TestMessageIDStandsForAllThatAMessageTells(t *testing.T) {
	t.Parallel()
	desk, err := remit.Open(t.Context(), remit.DefaultConfig(), named{}, nil, nil, nil, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(desk.Close)
	bus := &heap{}
	carrier := remit.NewCarrier(desk, bus)
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
