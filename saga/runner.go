package saga

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

// Handler does what is due for a saga. It is called at least once, and by several nodes at once when one is slow; ctx ends a
// little before the lease, so that what a handler achieved that heeds it is written while nobody else may have claimed the saga.
type Handler func(ctx context.Context, s Saga) Outcome

// Outcome is what a handler has achieved.
type Outcome struct {
	verdict verdict
	delay   time.Duration
	err     error
	attempt int // failures before this one, or -1: those that the claimed row told
}

type verdict int

const (
	verdictSettled verdict = iota
	verdictDone
	verdictAgain
	verdictParked
	verdictYield
)

// Done says that the saga has ended; the runner marks it.
func Done() Outcome { return Outcome{verdict: verdictDone} }

// Settled says that the handler wrote, or deleted, the saga's row itself; the runner writes nothing.
func Settled() Outcome { return Outcome{} }

// Again asks for another attempt after the delay, or after the runner's backoff when that is zero. The error is kept as the
// reason.
func Again(delay time.Duration, err error) Outcome {
	return Outcome{verdict: verdictAgain, delay: delay, err: err, attempt: -1}
}

// ParkedFor leaves the saga to an operator, who reads the reason.
func ParkedFor(reason string) Outcome {
	return Outcome{verdict: verdictParked, err: errors.New(reason)}
}

// ownerMax leaves room for the mark of a claim in the column.
const ownerMax = 64 - 1 - 26

// settleShare is which part of a lease is left for writing the outcome.
const settleShare = 10

// settleMax bounds the writing of an outcome, which is done even when the runner is closing.
const settleMax = 5 * time.Second

// Runner goes on with the sagas of a database that are due. Any number of runners may share one. Start from DefaultRunner.
type Runner struct {
	Log      *Log
	Handlers map[string]Handler // by kind
	Owner    string             // names this runner in leases, with a mark of each claim behind; at most 37 ASCII characters
	Lease    time.Duration      // a handler gets nine tenths of it; when it has passed, any runner goes on with the saga
	Poll     time.Duration      // how often to look for sagas that are due, about
	Workers  int                // handlers at once, of a connection each
	Backoff  Backoff
	Logger   *slog.Logger
	// Fetch, if set, is called before each look, for a host that keeps sagas in a record of its own as long as nobody has to
	// look after them: it starts those that are due.
	Fetch func(ctx context.Context) error

	loop  *loop
	slots chan struct{}
	work  sync.WaitGroup
}

// DefaultRunner has a random owner, leases of 30 s, looks every second and works on 8 sagas at once.
func DefaultRunner(log *Log, handlers map[string]Handler) *Runner {
	return &Runner{
		Log: log, Handlers: handlers, Owner: rand.Text(), Lease: 30 * time.Second, Poll: time.Second, Workers: 8,
		Backoff: DefaultBackoff(), Logger: slog.New(slog.DiscardHandler),
	}
}

func (r *Runner) validate() error {
	switch {
	case r.loop != nil:
		return errors.New("it is open")
	case r.Log == nil || r.Logger == nil || len(r.Handlers) == 0:
		return errors.New("it needs a log, a logger and a handler")
	case len(r.Owner) > ownerMax:
		return fmt.Errorf("its owner's name is longer than %d characters", ownerMax)
	case r.Owner == "" || r.Lease <= 0 || r.Poll <= 0 || r.Workers <= 0:
		return errors.New("it needs an owner, and a lease, a poll interval and workers above zero")
	}
	return r.Backoff.validate()
}

// Open refuses a bad configuration and starts to work. The end of ctx does not stop it, Close does.
func (r *Runner) Open(ctx context.Context) error {
	if err := r.validate(); err != nil {
		return fmt.Errorf("open saga runner: %w", err)
	}
	r.slots = make(chan struct{}, r.Workers)
	r.loop = &loop{poll: r.Poll, backoff: r.Backoff, pass: r.pass}
	r.loop.open(ctx)
	return nil
}

// Close ends the contexts of the handlers and waits for them. It may be called twice, and without Open.
func (r *Runner) Close() error {
	if r.loop != nil {
		r.loop.close()
		r.work.Wait()
	}
	return nil
}

// Wake makes an open runner look for due sagas at once.
func (r *Runner) Wake() {
	if r.loop != nil {
		r.loop.wake()
	}
}

// pass claims as many sagas as there are free workers, and tells whether there may be more.
func (r *Runner) pass(ctx context.Context) (more bool, err error) {
	free := r.take(ctx)
	if free == 0 {
		return false, nil
	}
	sagas, until, err := r.claim(ctx, free)
	for range free - len(sagas) {
		<-r.slots
	}
	if err != nil {
		if ctx.Err() == nil {
			r.Logger.Warn("sagas could not be claimed", "error", err)
		}
		return false, err
	}
	for _, s := range sagas {
		r.work.Go(func() {
			defer func() { <-r.slots }()
			r.handle(ctx, s, until)
		})
	}
	return len(sagas) == free, nil
}

// claim leases sagas, and says until when their handlers may work.
func (r *Runner) claim(ctx context.Context, limit int) (sagas []Saga, until time.Time, err error) {
	if r.Fetch != nil {
		if err := r.Fetch(ctx); err != nil {
			return nil, until, fmt.Errorf("fetch sagas: %w", err)
		}
	}
	until = time.Now().Add(r.Lease - r.Lease/settleShare) // from before the leases
	// Each claim has a name of its own: a turn that ends late, or whose saga was brought on under it, is not to put off, park or
	// end what a later turn of this very runner works on.
	sagas, err = r.Log.Claim(ctx, slices.Collect(maps.Keys(r.Handlers)), r.Owner+"."+rand.Text(), limit, r.Lease)
	return sagas, until, err
}

// take waits for a free worker, and takes all that are free then.
func (r *Runner) take(ctx context.Context) (free int) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for free = 1; ; free++ {
		select {
		case r.slots <- struct{}{}:
		default:
			return free
		}
	}
}

func (r *Runner) handle(ctx context.Context, s Saga, until time.Time) {
	leased, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	outcome := r.call(leased, s)
	if ctx.Err() != nil && (outcome.verdict == verdictAgain || outcome.verdict == verdictParked) {
		outcome = Outcome{verdict: verdictYield} // we are closing: the attempt does not count
	}
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleMax)
	defer cancel()
	if err := r.settle(settling, s, outcome); err != nil {
		r.Logger.Warn("what became of a saga could not be written; it is due again when its lease ends",
			"saga", s.ID, "kind", s.Kind, "error", err)
	}
}

// call turns a panic into another attempt: one saga must not end the node that works on it.
func (r *Runner) call(ctx context.Context, s Saga) (outcome Outcome) {
	defer func() {
		if reason := recover(); reason != nil {
			r.Logger.Error("a saga's handler panicked", "saga", s.ID, "kind", s.Kind, "panic", reason, "stack", string(debug.Stack()))
			outcome = Again(0, fmt.Errorf("panic: %v", reason))
		}
	}()
	return r.Handlers[s.Kind](ctx, s)
}

func (r *Runner) settle(ctx context.Context, s Saga, outcome Outcome) error {
	switch outcome.verdict {
	case verdictDone:
		return r.Log.Finish(ctx, s)
	case verdictParked:
		r.Logger.Warn("a saga is parked until an operator resumes it", "saga", s.ID, "kind", s.Kind, "error", outcome.err)
		return r.Log.Park(ctx, s, outcome.err.Error())
	case verdictAgain:
		return r.again(ctx, s, outcome)
	case verdictYield:
		defer r.Wake()
		return r.Log.Release(ctx, s)
	default:
		return nil
	}
}

func (r *Runner) again(ctx context.Context, s Saga, outcome Outcome) error {
	failures, reason, delay := outcome.attempt, "", outcome.delay
	if failures < 0 {
		failures = s.Attempt
	}
	if delay <= 0 {
		delay = r.Backoff.delay(failures)
	}
	if outcome.err != nil {
		reason = outcome.err.Error()
	}
	level := slog.LevelDebug
	if s.Age > r.Log.stuckAfter {
		level = slog.LevelWarn
	}
	r.Logger.Log(ctx, level, "a saga is tried again", "saga", s.ID, "kind", s.Kind, "age", s.Age, "in", delay, "error", reason)
	return r.Log.Retry(ctx, s, delay, reason)
}
