package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// The states of a system, as its row tells them.
const (
	stateReady        = "ready"
	stateUnreconciled = "unreconciled" // its books were compared with those of its peers in an earlier epoch only
	stateRestoring    = "restoring"    // half of a backup is here: nobody may open it
)

// ErrRestoring says that a restore of the database was begun and has not ended.
var ErrRestoring = errors.New("a restore of this database has not ended: run `lockstep restore` again")

// Standing is how far a system may trust its own books.
type Standing struct {
	Epoch      int64
	Reconciled bool // false: what it does not know may have happened all the same
}

// askStanding reads it in a transaction: what a step between two systems decides must not rest on an older look.
func askStanding(tx *Tx, standing *Standing) {
	tx.ask("SELECT epoch, state FROM `system` WHERE only = 1", func(rows *sql.Rows) error {
		var state string
		err := rows.Scan(&standing.Epoch, &state)
		standing.Reconciled = state == stateReady
		return err
	})
}

// Reconciled tells, as last read from the source, whether the system's books agree with those of its peers. They may not
// after a restore, or a failover that has lost commits, until `lockstep reconcile` has ended.
func (s *Store) Reconciled() bool { return s.reconciled.Load() }

// setStanding notes what a server has said, unless that is of an epoch that is over: a look at a source may end when the next one is
// followed already.
func (s *Store) setStanding(epoch int64, state string) {
	s.noting.Lock()
	defer s.noting.Unlock()
	if epoch < s.Epoch() {
		return
	}
	s.epoch.Store(epoch)
	s.reconciled.Store(state == stateReady)
}

// serialsSkipped keeps an epoch from giving out numbers that the one before may have given to accounts that are lost now:
// the money of peers would go to a stranger. Of 10^12 serials it can be spared often enough.
const serialsSkipped = 1_000_000

// BeginEpoch begins an epoch of the system, higher than every one before, and marks the books as unreconciled. It is for a
// source whose last commits may be lost, before nodes write to it: after a restore or a failover. It returns the epoch.
func (s *Store) BeginEpoch(ctx context.Context) (int64, error) {
	tx, err := s.Begin(ctx)
	if err != nil {
		return 0, fmt.Errorf("begin an epoch: %w", err)
	}
	defer tx.Rollback()
	if _, err := tx.Exec(ctx, "UPDATE `system` SET epoch = GREATEST(epoch + 1, UNIX_TIMESTAMP()), state = ? WHERE only = 1", stateUnreconciled); err != nil {
		return 0, fmt.Errorf("begin an epoch: %w", err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO serials (id) SELECT GREATEST((SELECT COALESCE(MAX(id), 0) FROM serials),
		(SELECT COALESCE(MAX(id), 0) FROM accounts WHERE id < ?)) + ?`, customersEnd, serialsSkipped)
	if err != nil {
		return 0, fmt.Errorf("begin an epoch: skip serials: %w", err)
	}
	var standing Standing
	askStanding(tx, &standing)
	if err := tx.Answers(ctx); err != nil {
		return 0, fmt.Errorf("begin an epoch: read it: %w", err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		return 0, fmt.Errorf("begin an epoch: %w", err)
	}
	s.setStanding(standing.Epoch, stateUnreconciled)
	return standing.Epoch, nil
}

// customersEnd is above every serial of a customer's account; ids of stripes are higher.
const customersEnd = 1_000_000_000_000

// NoteReconciled remembers that the books agree with a peer's in this epoch. When they do with those of all peers, the
// system is ready again; left names the peers that are missing.
func (s *Store) NoteReconciled(ctx context.Context, epoch int64, peers ...string) (left []string, err error) {
	tx, err := s.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("note a reconciliation: %w", err)
	}
	defer tx.Rollback()
	if err := lockEpoch(ctx, tx, epoch); err != nil {
		return nil, err
	}
	for _, peer := range peers {
		_, err := tx.Exec(ctx, `INSERT INTO reconciliations (peer, epoch, ended_at) VALUES (?, ?, UTC_TIMESTAMP(6))
			ON DUPLICATE KEY UPDATE epoch = VALUES(epoch), ended_at = VALUES(ended_at)`, peer, epoch)
		if err != nil {
			return nil, fmt.Errorf("note a reconciliation: %w", err)
		}
	}
	if left, err = unreconciledPeers(ctx, tx, epoch); err != nil {
		return nil, err
	}
	if len(left) == 0 {
		if _, err := tx.Exec(ctx, "UPDATE `system` SET state = ? WHERE only = 1 AND epoch = ?", stateReady, epoch); err != nil {
			return nil, fmt.Errorf("end the reconciliation: %w", err)
		}
	}
	if _, err := tx.Commit(ctx); err != nil {
		return nil, fmt.Errorf("note a reconciliation: %w", err)
	}
	if len(left) == 0 {
		s.setStanding(epoch, stateReady)
	}
	return left, nil
}

// lockEpoch refuses when the system has begun another epoch since the caller looked.
func lockEpoch(ctx context.Context, tx *Tx, epoch int64) error {
	var now int64
	scan := func(rows *sql.Rows) error { return rows.Scan(&now) }
	if err := tx.Query(ctx, scan, "SELECT epoch FROM `system` WHERE only = 1 FOR UPDATE"); err != nil {
		return fmt.Errorf("lock the system's epoch: %w", err)
	}
	if now != epoch {
		return fmt.Errorf("the system is in epoch %d by now, and it was reconciled in epoch %d: reconcile again", now, epoch)
	}
	return nil
}

func unreconciledPeers(ctx context.Context, tx *Tx, epoch int64) (left []string, err error) {
	err = tx.Query(ctx, func(rows *sql.Rows) error {
		var peer string
		err := rows.Scan(&peer)
		left = append(left, peer)
		return err
	}, `SELECT p.id FROM peers p LEFT JOIN reconciliations r ON r.peer = p.id AND r.epoch = ? WHERE r.peer IS NULL ORDER BY p.id`, epoch)
	if err != nil {
		return nil, fmt.Errorf("list peers that are not reconciled: %w", err)
	}
	return left, nil
}
