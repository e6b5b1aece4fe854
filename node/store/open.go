package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"lockstep/node/ledger"
	"lockstep/saga"
)

// A transfer between two systems ends within its first attempt, as a rule, and then its remittance is all the record that
// there is. Its saga gets a row in the log only when somebody has to look after it: until then look_at says when that is.
// It is NULL once the remittance has ended or its saga has a row, so that it stands for exactly one of the two.

// Which open remittances are taken over into the log of sagas.
const (
	openDue = `look_at <= UTC_TIMESTAMP(6) ORDER BY look_at LIMIT ? FOR UPDATE SKIP LOCKED`
	openAll = `look_at IS NOT NULL ORDER BY look_at LIMIT ? FOR UPDATE SKIP LOCKED`
	openOne = `id = ? AND look_at IS NOT NULL FOR UPDATE`
)

// openColumns are those of a saga that is about to begin; the times are how long it has to wait, and since when it is there.
const openColumns = `id, payer_system, GREATEST(0, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), look_at)),
	TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6))`

// LogDueSagas gives at most limit open remittances that somebody has to look after a saga's row, and counts them. Rows in
// others' hands are left for the next time.
func (s *Store) LogDueSagas(ctx context.Context, limit int) (int, error) {
	return s.logSagas(ctx, "FORCE INDEX (remittances_open) WHERE "+openDue, limit)
}

// LogOpenSagas does so with open remittances that nobody has to look after yet, for an operator to see.
func (s *Store) LogOpenSagas(ctx context.Context, limit int) (int, error) {
	return s.logSagas(ctx, "FORCE INDEX (remittances_open) WHERE "+openAll, limit)
}

// LogSaga does so with one remittance, if it is open.
func (s *Store) LogSaga(ctx context.Context, id string) (int, error) {
	return s.logSagas(ctx, "FORCE INDEX (PRIMARY) WHERE "+openOne, id)
}

func (s *Store) logSagas(ctx context.Context, which string, args ...any) (int, error) {
	tx, err := s.Begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("log sagas: %w", err)
	}
	defer tx.Rollback()
	var sagas []saga.New
	var ids []any
	scan := func(rows *sql.Rows) error {
		var id, payer string
		var wait, age int64
		err := rows.Scan(&id, &payer, &wait, &age)
		kind := ledger.SagaAwait
		if payer == s.System() {
			kind = ledger.SagaRemit
		}
		ids = append(ids, id)
		sagas = append(sagas, saga.New{ID: id, Kind: string(kind), Delay: microseconds(wait), Age: microseconds(age)})
		return err
	}
	if err := tx.Query(ctx, scan, `SELECT `+openColumns+` FROM remittances `+which, args...); err != nil {
		return 0, fmt.Errorf("log sagas: %w", err)
	}
	if len(ids) == 0 {
		return 0, nil
	}
	start := saga.Start(sagas...)
	tx.Queue(start.Query, start.Args...)
	tx.queue(`UPDATE remittances FORCE INDEX (PRIMARY) SET look_at = NULL WHERE id IN (`+marks(len(ids))+`)`, ids...)
	if _, err := tx.Flush(ctx); err != nil {
		return 0, fmt.Errorf("log sagas: %w", err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		return 0, fmt.Errorf("log sagas: %w", err)
	}
	return len(ids), nil
}

func microseconds(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// CountOpen counts open remittances whose saga has no row, and tells the age of the oldest.
func (s *Store) CountOpen(ctx context.Context) (count int, oldest time.Duration, err error) {
	var age int64
	err = s.source.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(MAX(TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6))), 0)
		FROM remittances FORCE INDEX (remittances_open) WHERE look_at IS NOT NULL`).Scan(&count, &age)
	if err != nil {
		return 0, 0, fmt.Errorf("count open remittances: %w", err)
	}
	return count, microseconds(age), nil
}

// EndedRemittances reads at most limit of the remittances that were posted or voided, the newest first by id, which begins
// with its time. Tombstones are none: nothing began.
func (q *Queries) EndedRemittances(ctx context.Context, limit int) ([]ledger.Remittance, error) {
	list, err := collect(ctx, q.conn, scanRemittance, remittanceRead+` WHERE r.state IN ('posted', 'voided') AND t.id IS NOT NULL ORDER BY r.id DESC LIMIT ?`, page(limit))
	if err != nil {
		return nil, fmt.Errorf("list ended remittances: %w", err)
	}
	return list, nil
}
