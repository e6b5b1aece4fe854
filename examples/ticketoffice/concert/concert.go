// Package concert keeps the seats: free, reserved for a while, confirmed by a payment, sold.
package concert

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/examples/ticketoffice/web"
	"lockstep/saga"
)

// States of a seat.
const (
	FreeSeat  = "free"
	Reserved  = "reserved"
	Confirmed = "confirmed" // by a payment that is not certain yet
	Sold      = "sold"
)

const seatsMax = 10_000 // of one concert

// Reservation is a seat that is a buyer's until it expires.
type Reservation struct {
	ID        string    `json:"id"`
	Concert   string    `json:"concert"`
	Seat      int       `json:"seat"`
	Price     int64     `json:"price"` // in minor units
	ExpiresAt time.Time `json:"expires_at"`
}

// Gate refuses a buyer who may not buy now.
type Gate func(ctx context.Context, token, buyer string) error

// Concerts are the seats of all concerts.
type Concerts struct {
	db       *store.Store
	lifetime time.Duration // of a reservation
	gate     Gate
}

// New makes concerts whose reservations last for the lifetime.
func New(db *store.Store, lifetime time.Duration, gate Gate) *Concerts {
	return &Concerts{db: db, lifetime: lifetime, gate: gate}
}

// Open makes a concert with so many seats of one price. It may be repeated.
func (c *Concerts) Open(ctx context.Context, concert string, seats int, price int64) error {
	if concert == "" || len(concert) > 64 || seats < 1 || seats > seatsMax || price < 1 {
		return web.Refuse(http.StatusBadRequest, "invalid_request", "a concert has a name, 1 to %d seats and a price", seatsMax)
	}
	return c.db.Within(ctx, func(tx saga.Tx) error {
		for seat := 1; seat <= seats; seat++ {
			if _, err := tx.Exec(ctx, `INSERT INTO seats (concert, seat, price, state) VALUES (?, ?, ?, 'free') ON DUPLICATE KEY UPDATE seat = seat`,
				concert, seat, price); err != nil {
				return fmt.Errorf("open seat %d: %w", seat, err)
			}
		}
		return nil
	})
}

// Seats counts the seats of a concert by state; a reservation whose time is over counts as free.
func (c *Concerts) Seats(ctx context.Context, concert string) (map[string]int, error) {
	counts := map[string]int{}
	err := c.db.Within(ctx, func(tx saga.Tx) error {
		clear(counts)
		return tx.Query(ctx, func(rows *sql.Rows) error {
			var state string
			var n int
			err := rows.Scan(&state, &n)
			counts[state] = n
			return err
		}, `SELECT IF(state = 'reserved' AND expires_at <= UTC_TIMESTAMP(6), 'free', state) AS now, COUNT(*) FROM seats WHERE concert = ? GROUP BY now`, concert)
	})
	if err == nil && len(counts) == 0 {
		err = web.Refuse(http.StatusNotFound, "concert_not_found", "there is no concert %s", concert)
	}
	return counts, err
}

// Reserve gives a buyer with an active token a seat for a while: the one asked for, or for 0 any that is free.
func (c *Concerts) Reserve(ctx context.Context, concert, token, buyer string, seat int) (Reservation, error) {
	if err := c.gate(ctx, token, buyer); err != nil { // before the transaction: it may be a request to another service
		return Reservation{}, err
	}
	r := Reservation{ID: uuid.NewString(), Concert: concert}
	err := c.db.Within(ctx, func(tx saga.Tx) error {
		if err := pick(ctx, tx, &r, seat); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE seats SET state = 'reserved', reservation = ?, buyer = ?, payment = '',
			expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND WHERE concert = ? AND seat = ?`,
			r.ID, buyer, c.lifetime.Microseconds(), concert, r.Seat); err != nil {
			return err
		}
		return tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&r.ExpiresAt) },
			`SELECT expires_at FROM seats WHERE concert = ? AND seat = ?`, concert, r.Seat)
	})
	if err != nil {
		return Reservation{}, fmt.Errorf("reserve: %w", err)
	}
	return r, nil
}

// pick locks a free seat. Any seat will do for 0, so that it passes over those in others' hands.
func pick(ctx context.Context, tx saga.Tx, r *Reservation, seat int) error {
	const free = `(state = 'free' OR state = 'reserved' AND expires_at <= UTC_TIMESTAMP(6))`
	scan := func(rows *sql.Rows) error { return rows.Scan(&r.Seat, &r.Price) }
	r.Seat = 0
	if seat != 0 {
		err := tx.Query(ctx, scan, `SELECT seat, price FROM seats WHERE concert = ? AND seat = ? AND `+free+` FOR UPDATE`, r.Concert, seat)
		if err == nil && r.Seat == 0 {
			err = web.Refuse(http.StatusConflict, "seat_taken", "seat %d is taken", seat)
		}
		return err
	}
	err := tx.Query(ctx, scan, `SELECT seat, price FROM seats FORCE INDEX (PRIMARY) WHERE concert = ? AND `+free+` ORDER BY seat LIMIT 1 FOR UPDATE SKIP LOCKED`, r.Concert)
	if err != nil || r.Seat != 0 {
		return err
	}
	left := 0
	err = tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&left) },
		`SELECT COUNT(*) FROM seats WHERE concert = ? AND state <> 'sold'`, r.Concert)
	switch {
	case err != nil:
		return err
	case left == 0:
		return web.Refuse(http.StatusConflict, "sold_out", "all seats are sold")
	}
	return web.Refuse(http.StatusConflict, "seats_taken", "all seats are taken for now")
}

// Confirm gives a reserved seat to a payment, or refuses: the reservation is over, or the sale is not about it.
func Confirm(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	result, err := tx.Exec(ctx, `UPDATE seats SET state = 'confirmed', payment = ? WHERE concert = ? AND seat = ? AND state = 'reserved'
		AND reservation = ? AND buyer = ? AND price = ? AND expires_at > UTC_TIMESTAMP(6)`,
		s.Payment, s.Concert, s.Seat, s.Reservation, s.Buyer, s.Amount)
	if err != nil {
		return fmt.Errorf("confirm the seat: %w", err)
	}
	n, err := result.RowsAffected()
	if err == nil && n == 0 {
		err = saga.Refused(web.Refuse(http.StatusConflict, "reservation_invalid", "the reservation is over, or not for this buyer, seat and price"))
	}
	return err
}

// Free gives back what a sale has of a seat: its confirmation, or the reservation that it was to confirm.
func Free(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	_, err := tx.Exec(ctx, `UPDATE seats SET state = 'free', reservation = '', buyer = '', payment = '', expires_at = NULL
		WHERE concert = ? AND seat = ? AND reservation = ? AND (state = 'reserved' OR state = 'confirmed' AND payment = ?)`,
		s.Concert, s.Seat, s.Reservation, s.Payment)
	if err != nil {
		return fmt.Errorf("free the seat: %w", err)
	}
	return nil
}

// Sell makes a confirmed seat a sold one.
func Sell(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	_, err := tx.Exec(ctx, `UPDATE seats SET state = 'sold', expires_at = NULL WHERE concert = ? AND seat = ? AND payment = ? AND state = 'confirmed'`,
		s.Concert, s.Seat, s.Payment)
	if err != nil {
		return fmt.Errorf("sell the seat: %w", err)
	}
	return nil
}

// Routes adds what buyers and the organiser ask for.
func (c *Concerts) Routes(mux *web.Mux) {
	mux.Handle("PUT /v1/concerts/{concert}", func(w http.ResponseWriter, r *http.Request) error {
		asked, err := web.Decode[struct {
			Seats int   `json:"seats"`
			Price int64 `json:"price"`
		}](r)
		if err != nil {
			return err
		}
		if err := c.Open(r.Context(), r.PathValue("concert"), asked.Seats, asked.Price); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	mux.Handle("GET /v1/concerts/{concert}", func(w http.ResponseWriter, r *http.Request) error {
		counts, err := c.Seats(r.Context(), r.PathValue("concert"))
		if err != nil {
			return err
		}
		return web.Reply(w, http.StatusOK, counts)
	})
	mux.Handle("POST /v1/concerts/{concert}/reservations", func(w http.ResponseWriter, r *http.Request) error {
		asked, err := web.Decode[struct {
			Token string `json:"token"`
			Buyer string `json:"buyer"`
			Seat  int    `json:"seat"`
		}](r)
		if err != nil {
			return err
		}
		reservation, err := c.Reserve(r.Context(), r.PathValue("concert"), asked.Token, asked.Buyer, asked.Seat)
		if err != nil {
			return err
		}
		return web.Reply(w, http.StatusCreated, reservation)
	})
}
