package choreography

import (
	"errors"
	"log/slog"
	"testing"

	"lockstep/cluster/events"
	"lockstep/cluster/local/servers"
	"lockstep/examples/ticketoffice/concert"
	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/saga"
)

var about = sale.Sale{
	Payment: "0197b4a0-0000-7000-8000-000000000001", Token: "0197b4a0-0000-7000-8000-000000000002", Buyer: "alice",
	Account: "alpha-000000001000xx", Concert: "test", Seat: 1, Reservation: "0197b4a0-0000-7000-8000-000000000003", Amount: 1000,
}

// silent is a part whose broker is away: what it says stays in its outbox.
func silent(t *testing.T) *Part {
	t.Helper()
	db, err := store.Open(t.Context(), servers.Shared(t).Database(t).Migrate, Concert)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	config := Bus()
	config.URL, config.System = "nats://127.0.0.1:1", Concert
	bus, err := events.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Close)
	if err := db.Within(t.Context(), func(tx saga.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO seats (concert, seat, price, state, reservation, buyer, expires_at)
			VALUES ('test', 1, 1000, 'reserved', ?, 'alice', UTC_TIMESTAMP(6) + INTERVAL 1 HOUR)`, about.Reservation)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return newPart(Concert, db, bus, nil, slog.New(slog.DiscardHandler))
}

// In whatever order a step and its inverse come, and however often, each has its effect once, an inverse wins, and each is
// told on once.
func TestStepAndInverseInAnyOrder(t *testing.T) {
	t.Parallel()
	no := errors.New("no")
	for name, c := range map[string]struct {
		calls []string
		seat  string
		told  int
	}{
		"do do":             {[]string{"do", "do"}, concert.Confirmed, 1},
		"do undo":           {[]string{"do", "undo"}, concert.FreeSeat, 2},
		"do undo undo":      {[]string{"do", "undo", "undo"}, concert.FreeSeat, 2},
		"undo do":           {[]string{"undo", "do"}, concert.FreeSeat, 1},
		"refuse refuse do":  {[]string{"refuse", "refuse", "do"}, concert.FreeSeat, 1},
		"refuse undo":       {[]string{"refuse", "undo"}, concert.FreeSeat, 1},
		"do, refused after": {[]string{"do", "refuse!"}, concert.Confirmed, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, ctx := silent(t), t.Context()
			confirm := func(tx saga.Tx) error { return concert.Confirm(ctx, tx, about) }
			free := func(tx saga.Tx) error { return concert.Free(ctx, tx, about) }
			next := line{Points, seatConfirmed}
			calls := map[string]func() error{
				"do":     func() error { return p.do(ctx, about, sale.StepSeat, confirm, next) },
				"undo":   func() error { return p.undo(ctx, sale.Event{Sale: about}, sale.StepSeat, free, next) },
				"refuse": func() error { return p.refuse(ctx, about, sale.StepSeat, no, free, next) },
				"refuse!": func() error {
					if err := p.refuse(ctx, about, sale.StepSeat, no, free, next); !errors.Is(err, errDoneMeanwhile) {
						return errors.New("a step that was done was refused")
					}
					return nil
				},
			}
			for _, call := range c.calls {
				if err := calls[call](); err != nil {
					t.Fatalf("%s: %v", call, err)
				}
			}
			seats, err := concert.New(p.db, 0, nil).Seats(ctx, "test")
			if err != nil || seats[c.seat] != 1 {
				t.Errorf("the seat is %v, not %s: %v", seats, c.seat, err)
			}
			if stats, err := p.outbox.Stats(ctx); err != nil || stats.Waiting != c.told {
				t.Errorf("%d events are to be told, not %d: %v", stats.Waiting, c.told, err)
			}
		})
	}
}
