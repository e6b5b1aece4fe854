package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"lockstep/rounds"
)

// Bounds of one step of the cleaner.
const (
	cleanSliceMax  = 500 // keys looked at by one statement, which locks none
	cleanDeleteMax = 200 // keys deleted by one transaction
)

// Retention says how long idempotency keys are kept and how their table is walked. Start from DefaultRetention.
//
// The table has no index but its primary key, for each would cost every request. So the cleaner walks the primary key,
// a hash, in parts of equal range, which hold equally many keys: whatever the table's size, all of it is passed in Pass,
// or as fast as the database reads it. A part that fails is left to the next pass.
type Retention struct {
	Keep  time.Duration // from a key's final answer on, by the database's clock; whole seconds
	Pass  time.Duration // the whole table is walked once
	Every time.Duration // one part of it, Pass/Every parts in all
}

// DefaultRetention keeps keys for 30 days and passes their table twice a day, so that no key lives for a day longer.
func DefaultRetention() Retention {
	return Retention{Keep: 30 * 24 * time.Hour, Pass: 12 * time.Hour, Every: time.Second}
}

// Validate refuses a retention under which keys would be lost too early or never.
func (r Retention) Validate() error {
	const keepMin = 24 * time.Hour // a client that asks again the next day must find its answer
	switch {
	case r.Keep < keepMin || !wholeSeconds(r.Keep):
		return fmt.Errorf("%s must be whole seconds and at least %s", r.Keep, keepMin)
	case r.Every <= 0 || r.Pass < r.Every:
		return errors.New("the pause between deletes must be more than zero, and a pass at least as long")
	}
	return nil
}

// CleanKeys deletes the idempotency keys that are older than the retention, until ctx ends, and tells how many it
// deleted in each transaction. Every node may run it: each begins somewhere else. It waits for no other transaction: a key
// that one has locked is left to the next pass.
func (s *Store) CleanKeys(ctx context.Context, r Retention, deleted func(keys int)) {
	parts := int(r.Pass / r.Every)
	part := rand.IntN(parts) //nolint:gosec // it spreads the nodes over the table; nobody gains by foretelling it
	rounds.Make(ctx, r.Every, func(ctx context.Context) {
		if err := s.cleanPart(ctx, r.Keep, edge(part, parts), edge(part+1, parts), deleted); err != nil && ctx.Err() == nil {
			s.config.Logger.Debug("old idempotency keys are left to the next pass", "error", err)
		}
		part = (part + 1) % parts
	})
}

// edge is where a part of the claims' range begins; each claim is above the edge of its part.
func edge(part, parts int) string {
	if part == parts {
		return "g" // above all hexadecimal digits
	}
	return fmt.Sprintf("%08x", uint64(part)<<32/uint64(parts))
}

// cleanPart deletes what is due between two edges, slice by slice.
func (s *Store) cleanPart(ctx context.Context, keep time.Duration, from, to string, deleted func(int)) error {
	for {
		seen, due, err := s.dueClaims(ctx, keep, from, to)
		if err != nil {
			return err
		}
		for ids := range slices.Chunk(due, cleanDeleteMax) {
			keys, err := s.deleteDue(ctx, keep, ids)
			if err != nil {
				return err
			}
			deleted(keys)
		}
		if len(seen) < cleanSliceMax {
			return nil
		}
		from = seen[len(seen)-1]
	}
}

// dueClaims looks at the next claims after one, and tells which of them may go: those older than keep whose answer is
// final that long too. A claim whose transfer is pending stays.
func (s *Store) dueClaims(ctx context.Context, keep time.Duration, after, to string) (seen, due []string, err error) {
	age := int64(keep / time.Second)
	err = each(ctx, s.source, func(rows *sql.Rows) error {
		var id string
		var old bool
		if err := rows.Scan(&id, &old); err != nil {
			return err
		}
		seen = append(seen, id)
		if old {
			due = append(due, id)
		}
		return nil
	}, `SELECT claim, created_at <= UTC_TIMESTAMP(6) - INTERVAL ? SECOND AND NOT EXISTS (SELECT 1 FROM transfers
			WHERE transfers.id = idempotency.transfer_id AND
				(finished_at IS NULL OR finished_at > UTC_TIMESTAMP(6) - INTERVAL ? SECOND))
		FROM idempotency FORCE INDEX (PRIMARY) WHERE claim > ? AND claim < ? ORDER BY claim LIMIT ?`,
		age, age, after, to, cleanSliceMax)
	if err != nil {
		return nil, nil, fmt.Errorf("look for old claims: %w", err)
	}
	return seen, due, nil
}

// deleteDue deletes claims in a transaction of its own.
func (s *Store) deleteDue(ctx context.Context, keep time.Duration, ids []string) (int, error) {
	tx, err := s.Begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("delete old claims: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	keys, err := DeleteOldClaims(ctx, tx, keep, ids)
	if err != nil {
		return 0, err
	}
	// Its end is waited for although the cleaner is to stop: what was deleted is to be counted.
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitMax)
	defer cancel()
	if _, err := tx.Commit(ending); err != nil {
		return 0, fmt.Errorf("delete old claims: %w", err)
	}
	return keys, nil
}

// DeleteOldClaims deletes those of the claims that are older than keep now, and counts them. A claim may have become
// another one since it was looked at: cleaned by another node and made again by a client. What another transaction has
// locked it leaves.
func DeleteOldClaims(ctx context.Context, tx *Tx, keep time.Duration, ids []string) (int, error) {
	var old []string
	err := tx.Query(ctx, func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		old = append(old, id)
		return err
	}, "SELECT claim FROM idempotency FORCE INDEX (PRIMARY) WHERE claim IN ("+marks(len(ids))+
		") AND created_at <= UTC_TIMESTAMP(6) - INTERVAL ? SECOND ORDER BY claim FOR UPDATE SKIP LOCKED",
		append(anys(ids), int64(keep/time.Second))...)
	if err != nil {
		return 0, fmt.Errorf("lock old claims: %w", err)
	}
	if len(old) == 0 {
		return 0, nil
	}
	// In a small table an IN list is looked for by reading every row, and that waits for claims in others' hands; no
	// hint prevents it. A join from the list looks each one up.
	const one = "SELECT CAST(? AS CHAR(64) CHARACTER SET ascii) COLLATE ascii_bin AS claim"
	_, err = tx.Exec(ctx, "DELETE idempotency FROM ("+one+strings.Repeat(" UNION ALL "+one, len(old)-1)+
		") AS old STRAIGHT_JOIN idempotency FORCE INDEX (PRIMARY) ON idempotency.claim = old.claim", anys(old)...)
	if err != nil {
		return 0, fmt.Errorf("delete old claims: %w", err)
	}
	return len(old), nil
}
