package verify

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// snapshot is one system's books as they stood at one moment.
type snapshot struct {
	system string
	epoch  int64
	at     time.Time // by its database
	db     *sql.DB
	tx     *sql.Tx
}

// openSnapshot opens the snapshot with its first read, and not before.
func openSnapshot(ctx context.Context, dsn string) (*snapshot, error) {
	db, err := open(dsn)
	if err != nil {
		return nil, err
	}
	s := &snapshot{db: db}
	s.tx, err = db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open snapshot: %w", err), db.Close())
	}
	row := s.tx.QueryRowContext(ctx, "SELECT id, epoch, UTC_TIMESTAMP(6) FROM `system` WHERE only = 1")
	if err := row.Scan(&s.system, &s.epoch, &s.at); err != nil {
		s.close()
		return nil, fmt.Errorf("read which system it is (was the schema made by `lockstep migrate`?): %w", err)
	}
	return s, nil
}

// close ends the snapshot; nothing was written, so nothing can get lost.
func (s *snapshot) close() {
	_ = s.tx.Rollback()
	_ = s.db.Close()
}

// side is what one of the two systems has of a transfer between them.
type side struct {
	id         string
	state      string
	payeeEpoch int64
	created    time.Time
	finished   time.Time // zero while pending
	contents             // empty without a transfer: of a tombstone, a refusal, a conflict
}

// contents are what both sides must have alike.
type contents struct {
	amount               int64
	currency, kind       string
	from, to             string
	description          string
	payer, payee, system string // system is empty without a transfer
}

// Which transfers a cursor goes through.
const (
	fromTo  = `r.payer_system = ? AND r.payee_system = ?`
	anybody = `TRUE`
)

// cursor goes through the transfers that a snapshot has, in the order of their ids.
type cursor struct {
	rows *sql.Rows
	now  *side // nil behind the last one
}

// movements opens a cursor on the first transfer of the snapshot, which can have one at a time.
func (s *snapshot) movements(ctx context.Context, which string, args ...any) (*cursor, error) {
	//nolint:rowserrcheck // next asks for it
	rows, err := s.tx.QueryContext(ctx, `SELECT r.id, r.state, r.payee_epoch, r.created_at, r.finished_at, COALESCE(t.amount, 0),
			COALESCE(t.currency, ''), COALESCE(t.kind, ''), COALESCE(t.from_number, ''), COALESCE(t.to_number, ''),
			COALESCE(t.description, ''), r.payer_system, r.payee_system, COALESCE(t.payer_system, '')
		FROM remittances r FORCE INDEX (PRIMARY) LEFT JOIN transfers t ON t.id = r.id AND t.payer_system = r.payer_system
		WHERE `+which+` ORDER BY r.id`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the transfers of %s: %w", s.system, err)
	}
	c := &cursor{rows: rows}
	if err := c.next(); err != nil {
		return nil, errors.Join(err, rows.Close()) //nolint:sqlclosecheck // who has a cursor closes it
	}
	return c, nil
}

func (c *cursor) next() error {
	c.now = nil
	if !c.rows.Next() {
		return c.rows.Err()
	}
	var s side
	var finished sql.NullTime
	err := c.rows.Scan(&s.id, &s.state, &s.payeeEpoch, &s.created, &finished, &s.amount, &s.currency, &s.kind, &s.from, &s.to,
		&s.description, &s.payer, &s.payee, &s.system)
	if err != nil {
		return err
	}
	s.finished, c.now = finished.Time, &s
	return nil
}

// merge goes through two cursors at once and shows what each has of a transfer; one of the two may be nil. It needs no
// memory for what it has seen.
func merge(a, b *cursor, show func(a, b *side)) error {
	for a.now != nil || b.now != nil {
		first, second := a.now, b.now
		if first != nil && second != nil && first.id != second.id {
			if first.id < second.id {
				second = nil
			} else {
				first = nil
			}
		}
		show(first, second)
		if first != nil {
			if err := a.next(); err != nil {
				return err
			}
		}
		if second != nil {
			if err := b.next(); err != nil {
				return err
			}
		}
	}
	return nil
}

// peers lists the systems that this one exchanges money with.
func (s *snapshot) peers(ctx context.Context) (ids []string, err error) {
	rows, err := s.tx.QueryContext(ctx, `SELECT id FROM peers`)
	if err != nil {
		return nil, fmt.Errorf("list the peers of %s: %w", s.system, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
