package saga_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/saga"
)

// away is a trip whose payment is decided by somebody else.
func away(pay func(s *saga.Saga) error) []saga.Step {
	steps := trip()
	steps[2].Call = func(_ context.Context, s *saga.Saga) error { return pay(s) }
	return steps
}

// Nobody knows whether an unanswered payment was made: neither the deadline nor an operator may take it for a failure.
func TestOnlyAnAnswerEndsAPivotThatLiesElsewhere(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var answered atomic.Bool
	d := define(t, away(func(*saga.Saga) error {
		if !answered.Load() {
			return errTest
		}
		return nil
	}))
	f.run(d.Start(saga.New{ID: "s", Within: time.Hour}))
	f.open(f.handlers("trip", d))
	within(t, "the payment is asked about", func() bool { s := f.get("s"); return s.Step == "pay" && s.Attempt > 0 })
	f.change("UPDATE sagas SET deadline = UTC_TIMESTAMP(6) WHERE id = 's'")
	if err := d.Abort(testContext(t), f.log, "s", "impatience"); !errors.Is(err, saga.ErrPastPivot) {
		t.Errorf("to abort an unanswered payment is answered with %v", err)
	}
	asked := f.get("s").Attempt
	within(t, "it is asked about after the deadline", func() bool { return f.get("s").Attempt > asked+1 })
	answered.Store(true)
	f.awaitState("s", saga.StateDone)
	f.wantEffects("s", forwards...)
}

func TestAPivotThatIsNeverAnsweredIsParkedWhereItStands(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := define(t, away(func(*saga.Saga) error { return errTest }))
	d.AttemptsMax = 3
	f.run(d.Start(saga.New{ID: "s", Within: time.Hour}))
	f.open(f.handlers("trip", d))
	f.awaitState("s", saga.StateParked)
	if s := f.get("s"); s.Step != "pay" || s.ParkedFrom != saga.StateRunning {
		t.Errorf("it is parked at %q, from %s", s.Step, s.ParkedFrom)
	}
	f.wantEffects("s", "flight", "hotel")
}

func TestARefusalElsewhereUndoesTheStepsBeforeAndTellsWhy(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := define(t, away(func(s *saga.Saga) error {
		s.Data = append(s.Data, " no money"...)
		return saga.Refused(errTest)
	}))
	f.run(d.Start(saga.New{ID: "s", Data: []byte("data")}))
	f.open(f.handlers("trip", d))
	f.awaitState("s", saga.StateFailed)
	f.wantEffects("s", undone...)
	if s := f.get("s"); string(s.Data) != "data called no money" || !strings.Contains(s.Cause, errTest.Error()) {
		t.Errorf("the data are %q, the cause is %q", s.Data, s.Cause)
	}
}

// What was paid elsewhere is paid: the step's own transaction has no say in it.
func TestTheTransactionOfAPivotElsewhereCannotRefuse(t *testing.T) {
	t.Parallel()
	f := setup(t)
	steps := away(func(*saga.Saga) error { return nil })
	var broken atomic.Bool
	broken.Store(true)
	pay := steps[2].Do
	steps[2].Do = func(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
		if broken.Load() {
			return saga.Refused(errTest)
		}
		return pay(ctx, tx, s)
	}
	d := define(t, steps)
	d.AttemptsMax = 1000
	f.run(d.Start(saga.New{ID: "s", Within: time.Hour}))
	f.open(f.handlers("trip", d))
	within(t, "it is tried again", func() bool { return f.get("s").Attempt > 1 })
	broken.Store(false)
	f.awaitState("s", saga.StateDone)
	f.wantEffects("s", forwards...)
}
