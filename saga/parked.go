package saga

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// ParkedMessage is a message that could not be published. It stays until it is.
type ParkedMessage struct {
	Message
	Attempts  int
	Reason    string // the last failure
	ParkedAt  time.Time
	CreatedAt time.Time
}

// Parked lists at most limit parked messages, those parked first first.
func (o *Outbox) Parked(ctx context.Context, limit int) (parked []ParkedMessage, err error) {
	err = within(ctx, o.Database, func(tx Tx) error {
		return tx.Query(ctx, func(rows *sql.Rows) error {
			var m ParkedMessage
			err := rows.Scan(&m.ID, &m.Destination, &m.Events, &m.Attempts, &m.Reason, &m.ParkedAt, &m.CreatedAt)
			parked = append(parked, m)
			return err
		}, `SELECT id, destination, events, attempt, reason, parked_at, created_at FROM outbox
			WHERE parked_at IS NOT NULL ORDER BY parked_at, id LIMIT ?`, limit)
	})
	if err != nil {
		return nil, fmt.Errorf("list parked messages: %w", err)
	}
	return parked, nil
}

// Replay makes a message due at once, parked or not, with all its attempts before it. It fails with ErrNotFound, also when
// the message has been published meanwhile.
func (o *Outbox) Replay(ctx context.Context, id string) error {
	err := within(ctx, o.Database, func(tx Tx) error {
		found := false
		scan := func(rows *sql.Rows) error {
			found = true
			return rows.Scan(&id)
		}
		if err := tx.Query(ctx, scan, `SELECT id FROM outbox WHERE id = ? FOR UPDATE`, id); err != nil {
			return err
		}
		if !found {
			return ErrNotFound
		}
		_, err := tx.Exec(ctx, `UPDATE outbox SET parked_at = NULL, attempt = 0, next_at = UTC_TIMESTAMP(6) WHERE id = ?`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("replay message %s: %w", id, err)
	}
	o.Wake()
	return nil
}

// OutboxStats says how far publishing lags behind.
type OutboxStats struct {
	Waiting int           // to be published, parked ones not counted
	Oldest  time.Duration // age of the oldest of these: the lag
	Retried int           // of these, those that failed at least once
	Parked  int
}

// Stats counts the outbox.
func (o *Outbox) Stats(ctx context.Context) (s OutboxStats, err error) {
	err = within(ctx, o.Database, func(tx Tx) error {
		return tx.Query(ctx, func(rows *sql.Rows) error {
			var oldest int64
			err := rows.Scan(&s.Waiting, &oldest, &s.Retried, &s.Parked)
			s.Oldest = time.Duration(oldest) * time.Microsecond
			return err
		}, `SELECT COUNT(IF(parked_at IS NULL, 1, NULL)),
			COALESCE(MAX(IF(parked_at IS NULL, TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)), NULL)), 0),
			COUNT(IF(parked_at IS NULL AND attempt > 0, 1, NULL)), COUNT(parked_at) FROM outbox`)
	})
	if err != nil {
		return OutboxStats{}, fmt.Errorf("count the outbox: %w", err)
	}
	return s, nil
}
