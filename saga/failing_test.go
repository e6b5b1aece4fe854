package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"lockstep/saga"
)

// packing is a carrier that takes messages together, unless there is one among them that it never takes.
type packing struct {
	carrier
	poison string
	hangs  bool // until the publication's time is over

	mutex  sync.Mutex
	asked  int
	inHand chan struct{} // if set, is told of each publication
}

func (p *packing) PublishAll(ctx context.Context, messages []saga.Message) error {
	p.mutex.Lock()
	p.asked++
	p.mutex.Unlock()
	if p.inHand != nil {
		p.inHand <- struct{}{}
	}
	if p.hangs {
		<-ctx.Done()
		return fmt.Errorf("not acknowledged: %w", ctx.Err())
	}
	for _, m := range messages {
		if m.ID == p.poison {
			return errTest
		}
	}
	for _, m := range messages {
		if err := p.carrier.Publish(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (p *packing) Publish(ctx context.Context, m saga.Message) error {
	return p.PublishAll(ctx, []saga.Message{m})
}

// packed is an outbox over a packing carrier, and messages to one destination that are due.
func (f *fixture) packed(p *packing, messages int) (o *saga.Outbox, ids []string) {
	f.Helper()
	o = f.outbox(&p.carrier)
	o.Publisher, o.Workers = p, 64
	for range messages {
		m := message(f)
		f.run(saga.Announce(m))
		ids = append(ids, m.ID)
	}
	return o, ids
}

func (f *fixture) sweep(o *saga.Outbox) (more bool) {
	f.Helper()
	more, err := o.Sweep(testContext(f))
	must(f, err)
	return more
}

// due makes everything due that is not parked.
func (f *fixture) due() {
	f.change("UPDATE saga_outbox SET next_at = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND")
}

func TestAPoisonousMessageIsParkedAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := &packing{}
	o, ids := f.packed(p, 40)
	p.poison = ids[23]
	f.sweep(o)
	if taken := p.all(); len(taken) != 39 || slices.Contains(taken, p.poison) {
		t.Errorf("in one sweep %d of 39 messages were published, or the poisonous one was", len(taken))
	}
	if p.asked > 2*7 { // log2 of 40 is below 6: one request that fails and one that does not for each time it is halved
		t.Errorf("it took %d publications", p.asked)
	}
	for range o.AttemptsMax {
		f.due()
		f.sweep(o)
	}
	parked, err := o.Parked(testContext(t), 10)
	must(t, err)
	if len(parked) != 1 || parked[0].ID != p.poison || parked[0].Attempts != o.AttemptsMax || parked[0].Reason != errTest.Error() {
		t.Errorf("parked are %+v", parked)
	}
}

// Where it is not one message's failure, looking for one ends soon; each has failed once all the same.
func TestWhereNothingCanBePublishedFewAreTried(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := &packing{}
	o, _ := f.packed(p, 64)
	p.set(errTest)
	f.sweep(o)
	if p.asked > 40 {
		t.Errorf("64 messages were tried in %d publications", p.asked)
	}
	if n := f.count("SELECT COUNT(*) FROM saga_outbox WHERE attempt = 1 AND reason = ?", errTest.Error()); n != 64 {
		t.Errorf("%d of 64 messages have failed once", n)
	}
}

// The committing node's first try halves as well: nobody waits for the sweeper because of a neighbour.
func TestAPoisonousMessageHoldsNobodyUpAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := &packing{}
	o, _ := f.packed(p, 0)
	messages := make([]saga.Message, 9)
	for i := range messages {
		messages[i] = message(t)
	}
	f.run(saga.Announce(messages...))
	p.poison = messages[0].ID
	if err := o.PublishNow(testContext(t), messages...); !errors.Is(err, errTest) {
		t.Errorf("the failure was said to be %v", err)
	}
	if len(p.all()) != 8 || f.count("SELECT COUNT(*) FROM saga_outbox WHERE attempt = 0 AND id = ?", p.poison) != 1 {
		t.Errorf("%d of 8 messages were published", len(p.all()))
	}
}

func TestACarrierThatIsAwayUsesUpNoAttempt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := &packing{}
	o, _ := f.packed(p, 64)
	p.set(fmt.Errorf("no route: %w", saga.ErrAway))
	for range 2 * o.AttemptsMax {
		f.due()
		if f.sweep(o) {
			t.Error("with the carrier away the outbox goes on at once")
		}
	}
	if s, err := o.Stats(testContext(t)); err != nil || s.Waiting != 64 || s.Retried != 0 || s.Parked != 0 {
		t.Errorf("after an outage there are %+v, %v", s, err)
	}
	if p.asked != 2*o.AttemptsMax {
		t.Errorf("in %d sweeps the carrier was asked %d times", 2*o.AttemptsMax, p.asked)
	}
	if f.count("SELECT COUNT(*) FROM saga_outbox WHERE next_at > UTC_TIMESTAMP(6) + INTERVAL 1 SECOND") != 0 {
		t.Error("after an outage messages wait for longer than the first pause")
	}
	p.set(nil)
	must(t, o.Open(testContext(t)))
	f.awaitEmpty()
}

func TestWhileNotReadyNothingIsTouched(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := &packing{}
	o, _ := f.packed(p, 1)
	o.Ready = func() bool { return false }
	if f.sweep(o) {
		t.Error("there is said to be more")
	}
	if err := o.PublishNow(testContext(t), message(t)); !errors.Is(err, saga.ErrAway) {
		t.Errorf("publishing at once says %v", err)
	}
	if moved := f.count("SELECT TIMESTAMPDIFF(MICROSECOND, created_at, next_at) FROM saga_outbox"); p.asked != 0 || moved != 0 {
		t.Errorf("%d publications were tried, and the message is due %d µs later than it was", p.asked, moved)
	}
}

// What fails waits twice as long each time, up to the longest pause.
func TestFailuresWaitLongerEachTime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := &packing{}
	o, ids := f.packed(p, 1)
	p.poison, o.AttemptsMax = ids[0], 50
	o.Backoff = saga.Backoff{Min: time.Minute, Max: 4 * time.Minute}
	for attempt, want := range []int{60, 120, 240, 240} {
		f.due()
		f.sweep(o)
		got := f.count("SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), next_at) FROM saga_outbox WHERE attempt = ? AND reason <> ''", attempt+1)
		if got > want || got < want-int(testMax.Seconds()) {
			t.Errorf("failure %d is followed by a pause of %d s, want %d", attempt+1, got, want)
		}
	}
}

// Each message that was in hand when time was up has failed once, with the reason that the whole had.
func TestWhatIsNotAcknowledgedInTimeHasFailed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := &packing{hangs: true}
	o, _ := f.packed(p, 8)
	o.Lease = 50 * time.Millisecond
	f.sweep(o)
	if n := f.count("SELECT COUNT(*) FROM saga_outbox WHERE attempt = 1 AND reason LIKE 'not acknowledged%'"); n != 8 || p.asked != 1 {
		t.Errorf("%d of 8 messages have failed, after %d publications", n, p.asked)
	}
}

// Who is stopped blames no message, and leaves them due for the others.
func TestAnOutboxThatIsStoppedUsesUpNoAttempt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := &packing{hangs: true, inHand: make(chan struct{}, 1)}
	o, _ := f.packed(p, 3)
	must(t, o.Open(testContext(t)))
	<-p.inHand
	must(t, o.Close())
	if n := f.count("SELECT COUNT(*) FROM saga_outbox WHERE attempt = 0 AND next_at <= UTC_TIMESTAMP(6)"); n != 3 {
		t.Errorf("%d of 3 messages are due for others, without an attempt", n)
	}
}
