package saga_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/saga"
)

// An owner sleeps through its lease in the middle of each step in turn: another goes on, and when the sleeper wakes up, it
// changes nothing.
func TestAnotherRunnerGoesOnWhenTheOwnerStops(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"do flight: before", "call hotel: after", "do pay: before", "do ticket: before", "do mail: after commit"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			asleep, wake, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
			sleeper := define(t, trip())
			sleeper.Fault = func(at string) error {
				if at == point {
					close(asleep)
					<-wake
				}
				return nil
			}
			handler := sleeper.Handler(f.log)
			f.run(sleeper.Start(saga.New{ID: "s"}))
			f.open(map[string]saga.Handler{"trip": func(_ context.Context, s saga.Saga) saga.Outcome {
				defer close(over)
				return handler(testContext(t), s) // it does not notice that its time is over
			}}, func(r *saga.Runner) { r.Owner, r.Lease, r.Poll = "sleeper", 200*time.Millisecond, time.Hour })
			<-asleep
			f.open(f.handlers("trip", define(t, trip())), func(r *saga.Runner) { r.Owner = "other" })
			f.awaitState("s", saga.StateDone)
			before := f.get("s")
			close(wake)
			<-over
			f.wantEffects("s", forwards...)
			if after := f.wantState("s", saga.StateDone); !after.UpdatedAt.Equal(before.UpdatedAt) {
				t.Errorf("the sleeper changed the saga from %+v to %+v", before, after)
			}
		})
	}
}

// A call that is answered by nobody lasts as long as its handler may. What became of it is written before the saga may be
// claimed again, or it would be taken twice at once and then put off while somebody works on it.
func TestAHandlerThatUsesAllItsTimeIsNotTakenTwice(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var turns atomic.Int32
	const sagas = 5
	for i := range sagas {
		f.run(saga.Start(saga.New{ID: fmt.Sprint(i), Kind: "k"}))
	}
	f.open(map[string]saga.Handler{"k": func(ctx context.Context, _ saga.Saga) saga.Outcome {
		turns.Add(1)
		<-ctx.Done()
		return saga.Again(time.Hour, ctx.Err())
	}}, func(r *saga.Runner) { r.Lease, r.Poll, r.Workers = 8*time.Second, time.Millisecond, 2*sagas })
	for i := range sagas {
		within(t, "it is put off", func() bool { s := f.get(fmt.Sprint(i)); return s.Attempt > 0 && s.LeaseOwner == "" })
	}
	if n := turns.Load(); n != sagas {
		t.Errorf("%d sagas were worked on %d times", sagas, n)
	}
}

func TestNoTwoClaimsGetOneSagaWhileTheLeaseHolds(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const sagas, claimers = 200, 8
	var all []saga.New
	for i := range sagas {
		all = append(all, saga.New{ID: fmt.Sprint(i), Kind: "k"})
	}
	f.run(saga.Start(all...))
	f.change("UPDATE sagas SET state = 'compensating' WHERE id < '3'")
	var mutex sync.Mutex
	owners := map[string]string{}
	var work sync.WaitGroup
	for i := range claimers {
		owner := fmt.Sprint("owner ", i)
		work.Go(func() {
			for {
				claimed, err := f.log.Claim(testContext(t), []string{"k", "other"}, owner, 7, time.Minute)
				if number(err) == 1213 { // a claim that the server has undone is repeated, as a Runner does
					continue
				}
				mutex.Lock()
				full := err != nil || len(owners) == sagas
				for _, s := range claimed {
					if before := owners[s.ID]; before != "" || s.LeaseOwner != owner {
						t.Errorf("saga %s was given to %s and to %s", s.ID, before, owner)
					}
					owners[s.ID] = owner
				}
				mutex.Unlock()
				if err != nil {
					t.Errorf("claim: %v", err)
				}
				if full {
					return
				}
			}
		})
	}
	work.Wait()
	f.change("UPDATE sagas SET lease_until = UTC_TIMESTAMP(6) WHERE id = '7'")
	if s := f.claim("k", "late"); s.ID != "7" {
		t.Errorf("claimed %s, whose lease holds", s.ID)
	}
}

func TestOneClaimLeavesTheRestToOthers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for i := range 50 {
		f.run(saga.Start(saga.New{ID: fmt.Sprint(i), Kind: "k"}))
	}
	ctx := testContext(t)
	tx, err := f.db.Begin(ctx)
	must(t, err)
	defer func() { must(t, tx.Rollback()) }()
	held := saga.NewLog(open{tx}, stuckAfter)
	first, err := held.Claim(ctx, []string{"k"}, "first", 5, time.Minute)
	must(t, err)
	second, err := f.log.Claim(ctx, []string{"k"}, "second", 50, time.Minute)
	must(t, err)
	if len(first) != 5 || len(second) != 45 {
		t.Errorf("one claim took %d and left %d", len(first), len(second))
	}
}

// open is a database whose one transaction stays open.
type open struct{ saga.Transaction }

func (o open) Begin(context.Context) (saga.Transaction, error) { return o, nil }
func (o open) Commit(context.Context) error                    { return nil }
func (o open) Rollback() error                                 { return nil }

func TestOutcomesAreWritten(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var panics atomic.Int32
	handlers := map[string]saga.Handler{
		"done": func(context.Context, saga.Saga) saga.Outcome { return saga.Done() },
		"parked": func(context.Context, saga.Saga) saga.Outcome {
			return saga.ParkedFor(strings.Repeat("ü", 600))
		},
		"settled": func(ctx context.Context, s saga.Saga) saga.Outcome {
			f.run(saga.Forget(s.ID))
			return saga.Settled()
		},
		"again": func(context.Context, saga.Saga) saga.Outcome { return saga.Again(time.Hour, errTest) },
		"panic": func(context.Context, saga.Saga) saga.Outcome {
			if panics.Add(1) < 3 {
				panic("our bug")
			}
			return saga.Done()
		},
	}
	for kind := range handlers {
		f.run(saga.Start(saga.New{ID: kind, Kind: kind}))
	}
	f.run(saga.Start(saga.New{ID: "foreign", Kind: "foreign"}))
	f.open(handlers)
	f.awaitState("done", saga.StateDone)
	f.awaitState("panic", saga.StateDone)
	f.awaitState("parked", saga.StateParked)
	within(t, "the settled saga is gone", func() bool { return f.count("SELECT COUNT(*) FROM sagas WHERE id = 'settled'") == 0 })
	within(t, "the failure is counted", func() bool { return f.get("again").Attempt == 1 })
	s := f.get("again")
	if until := s.NextAt.Sub(s.UpdatedAt); until < time.Hour || s.Reason != errTest.Error() || s.LeaseOwner != "" {
		t.Errorf("put off by %s: %+v", until, s)
	}
	if reason := f.get("parked").Reason; len([]rune(reason)) != 500 {
		t.Errorf("the reason is %q", reason)
	}
	if f.get("foreign").LeaseOwner != "" {
		t.Error("a saga of another kind was claimed")
	}
}

// A saga that is not due yet may be taken at once by the node that started it, and by others only later.
func TestADelayedSagaIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run(saga.Start(saga.New{ID: "later", Kind: "k", Delay: time.Hour}), saga.Start(saga.New{ID: "now", Kind: "k"}))
	if s := f.claim("k", "owner"); s.ID != "now" {
		t.Errorf("claimed %s", s.ID)
	}
	must(t, f.log.Resume(testContext(t), "later"))
	if s := f.claim("k", "owner"); s.ID != "later" {
		t.Errorf("claimed %s after the operator resumed `later`", s.ID)
	}
}

func TestWakeLooksAtOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := f.open(f.handlers("trip", define(t, trip())), func(r *saga.Runner) { r.Poll = time.Hour })
	f.run(saga.Start(saga.New{ID: "s", Kind: "trip"}))
	r.Wake()
	f.awaitState("s", saga.StateDone)
}

// A saga may be brought on while somebody works on it. What becomes of that turn is not to touch the next one, though both are
// the same runner's.
func TestATurnThatWasOvertakenChangesNothing(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]saga.Outcome{
		"put off": saga.Again(time.Hour, errTest), "parked": saga.ParkedFor("late"), "done": saga.Done(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			var turns atomic.Int32
			begun, release := make(chan string, 2), map[int32]chan struct{}{1: make(chan struct{}), 2: make(chan struct{})}
			f.run(saga.Start(saga.New{ID: "s", Kind: "k"}))
			f.open(map[string]saga.Handler{"k": func(_ context.Context, s saga.Saga) saga.Outcome {
				turn := turns.Add(1)
				begun <- s.LeaseOwner
				<-release[turn]
				if turn == 1 {
					return late
				}
				return saga.Done()
			}}, func(r *saga.Runner) { r.Lease, r.Workers = time.Minute, 2 })
			<-begun
			must(t, f.log.Resume(testContext(t), "s"))
			second := <-begun
			close(release[1])
			for range 20 { // nothing may come of it: there is nothing to wait for
				time.Sleep(10 * time.Millisecond)
				if s := f.get("s"); s.State != saga.StateRunning || s.LeaseOwner != second || s.Attempt != 0 {
					close(release[2])
					t.Fatalf("the first turn changed the saga of the second to %+v", s)
				}
			}
			close(release[2])
			f.awaitState("s", saga.StateDone)
		})
	}
}

// Closing is nobody's failure: the saga is due again, with its attempts as they were, also where one more would park it.
func TestCloseEndsHandlersAndGivesTheirSagasBack(t *testing.T) {
	t.Parallel()
	f := setup(t)
	started := make(chan struct{}, 2)
	f.run(saga.Start(saga.New{ID: "again", Kind: "k"}))
	f.run(saga.Start(saga.New{ID: "parked", Kind: "k"}))
	r := f.open(map[string]saga.Handler{"k": func(ctx context.Context, s saga.Saga) saga.Outcome {
		started <- struct{}{}
		<-ctx.Done()
		if s.ID == "parked" {
			return saga.ParkedFor(ctx.Err().Error())
		}
		return saga.Again(0, ctx.Err())
	}})
	<-started
	<-started
	must(t, r.Close())
	must(t, r.Close())
	for _, id := range []string{"again", "parked"} {
		if s := f.wantState(id, saga.StateRunning); s.Attempt != 0 || s.LeaseOwner != "" || s.NextAt.After(s.UpdatedAt) {
			t.Errorf("closing counted as a failure: %+v", s)
		}
	}
	must(t, (&saga.Runner{}).Close())
}

// More steps than fit under one lease are taken in several turns, none of which counts as a failure.
func TestALongSagaTakesSeveralTurns(t *testing.T) {
	t.Parallel()
	f := setup(t)
	steps := trip()
	steps[0].Call = func(ctx context.Context, _ *saga.Saga) error {
		end, _ := ctx.Deadline()
		select { // more than half of the lease
		case <-time.After(time.Until(end) * 6 / 10):
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	steps[0].Cancel = leave("cancel flight")
	d := define(t, steps)
	handler := d.Handler(f.log)
	var turns atomic.Int32
	f.run(d.Start(saga.New{ID: "s"}))
	f.open(map[string]saga.Handler{"trip": func(ctx context.Context, s saga.Saga) saga.Outcome {
		turns.Add(1)
		if s.Attempt != 0 {
			t.Errorf("a turn counted as a failure: %s", s.Reason)
		}
		return handler(ctx, s)
	}}, func(r *saga.Runner) { r.Lease = 15 * time.Second }) // 5 s are enough for the other steps, however busy the machine is
	f.awaitState("s", saga.StateDone)
	if turns.Load() != 2 {
		t.Errorf("it took %d turns, wanted 2", turns.Load())
	}
	f.wantEffects("s", forwards...)
}

func TestABadRunnerIsRefused(t *testing.T) {
	t.Parallel()
	handlers := map[string]saga.Handler{"k": func(context.Context, saga.Saga) saga.Outcome { return saga.Done() }}
	for name, change := range map[string]func(*saga.Runner){
		"no log":          func(r *saga.Runner) { r.Log = nil },
		"no handlers":     func(r *saga.Runner) { r.Handlers = nil },
		"no owner":        func(r *saga.Runner) { r.Owner = "" },
		"a long name":     func(r *saga.Runner) { r.Owner = strings.Repeat("x", 38) },
		"no lease":        func(r *saga.Runner) { r.Lease = 0 },
		"no workers":      func(r *saga.Runner) { r.Workers = 0 },
		"no backoff":      func(r *saga.Runner) { r.Backoff.Min = 0 },
		"too much jitter": func(r *saga.Runner) { r.Backoff.Jitter = 2 },
	} {
		r := saga.DefaultRunner(saga.NewLog(nil, time.Hour), handlers)
		change(r)
		if err := r.Open(testContext(t)); err == nil {
			t.Errorf("a runner with %s was opened", name)
			must(t, r.Close())
		}
	}
}
