// Package saga brings work that spans several transactions to its end, whatever dies on the way: a log of sagas that any
// node may go on with, steps that run or are undone once, an outbox for what others must hear and an inbox for what they
// say. It keeps its tables in its host's schema, writes them in its host's transactions and knows nothing of the work.
package saga

import (
	"errors"
	"slices"
	"time"
)

// State is where a saga stands.
type State string

// The states of a saga. The last two are final.
const (
	StateRunning      State = "running"
	StateCompensating State = "compensating" // its steps are being undone, the last one first
	StateParked       State = "parked"       // left alone until an operator resumes it
	StateDone         State = "done"
	StateFailed       State = "failed" // all that was done is undone
)

// Final tells whether nothing is left to do.
func (s State) Final() bool { return s == StateDone || s == StateFailed }

// Saga is one row of the log. Times are the database's.
type Saga struct {
	ID         string
	Kind       string
	State      State
	Step       string // the one to do, or when compensating to undo, next; empty is the first
	Attempt    int    // failures of this step so far
	NextAt     time.Time
	LeaseOwner string    // who works on it; it excludes nobody
	LeaseUntil time.Time // zero without a lease
	Deadline   time.Time // zero without one; past it, what can be undone is
	Overdue    bool      // the deadline had passed when the row was read
	Reason     string    // why the last attempt failed, or why it is parked
	Cause      string    // why it is undone
	ParkedFrom State     // what a parked saga goes back to
	Data       []byte    // the host's, at most 16 MB; a step may change it, and it is kept with the step
	CreatedAt  time.Time
	UpdatedAt  time.Time
	Age        time.Duration // since CreatedAt, when the row was read
}

// clone lets a step change its data without changing what is tried again after a failure.
func (s Saga) clone() Saga {
	s.Data = slices.Clone(s.Data)
	return s
}

var (
	// ErrNotFound says that there is no such saga, or message, in the database.
	ErrNotFound = errors.New("no such row")
	// ErrFinal refuses to resume a saga that has ended.
	ErrFinal = errors.New("the saga has ended")
	// ErrPastPivot refuses to abort a saga whose pivot has committed: it can only go forward.
	ErrPastPivot = errors.New("the saga is past its pivot")
)

// errStale says that another one went on with the saga: our transaction must leave no trace.
var errStale = errors.New("another node has gone on with the saga")

// Refused marks the error of a Call or a Do as a definite refusal: it did not happen and will not. Only such an error
// ends a saga before its deadline. A timeout, a lost answer or an error of the other side says nothing of the kind.
func Refused(err error) error { return &refusal{err} }

// IsRefused tells whether an error was marked by Refused.
func IsRefused(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

type refusal struct{ err error }

func (r *refusal) Error() string { return "refused: " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }
