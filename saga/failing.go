package saga

import (
	"context"
	"errors"
	"slices"
	"time"
)

// ErrAway says that the carrier of messages cannot be reached at all. It is a Publisher's word: such a failure is not the
// message's, and uses up none of its attempts.
var ErrAway = errors.New("saga: the carrier of messages is away")

// ready tells whether publishing has any prospect.
func (o *Outbox) ready() bool { return o.Ready == nil || o.Ready() }

// triesMax bounds how often messages of one destination are tried in one sweep. It finds one that cannot be published among
// hundreds, or a few; where none can, trying each would cost much and find nothing.
const triesMax = 40

// try publishes messages together. If that fails they are tried in halves, and in the end each by itself: one that can never
// be published must not keep the others. When tries or time are up, those that were not tried apart share the failure.
func (o *Outbox) try(ctx context.Context, group []*waiting, left *int) {
	*left--
	err := o.tell(ctx, group)
	if err == nil || len(group) == 1 || errors.Is(err, ErrAway) || errors.Is(err, errFault) {
		note(group, err)
		return
	}
	for half := range slices.Chunk(group, (len(group)+1)/2) {
		if *left > 0 && ctx.Err() == nil {
			o.try(ctx, half, left)
		} else {
			note(half, err)
		}
	}
}

func note(group []*waiting, err error) {
	for _, m := range group {
		m.err = err
	}
}

// putOff lets each message wait that was not published, longer with each attempt, and parks the one that has used them all up.
// What no message is to blame for is no attempt: a carrier that is away, or this outbox being stopped.
func (o *Outbox) putOff(ctx context.Context, tx Tx, failed []waiting, stopped bool) error {
	var blameless []string
	for _, m := range failed {
		if stopped || errors.Is(m.err, ErrAway) {
			blameless = append(blameless, m.ID)
			continue
		}
		if err := o.countAttempt(ctx, tx, m); err != nil {
			return err
		}
	}
	if len(blameless) == 0 {
		return nil
	}
	var pause time.Duration // another outbox may take at once what a stopped one had in hand
	if !stopped {
		pause = o.Backoff.delay(0)
	}
	_, err := tx.Exec(ctx, `UPDATE saga_outbox FORCE INDEX (PRIMARY) SET next_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND WHERE id IN (`+marks(len(blameless))+`) AND parked_at IS NULL`,
		append([]any{pause.Microseconds()}, sorted(blameless)...)...)
	return err
}

// countAttempt counts for the attempt that was made: another sweep may have counted since, or an operator replayed the message.
func (o *Outbox) countAttempt(ctx context.Context, tx Tx, m waiting) error {
	parked := m.attempt+1 >= o.AttemptsMax
	if parked {
		o.Logger.Error("a message is parked until an operator replays it", "message", m.ID, "destination", m.Destination, "error", m.err)
	}
	_, err := tx.Exec(ctx, `UPDATE saga_outbox SET attempt = attempt + 1, next_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND,
		reason = ?, parked_at = IF(?, UTC_TIMESTAMP(6), NULL) WHERE id = ? AND attempt = ? AND parked_at IS NULL`,
		o.Backoff.delay(m.attempt).Microseconds(), brief(m.err.Error()), parked, m.ID, m.attempt)
	return err
}
