package saga

import (
	"context"
	"errors"
	"fmt"
)

// StepKind says in which directions a step can go.
type StepKind int

// The kinds of steps, in the order in which a saga has them.
const (
	Compensatable StepKind = iota // can be undone
	Pivot                         // its commit decides: before it everything can be undone, after it nothing
	Retriable                     // succeeds in the end, however often it is tried
)

// Step is one local transaction and its inverse. Each may be tried many times, and has its effect once.
type Step struct {
	Name string // at most 64 ASCII characters, unique in its saga; it is stored, so a release must not rename it
	Kind StepKind

	// Call is for work that no transaction may wait for, such as a request to another service. It runs before Do, at least
	// once, outside of any transaction. What it learns it keeps in the saga's data.
	Call func(ctx context.Context, s *Saga) error
	// Cancel takes back what Call may have done, in one local transaction: it announces that, say. It runs once, whether or
	// not Call ran or arrived, since nobody knows. Every Call before the pivot needs one. The pivot's own may have none: then
	// the pivot lies where Call goes, such as a payment. Its answer decides, or Refused; as long as there is neither, neither
	// deadline nor Abort turns the saga back, and Do must succeed in the end.
	Cancel func(ctx context.Context, tx Tx, s *Saga) error

	// Do is the step's own transaction, which also holds its barrier and the saga's progress.
	Do func(ctx context.Context, tx Tx, s *Saga) error
	// Undo is its inverse. It runs only if Do has committed, and may not be refused.
	Undo func(ctx context.Context, tx Tx, s *Saga) error
}

// attemptsDefault are the attempts of a step that nothing but success ends. With DefaultBackoff they take about an hour.
const attemptsDefault = 20

// Definition is a kind of saga: its steps in order.
type Definition struct {
	// AttemptsMax is after how many failures of one step the saga is parked, when no deadline will end its trying: after the
	// pivot, while compensating, or without a deadline. Define sets it to 20.
	AttemptsMax int
	// Fault, for tests, is called between every two actions and around each commit. Its error stops the turn there, as the
	// death of the process would: nothing more is written.
	Fault func(point string) error

	kind  string
	steps []Step
	pivot int // the last step that may turn back; -1 when none may
}

// Define checks the order of the steps: compensatable ones, one pivot, retriable ones. The pivot may be left out when
// nothing follows it, which makes the last commit the pivot, or when all steps are retriable, which makes it the start.
func Define(kind string, steps ...Step) (*Definition, error) {
	d := &Definition{AttemptsMax: attemptsDefault, kind: kind, steps: steps, pivot: -1}
	if kind == "" || len(steps) == 0 {
		return nil, errors.New("define saga: it needs a kind and at least one step")
	}
	names := map[string]bool{}
	for i, step := range steps {
		if names[step.Name] {
			return nil, fmt.Errorf("define saga %s: two steps are called %q", kind, step.Name)
		}
		names[step.Name] = true
		if err := step.validate(); err != nil {
			return nil, fmt.Errorf("define saga %s: step %q: %w", kind, step.Name, err)
		}
		if err := d.follows(i); err != nil {
			return nil, fmt.Errorf("define saga %s: step %q: %w", kind, step.Name, err)
		}
		if step.Kind != Retriable {
			d.pivot = i
		}
	}
	return d, nil
}

// follows refuses a step that may not come after the one before it.
func (d *Definition) follows(i int) error {
	if i == 0 {
		return nil
	}
	before, kind := d.steps[i-1].Kind, d.steps[i].Kind
	switch {
	case kind == Compensatable && before != Compensatable:
		return errors.New("it can be undone, but comes after the pivot")
	case kind == Pivot && before == Pivot:
		return errors.New("it is a second pivot")
	case kind == Pivot && before == Retriable:
		return errors.New("it is the pivot, but comes after a retriable step")
	case kind == Retriable && before == Compensatable:
		return errors.New("it is retriable, but comes before any pivot")
	}
	return nil
}

func (s Step) validate() error {
	switch {
	case s.Name == "":
		return errors.New("it has no name")
	case s.Do == nil && s.Call == nil:
		return errors.New("it does nothing")
	case s.Kind < Compensatable || s.Kind > Retriable:
		return errors.New("it is of no known kind")
	case s.Kind == Compensatable && s.Do != nil && s.Undo == nil:
		return errors.New("it is compensatable, but has no Undo")
	case s.Kind != Compensatable && s.Undo != nil:
		return errors.New("it has an Undo that could never run")
	case s.Kind == Compensatable && s.Call != nil && s.Cancel == nil:
		return errors.New("its Call may have arrived when the saga turns back, but it has no Cancel")
	case s.Cancel != nil && (s.Call == nil || s.Kind == Retriable):
		return errors.New("it has a Cancel that could never run")
	}
	return nil
}

// Start is the statement that starts a saga of this kind.
func (d *Definition) Start(s New) Statement {
	s.Kind = d.kind
	return Start(s)
}

// Abort turns a saga back for an operator, also a parked one. It fails with ErrNotFound, and with ErrPastPivot when it can
// only go forward; a saga that is being undone, or has been, stays as it is.
func (d *Definition) Abort(ctx context.Context, log *Log, id, cause string) error {
	err := within(ctx, log.db, func(tx Tx) error {
		s, err := lock(ctx, tx, id)
		if err != nil {
			return err
		}
		if s.State == StateParked {
			s.State = s.ParkedFrom
		}
		i, known := d.position(s.Step)
		switch {
		case s.Kind != d.kind || !known:
			return fmt.Errorf("it is of kind %s at step %q, which this program does not know", s.Kind, s.Step)
		case s.State == StateCompensating || s.State == StateFailed:
			return nil
		case s.State == StateDone || !d.mayTurnAt(i):
			return ErrPastPivot
		}
		return write(ctx, tx, d.turned(s, i, cause), true)
	})
	if err != nil {
		return fmt.Errorf("abort saga %s: %w", id, err)
	}
	return nil
}

// turned is the saga on its way back, beginning with the step that it is at: whether that ran, its barrier will tell.
func (d *Definition) turned(s Saga, i int, cause string) Saga {
	s.State, s.Step, s.Cause, s.Attempt = StateCompensating, d.steps[i].Name, cause, 0
	return s
}

// mayTurnAt tells whether a deadline or an operator may turn back a saga that is at step i.
func (d *Definition) mayTurnAt(i int) bool { return i <= d.pivot && !d.decidedElsewhere(i) }

// decidedElsewhere tells whether step i is a pivot that only the answer to its Call decides.
func (d *Definition) decidedElsewhere(i int) bool {
	step := d.steps[i]
	return step.Kind == Pivot && step.Call != nil && step.Cancel == nil
}

// position is the place of a stored step's name; another release may have steps that this one does not know.
func (d *Definition) position(step string) (int, bool) {
	if step == "" {
		return 0, true
	}
	for i := range d.steps {
		if d.steps[i].Name == step {
			return i, true
		}
	}
	return 0, false
}
