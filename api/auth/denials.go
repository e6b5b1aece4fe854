package auth

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"lockstep/rounds"
)

// The denial list is short, since an access token ends by itself: it names the sessions that were ended while a token of
// theirs may still be good. It is kept in MySQL, so that it does not depend on Redis, and each node reads what is new in it
// denialsEvery, so that a request looks into memory only.
const (
	denialsEvery  = 250 * time.Millisecond
	denialsHeard  = denialsEvery + 150*time.Millisecond // by then every node that reads the database knows
	denialReadMax = time.Second
	denialOpenMax = 15 * time.Second // for the first reading, tries included
	denialsWhole  = time.Minute      // between two readings of the whole list
	// Rows become visible when their transaction commits, in any order; none takes as long as this.
	denialsOverlap = 30 * time.Second
	denialLife     = tokenLife + 2*skewMax
)

// denials are the sessions whose access tokens are refused.
type denials struct {
	db     *sql.DB
	clock  func() time.Time
	logger *slog.Logger

	mu      sync.RWMutex
	until   map[string]time.Time // by session
	wholeAt time.Time            // of the last reading of the whole list
}

// has tells whether the session's access tokens are refused.
func (d *denials) has(session string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	_, denied := d.until[session]
	return denied
}

func (d *denials) add(session string, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until[session] = now.Add(denialLife)
}

// deny writes a session to the list in the transaction that ends it.
func (d *denials) deny(ctx context.Context, tx *sql.Tx, session string, now time.Time) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO denials (session_id, denied_at, until_at) VALUES (?, ?, ?)
		ON DUPLICATE KEY UPDATE until_at = VALUES(until_at)`, session, now, now.Add(denialLife))
	if err != nil {
		return fmt.Errorf("deny the session: %w", err)
	}
	return nil
}

// heard returns when every node has had the time to read what was committed before.
func (d *denials) heard(ctx context.Context) {
	if err := d.read(ctx); err != nil {
		d.logger.Warn("cannot read the denial list after a change", "error", err)
	}
	timer := time.NewTimer(denialsHeard)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// open reads the list for the first time. A node may start while its database is busy with the start of others, or just back
// from a fault; without the list it would let in whom it must refuse, so it tries for a while.
func (d *denials) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, denialOpenMax)
	defer cancel()
	for {
		err := d.read(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(denialsEvery):
		case <-ctx.Done():
			return err
		}
	}
}

// follow reads the list until ctx ends.
func (d *denials) follow(ctx context.Context) {
	failing := false
	rounds.Make(ctx, denialsEvery, func(ctx context.Context) {
		err := d.read(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			d.logger.Warn("cannot read the denial list; sessions that are ended meanwhile live until their access token ends", "error", err)
		}
		failing = err != nil
	})
}

// read takes what is new in the list, or all of it when that is due, and forgets what has ended.
func (d *denials) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, denialReadMax)
	defer cancel()
	now := d.clock().UTC()
	d.mu.RLock()
	whole := !within(now, d.wholeAt, denialsWhole)
	d.mu.RUnlock()
	since := now.Add(-denialsOverlap)
	if whole {
		since = now.Add(-2 * denialLife)
	}
	found, err := d.readSince(ctx, since, now)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for session, until := range found {
		d.until[session] = until
	}
	if whole {
		d.wholeAt = now
		for session, until := range d.until {
			if now.After(until) {
				delete(d.until, session)
			}
		}
	}
	return nil
}

func (d *denials) readSince(ctx context.Context, since, now time.Time) (map[string]time.Time, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT session_id, until_at FROM denials WHERE denied_at > ? AND until_at > ?", since, now)
	if err != nil {
		return nil, fmt.Errorf("read the denial list: %w", err)
	}
	defer rows.Close()
	found := map[string]time.Time{}
	for rows.Next() {
		var session string
		var until time.Time
		if err := rows.Scan(&session, &until); err != nil {
			return nil, fmt.Errorf("read the denial list: %w", err)
		}
		found[session] = until
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the denial list: %w", err)
	}
	return found, nil
}
