package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Lease is a node id that is this process's alone for as long as it is renewed. It saves ids, it excludes nobody: a
// process that was stopped may wake up after its lease, and then the lane rows, which carry the incarnation, keep it
// from writing.
type Lease struct {
	ID          int    // from 1; reused after the lease ended
	Incarnation string // a random UUID: this process, not the one that had the id before

	store   *Store
	lost    chan struct{}
	stop    context.CancelFunc
	stopped chan struct{}
	close   sync.Once
}

// LeaseNode takes the smallest free node id for LeaseFor in database time, together with the rows of its lanes, and
// renews it every LeaseEvery until Close. While a transaction of the id's last owner still holds a lane, it tries again
// until ctx ends.
func (s *Store) LeaseNode(ctx context.Context, address, version string, lanes int) (*Lease, error) {
	node := NodeRow{Incarnation: uuid.NewString(), Address: address, Version: version}
	for {
		id, err := s.takeNode(ctx, node, lanes)
		if err == nil {
			return s.keep(id, node.Incarnation), nil
		}
		// After an unknown COMMIT the next attempt finds the row by its incarnation, if it is there.
		if ctx.Err() != nil || (ClassOf(err) != ClassAgain && !errors.Is(err, ErrCommitUnknown)) {
			return nil, fmt.Errorf("lease a node id: %w", err)
		}
		s.config.Logger.Info("lease of a node id: trying again", "error", err)
	}
}

// takeNode is one attempt. The system's row serves as the lock between nodes that start at once.
func (s *Store) takeNode(ctx context.Context, node NodeRow, lanes int) (int, error) {
	tx, err := s.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(ctx, "SELECT id FROM `system` WHERE only = 1 FOR UPDATE"); err != nil {
		return 0, fmt.Errorf("wait for other starting nodes: %w", err)
	}
	if node.ID, err = freeNode(ctx, tx, node.Incarnation); err != nil {
		return 0, err
	}
	if err := s.writeNode(ctx, tx, node); err != nil {
		return 0, err
	}
	if err := takeLanes(ctx, tx, node, lanes); err != nil {
		return 0, err
	}
	_, err = tx.Commit(ctx)
	return node.ID, err
}

// freeNode finds the smallest id without a running lease, or the one that this incarnation has already.
func freeNode(ctx context.Context, tx *Tx, incarnation string) (int, error) {
	free, mine := 1, 0
	err := tx.Query(ctx, func(rows *sql.Rows) error {
		var id int
		var holder string
		var held bool
		if err := rows.Scan(&id, &holder, &held); err != nil {
			return err
		}
		if holder == incarnation {
			mine = id
		}
		if held && id == free {
			free++
		}
		return nil
	}, "SELECT id, incarnation, lease_until > UTC_TIMESTAMP(6) FROM nodes ORDER BY id FOR UPDATE")
	if err != nil {
		return 0, fmt.Errorf("look for a free id: %w", err)
	}
	if mine != 0 {
		return mine, nil
	}
	return free, nil
}

func (s *Store) writeNode(ctx context.Context, tx *Tx, node NodeRow) error {
	_, err := tx.Exec(ctx, `INSERT INTO nodes (id, incarnation, address, version, state, started_at, seen_at, lease_until)
		VALUES (?, ?, ?, ?, 'running', UTC_TIMESTAMP(6), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL ? SECOND)
		ON DUPLICATE KEY UPDATE incarnation = VALUES(incarnation), address = VALUES(address), version = VALUES(version),
		state = VALUES(state), started_at = VALUES(started_at), seen_at = VALUES(seen_at), lease_until = VALUES(lease_until)`,
		node.ID, node.Incarnation, node.Address, node.Version, int(s.config.LeaseFor/time.Second))
	if err != nil {
		return fmt.Errorf("write the node's row: %w", err)
	}
	return nil
}

// takeLanes puts the incarnation on all lanes of the id, also on those that only its last owner had: a batch of that one
// that comes late finds its lane taken.
func takeLanes(ctx context.Context, tx *Tx, node NodeRow, lanes int) error {
	if _, err := tx.Exec(ctx, "UPDATE lanes SET incarnation = ? WHERE node = ?", node.Incarnation, node.ID); err != nil {
		return fmt.Errorf("take the lanes over: %w", err)
	}
	var rows bulk
	for lane := range lanes {
		rows.row(node.ID, lane, node.Incarnation, 0)
	}
	rows.queue(tx, "INSERT INTO lanes (node, lane, incarnation, batch)", " ON DUPLICATE KEY UPDATE incarnation = VALUES(incarnation)")
	if _, err := tx.Flush(ctx); err != nil {
		return fmt.Errorf("make the lanes: %w", err)
	}
	return nil
}

// keep renews the lease in the background.
func (s *Store) keep(id int, incarnation string) *Lease {
	running, stop := context.WithCancel(s.running)
	lease := &Lease{
		ID: id, Incarnation: incarnation,
		store: s, lost: make(chan struct{}), stop: stop, stopped: make(chan struct{}),
	}
	s.ended.Go(func() {
		defer close(lease.stopped)
		lease.renew(running)
	})
	return lease
}

func (l *Lease) renew(ctx context.Context) {
	ticker := time.NewTicker(l.store.config.LeaseEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		mine, err := l.renewOnce(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			l.store.config.Logger.Warn("node lease not renewed", "node", l.ID, "error", err)
		case err == nil && !mine:
			close(l.lost)
			return
		}
	}
}

// renewOnce tells whether the id is still this incarnation's. Its lease may have ended meanwhile: what nobody took is
// kept.
func (l *Lease) renewOnce(ctx context.Context) (bool, error) {
	return l.update(ctx, "seen_at = UTC_TIMESTAMP(6), lease_until = UTC_TIMESTAMP(6) + INTERVAL ? SECOND",
		int(l.store.config.LeaseFor/time.Second))
}

// update changes the node's row, if it is still ours.
func (l *Lease) update(ctx context.Context, set string, args ...any) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, l.store.config.LeaseEvery)
	defer cancel()
	result, err := l.store.control.ExecContext(ctx, "UPDATE nodes SET "+set+" WHERE id = ? AND incarnation = ?",
		append(args, l.ID, l.Incarnation)...)
	if err != nil {
		return false, err
	}
	found, err := result.RowsAffected() // rows found, by the DSN's clientFoundRows
	return found > 0, err
}

// Lost is closed when another process has taken the id: this one must end.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Close ends the lease at once, so that its id is free. It may be called twice; it must come before the Store's Close.
func (l *Lease) Close() error {
	var err error
	l.close.Do(func() {
		l.stop()
		<-l.stopped
		_, err = l.update(context.Background(), "state = 'stopped', lease_until = UTC_TIMESTAMP(6)")
	})
	if err != nil {
		return fmt.Errorf("end the node's lease (it ends by itself): %w", err)
	}
	return nil
}
