package posting

import (
	"context"
	"time"

	"lockstep/node/ledger"
)

// ExpireDue is one round of ExpireHolds.
func (e *Engine) ExpireDue(ctx context.Context) { e.expireDue(ctx) }

// Waiting is the number of tasks in the queue.
func (e *Engine) Waiting() int { return e.queue.length() }

// LeaveWhileHanded runs what a caller does at its deadline while a lane takes its task and gives it back without a pause,
// and tells whether the caller had to stay.
func LeaveWhileHanded(rounds int) (stayed int) {
	for range rounds {
		t := newTask(Command{Operation: ledger.Settle{}}, "alpha", time.Now())
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					t.state.CompareAndSwap(waiting, taken)
					t.state.CompareAndSwap(taken, waiting)
				}
			}
		}()
		if t.leave() == settled {
			stayed++
		}
		close(stop)
		<-stopped
	}
	return stayed
}
