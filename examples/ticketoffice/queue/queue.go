// Package queue lets so many buyers to the counter at a time. Who waits stands in a Redis sorted set by the order of
// arrival; what a token is worth is a row, so that a flushed Redis costs nobody a place.
package queue

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/examples/ticketoffice/web"
	"lockstep/saga"
)

// States of a token.
const (
	Waiting = "waiting"
	Active  = "active" // may reserve and pay, until it expires
	InUse   = "in_use" // a payment is under way: it does not expire
	Expired = "expired"
)

const (
	admitEvery   = 100 * time.Millisecond
	rebuildBatch = 1000
)

// Token is a place in the queue, and later the right to buy.
type Token struct {
	ID        string    `json:"id"`
	Buyer     string    `json:"buyer"`
	State     string    `json:"state"`
	Position  int64     `json:"position,omitempty"` // of one that waits, from 1
	Payment   string    `json:"payment,omitempty"`  // the last one that used it
	ExpiresAt time.Time `json:"expires_at,omitzero"`
}

// Queue is the waiting queue. Any number of processes may admit: what they count and activate, they do one after the other.
type Queue struct {
	db       *store.Store
	redis    *redis.Client
	key      string
	capacity int           // tokens that are active or in use at a time
	lifetime time.Duration // of an active token
	log      *slog.Logger
	short    bool // Redis knew of fewer than wait, at the last look
}

// New makes a queue whose sorted set has the key.
func New(db *store.Store, client *redis.Client, key string, capacity int, lifetime time.Duration, log *slog.Logger) *Queue {
	return &Queue{db: db, redis: client, key: key, capacity: capacity, lifetime: lifetime, log: log}
}

// Enter puts a buyer at the end of the queue. Redis may miss it; the next admission notices.
func (q *Queue) Enter(ctx context.Context, buyer string) (Token, error) {
	if buyer == "" || len(buyer) > 64 {
		return Token{}, web.Refuse(http.StatusBadRequest, "invalid_request", "buyer must have 1 to 64 characters")
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Token{}, err
	}
	token := Token{ID: id.String(), Buyer: buyer, State: Waiting}
	var place int64
	err = q.db.Within(ctx, func(tx saga.Tx) error {
		result, err := tx.Exec(ctx, `INSERT INTO tokens (id, buyer, state, created_at) VALUES (?, ?, 'waiting', UTC_TIMESTAMP(6))`, token.ID, buyer)
		if err != nil {
			return err
		}
		place, err = result.LastInsertId()
		return err
	})
	if err != nil {
		return Token{}, fmt.Errorf("enter the queue: %w", err)
	}
	if err := q.redis.ZAdd(ctx, q.key, redis.Z{Score: float64(place), Member: token.ID}).Err(); err != nil {
		q.log.Warn("the queue's Redis missed a token", "error", err)
	}
	return token, nil
}

// Get reads a token.
func (q *Queue) Get(ctx context.Context, id string) (Token, error) {
	token, place, err := q.read(ctx, id)
	if err != nil || token.State != Waiting {
		return token, err
	}
	if rank, err := q.redis.ZRank(ctx, q.key, id).Result(); err == nil {
		token.Position = rank + 1
		return token, nil
	}
	err = q.db.Within(ctx, func(tx saga.Tx) error {
		return tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&token.Position) },
			`SELECT COUNT(*) + 1 FROM tokens WHERE state = 'waiting' AND place < ?`, place)
	})
	return token, err
}

func (q *Queue) read(ctx context.Context, id string) (token Token, place int64, err error) {
	found := false
	err = q.db.Within(ctx, func(tx saga.Tx) error {
		return tx.Query(ctx, func(rows *sql.Rows) error {
			found = true
			var expires sql.NullTime
			err := rows.Scan(&token.ID, &token.Buyer, &token.State, &token.Payment, &expires, &place)
			token.ExpiresAt = expires.Time
			return err
		}, `SELECT id, buyer, IF(state = 'active' AND expires_at <= UTC_TIMESTAMP(6), 'expired', state), payment, expires_at, place
			FROM tokens WHERE id = ?`, id)
	})
	if err == nil && !found {
		err = web.Refuse(http.StatusNotFound, "token_not_found", "there is no token %s", id)
	}
	return token, place, err
}

// MayBuy refuses a token that is not active, or another buyer's.
func (q *Queue) MayBuy(ctx context.Context, id, buyer string) error {
	token, _, err := q.read(ctx, id)
	if err == nil && (token.State != Active || token.Buyer != buyer) {
		err = web.Refuse(http.StatusConflict, "token_not_active", "the token is not active, or another buyer's")
	}
	return err
}

// Leave gives up a token that no payment uses.
func (q *Queue) Leave(ctx context.Context, id string) error {
	err := q.db.Within(ctx, func(tx saga.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE tokens SET state = 'expired' WHERE id = ? AND state IN ('waiting', 'active')`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("leave the queue: %w", err)
	}
	_ = q.redis.ZRem(ctx, q.key, id).Err() // admission notices that it waits no more
	return nil
}

// Run admits buyers until ctx ends.
func (q *Queue) Run(ctx context.Context) {
	for {
		if err := q.Admit(ctx); err != nil && ctx.Err() == nil {
			q.log.Warn("nobody was admitted", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(admitEvery):
		}
	}
}

// Admit expires tokens whose time is over, and activates as many that wait as there is room for, the first first.
func (q *Queue) Admit(ctx context.Context) error {
	var waiting, busy int
	err := q.db.Within(ctx, func(tx saga.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE tokens SET state = 'expired' WHERE state = 'active' AND expires_at <= UTC_TIMESTAMP(6)`); err != nil {
			return err
		}
		return tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&waiting, &busy) },
			`SELECT COALESCE(SUM(state = 'waiting'), 0), COALESCE(SUM(state <> 'waiting'), 0) FROM tokens WHERE state IN ('waiting', 'active', 'in_use')`)
	})
	if err != nil {
		return fmt.Errorf("count tokens: %w", err)
	}
	room := min(q.capacity-busy, waiting) // about: others may be admitting
	if waiting > 0 {
		q.compare(ctx, waiting)
	}
	if room <= 0 {
		return nil
	}
	ids, err := q.redis.ZRange(ctx, q.key, 0, int64(room-1)).Result()
	if err != nil { // without Redis the rows know the order, too
		ids = nil
		err = q.each(ctx, room, func(id string, _ float64) { ids = append(ids, id) })
	}
	if err != nil || len(ids) == 0 {
		return err
	}
	return q.activate(ctx, ids)
}

// activate counts again behind the lock of the one row that all who admit have to have: not a lock in Redis, which proves
// nothing, but that of the transaction which makes the tokens active.
func (q *Queue) activate(ctx context.Context, ids []string) error {
	var left []string
	err := q.db.Within(ctx, func(tx saga.Tx) error {
		left = ids // it may be another try
		if err := tx.Query(ctx, func(*sql.Rows) error { return nil }, `SELECT id FROM admission WHERE id = 1 FOR UPDATE`); err != nil {
			return err
		}
		var busy int64
		if err := tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&busy) },
			`SELECT COUNT(*) FROM tokens WHERE state IN ('active', 'in_use')`); err != nil {
			return err
		}
		for room := int64(q.capacity) - busy; room > 0 && len(left) > 0; left = left[1:] {
			result, err := tx.Exec(ctx, `UPDATE tokens SET state = 'active', expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
				WHERE id = ? AND state = 'waiting'`, q.lifetime.Microseconds(), left[0])
			if err != nil {
				return err
			}
			n, err := result.RowsAffected() // none is a token that waits no more
			if err != nil {
				return err
			}
			room -= n
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("activate tokens: %w", err)
	}
	var members []any
	for _, id := range ids[:len(ids)-len(left)] {
		members = append(members, id)
	}
	if len(members) == 0 {
		return nil
	}
	_ = q.redis.ZRem(ctx, q.key, members...).Err() // they are activated once, whether Redis hears of it or not
	return nil
}

// compare fills the sorted set again when it knew of fewer than wait twice in a row; once may be a buyer who is just entering.
func (q *Queue) compare(ctx context.Context, waiting int) {
	known, err := q.redis.ZCard(ctx, q.key).Result()
	if err != nil {
		return
	}
	before := q.short
	q.short = int(known) < waiting
	if !q.short || !before {
		return
	}
	var batch []redis.Z
	flush := func() {
		if err := q.redis.ZAdd(ctx, q.key, batch...).Err(); err != nil {
			q.log.Warn("the queue's Redis was not filled again", "error", err)
		}
		batch = nil
	}
	err = q.each(ctx, waiting, func(id string, place float64) {
		if batch = append(batch, redis.Z{Score: place, Member: id}); len(batch) == rebuildBatch {
			flush()
		}
	})
	if err == nil && len(batch) > 0 {
		flush()
	}
	q.log.Info("the queue's Redis was filled again", "known", known, "waiting", waiting)
}

// each calls take for those that wait, in order. Take must bear to hear of them again.
func (q *Queue) each(ctx context.Context, limit int, take func(id string, place float64)) error {
	return q.db.Within(ctx, func(tx saga.Tx) error {
		return tx.Query(ctx, func(rows *sql.Rows) error {
			var id string
			var place float64
			err := rows.Scan(&id, &place)
			take(id, place)
			return err
		}, `SELECT id, place FROM tokens WHERE state = 'waiting' ORDER BY place LIMIT ?`, limit)
	})
}

// Use takes an active token into use for a payment, or refuses.
func Use(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	result, err := tx.Exec(ctx, `UPDATE tokens SET state = 'in_use', payment = ? WHERE id = ? AND buyer = ? AND state = 'active'
		AND expires_at > UTC_TIMESTAMP(6)`, s.Payment, s.Token, s.Buyer)
	if err != nil {
		return fmt.Errorf("use the token: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return errors.Join(err, saga.Refused(web.Refuse(http.StatusConflict, "token_not_active", "the token is not active, or another buyer's")))
	}
	return nil
}

// Restore makes a token active again, for a whole lifetime, when the payment that used it is undone.
func Restore(ctx context.Context, tx saga.Tx, s sale.Sale, lifetime time.Duration) error {
	_, err := tx.Exec(ctx, `UPDATE tokens SET state = 'active', expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
		WHERE id = ? AND state = 'in_use' AND payment = ?`, lifetime.Microseconds(), s.Token, s.Payment)
	if err != nil {
		return fmt.Errorf("restore the token: %w", err)
	}
	return nil
}

// Expire ends a token whose payment is made.
func Expire(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	_, err := tx.Exec(ctx, `UPDATE tokens SET state = 'expired' WHERE id = ? AND state = 'in_use' AND payment = ?`, s.Token, s.Payment)
	if err != nil {
		return fmt.Errorf("expire the token: %w", err)
	}
	return nil
}

// Note keeps what a payment is about, and refuses another one under the same id.
func Note(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	if _, err := tx.Exec(ctx, `INSERT INTO orders (payment, sale, created_at) VALUES (?, ?, UTC_TIMESTAMP(6))
		ON DUPLICATE KEY UPDATE payment = payment`, s.Payment, s.JSON()); err != nil {
		return fmt.Errorf("note the order: %w", err)
	}
	var noted []byte
	err := tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&noted) }, `SELECT sale FROM orders WHERE payment = ?`, s.Payment)
	if err == nil && string(noted) != string(s.JSON()) {
		err = saga.Refused(web.Refuse(http.StatusUnprocessableEntity, "payment_reused", "another payment has the id %s", s.Payment))
	}
	return err
}

// Routes adds what buyers ask for.
func (q *Queue) Routes(mux *web.Mux) {
	mux.Handle("POST /v1/tokens", func(w http.ResponseWriter, r *http.Request) error {
		asked, err := web.Decode[struct {
			Buyer string `json:"buyer"`
		}](r)
		if err != nil {
			return err
		}
		token, err := q.Enter(r.Context(), asked.Buyer)
		if err != nil {
			return err
		}
		return web.Reply(w, http.StatusCreated, token)
	})
	mux.Handle("GET /v1/tokens/{id}", func(w http.ResponseWriter, r *http.Request) error {
		token, err := q.Get(r.Context(), r.PathValue("id"))
		if err != nil {
			return err
		}
		return web.Reply(w, http.StatusOK, token)
	})
	mux.Handle("DELETE /v1/tokens/{id}", func(w http.ResponseWriter, r *http.Request) error {
		if err := q.Leave(r.Context(), r.PathValue("id")); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}
