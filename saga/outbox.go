package saga

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Message is what one transaction has to tell one destination.
type Message struct {
	ID          string // UUIDv7, 36 characters; receivers know repeats by it
	Destination string // at most 200 ASCII characters, for the Publisher to understand
	Events      []byte // at most 16 MB
	// Known, if set, is what the committing node knows of the events and does not write, because it could be read again. A message
	// that was read from the outbox has none.
	Known any
	// Delay keeps the sweeper away for so long, while the committing node publishes the message itself.
	Delay time.Duration
}

// Announce writes messages in the transaction that they tell about, one or more; they are published after it. One that is
// there already stays as it is.
func Announce(messages ...Message) Statement {
	var args []any
	for _, m := range messages {
		args = append(args, m.ID, m.Destination, blob(m.Events), m.Delay.Microseconds())
	}
	const row = "(?, ?, ?, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, UTC_TIMESTAMP(6))"
	return Statement{"INSERT INTO saga_outbox (id, destination, events, next_at, created_at) VALUES " +
		repeat(row, len(messages), ", ") + " ON DUPLICATE KEY UPDATE id = VALUES(id)", args}
}

// Publisher hands messages to whatever carries them.
type Publisher interface {
	// Publish returns nil only when the message is safe with the carrier. It may be called for a message more than once, and
	// for several at once.
	Publish(ctx context.Context, m Message) error
}

// Packer is a Publisher that can tell a destination several messages at once.
type Packer interface {
	Publisher
	// PublishAll is Publish for messages to one destination. After an error any of them may be with the carrier.
	PublishAll(ctx context.Context, messages []Message) error
}

// Outbox publishes what transactions announced, at least once each, and in no order. Any number of them may share a
// database. Start from DefaultOutbox.
type Outbox struct {
	Database    Database
	Publisher   Publisher
	Workers     int           // messages published at once
	Lease       time.Duration // one publish gets so long, then another outbox may try the message
	Poll        time.Duration // how often to look for messages that were left, about
	AttemptsMax int           // then a message is parked until Replay
	Backoff     Backoff
	Logger      *slog.Logger
	// Ready, if set, tells whether the carrier can be reached. While it says no nothing is tried, so that an outage uses up no
	// attempts. It is asked often and must answer at once.
	Ready func() bool
	// Fault, for tests, is called around each publish. Its error stops there, as the death of the process would.
	Fault func(point string) error

	loop *loop
}

// DefaultOutbox looks every second, publishes 16 messages at once within 10 s and parks one after 50 failures.
func DefaultOutbox(db Database, publisher Publisher) *Outbox {
	return &Outbox{
		Database: db, Publisher: publisher, Workers: 16, Lease: 10 * time.Second, Poll: time.Second, AttemptsMax: 50,
		Backoff: DefaultBackoff(), Logger: slog.New(slog.DiscardHandler),
	}
}

func (o *Outbox) validate() error {
	switch {
	case o.loop != nil:
		return errors.New("it is open")
	case o.Database == nil || o.Publisher == nil || o.Logger == nil:
		return errors.New("it needs a database, a publisher and a logger")
	case o.Workers <= 0 || o.Lease <= 0 || o.Poll <= 0 || o.AttemptsMax <= 0:
		return errors.New("workers, lease, poll interval and attempts must be above zero")
	}
	return o.Backoff.validate()
}

// Open refuses a bad configuration and starts the sweeper. The end of ctx does not stop it, Close does.
func (o *Outbox) Open(ctx context.Context) error {
	if err := o.validate(); err != nil {
		return fmt.Errorf("open outbox: %w", err)
	}
	pause := o.Backoff // between sweeps that failed: when the database is back it is not to be left alone for long
	pause.Max = max(pause.Min, min(pause.Max, o.Lease))
	o.loop = &loop{poll: o.Poll, backoff: pause, pass: o.Sweep}
	o.loop.open(ctx)
	return nil
}

// Close stops the sweeper and waits for it. It may be called twice, and without Open.
func (o *Outbox) Close() error {
	if o.loop != nil {
		o.loop.close()
	}
	return nil
}

// Wake makes an open outbox look for messages at once.
func (o *Outbox) Wake() {
	if o.loop != nil {
		o.loop.wake()
	}
}

// PublishNow publishes messages that the caller has just committed, and deletes those that were taken. What fails is left
// to the sweeper: nothing has to be done about the error.
func (o *Outbox) PublishNow(ctx context.Context, messages ...Message) error {
	published, err := o.Tell(ctx, messages...)
	if err := errors.Join(err, o.Forget(ctx, published...)); err != nil {
		return fmt.Errorf("publish at once: %w", err)
	}
	return nil
}

// Tell is the first half of PublishNow: it publishes, and lists the ids of the messages that were taken. The caller has them
// forgotten before their Delay ends, or the sweeper publishes them again. A delete with a COMMIT of its own costs more than a
// publication, so that a busy host tells many times and forgets once.
func (o *Outbox) Tell(ctx context.Context, messages ...Message) (published []string, err error) {
	var failures []error
	for part := range slices.Chunk(messages, o.Workers) {
		waiting := make([]waiting, len(part))
		for i, m := range part {
			waiting[i].Message = m
		}
		o.publish(ctx, waiting)
		for _, m := range waiting {
			if m.err == nil {
				published = append(published, m.ID)
			}
			failures = append(failures, m.err)
		}
	}
	return published, errors.Join(failures...)
}

// forgetMax is how many messages one transaction forgets.
const forgetMax = 500

// Forget deletes messages that were published, also when ctx has ended. Ids that are not there are ignored.
func (o *Outbox) Forget(ctx context.Context, ids ...string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleMax)
	defer cancel()
	for part := range slices.Chunk(ids, forgetMax) {
		err := within(ctx, o.Database, func(tx Tx) error { return deleteBy("saga_outbox", "id", part).Exec(ctx, tx) })
		if err != nil {
			return fmt.Errorf("forget what was published: %w", err)
		}
	}
	return nil
}

// waiting is a row of the outbox in hand.
type waiting struct {
	Message
	attempt int
	err     error // why it was not published
}

// Sweep publishes what is due, one message for each worker, and tells whether there may be more. It looks for rows that are
// still there, never for ids above the last one seen: ids commit out of order.
func (o *Outbox) Sweep(ctx context.Context) (more bool, err error) {
	if !o.ready() {
		return false, nil
	}
	due, err := o.claim(ctx)
	if err == nil && len(due) > 0 {
		o.publish(ctx, due)
		err = o.settle(ctx, due, true)
	}
	if err != nil {
		if ctx.Err() == nil {
			o.Logger.Warn("the outbox could not be swept", "error", err)
		}
		return false, fmt.Errorf("sweep the outbox: %w", err)
	}
	away := slices.ContainsFunc(due, func(m waiting) bool { return errors.Is(m.err, ErrAway) })
	return len(due) == o.Workers && !away, nil
}

// claim takes due messages in hand by moving their next time. Who dies with them only delays them.
func (o *Outbox) claim(ctx context.Context) (due []waiting, err error) {
	var ids []string
	err = within(ctx, o.Database, func(tx Tx) error {
		err := tx.Query(ctx, func(rows *sql.Rows) error {
			var w waiting
			err := rows.Scan(&w.ID, &w.Destination, &w.Events, &w.attempt)
			due, ids = append(due, w), append(ids, w.ID)
			return err
		}, `SELECT id, destination, events, attempt FROM saga_outbox FORCE INDEX (saga_outbox_due)
			WHERE parked_at IS NULL AND next_at <= UTC_TIMESTAMP(6) ORDER BY next_at LIMIT ? FOR UPDATE SKIP LOCKED`, o.Workers)
		if err != nil || len(ids) == 0 {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE saga_outbox FORCE INDEX (PRIMARY) SET next_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND WHERE id IN (`+marks(len(ids))+`)`,
			append([]any{o.Lease.Microseconds()}, sorted(ids)...)...)
		return err
	})
	return due, err
}

// publish tries all messages at once, outside of any transaction, and notes what became of each.
func (o *Outbox) publish(ctx context.Context, messages []waiting) {
	ctx, cancel := context.WithTimeout(ctx, o.Lease-o.Lease/settleShare)
	defer cancel()
	var all sync.WaitGroup
	for _, group := range o.groups(messages) {
		all.Go(func() {
			left := triesMax
			o.try(ctx, group, &left)
		})
	}
	all.Wait()
}

// groups are what is published together: all for one destination, if the publisher packs, else each by itself.
func (o *Outbox) groups(messages []waiting) [][]*waiting {
	var groups [][]*waiting
	_, packs := o.Publisher.(Packer)
	place := map[string]int{}
	for i := range messages {
		m := &messages[i]
		if at, there := place[m.Destination]; there && packs {
			groups[at] = append(groups[at], m)
			continue
		}
		place[m.Destination] = len(groups)
		groups = append(groups, []*waiting{m})
	}
	return groups
}

func (o *Outbox) tell(ctx context.Context, group []*waiting) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v", reason)
		}
	}()
	if !o.ready() {
		return ErrAway
	}
	messages := make([]Message, len(group))
	for i, m := range group {
		messages[i] = m.Message
	}
	if err := o.fault("publish: before"); err != nil {
		return err
	}
	if packer, packs := o.Publisher.(Packer); packs && len(messages) > 1 {
		err = packer.PublishAll(ctx, messages)
	} else {
		err = o.Publisher.Publish(ctx, messages[0])
	}
	if err != nil {
		return err
	}
	return o.fault("publish: after")
}

func (o *Outbox) fault(point string) error {
	if o.Fault == nil {
		return nil
	}
	if err := o.Fault(point); err != nil {
		return fmt.Errorf("%w: %s: %w", errFault, point, err)
	}
	return nil
}

// settle deletes what was published, and, if asked, puts off or parks what was not.
func (o *Outbox) settle(ctx context.Context, messages []waiting, putOff bool) error {
	stopped := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleMax)
	defer cancel()
	var published []string
	var failed []waiting
	for _, m := range messages {
		switch {
		case m.err == nil:
			published = append(published, m.ID)
		case putOff && !errors.Is(m.err, errFault):
			failed = append(failed, m)
		}
	}
	if len(published)+len(failed) == 0 {
		return nil
	}
	return within(ctx, o.Database, func(tx Tx) error {
		if len(published) > 0 {
			if err := deleteBy("saga_outbox", "id", published).Exec(ctx, tx); err != nil {
				return err
			}
		}
		return o.putOff(ctx, tx, failed, stopped)
	})
}
