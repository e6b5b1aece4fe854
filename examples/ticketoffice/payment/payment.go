// Package payment keeps the record of each payment: pending, then paid or voided, once.
package payment

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/examples/ticketoffice/web"
	"lockstep/saga"
)

// States of a record.
const (
	Pending = "pending"
	Paid    = "paid"
	Voided  = "voided"
)

// Record says how a payment stands.
type Record struct {
	ID         string    `json:"id"`
	State      string    `json:"state"`
	Reason     string    `json:"reason,omitempty"` // why it was voided
	Sale       sale.Sale `json:"sale"`
	CreatedAt  time.Time `json:"created_at"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
}

// Open writes a pending record. One that is there stays as it is.
func Open(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	_, err := tx.Exec(ctx, `INSERT INTO payments (id, sale, state, created_at) VALUES (?, ?, 'pending', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE id = id`,
		s.Payment, s.JSON())
	if err != nil {
		return fmt.Errorf("open the record: %w", err)
	}
	return nil
}

// Pay ends a pending record well.
func Pay(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	_, err := tx.Exec(ctx, `UPDATE payments SET state = 'paid', finished_at = UTC_TIMESTAMP(6) WHERE id = ? AND state = 'pending'`, s.Payment)
	if err != nil {
		return fmt.Errorf("pay the record: %w", err)
	}
	return nil
}

// Void ends a pending record, or writes one that never was pending: the history shows what was tried.
func Void(ctx context.Context, tx saga.Tx, s sale.Sale, reason string) error {
	const reasonMax = 500
	_, err := tx.Exec(ctx, `INSERT INTO payments (id, sale, state, reason, created_at, finished_at)
		VALUES (?, ?, 'voided', LEFT(?, ?), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE
		reason = IF(state = 'pending', VALUES(reason), reason), finished_at = IF(state = 'pending', VALUES(finished_at), finished_at),
		state = IF(state = 'pending', 'voided', state)`, s.Payment, s.JSON(), reason, reasonMax)
	if err != nil {
		return fmt.Errorf("void the record: %w", err)
	}
	return nil
}

// Lock reads a record and keeps others away from it until the transaction ends. A missing one has no state.
func Lock(ctx context.Context, tx saga.Tx, id string) (Record, error) {
	return read(ctx, tx, id, " FOR UPDATE")
}

// Get reads a record, or refuses.
func Get(ctx context.Context, db *store.Store, id string) (record Record, err error) {
	err = db.Within(ctx, func(tx saga.Tx) error {
		record, err = read(ctx, tx, id, "")
		return err
	})
	if err == nil && record.ID == "" {
		err = web.Refuse(http.StatusNotFound, "payment_not_found", "there is no payment %s, or not yet", id)
	}
	return record, err
}

func read(ctx context.Context, tx saga.Tx, id, lock string) (record Record, err error) {
	err = tx.Query(ctx, func(rows *sql.Rows) error {
		var about []byte
		var finished sql.NullTime
		if err := rows.Scan(&record.ID, &record.State, &record.Reason, &about, &record.CreatedAt, &finished); err != nil {
			return err
		}
		record.FinishedAt = finished.Time
		return json.Unmarshal(about, &record.Sale)
	}, `SELECT id, state, reason, sale, created_at, finished_at FROM payments WHERE id = ?`+lock, id)
	if err != nil {
		return Record{}, fmt.Errorf("read the record: %w", err)
	}
	return record, nil
}

// Routes adds how buyers learn how their payment stands.
func Routes(mux *web.Mux, db *store.Store) {
	mux.Handle("GET /v1/payments/{id}", func(w http.ResponseWriter, r *http.Request) error {
		record, err := Get(r.Context(), db, r.PathValue("id"))
		if err != nil {
			return err
		}
		return web.Reply(w, http.StatusOK, record)
	})
}
