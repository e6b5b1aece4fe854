package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/saga"
)

// carrier keeps what is published, or refuses it.
type carrier struct {
	mutex sync.Mutex
	taken []string
	err   error
	hook  func(saga.Message)
}

func (c *carrier) Publish(_ context.Context, m saga.Message) error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.hook != nil {
		c.hook(m)
	}
	if c.err == nil {
		c.taken = append(c.taken, m.ID)
	}
	return c.err
}

func (c *carrier) set(err error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.err = err
}

func (c *carrier) all() []string {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return slices.Sorted(slices.Values(c.taken))
}

func message(tb testing.TB) saga.Message {
	tb.Helper()
	id, err := uuid.NewV7()
	must(tb, err)
	return saga.Message{ID: id.String(), Destination: "beta", Events: []byte(`[{"id":"1"}]`)}
}

func (f *fixture) outbox(c *carrier) *saga.Outbox {
	o := saga.DefaultOutbox(f.db, c)
	o.Poll, o.AttemptsMax = 10*time.Millisecond, 3
	o.Backoff.Min, o.Backoff.Max = time.Millisecond, 2*time.Millisecond
	f.Cleanup(func() { must(f, o.Close()) })
	return o
}

func (f *fixture) awaitEmpty() {
	f.Helper()
	within(f, "the outbox is empty", func() bool { return f.count("SELECT COUNT(*) FROM saga_outbox") == 0 })
}

// What was told is there until it is forgotten, so that who dies in between has it told again.
func TestWhatWasToldIsForgottenLater(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := &carrier{}
	o := f.outbox(c)
	taken, left := message(t), message(t)
	f.run(saga.Announce(taken, left))
	c.hook = func(m saga.Message) {
		if c.err = nil; m.ID == left.ID {
			c.err = errors.New("not now")
		}
	}
	published, err := o.Tell(t.Context(), taken, left)
	if err == nil || !slices.Equal(published, []string{taken.ID}) {
		t.Fatalf("published %v, %v", published, err)
	}
	if n := f.count("SELECT COUNT(*) FROM saga_outbox"); n != 2 {
		t.Errorf("%d messages are there before they are forgotten", n)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, o.Forget(ended, append(published, "of nobody")...))
	if n := f.count("SELECT COUNT(*) FROM saga_outbox WHERE id = ?", left.ID); n != 1 || f.count("SELECT COUNT(*) FROM saga_outbox") != 1 {
		t.Errorf("what was not taken is gone, or what was taken is there")
	}
}

func TestWhatIsAnnouncedIsPublishedAndDeleted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := &carrier{}
	o := f.outbox(c)
	var ids []string
	for range 40 {
		m := message(t)
		ids = append(ids, m.ID)
		f.run(saga.Announce(m, message(t)), saga.Announce(m)) // said again, it stays one
	}
	o.Workers = 7
	must(t, o.Open(testContext(t)))
	f.awaitEmpty()
	for _, id := range ids {
		if n := len(c.all()); n != 80 || !slices.Contains(c.all(), id) {
			t.Fatalf("%d messages were published, or %s was not", n, id)
		}
	}
}

func TestWhatRollsBackIsNeverPublished(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := &carrier{}
	o := f.outbox(c)
	err := f.tx(func(ctx context.Context, tx saga.Tx) error {
		must(t, saga.Announce(message(t)).Exec(ctx, tx))
		_, err := o.Sweep(ctx) // beside the open transaction
		must(t, err)
		return errTest
	})
	if !errors.Is(err, errTest) {
		t.Fatal(err)
	}
	_, err = o.Sweep(testContext(t))
	must(t, err)
	if len(c.all()) != 0 {
		t.Errorf("published %q", c.all())
	}
}

// Ids commit out of order; one that commits after later ones were published is published all the same.
func TestAMessageThatCommitsLateIsFound(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := &carrier{}
	o := f.outbox(c)
	early, late := message(t), message(t)
	must(t, f.tx(func(ctx context.Context, tx saga.Tx) error {
		must(t, saga.Announce(early).Exec(ctx, tx))
		f.run(saga.Announce(late))
		_, err := o.Sweep(ctx)
		return err
	}))
	if !slices.Equal(c.all(), []string{late.ID}) {
		t.Errorf("first %q was published", c.all())
	}
	_, err := o.Sweep(testContext(t))
	must(t, err)
	if len(c.all()) != 2 {
		t.Errorf("in the end only %q was published", c.all())
	}
}

func TestAMessageIsParkedNeverLostAndReplayed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := &carrier{err: errTest}
	o := f.outbox(c)
	m := message(t)
	f.run(saga.Announce(m))
	must(t, o.Open(testContext(t)))
	var parked []saga.ParkedMessage
	within(t, "the message is parked", func() bool {
		var err error
		parked, err = o.Parked(testContext(t), 10)
		must(t, err)
		return len(parked) == 1
	})
	p := parked[0]
	if p.ID != m.ID || p.Destination != m.Destination || string(p.Events) != string(m.Events) || p.Attempts != 3 || p.Reason != errTest.Error() {
		t.Errorf("parked as %+v", p)
	}
	if s, err := o.Stats(testContext(t)); err != nil || s != (saga.OutboxStats{Parked: 1}) {
		t.Errorf("counted as %+v, %v", s, err)
	}
	c.set(nil)
	must(t, o.Replay(testContext(t), m.ID))
	f.awaitEmpty()
	if !slices.Equal(c.all(), []string{m.ID}) {
		t.Errorf("published %q", c.all())
	}
	if err := o.Replay(testContext(t), m.ID); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("what is gone was replayed: %v", err)
	}
}

// A process that dies before or after a publish leaves the row, and the next one publishes, perhaps again.
func TestACrashAroundAPublishLosesNothing(t *testing.T) {
	t.Parallel()
	for point, published := range map[string]int{"publish: before": 1, "publish: after": 2} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			c := &carrier{}
			dying, next := f.outbox(c), f.outbox(c)
			dying.Lease = 200 * time.Millisecond
			dying.Fault = func(at string) error {
				if at == point {
					return errTest
				}
				return nil
			}
			m := message(t)
			f.run(saga.Announce(m))
			_, err := dying.Sweep(testContext(t))
			must(t, err)
			if f.count("SELECT COUNT(*) FROM saga_outbox WHERE attempt = 0 AND next_at > created_at") != 1 {
				t.Error("the dead process wrote something after its death")
			}
			must(t, next.Open(testContext(t)))
			f.awaitEmpty()
			if len(c.all()) != published {
				t.Errorf("published %q", c.all())
			}
		})
	}
}

// Publishing holds no transaction: the row can be locked meanwhile. While one outbox publishes, another leaves its rows.
func TestPublishingIsOutsideOfTransactions(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := &carrier{}
	o, other := f.outbox(c), f.outbox(&carrier{err: errors.New("not this one's to publish")})
	c.hook = func(m saga.Message) {
		if f.count("SELECT COUNT(*) FROM saga_outbox WHERE id = ? FOR UPDATE NOWAIT", m.ID) != 1 {
			t.Error("the row is gone before the publish")
		}
		_, err := other.Sweep(testContext(t))
		must(t, err)
	}
	f.run(saga.Announce(message(t)))
	_, err := o.Sweep(testContext(t))
	must(t, err)
	f.awaitEmpty()
}

func TestTheCommittingNodePublishesAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := &carrier{}
	o := f.outbox(c)
	o.Workers = 2
	var messages []saga.Message
	for range 5 {
		m := message(t)
		m.Delay = time.Hour // keeps the sweeper away
		messages = append(messages, m)
	}
	f.run(saga.Announce(messages...))
	more, err := o.Sweep(testContext(t))
	must(t, err)
	if more || len(c.all()) != 0 {
		t.Errorf("the sweeper did not wait: %q", c.all())
	}
	must(t, o.PublishNow(testContext(t), messages[:3]...))
	if len(c.all()) != 3 || f.count("SELECT COUNT(*) FROM saga_outbox") != 2 {
		t.Errorf("published %q", c.all())
	}
	c.set(errTest)
	if err := o.PublishNow(testContext(t), messages[3:]...); !errors.Is(err, errTest) {
		t.Errorf("the failure was said to be %v", err)
	}
	if s, err := o.Stats(testContext(t)); err != nil || s.Waiting != 2 || s.Retried != 0 || s.Oldest <= 0 {
		t.Errorf("counted as %+v, %v", s, err)
	}
}

func TestManyOutboxesShareTheWork(t *testing.T) {
	t.Parallel()
	f := setup(t)
	c := &carrier{}
	for i := range 4 {
		for range 50 {
			f.run(saga.Announce(message(t)))
		}
		o := f.outbox(c)
		o.Workers = 3 + i
		must(t, o.Open(testContext(t)))
	}
	f.awaitEmpty()
	if n := len(c.all()); n != 200 {
		t.Errorf("%d publishes of 200 messages", n)
	}
}

func TestABadOutboxIsRefused(t *testing.T) {
	t.Parallel()
	for i, change := range []func(*saga.Outbox){
		func(o *saga.Outbox) { o.Publisher = nil }, func(o *saga.Outbox) { o.Workers = 0 },
		func(o *saga.Outbox) { o.Backoff.Max = 0 }, func(o *saga.Outbox) { o.AttemptsMax = 0 },
	} {
		o := saga.DefaultOutbox(open{}, &carrier{})
		change(o)
		if err := o.Open(testContext(t)); err == nil {
			t.Error(fmt.Sprint("bad outbox ", i, " was opened"))
			must(t, o.Close())
		}
	}
}
