package saga

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Log reads and writes the sagas of one database. Each method is one short transaction. Start from NewLog.
type Log struct {
	db         Database
	stuckAfter time.Duration
}

// NewLog makes a log. A saga that is in flight for longer than stuckAfter is listed and counted as stuck.
func NewLog(db Database, stuckAfter time.Duration) *Log { return &Log{db, stuckAfter} }

// Claim leases at most limit due sagas of the kinds to the owner, the longest due first, those that are being undone before
// the others. No two claims get the same saga while its lease holds; the lease only saves work, and whoever works past it
// is stopped by the barriers and the saga's row. An owner that claims again while it works on something needs another name, for
// what it writes in the end is held against the name.
func (l *Log) Claim(ctx context.Context, kinds []string, owner string, limit int, lease time.Duration) ([]Saga, error) {
	if len(kinds) == 0 || limit <= 0 {
		return nil, nil
	}
	var claimed []Saga
	err := within(ctx, l.db, func(tx Tx) error {
		// One state at a time: read in the order of the index, so that LIMIT ends the reading. A sort would lock all that is
		// due, and the others would find nothing.
		for _, state := range []State{StateCompensating, StateRunning} {
			due, err := due(ctx, tx, state, kinds, limit-len(claimed))
			if err != nil {
				return err
			}
			claimed = append(claimed, due...)
		}
		return leaseTo(ctx, tx, claimed, owner, lease)
	})
	if err != nil {
		return nil, fmt.Errorf("claim sagas: %w", err)
	}
	for i := range claimed {
		claimed[i].LeaseOwner = owner
	}
	return claimed, nil
}

func due(ctx context.Context, tx Tx, state State, kinds []string, limit int) ([]Saga, error) {
	if limit <= 0 {
		return nil, nil
	}
	args := append([]any{state}, sorted(kinds)...)
	return query(ctx, tx, `FORCE INDEX (sagas_due) WHERE state = ? AND kind IN (`+marks(len(kinds))+`)
		AND next_at <= UTC_TIMESTAMP(6) AND (lease_until IS NULL OR lease_until <= UTC_TIMESTAMP(6))
		ORDER BY next_at LIMIT ? FOR UPDATE SKIP LOCKED`, append(args, limit)...)
}

func leaseTo(ctx context.Context, tx Tx, sagas []Saga, owner string, lease time.Duration) error {
	if len(sagas) == 0 {
		return nil
	}
	ids := make([]string, 0, len(sagas))
	for _, s := range sagas {
		ids = append(ids, s.ID)
	}
	// Without the hint a small table is scanned, and the rows of other claims are waited for.
	_, err := tx.Exec(ctx, `UPDATE sagas FORCE INDEX (PRIMARY) SET lease_owner = ?, lease_until = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND
		WHERE id IN (`+marks(len(ids))+`)`, append([]any{owner, lease.Microseconds()}, sorted(ids)...)...)
	return err
}

// Retry counts a failed attempt of the saga's step, gives up its lease and puts it off, at most to its deadline. It changes
// nothing when somebody else has leased the saga since, or it has ended.
func (l *Log) Retry(ctx context.Context, s Saga, delay time.Duration, reason string) error {
	microseconds := delay.Microseconds()
	err := l.exec(ctx, `UPDATE sagas SET attempt = attempt + 1, reason = ?, lease_owner = '', lease_until = NULL,
		next_at = IF(state = 'running' AND deadline > UTC_TIMESTAMP(6),
			LEAST(deadline, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND), UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND),
		updated_at = UTC_TIMESTAMP(6)
		WHERE id = ? AND lease_owner = ? AND state IN ('running', 'compensating')`,
		brief(reason), microseconds, microseconds, s.ID, s.LeaseOwner)
	if err != nil {
		return fmt.Errorf("put off saga %s: %w", s.ID, err)
	}
	return nil
}

// Release gives up the lease of a saga that is still due, for another turn. It changes nothing when somebody else has
// leased it since.
func (l *Log) Release(ctx context.Context, s Saga) error {
	err := l.exec(ctx, `UPDATE sagas SET lease_owner = '', lease_until = NULL WHERE id = ? AND lease_owner = ?`, s.ID, s.LeaseOwner)
	if err != nil {
		return fmt.Errorf("release saga %s: %w", s.ID, err)
	}
	return nil
}

// Finish marks a saga as done, or failed when it was compensating, in a transaction of its own. It changes nothing when
// somebody else has leased the saga since, or an operator or a hint has brought it on.
func (l *Log) Finish(ctx context.Context, s Saga) error {
	finish := Finish(s.ID)
	if err := l.exec(ctx, finish.Query+" AND lease_owner = ?", append(finish.Args, s.LeaseOwner)...); err != nil {
		return fmt.Errorf("finish saga %s: %w", s.ID, err)
	}
	return nil
}

// Park leaves a saga alone until Resume. A saga that has ended or is parked stays as it is, and so does one that somebody else
// has leased since, or that an operator or a hint has brought on.
func (l *Log) Park(ctx context.Context, s Saga, reason string) error {
	err := l.exec(ctx, `UPDATE sagas SET parked_from = state, state = 'parked', reason = ?, lease_owner = '',
		lease_until = NULL, next_at = UTC_TIMESTAMP(6), updated_at = UTC_TIMESTAMP(6)
		WHERE id = ? AND lease_owner = ? AND state IN ('running', 'compensating')`, brief(reason), s.ID, s.LeaseOwner)
	if err != nil {
		return fmt.Errorf("park saga %s: %w", s.ID, err)
	}
	return nil
}

// Resume is an operator's retry: the saga is due now, with all its attempts before it, whether it was parked or waited for
// its next attempt. It fails with ErrNotFound or ErrFinal.
func (l *Log) Resume(ctx context.Context, id string) error {
	err := within(ctx, l.db, func(tx Tx) error {
		s, err := lock(ctx, tx, id)
		switch {
		case err != nil:
			return err
		case s.State.Final():
			return ErrFinal
		case s.State == StateParked:
			s.State = s.ParkedFrom
		}
		_, err = tx.Exec(ctx, `UPDATE sagas SET state = ?, parked_from = '', attempt = 0, next_at = UTC_TIMESTAMP(6),
			lease_owner = '', lease_until = NULL, updated_at = UTC_TIMESTAMP(6) WHERE id = ?`, s.State, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("resume saga %s: %w", id, err)
	}
	return nil
}

// Get reads a saga, or fails with ErrNotFound.
func (l *Log) Get(ctx context.Context, id string) (s Saga, err error) {
	err = within(ctx, l.db, func(tx Tx) error {
		s, err = one(ctx, tx, "WHERE id = ?", id)
		return err
	})
	if err != nil {
		return Saga{}, fmt.Errorf("read saga %s: %w", id, err)
	}
	return s, nil
}

// Filter chooses what List shows.
type Filter string

// The filters of List.
const (
	ListPending Filter = "pending" // in flight: running or compensating
	ListStuck   Filter = "stuck"   // of these, those in flight for longer than stuckAfter
	ListParked  Filter = "parked"
	ListDone    Filter = "done" // done or failed
)

// List shows at most limit sagas: those that wait the longest first, of those that ended the latest first.
func (l *Log) List(ctx context.Context, filter Filter, limit int) (sagas []Saga, err error) {
	where, order, args := "", "next_at, id", []any{}
	switch filter {
	case ListPending:
		where = "state IN ('running', 'compensating')"
	case ListStuck:
		where = "state IN ('running', 'compensating') AND created_at <= UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND"
		args = append(args, l.stuckAfter.Microseconds())
	case ListParked:
		where = "state = 'parked'"
	case ListDone:
		where, order = "state IN ('done', 'failed')", "next_at DESC, id"
	default:
		return nil, fmt.Errorf("list sagas: no filter is called %q", filter)
	}
	err = within(ctx, l.db, func(tx Tx) error {
		sagas, err = query(ctx, tx, "WHERE "+where+" ORDER BY "+order+" LIMIT ?", append(args, limit)...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list sagas: %w", err)
	}
	return sagas, nil
}

// Counts says how the sagas of a database fare.
type Counts struct {
	InFlight int           // running or compensating
	Oldest   time.Duration // age of the oldest of these
	Stuck    int           // of these, those in flight for longer than stuckAfter
	Retries  int           // failed attempts of the steps at which these stand
	Parked   int
}

// Counts counts what is in flight and what is parked.
func (l *Log) Counts(ctx context.Context) (c Counts, err error) {
	err = within(ctx, l.db, func(tx Tx) error {
		return tx.Query(ctx, func(rows *sql.Rows) error {
			var oldest int64
			err := rows.Scan(&c.InFlight, &oldest, &c.Stuck, &c.Retries, &c.Parked)
			c.Oldest = time.Duration(oldest) * time.Microsecond
			return err
		}, `SELECT COUNT(IF(state <> 'parked', 1, NULL)),
			COALESCE(MAX(IF(state <> 'parked', TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)), NULL)), 0),
			COUNT(IF(state <> 'parked' AND created_at <= UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND, 1, NULL)),
			COALESCE(SUM(IF(state <> 'parked', attempt, 0)), 0), COUNT(IF(state = 'parked', 1, NULL))
			FROM sagas WHERE state IN ('running', 'compensating', 'parked')`, l.stuckAfter.Microseconds())
	})
	if err != nil {
		return Counts{}, fmt.Errorf("count sagas: %w", err)
	}
	return c, nil
}

// Clean deletes at most batch sagas that ended longer than olderThan ago, with their barriers, and counts them. It waits
// for no row: call it again until it answers less than batch.
func (l *Log) Clean(ctx context.Context, olderThan time.Duration, batch int) (int, error) {
	var ids []string
	err := within(ctx, l.db, func(tx Tx) error {
		for _, state := range []State{StateDone, StateFailed} {
			if err := tx.Query(ctx, func(rows *sql.Rows) error {
				var id string
				err := rows.Scan(&id)
				ids = append(ids, id)
				return err
			}, `SELECT id FROM sagas FORCE INDEX (sagas_due) WHERE state = ? AND next_at <= UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND
				ORDER BY next_at LIMIT ? FOR UPDATE SKIP LOCKED`, state, olderThan.Microseconds(), max(batch-len(ids), 0)); err != nil {
				return err
			}
		}
		if len(ids) == 0 {
			return nil
		}
		if err := deleteBy("barriers", "saga", ids).Exec(ctx, tx); err != nil {
			return err
		}
		return deleteBy("sagas", "id", ids).Exec(ctx, tx)
	})
	if err != nil {
		return 0, fmt.Errorf("clean sagas: %w", err)
	}
	return len(ids), nil
}

func (l *Log) exec(ctx context.Context, query string, args ...any) error {
	return within(ctx, l.db, func(tx Tx) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	})
}

// lock reads a saga's row and keeps others from changing it until the transaction ends.
func lock(ctx context.Context, tx Tx, id string) (Saga, error) {
	return one(ctx, tx, "WHERE id = ? FOR UPDATE", id)
}

func one(ctx context.Context, tx Tx, where string, args ...any) (Saga, error) {
	sagas, err := query(ctx, tx, where, args...)
	switch {
	case err != nil:
		return Saga{}, err
	case len(sagas) == 0:
		return Saga{}, ErrNotFound
	}
	return sagas[0], nil
}

func query(ctx context.Context, tx Tx, where string, args ...any) (sagas []Saga, err error) {
	err = tx.Query(ctx, func(rows *sql.Rows) error {
		var s Saga
		var lease, deadline sql.NullTime
		var age int64
		err := rows.Scan(&s.ID, &s.Kind, &s.State, &s.Step, &s.Attempt, &s.NextAt, &s.LeaseOwner, &lease, &deadline, &s.Overdue,
			&s.Reason, &s.Cause, &s.ParkedFrom, &s.Data, &s.CreatedAt, &s.UpdatedAt, &age)
		s.LeaseUntil, s.Deadline, s.Age = lease.Time, deadline.Time, time.Duration(age)*time.Microsecond
		sagas = append(sagas, s)
		return err
	}, `SELECT id, kind, state, step, attempt, next_at, lease_owner, lease_until, deadline,
		COALESCE(deadline <= UTC_TIMESTAMP(6), FALSE), reason, cause, parked_from, data, created_at, updated_at,
		TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)) FROM sagas `+where, args...)
	return sagas, err
}

// move takes a saga from where the caller knows it to be to another step or state, in the step's own transaction. The row
// is locked last, after whatever the step has locked, and decides: when the saga stands elsewhere, or is gone, the answer
// is errStale.
func move(ctx context.Context, tx Tx, from, to Saga) (overdue bool, err error) {
	found, err := lock(ctx, tx, from.ID)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, errStale
	case err != nil:
		return false, err
	case found.State != from.State || found.Step != from.Step:
		return false, errStale
	}
	return found.Overdue, write(ctx, tx, to, to.State.Final())
}

// write stores what a step or an abort changes.
func write(ctx context.Context, tx Tx, s Saga, endLease bool) error {
	_, err := tx.Exec(ctx, `UPDATE sagas SET state = ?, step = ?, data = ?, cause = ?, reason = '', parked_from = '', attempt = 0,
		next_at = UTC_TIMESTAMP(6), lease_owner = IF(?, '', lease_owner), lease_until = IF(?, NULL, lease_until),
		updated_at = UTC_TIMESTAMP(6) WHERE id = ?`,
		s.State, s.Step, blob(s.Data), brief(s.Cause), endLease, endLease, s.ID)
	return err
}
