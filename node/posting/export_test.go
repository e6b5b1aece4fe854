package posting

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/node/ledger"
)

// ExpireDue is one round of ExpireHolds.
func (e *Engine) ExpireDue(ctx context.Context) { e.expireDue(ctx) }

// Waiting is the number of tasks in the queue.
func (e *Engine) Waiting() int { return e.queue.length() }

// LeaveWhileHanded runs what a caller does at its deadline while a lane takes its task and gives it back without a pause,
// and counts the callers that had to stay.
func LeaveWhileHanded(rounds int) (stayed int) {
	var current atomic.Pointer[task]
	var handing sync.WaitGroup
	stop := make(chan struct{})
	next := func() *task {
		t := newTask(Command{Operation: ledger.Settle{}}, "alpha", time.Now())
		current.Store(t)
		return t
	}
	t := next()
	handing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				t := current.Load()
				t.state.CompareAndSwap(waiting, taken)
				t.state.CompareAndSwap(taken, waiting)
			}
		}
	})
	for range rounds {
		for t.state.Load() != taken { // the lane is at it
			runtime.Gosched()
		}
		if t.leave() == settled {
			stayed++
		}
		t = next()
	}
	close(stop)
	handing.Wait()
	return stayed
}

// Gather counts the tasks that wait when a lane that has answered some callers goes on: it has waited for them, in steps
// of that length, while tasks came after these pauses.
func Gather(answered int, step time.Duration, pauses ...time.Duration) int {
	config := DefaultConfig()
	l := &lane{Engine: &Engine{queue: newQueue(config, "alpha")}}
	var coming sync.WaitGroup
	coming.Go(func() {
		for _, pause := range pauses {
			time.Sleep(pause)
			l.queue.push(newTask(Command{Operation: ledger.Settle{}}, "alpha", time.Now()))
		}
	})
	l.gather(answered, time.Hour, step)
	waiting := l.queue.length()
	coming.Wait()
	return waiting
}
