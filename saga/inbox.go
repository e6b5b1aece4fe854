package saga

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"time"
)

// Receive notes, in the transaction of the event's effect, that a consumer has received it, and tells whether it is the
// first time: only then may there be an effect. While another transaction is receiving the same event it waits for it.
// Consumer and event are at most 64 ASCII characters.
func Receive(ctx context.Context, tx Tx, consumer, event string) (first bool, err error) {
	claim := rand.Text()
	_, err = tx.Exec(ctx, `INSERT INTO inbox (consumer, event, claim, created_at) VALUES (?, ?, ?, UTC_TIMESTAMP(6))
		ON DUPLICATE KEY UPDATE consumer = VALUES(consumer)`, consumer, event, claim)
	if err != nil {
		return false, fmt.Errorf("receive event %s: %w", event, err)
	}
	var by string
	err = tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&by) },
		`SELECT claim FROM inbox WHERE consumer = ? AND event = ? FOR UPDATE`, consumer, event)
	if err != nil {
		return false, fmt.Errorf("read the receipt of event %s: %w", event, err)
	}
	return by == claim, nil
}

// CleanInbox deletes at most batch receipts older than olderThan, which must exceed the time in which an event may come
// again, and counts them: call it again until it answers less than batch.
func CleanInbox(ctx context.Context, db Database, olderThan time.Duration, batch int) (int, error) {
	type receipt struct{ consumer, event string }
	var old []receipt
	err := within(ctx, db, func(tx Tx) error {
		err := tx.Query(ctx, func(rows *sql.Rows) error {
			var r receipt
			err := rows.Scan(&r.consumer, &r.event)
			old = append(old, r)
			return err
		}, `SELECT consumer, event FROM inbox FORCE INDEX (inbox_age) WHERE created_at <= UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND
			ORDER BY created_at LIMIT ? FOR UPDATE SKIP LOCKED`, olderThan.Microseconds(), batch)
		if err != nil {
			return err
		}
		for _, r := range old {
			if _, err := tx.Exec(ctx, `DELETE FROM inbox WHERE consumer = ? AND event = ?`, r.consumer, r.event); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("clean the inbox: %w", err)
	}
	return len(old), nil
}
