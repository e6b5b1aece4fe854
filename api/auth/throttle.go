package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"lockstep/node/ledger"
)

// rate is how often something may be done: burst times at once, then once every period (the generic cell rate algorithm,
// ITU-T I.371).
type rate struct {
	burst  int
	period time.Duration
}

// The rates of sign-in. Only failures count, since a success gives its place back. A person who is attacked from many
// addresses can still sign in from one where they did so before.
var (
	ratePair     = rate{5, 12 * time.Second}  // one name from one address
	rateAddress  = rate{10, 6 * time.Second}  // any name from one address
	rateName     = rate{50, time.Minute}      // one name from any address
	rateRegister = rate{60, 60 * time.Second} // new people from one address, unless the configuration says otherwise
)

// use is one use of a rate by somebody.
type use struct {
	bucket [sha256.Size]byte
	rate   rate
}

// of names a bucket by a hash, so that neither names that were tried nor addresses lie in the database.
func (r rate) of(kind string, who ...string) use {
	hash := sha256.New()
	for _, part := range append([]string{kind}, who...) {
		fmt.Fprintf(hash, "%d:%s", len(part), part)
	}
	u := use{rate: r}
	hash.Sum(u.bucket[:0])
	return u
}

// Network is who is behind an address as far as limits go: an IPv6 address counts with all others of its /64, of which one household
// or one machine has as many as it likes.
func Network(address string) string {
	const household = 64
	parsed, err := netip.ParseAddr(address)
	if err != nil || !parsed.Is6() {
		return address
	}
	prefix, err := parsed.WithZone("").Prefix(household)
	if err != nil {
		return address
	}
	return prefix.String()
}

// Throttled refuses what is done too often.
type Throttled struct {
	Refusal *ledger.Error
	After   time.Duration // until it may be tried again
}

func (t *Throttled) Error() string { return t.Refusal.Error() }

// Unwrap lets the refusal be found.
func (t *Throttled) Unwrap() error { return t.Refusal }

// RetryAfter tells when to try again.
func (t *Throttled) RetryAfter() time.Duration { return t.After }

// Bounds of the throttle.
const (
	throttleMax    = 5 * time.Second // one look at the table, its turn included
	throttlesKnown = 10_000          // buckets that this node knows to be full
	throttlesKept  = time.Hour       // after they are empty again
)

// throttle counts in MySQL, so that a system's nodes count together and nothing depends on Redis. What a node knows to be
// refused it refuses from memory: a flood costs the database nothing.
type throttle struct {
	db    *sql.DB
	clock func() time.Time
	turn  chan struct{} // one look at a time: those who wait may find in memory what the one before has learned

	mu   sync.Mutex
	full map[[sha256.Size]byte]time.Time // until when
}

// take uses all of the rates, or none of them and refuses with a *Throttled.
func (t *throttle) take(ctx context.Context, uses ...use) error {
	slices.SortFunc(uses, func(a, b use) int { return bytes.Compare(a.bucket[:], b.bucket[:]) })
	if err := t.refused(uses...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, throttleMax)
	defer cancel()
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait to count an attempt: %w", ctx.Err())
	}
	if err := t.refused(uses...); err != nil {
		return err
	}
	now := t.clock().UTC().Truncate(time.Microsecond)
	until, err := t.count(ctx, now, uses)
	if err != nil {
		return err
	}
	if until.After(now) {
		return throttled(until.Sub(now))
	}
	return nil
}

func throttled(after time.Duration) error {
	return &Throttled{ledger.Refuse(ledger.RateLimited, "too many attempts; try again later"), after}
}

// refused refuses what this node knows to be too often, without a look at the table.
func (t *throttle) refused(uses ...use) error {
	now := t.clock().UTC()
	t.mu.Lock()
	defer t.mu.Unlock()
	var latest time.Time
	for _, u := range uses {
		until, there := t.full[u.bucket]
		if there && !until.After(now) {
			delete(t.full, u.bucket)
		} else if until.After(latest) {
			latest = until
		}
	}
	if latest.IsZero() {
		return nil
	}
	return throttled(latest.Sub(now))
}

// usesMax bounds the buckets of one attempt.
const usesMax = 3

// count uses the buckets in one transaction. When one of them is overdrawn by that, all of it is taken back, and it tells
// until when the bucket is full.
func (t *throttle) count(ctx context.Context, now time.Time, uses []use) (time.Time, error) {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return time.Time{}, fmt.Errorf("count attempts: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after COMMIT
	for _, u := range uses {             // in the order of the buckets, which keeps attempts from deadlocks
		_, err := tx.ExecContext(ctx, `INSERT INTO throttles (bucket, free_from) VALUES (?, ?)
			ON DUPLICATE KEY UPDATE free_from = DATE_ADD(GREATEST(free_from, ?), INTERVAL ? MICROSECOND)`,
			u.bucket[:], now.Add(u.rate.period), now, u.rate.period.Microseconds())
		if err != nil {
			return time.Time{}, fmt.Errorf("use a bucket: %w", err)
		}
	}
	until, err := t.fullUntil(ctx, tx, now, uses)
	if err != nil || !until.IsZero() {
		return until, err
	}
	if err := tx.Commit(); err != nil {
		return time.Time{}, fmt.Errorf("count attempts: %w", err)
	}
	return time.Time{}, nil
}

// fullUntil reads buckets that were just used. It is zero when none of them is overdrawn.
func (t *throttle) fullUntil(ctx context.Context, tx *sql.Tx, now time.Time, uses []use) (until time.Time, err error) {
	var asked [usesMax][]byte // one that is asked for twice is answered once
	for i := range asked {
		asked[i] = uses[min(i, len(uses)-1)].bucket[:]
	}
	rows, err := tx.QueryContext(ctx, "SELECT bucket, free_from FROM throttles WHERE bucket IN (?, ?, ?)", asked[0], asked[1], asked[2])
	if err != nil {
		return until, fmt.Errorf("read the buckets: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var bucket []byte
		var free time.Time
		if err := rows.Scan(&bucket, &free); err != nil {
			return until, fmt.Errorf("read a bucket: %w", err)
		}
		u := uses[slices.IndexFunc(uses, func(u use) bool { return bytes.Equal(u.bucket[:], bucket) })]
		if ready := free.Add(-time.Duration(u.rate.burst) * u.rate.period); ready.After(now) {
			t.remember(u, ready)
			if ready.After(until) {
				until = ready
			}
		}
	}
	if err := rows.Err(); err != nil {
		return until, fmt.Errorf("read the buckets: %w", err)
	}
	return until, nil
}

func (t *throttle) remember(u use, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.full) >= throttlesKnown {
		for other := range t.full {
			delete(t.full, other)
			break
		}
	}
	t.full[u.bucket] = until
}

// giveBack undoes a use that turned out to be good.
func (t *throttle) giveBack(ctx context.Context, uses ...use) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), throttleMax)
	defer cancel()
	for _, u := range uses {
		t.mu.Lock()
		delete(t.full, u.bucket)
		t.mu.Unlock()
		_, err := t.db.ExecContext(ctx, "UPDATE throttles SET free_from = DATE_SUB(free_from, INTERVAL ? MICROSECOND) WHERE bucket = ?",
			u.rate.period.Microseconds(), u.bucket[:])
		if err != nil {
			return fmt.Errorf("give an attempt back: %w", err)
		}
	}
	return nil
}
