package saga

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// Backoff says how long to wait after a failure: Min, doubled with each further one up to Max, of which the part Jitter is
// drawn at random, so that what failed together does not come back together.
type Backoff struct {
	Min, Max time.Duration
	Jitter   float64        // from 0, none, to 1, the whole of it
	Random   func() float64 // in [0, 1), for many goroutines; nil is math/rand
}

// DefaultBackoff waits from a second to five minutes, with full jitter.
func DefaultBackoff() Backoff {
	return Backoff{Min: time.Second, Max: 5 * time.Minute, Jitter: 1}
}

func (b Backoff) validate() error {
	if b.Min <= 0 || b.Max < b.Min || b.Jitter < 0 || b.Jitter > 1 {
		return errors.New("a backoff needs 0 < Min <= Max and 0 <= Jitter <= 1")
	}
	return nil
}

// delay is the wait after so many failures before this one.
func (b Backoff) delay(failures int) time.Duration {
	longest := b.Max
	if failures < 62 && b.Min <= b.Max>>failures {
		longest = b.Min << failures
	}
	return longest - time.Duration(b.Jitter*b.random()*float64(longest))
}

func (b Backoff) random() float64 {
	if b.Random != nil {
		return b.Random()
	}
	return rand.Float64() //nolint:gosec // it spreads retries; nobody gains by foretelling it
}

// loop repeats a pass in a goroutine of its own: at once while there is more to do, else when woken or after the poll
// interval, give or take half of it, and after errors with backoff.
type loop struct {
	poll    time.Duration
	backoff Backoff
	pass    func(ctx context.Context) (more bool, err error)
	woken   chan struct{}
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

func (l *loop) open(ctx context.Context) {
	ctx, l.stop = context.WithCancel(context.WithoutCancel(ctx))
	l.woken = make(chan struct{}, 1)
	l.ended.Go(func() { l.run(ctx) })
}

func (l *loop) run(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		more, err := l.pass(ctx)
		wait := l.poll/2 + time.Duration(l.backoff.random()*float64(l.poll))
		switch {
		case err != nil:
			wait = l.backoff.delay(failures)
			failures++
		case more:
			failures, wait = 0, 0
		default:
			failures = 0
		}
		select {
		case <-ctx.Done():
		case <-l.woken:
		case <-time.After(wait):
		}
	}
}

func (l *loop) wake() {
	select {
	case l.woken <- struct{}{}:
	default: // it is awake, or about to be
	}
}

func (l *loop) close() {
	l.stop()
	l.ended.Wait()
}
