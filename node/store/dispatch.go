package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Claimed is a delivery in the hands of a dispatcher: nobody else tries it before its lease has ended.
type Claimed struct {
	Delivery
	Owner  string // of the webhook
	URL    string
	Secret []byte        // sealed
	Since  time.Time     // it was made or replayed
	Age    time.Duration // since then
}

// Busy is whom a dispatcher has no room for.
type Busy struct {
	Webhooks []string
	Owners   []string // with all of their webhooks
}

// ClaimDeliveries takes due deliveries in hand, at most limit. Those to busy webhooks are left alone, and so is what admit
// refuses. One whose predecessor, about the same object to the same webhook, is not settled yet waits for it; one whose
// webhook is gone is deleted. It tells whether there may be more.
func (s *Store) ClaimDeliveries(ctx context.Context, limit int, lease time.Duration, busy Busy, admit func(Webhook) bool) (claimed []Claimed, more bool, err error) {
	tx, err := s.Begin(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("claim deliveries: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	spared, err := busy.webhooks(ctx, tx)
	if err != nil {
		return nil, false, fmt.Errorf("claim deliveries: %w", err)
	}
	due, err := lockDue(ctx, tx, limit, spared)
	if err != nil || len(due) == 0 {
		return nil, false, err
	}
	more = len(due) == limit
	if claimed, err = sortOut(ctx, tx, due, lease, admit); err != nil {
		return nil, false, fmt.Errorf("claim deliveries: %w", err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		return nil, false, fmt.Errorf("claim deliveries: %w", err)
	}
	return claimed, more, nil
}

// webhooks are all that nothing is taken in hand for. What is refused later fills the places of others, so they are left out by
// the look at what is due.
func (b Busy) webhooks(ctx context.Context, tx *Tx) ([]string, error) {
	all := slices.Clone(b.Webhooks)
	if len(b.Owners) == 0 {
		return all, nil
	}
	scan := func(rows *sql.Rows) error {
		var id string
		err := rows.Scan(&id)
		all = append(all, id)
		return err
	}
	if err := tx.Query(ctx, scan, "SELECT id FROM webhooks WHERE owner IN ("+marks(len(b.Owners))+")", anys(b.Owners)...); err != nil {
		return nil, fmt.Errorf("read webhooks: %w", err)
	}
	return all, nil
}

// lockDue locks what is due, but for spared webhooks. Rows that another dispatcher has in hand are its own.
func lockDue(ctx context.Context, tx *Tx, limit int, spared []string) (due []Claimed, err error) {
	scan := func(rows *sql.Rows) error {
		var c Claimed
		var micros int64
		err := rows.Scan(&c.Sequence, &c.ID, &c.Webhook, &c.Object, &c.Event, &c.Payload, &c.Attempts, &c.Since, &micros)
		c.Age = time.Duration(micros) * time.Microsecond
		due = append(due, c)
		return err
	}
	spared = append([]string{""}, spared...)
	query := `SELECT sequence, id, webhook, object, event, payload, attempts, since, TIMESTAMPDIFF(MICROSECOND, since, UTC_TIMESTAMP(6))
		FROM webhook_deliveries FORCE INDEX (webhook_deliveries_due)
		WHERE state = 'pending' AND next_at <= UTC_TIMESTAMP(6) AND webhook NOT IN (` + marks(len(spared)) + `) ORDER BY next_at LIMIT ? FOR UPDATE SKIP LOCKED`
	if err := tx.Query(ctx, scan, query, append(anys(spared), limit)...); err != nil {
		return nil, fmt.Errorf("lock due deliveries: %w", err)
	}
	return due, nil
}

// sortOut decides about each delivery that is locked, and writes it.
func sortOut(ctx context.Context, tx *Tx, due []Claimed, lease time.Duration, admit func(Webhook) bool) (claimed []Claimed, err error) {
	waits, err := predecessors(ctx, tx, due)
	if err != nil {
		return nil, err
	}
	hooks, err := targets(ctx, tx, due)
	if err != nil {
		return nil, err
	}
	for _, c := range due {
		hook, there := hooks[c.Webhook]
		pause, blocked := waits[c.Sequence]
		switch {
		case !there:
			tx.queue(`DELETE FROM webhook_deliveries WHERE sequence = ?`, c.Sequence)
		case blocked: // its predecessor's end wakes it
			tx.queue(`UPDATE webhook_deliveries SET next_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND WHERE sequence = ?`,
				(pause + lease).Microseconds(), c.Sequence)
		case admit(hook):
			c.Owner, c.URL, c.Secret, c.Attempts = hook.Owner, hook.URL, hook.Secret, c.Attempts+1
			tx.queue(`UPDATE webhook_deliveries SET next_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, attempts = ?, reason = '' WHERE sequence = ?`,
				lease.Microseconds(), c.Attempts, c.Sequence)
			claimed = append(claimed, c)
		}
	}
	_, err = tx.Flush(ctx)
	return claimed, err
}

// predecessors tells which of the deliveries have to wait for one before them, and how long that one rests. It is asked after
// they were locked: whoever comes before them has committed before they have, so that this look sees it.
func predecessors(ctx context.Context, tx *Tx, due []Claimed) (map[int64]time.Duration, error) {
	waits := map[int64]time.Duration{}
	scan := func(rows *sql.Rows) error {
		var sequence, micros int64
		err := rows.Scan(&sequence, &micros)
		waits[sequence] = max(0, time.Duration(micros)*time.Microsecond)
		return err
	}
	sequences := make([]int64, 0, len(due))
	for _, c := range due {
		sequences = append(sequences, c.Sequence)
	}
	slices.Sort(sequences)
	query := `SELECT d.sequence, TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), MAX(e.next_at)) FROM webhook_deliveries d
		JOIN webhook_deliveries e FORCE INDEX (webhook_deliveries_object)
			ON e.webhook = d.webhook AND e.object = d.object AND e.sequence < d.sequence AND e.state = 'pending'
		WHERE d.sequence IN (` + marks(len(sequences)) + `) GROUP BY d.sequence`
	if err := tx.Query(ctx, scan, query, anys(sequences)...); err != nil {
		return nil, fmt.Errorf("look for predecessors: %w", err)
	}
	return waits, nil
}

// targets reads the webhooks of deliveries.
func targets(ctx context.Context, tx *Tx, due []Claimed) (map[string]Webhook, error) {
	var ids []string
	for _, c := range due {
		ids = append(ids, c.Webhook)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	found := map[string]Webhook{}
	scan := func(rows *sql.Rows) error {
		w, err := scanWebhook(rows)
		found[w.ID] = w
		return err
	}
	if err := tx.Query(ctx, scan, "SELECT "+webhookColumns+" FROM webhooks WHERE id IN ("+marks(len(ids))+")", anys(ids)...); err != nil {
		return nil, fmt.Errorf("read webhooks: %w", err)
	}
	return found, nil
}

// Tried is what came of an attempt.
type Tried struct {
	Claimed
	State  string        // pending: once more after the pause
	Pause  time.Duration // of a pending one
	Status int           // of the answer; 0 for none
	Reason string        // of a failure
}

// SettleDeliveries writes what came of attempts. Whoever is late with a failure, so that somebody else has it in hand by now, or
// it was replayed, changes nothing. The successor of what has ended is due at once.
func (s *Store) SettleDeliveries(ctx context.Context, tried []Tried) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return fmt.Errorf("settle deliveries: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	slices.SortFunc(tried, func(a, b Tried) int { return int(a.Sequence - b.Sequence) })
	for _, t := range tried {
		queueSettle(tx, t)
	}
	if _, err := tx.Flush(ctx); err != nil {
		return fmt.Errorf("settle deliveries: %w", err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("settle deliveries: %w", err)
	}
	return nil
}

const reasonMax = 200 // characters

func queueSettle(tx *Tx, t Tried) {
	reason, status := []rune(strings.ToValidUTF8(t.Reason, "?")), sql.NullInt64{Int64: int64(t.Status), Valid: t.Status > 0}
	reason = reason[:min(len(reason), reasonMax)]
	switch t.State {
	case DeliveryPending:
		tx.queue(`UPDATE webhook_deliveries SET next_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, status = ?, reason = ?
			WHERE sequence = ? AND state = 'pending' AND attempts = ? AND since = ?`, t.Pause.Microseconds(), status, string(reason), t.Sequence, t.Attempts, t.Since)
		return
	case DeliveryFailed:
		tx.queue(`UPDATE webhook_deliveries SET state = 'failed', next_at = UTC_TIMESTAMP(6), finished_at = UTC_TIMESTAMP(6), status = ?, reason = ?
			WHERE sequence = ? AND state = 'pending' AND attempts = ? AND since = ?`, status, string(reason), t.Sequence, t.Attempts, t.Since)
	default:
		tx.queue(`UPDATE webhook_deliveries SET state = 'delivered', next_at = UTC_TIMESTAMP(6), finished_at = UTC_TIMESTAMP(6), status = ?, reason = ''
			WHERE sequence = ? AND state = 'pending'`, status, t.Sequence)
	}
	tx.queue(`UPDATE webhook_deliveries FORCE INDEX (webhook_deliveries_object) SET next_at = UTC_TIMESTAMP(6)
		WHERE webhook = ? AND object = ? AND state = 'pending' AND sequence > ?`, t.Webhook, t.Object, t.Sequence)
}

// wakeMax bounds what one call wakes.
const wakeMax = 500

// WakeDeliveries makes those deliveries to a webhook due at once that rest after a failure, at most wakeMax. What is in hand has
// no reason, and what waits for its predecessor has none either.
func (s *Store) WakeDeliveries(ctx context.Context, webhook string) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return fmt.Errorf("wake deliveries: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	var resting []int64
	scan := func(rows *sql.Rows) error {
		var sequence int64
		err := rows.Scan(&sequence)
		resting = append(resting, sequence)
		return err
	}
	err = tx.Query(ctx, scan, `SELECT sequence FROM webhook_deliveries FORCE INDEX (webhook_deliveries_due)
		WHERE state = 'pending' AND next_at > UTC_TIMESTAMP(6) AND webhook = ? AND reason <> '' ORDER BY next_at LIMIT ? FOR UPDATE SKIP LOCKED`, webhook, wakeMax)
	if err != nil || len(resting) == 0 {
		return err
	}
	slices.Sort(resting)
	_, err = tx.Exec(ctx, `UPDATE webhook_deliveries SET next_at = UTC_TIMESTAMP(6) WHERE sequence IN (`+marks(len(resting))+`)`, anys(resting)...)
	if err != nil {
		return fmt.Errorf("wake deliveries: %w", err)
	}
	_, err = tx.Commit(ctx)
	return err
}

// ForgetDeliveries deletes deliveries that ended longer ago than keep, at most limit, and counts them.
func (s *Store) ForgetDeliveries(ctx context.Context, keep time.Duration, limit int) (forgotten int64, err error) {
	for _, state := range []string{DeliveryDelivered, DeliveryFailed} {
		result, err := s.source.ExecContext(ctx, `DELETE FROM webhook_deliveries WHERE state = ? AND next_at < UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND
			ORDER BY next_at LIMIT ?`, state, keep.Microseconds(), limit)
		if err != nil {
			return forgotten, fmt.Errorf("forget deliveries: %w", err)
		}
		count, err := result.RowsAffected()
		if err != nil {
			return forgotten, err
		}
		forgotten += count
	}
	return forgotten, nil
}

// Backlog is what was not delivered yet.
type Backlog struct {
	Pending int
	Oldest  time.Duration // age of the oldest of these
	Overdue time.Duration // how long the one that is due for longest has waited for a dispatcher
}

// CountDeliveries counts what was not delivered yet.
func (s *Store) CountDeliveries(ctx context.Context) (b Backlog, err error) {
	var oldest, overdue int64
	err = s.source.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(MAX(TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6))), 0),
		COALESCE(MAX(TIMESTAMPDIFF(MICROSECOND, next_at, UTC_TIMESTAMP(6))), 0) FROM webhook_deliveries WHERE state = 'pending'`).
		Scan(&b.Pending, &oldest, &overdue)
	if err != nil {
		return Backlog{}, fmt.Errorf("count deliveries: %w", err)
	}
	b.Oldest, b.Overdue = time.Duration(oldest)*time.Microsecond, max(0, time.Duration(overdue)*time.Microsecond)
	return b, nil
}
