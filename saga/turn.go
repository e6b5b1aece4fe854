package saga

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// errFault stops a turn as if its process had died.
	errFault = errors.New("stopped by a fault")
	// errUndone keeps a step from running after its undo.
	errUndone = errors.New("the step has been undone")
	// errOverdue keeps a step up to the pivot from committing after the deadline.
	errOverdue = errors.New("the deadline has passed")
)

// Handler makes the handler that takes sagas of this kind through their steps.
func (d *Definition) Handler(log *Log) Handler {
	return func(ctx context.Context, s Saga) Outcome {
		return (&turn{Definition: d, log: log, saga: s}).run(ctx)
	}
}

// turn is what one handler does for one saga under one lease.
type turn struct {
	*Definition
	log  *Log
	saga Saga
}

// run takes steps until the saga ends, a step fails or half of the lease is used up: a step that is begun gets the time it
// needs, and between two steps others may go on.
func (t *turn) run(ctx context.Context) Outcome {
	began := time.Now()
	for !t.saga.State.Final() {
		err := t.step(ctx)
		switch {
		case errors.Is(err, errFault):
			return Settled()
		case errors.Is(err, errStale):
			return Outcome{verdict: verdictYield}
		case err != nil:
			return t.failed(err)
		}
		if end, limited := ctx.Deadline(); limited && time.Since(began) > time.Until(end) && !t.saga.State.Final() {
			return Outcome{verdict: verdictYield}
		}
	}
	return Settled()
}

// failed says what follows a failed attempt. As long as the deadline will turn the saga back, it is tried again; else it is
// shown to an operator in the end.
func (t *turn) failed(err error) Outcome {
	i, known := t.position(t.saga.Step)
	ends := known && t.saga.State == StateRunning && t.mayTurnAt(i) && !t.saga.Deadline.IsZero()
	if !ends && t.saga.Attempt+1 >= t.AttemptsMax {
		return ParkedFor(err.Error())
	}
	return Outcome{verdict: verdictAgain, err: err, attempt: t.saga.Attempt}
}

// step takes the saga one step on or back, or turns it back.
func (t *turn) step(ctx context.Context) error {
	i, known := t.position(t.saga.Step)
	switch {
	case !known:
		return fmt.Errorf("saga %s has no step %q in this program", t.kind, t.saga.Step)
	case t.saga.State == StateCompensating:
		return t.undo(ctx, i)
	case i > t.pivot:
		return t.do(ctx, i)
	case t.saga.Overdue && t.mayTurnAt(i):
		return t.turnBack(ctx, i, errOverdue)
	}
	err := t.do(ctx, i)
	if IsRefused(err) || errors.Is(err, errOverdue) {
		return t.turnBack(ctx, i, err)
	}
	return err
}

func (t *turn) do(ctx context.Context, i int) error {
	step, next := t.steps[i], t.saga.clone()
	if step.Call != nil {
		if err := t.call(ctx, step, &next); err != nil {
			if IsRefused(err) {
				t.saga.Data = next.Data // what was learned of why
			}
			return err
		}
	}
	err := t.commit(ctx, "do "+step.Name, func(tx Tx) (Saga, error) {
		entry, err := Enter(ctx, tx, t.saga.ID, step.Name, Do)
		switch {
		case err != nil:
			return next, err
		case entry == Closed: // by another turn, which the row will tell, or by an earlier saga of this id
			return next, Refused(errUndone)
		case entry == First && step.Do != nil:
			if err := step.Do(ctx, tx, &next); err != nil {
				return next, fmt.Errorf("step %s: %w", step.Name, err)
			}
		}
		return t.forward(i, next.Data), nil
	})
	if t.decidedElsewhere(i) && IsRefused(err) {
		return fmt.Errorf("step %s: what its call has decided cannot be refused any more: %v", step.Name, err) //nolint:errorlint // it must not count as a refusal
	}
	return err
}

func (t *turn) call(ctx context.Context, step Step, next *Saga) error {
	if err := t.fault("call " + step.Name + ": before"); err != nil {
		return err
	}
	if err := step.Call(ctx, next); err != nil {
		return fmt.Errorf("call of step %s: %w", step.Name, err)
	}
	return t.fault("call " + step.Name + ": after")
}

// forward is the saga after step i was done. All but the data is the library's to change.
func (t *turn) forward(i int, data []byte) Saga {
	s := t.saga
	s.Data, s.Attempt = data, 0
	if i+1 == len(t.steps) {
		s.State = StateDone
		return s
	}
	s.Step = t.steps[i+1].Name
	return s
}

func (t *turn) undo(ctx context.Context, i int) error {
	step, next := t.steps[i], t.saga.clone()
	return t.commit(ctx, "undo "+step.Name, func(tx Tx) (Saga, error) {
		entry, err := Enter(ctx, tx, t.saga.ID, step.Name, Undo)
		if err != nil {
			return next, err
		}
		if entry == First && step.Undo != nil {
			if err := step.Undo(ctx, tx, &next); err != nil {
				return next, fmt.Errorf("undo of step %s: %w", step.Name, err)
			}
		}
		if entry != Repeated && step.Cancel != nil {
			if err := step.Cancel(ctx, tx, &next); err != nil {
				return next, fmt.Errorf("cancel of step %s: %w", step.Name, err)
			}
		}
		return t.back(i, next.Data), nil
	})
}

// back is the saga after step i was undone.
func (t *turn) back(i int, data []byte) Saga {
	s := t.saga
	s.Data, s.Attempt = data, 0
	if i == 0 {
		s.State = StateFailed
		return s
	}
	s.Step = t.steps[i-1].Name
	return s
}

func (t *turn) turnBack(ctx context.Context, i int, cause error) error {
	return t.commit(ctx, "turn back", func(Tx) (Saga, error) { return t.turned(t.saga, i, cause.Error()), nil })
}

// commit runs work and the progress that it answers with in one transaction.
func (t *turn) commit(ctx context.Context, point string, work func(tx Tx) (Saga, error)) error {
	if err := t.fault(point + ": before"); err != nil {
		return err
	}
	var next Saga
	err := within(ctx, t.log.db, func(tx Tx) (err error) {
		if next, err = work(tx); err != nil {
			return err
		}
		overdue, err := move(ctx, tx, t.saga, next)
		switch {
		case err != nil:
			return err
		case overdue && t.mayTurn() && next.State != StateCompensating:
			return errOverdue
		}
		return t.fault(point + ": before commit")
	})
	if err != nil {
		return err
	}
	t.saga = next
	return t.fault(point + ": after commit")
}

// mayTurn tells whether the saga is on its way to the pivot.
func (t *turn) mayTurn() bool {
	i, _ := t.position(t.saga.Step)
	return t.saga.State == StateRunning && t.mayTurnAt(i)
}

func (t *turn) fault(point string) error {
	if t.Fault == nil {
		return nil
	}
	if err := t.Fault(point); err != nil {
		return fmt.Errorf("%w: %s: %w", errFault, point, err)
	}
	return nil
}
