package posting

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/traces"
	"lockstep/node/ledger"
)

// The life of a task. It leaves the queue once, by compare-and-swap: taken by a lane, or left by its caller.
const (
	waiting   int32 = iota
	left            // its caller's deadline came first: nothing was applied
	taken           // a lane works on it
	abandoned       // taken, but its caller has heard that the outcome is unknown
	settled
)

// task is a command on its way through the engine.
type task struct {
	Command
	id        string // of a command with a claim, whose row is recognised by it
	claimID   string
	accounts  []ledger.AccountID // ordinary accounts, which the Redis locks are about
	names     []string           // of the accounts' Redis locks; none if it needs none
	transfers int                // what it counts in a batch
	since     time.Time
	queued    time.Time // when it came into the queue, or returned to it
	span      traces.Span
	notBefore time.Time // given back by a lane: not to be taken earlier; guarded by the queue
	reserves  bool      // its accounts were kept for it; guarded by the queue
	busy      int       // how often an account was found busy; the lane's that has the task in hand

	state   atomic.Int32
	done    chan struct{} // closed when the fields below are final
	outcome Outcome
	err     error
	stored  bool // the outcome's answer is stored under the key
}

func newTask(command Command, system string, now time.Time) *task {
	t := &task{Command: command, since: now, queued: now, transfers: 1, done: make(chan struct{})}
	if batch, many := command.Operation.(ledger.Batch); many {
		t.transfers = max(1, len(batch.Transfers))
	}
	for _, id := range command.Operation.Accounts(system, ledger.Lane{Node: 1}) {
		if system, _ := ledger.StripeOf(id); system == 0 {
			t.accounts = append(t.accounts, id)
		}
	}
	slices.Sort(t.accounts)
	t.accounts = slices.Compact(t.accounts)
	if !foregone(command.Operation) {
		for _, id := range t.accounts {
			t.names = append(t.names, accountLock(system, id))
		}
	}
	if command.Claim != nil {
		t.id, t.claimID = uuid.NewString(), command.Claim.ID()
	}
	return t
}

// foregone tells whether an operation goes without Redis locks. They keep commands from waiting for one another's rows; but
// these steps of transfers between systems wait for the row of their exposure in any case, one batch after the other, and all but
// the first end what was held or promised before, which nothing can refuse.
func foregone(operation ledger.Operation) bool {
	switch operation.(type) {
	case ledger.Prepare, ledger.Conclude, ledger.Credit, ledger.Release:
		return true
	}
	return false
}

// accountLock names the Redis lock of an account. Numbers have one width, so byte order is canonical order.
func accountLock(system string, id ledger.AccountID) string {
	return "account:" + string(ledger.NewNumber(system, id))
}

// leave is for a caller whose deadline has come. It takes a waiting task with it, leaves one that a lane works on without
// knowing its outcome, and finds a settled one settled. It asks until one of these is so: a lane may give the task back
// between two questions, and the caller would wait on.
func (t *task) leave() int32 {
	for {
		switch {
		case t.state.CompareAndSwap(waiting, left):
			return left
		case t.state.CompareAndSwap(taken, abandoned):
			return abandoned
		case t.state.Load() == settled:
			return settled
		}
	}
}

// settle makes the task's outcome known, once.
func (t *task) settle(outcome Outcome, err error, stored bool) {
	if t.state.Swap(settled) == settled {
		panic("posting: a task was settled twice")
	}
	t.outcome, t.err, t.stored = outcome, err, stored
	close(t.done)
}

// answerFor is what a later request with the same key is told once t is settled; false when t's answer was not stored,
// so that the later request has to find out for itself.
func (t *task) answerFor(later *task) (Outcome, error, bool) {
	switch {
	case !t.stored:
		return Outcome{}, nil, false
	case t.Claim.Fingerprint != later.Claim.Fingerprint:
		return Outcome{}, errKeyReused(), true
	}
	return Outcome{Answer: t.outcome.Answer, Replayed: true, Token: t.outcome.Token, Result: t.outcome.Result}, nil, true
}

func errKeyReused() error {
	return ledger.Refuse(ledger.IdempotencyKeyReused, "this idempotency key was used for another request; please use a new key")
}
