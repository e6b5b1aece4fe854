package concert_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"lockstep/cluster/local/servers"
	"lockstep/examples/ticketoffice/concert"
	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/examples/ticketoffice/web"
	"lockstep/saga"
)

// A reserved seat is nobody else's until its time is over. Then it is free, and neither a payment nor an undoing that comes late
// for the old reservation touches the new one.
func TestAReservationEndsByItself(t *testing.T) {
	t.Parallel()
	const lifetime = 400 * time.Millisecond
	db, err := store.Open(t.Context(), servers.Shared(t).Database(t).Migrate, "concert")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	open := func(context.Context, string, string) error { return nil }
	seats := concert.New(db, lifetime, open)
	if err := seats.Open(ctx, "test", 1, 1000); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	first, err := seats.Reserve(ctx, "test", "token", "alice", 1)
	if err != nil {
		t.Fatal(err)
	}
	second, err := concert.New(db, time.Hour, open).Reserve(ctx, "test", "token", "bob", 1)
	for ; err != nil; second, err = concert.New(db, time.Hour, open).Reserve(ctx, "test", "token", "bob", 1) {
		var problem *web.Problem
		if !errors.As(err, &problem) || problem.Code != "seat_taken" {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if waited := time.Since(began); waited < lifetime {
		t.Errorf("a seat that was reserved for %v was another's after %v", lifetime, waited)
	}
	about := func(r concert.Reservation, buyer string) sale.Sale {
		return sale.Sale{Payment: "0197b4a0-0000-7000-8000-000000000001", Buyer: buyer, Concert: "test", Seat: 1, Reservation: r.ID, Amount: 1000}
	}
	late := about(first, "alice")
	if err := db.Within(ctx, func(tx saga.Tx) error { return concert.Confirm(ctx, tx, late) }); !saga.IsRefused(err) {
		t.Errorf("a late payment was not refused: %v", err)
	}
	if err := db.Within(ctx, func(tx saga.Tx) error { return concert.Free(ctx, tx, late) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Within(ctx, func(tx saga.Tx) error { return concert.Confirm(ctx, tx, about(second, "bob")) }); err != nil {
		t.Errorf("the second buyer's seat is gone: %v", err)
	}
}

// A reservation whose time is over is refused also while nobody else has wanted the seat.
func TestALatePaymentOfAFreeSeatIsRefused(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), servers.Shared(t).Database(t).Migrate, "concert")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	seats := concert.New(db, time.Microsecond, func(context.Context, string, string) error { return nil })
	if err := seats.Open(t.Context(), "test", 1, 1000); err != nil {
		t.Fatal(err)
	}
	r, err := seats.Reserve(t.Context(), "test", "token", "alice", 1)
	if err != nil {
		t.Fatal(err)
	}
	late := sale.Sale{Payment: "0197b4a0-0000-7000-8000-000000000001", Buyer: "alice", Concert: "test", Seat: 1, Reservation: r.ID, Amount: 1000}
	if err := db.Within(t.Context(), func(tx saga.Tx) error { return concert.Confirm(t.Context(), tx, late) }); !saga.IsRefused(err) {
		t.Errorf("a late payment was not refused: %v", err)
	}
	if counts, err := seats.Seats(t.Context(), "test"); err != nil || counts[concert.FreeSeat] != 1 {
		t.Errorf("the seats are %v: %v", counts, err)
	}
}
