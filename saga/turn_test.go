package saga_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/saga"
)

var (
	forwards = []string{"flight", "hotel", "pay", "ticket", "mail"}
	undone   = []string{"flight", "hotel", "-hotel", "cancel hotel", "-flight"}
)

func TestASagaRunsItsStepsInOrder(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := define(t, trip())
	f.run(d.Start(saga.New{ID: "s", Data: []byte("data")}))
	f.open(f.handlers("trip", d))
	f.awaitState("s", saga.StateDone)
	f.wantEffects("s", forwards...)
	if s := f.get("s"); string(s.Data) != "data called" || s.LeaseOwner != "" || !s.LeaseUntil.IsZero() {
		t.Errorf("the saga ended as %+v", s)
	}
}

// Each step in turn is the one that refuses.
func TestARefusalUndoesWhatWasDoneInReverse(t *testing.T) {
	t.Parallel()
	for i, wanted := range [][]string{
		nil,
		{"flight", "cancel hotel", "-flight"}, // the call may have arrived, whatever its own transaction said
		undone,
	} {
		t.Run(trip()[i].Name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			steps := trip()
			steps[i].Do = func(_ context.Context, _ saga.Tx, s *saga.Saga) error {
				s.Data[0] = 'D' // goes with the step
				return fmt.Errorf("wrapped: %w", saga.Refused(errTest))
			}
			d := define(t, steps)
			f.run(d.Start(saga.New{ID: "s", Data: []byte("data")}))
			f.open(f.handlers("trip", d))
			f.awaitState("s", saga.StateFailed)
			f.wantEffects("s", wanted...)
			if s := f.get("s"); !strings.Contains(s.Cause, errTest.Error()) || s.Data[0] != 'd' {
				t.Errorf("the cause is %q, the data %q", s.Cause, s.Data)
			}
		})
	}
}

// A call that failed may have arrived: it is asked again, with the data as it was before.
func TestAnUnknownOutcomeIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var calls, dos atomic.Int32
	steps := trip()
	call, do := steps[1].Call, steps[1].Do
	steps[1].Call = func(ctx context.Context, s *saga.Saga) error {
		if err := call(ctx, s); err != nil || calls.Add(1) > 3 {
			return err
		}
		return errTest
	}
	steps[1].Do = func(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
		if err := do(ctx, tx, s); err != nil || dos.Add(1) > 3 {
			return err
		}
		return errTest
	}
	d := define(t, steps)
	d.AttemptsMax = 100
	f.run(d.Start(saga.New{ID: "s", Data: []byte("data")}))
	f.open(f.handlers("trip", d))
	f.awaitState("s", saga.StateDone)
	f.wantEffects("s", forwards...)
	if s := f.get("s"); string(s.Data) != "data called" || s.Attempt != 0 {
		t.Errorf("failed attempts left their marks: %+v", s)
	}
}

func TestBeforeThePivotTheDeadlineEndsTheTrying(t *testing.T) {
	t.Parallel()
	f := setup(t)
	steps := trip()
	steps[2].Do = fail(errTest)
	d := define(t, steps)
	d.AttemptsMax = 1 // the deadline ends it, not the attempts
	f.run(d.Start(saga.New{ID: "s", Within: 6 * time.Second}))
	f.open(f.handlers("trip", d))
	f.awaitState("s", saga.StateFailed)
	f.wantEffects("s", undone...)
}

// A node that slept through the deadline must not take the step that nobody expects any more.
func TestNoStepUpToThePivotCommitsAfterTheDeadline(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := define(t, trip())
	d.Fault = func(point string) error {
		if point == "do pay: before" {
			f.change("UPDATE sagas SET deadline = UTC_TIMESTAMP(6) WHERE id = 's'")
		}
		return nil
	}
	f.run(d.Start(saga.New{ID: "s", Within: time.Hour}))
	f.open(f.handlers("trip", d))
	f.awaitState("s", saga.StateFailed)
	f.wantEffects("s", undone...)
}

func TestAfterThePivotNothingTurnsBack(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var broken atomic.Bool
	broken.Store(true)
	steps := trip()
	ticket := steps[3].Do
	steps[3].Do = func(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
		if broken.Load() {
			return saga.Refused(errTest)
		}
		return ticket(ctx, tx, s)
	}
	d := define(t, steps)
	d.AttemptsMax = 3
	f.run(d.Start(saga.New{ID: "s", Within: time.Hour}))
	f.open(f.handlers("trip", d))
	f.awaitState("s", saga.StateParked)
	f.change("UPDATE sagas SET deadline = UTC_TIMESTAMP(6) WHERE id = 's'")
	if s := f.get("s"); s.Step != "ticket" || !strings.Contains(s.Reason, errTest.Error()) {
		t.Errorf("the saga is parked as %+v", s)
	}
	if err := d.Abort(testContext(t), f.log, "s", "by hand"); !errors.Is(err, saga.ErrPastPivot) {
		t.Errorf("aborted after the pivot: %v", err)
	}
	broken.Store(false)
	must(t, f.log.Resume(testContext(t), "s"))
	f.awaitState("s", saga.StateDone)
	f.wantEffects("s", forwards...)
}

func TestAnUndoThatFailsIsParkedAndGoesOnAsAnUndo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var broken atomic.Bool
	broken.Store(true)
	steps := trip()
	steps[2].Do = fail(saga.Refused(errTest))
	steps[0].Undo = func(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
		if broken.Load() {
			return errTest
		}
		return leave("-flight")(ctx, tx, s)
	}
	d := define(t, steps)
	d.AttemptsMax = 2
	f.run(d.Start(saga.New{ID: "s", Within: time.Hour}))
	f.open(f.handlers("trip", d))
	f.awaitState("s", saga.StateParked)
	broken.Store(false)
	must(t, f.log.Resume(testContext(t), "s"))
	f.awaitState("s", saga.StateFailed)
	f.wantEffects("s", undone...)
}

// An operator's abort beats a step that is under way: the step finds the row changed and leaves nothing.
func TestAnAbortWinsOverAStepThatHasNotCommitted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d, other := define(t, trip()), define(t, trip())
	d.Fault = func(at string) error {
		if at == "do pay: before" {
			return other.Abort(testContext(t), f.log, "s", "by hand")
		}
		return nil
	}
	f.run(d.Start(saga.New{ID: "s"}))
	d.Handler(f.log)(testContext(t), f.get("s"))
	if s := f.wantState("s", saga.StateCompensating); s.Cause != "by hand" || s.Step != "pay" {
		t.Errorf("aborted as %+v", s)
	}
	f.wantEffects("s", "flight", "hotel")
	other.Handler(f.log)(testContext(t), f.get("s"))
	f.wantState("s", saga.StateFailed)
	f.wantEffects("s", undone...)
	must(t, other.Abort(testContext(t), f.log, "s", "again"))
	if err := other.Abort(testContext(t), f.log, "none", "no"); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("aborted what is not there: %v", err)
	}
}

// A process dies at every point there is, on the way forward and on the way back, and another goes on.
func TestACrashAtAnyPointLeavesEachStepDoneOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	back := trip()
	back[2].Do = fail(saga.Refused(errTest))
	for name, way := range map[string]struct {
		steps   []saga.Step
		state   saga.State
		effects []string
	}{
		"forward": {trip(), saga.StateDone, forwards},
		"back":    {back, saga.StateFailed, undone},
	} {
		points := f.points(way.steps)
		if len(points) < 15 {
			t.Fatalf("only the points %q were passed", points)
		}
		for i, point := range points {
			id := fmt.Sprintf("%s-%d", name, i)
			d := define(t, way.steps)
			d.Fault = func(at string) error {
				if at == point {
					return errTest
				}
				return nil
			}
			f.run(d.Start(saga.New{ID: id}))
			d.Handler(f.log)(testContext(t), f.claim("trip", "first"))
			if s := f.get(id); s.LeaseOwner != "first" && !s.State.Final() {
				t.Errorf("%s: the dead owner wrote something: %+v", point, s)
			}
			d.Fault = nil
			d.Handler(f.log)(testContext(t), f.get(id))
			f.wantState(id, way.state)
			f.wantEffects(id, way.effects...)
		}
	}
}

// points lists the fault points that a saga passes.
func (f *fixture) points(steps []saga.Step) (points []string) {
	f.Helper()
	d := define(f, steps)
	d.Fault = func(at string) error {
		points = append(points, at)
		return nil
	}
	f.run(d.Start(saga.New{ID: "points"}), saga.Finish("other"))
	d.Handler(f.log)(testContext(f), f.get("points"))
	f.run(saga.Forget("points"))
	f.change("DELETE FROM barriers")
	return points
}

// A handler that slept comes back with what it knew when each step was due, and finds each done or undone.
func TestALateHandlerChangesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	back := trip()
	back[2].Do = fail(saga.Refused(errTest))
	for name, way := range map[string]struct {
		steps   []saga.Step
		effects []string
	}{"forward": {trip(), forwards}, "back": {back, undone}} {
		d := define(t, way.steps)
		var known []saga.Saga
		d.Fault = func(point string) error {
			if strings.HasSuffix(point, ": before") {
				known = append(known, f.get(name))
			}
			return nil
		}
		f.run(d.Start(saga.New{ID: name}))
		d.Handler(f.log)(testContext(t), f.get(name))
		d.Fault = nil
		before := f.get(name)
		for _, s := range known {
			late := define(t, trip()) // does what it comes to, if it is let
			late.Handler(f.log)(testContext(t), s)
			if after := f.get(name); after.State != before.State || !after.UpdatedAt.Equal(before.UpdatedAt) {
				t.Errorf("%s: a late %s at %s changed the saga to %+v", name, s.State, s.Step, after)
			}
		}
		f.wantEffects(name, way.effects...)
	}
}

// A saga whose row is gone is over, whatever a late node believes.
func TestAStepOfAForgottenSagaLeavesNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := define(t, trip())
	f.run(d.Start(saga.New{ID: "s"}))
	s := f.get("s")
	f.run(saga.Forget("s", "other"))
	d.Handler(f.log)(testContext(t), s)
	f.wantEffects("s")
	if _, err := f.log.Get(testContext(t), "s"); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("a forgotten saga is read as %v", err)
	}
}

// Barriers outlive a forgotten saga: one that is started again under its id has no second effect, whichever way it ended.
func TestAForgottenSagaThatIsStartedAgainHasNoSecondEffect(t *testing.T) {
	t.Parallel()
	f := setup(t)
	back := trip()
	back[2].Do = fail(saga.Refused(errTest))
	for _, way := range []struct {
		steps   []saga.Step
		state   saga.State
		effects []string
	}{{trip(), saga.StateDone, forwards}, {back, saga.StateFailed, undone}} {
		id := string(way.state)
		first, again := define(t, way.steps), define(t, trip())
		f.run(first.Start(saga.New{ID: id}))
		first.Handler(f.log)(testContext(t), f.get(id))
		f.run(saga.Forget(id), again.Start(saga.New{ID: id}))
		again.Handler(f.log)(testContext(t), f.get(id))
		f.wantState(id, way.state)
		f.wantEffects(id, way.effects...)
	}
}

// A step of another release is not skipped; it waits for the release that knows it.
func TestAnUnknownStepIsNotPassedOver(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := define(t, trip())
	d.AttemptsMax = 2
	f.run(d.Start(saga.New{ID: "s"}))
	f.change("UPDATE sagas SET step = 'visa' WHERE id = 's'")
	f.open(f.handlers("trip", d))
	f.awaitState("s", saga.StateParked)
	f.wantEffects("s")
	if s := f.get("s"); !strings.Contains(s.Reason, "visa") {
		t.Errorf("the reason is %q", s.Reason)
	}
}
