package posting

import (
	"slices"
	"sync"
	"time"

	"lockstep/node/ledger"
)

// queue holds the tasks that wait for a lane, in order of arrival.
type queue struct {
	system string // whose accounts they are

	tasksMax, batchTransfersMax, batchAccountsMax int

	mu      sync.Mutex
	tasks   []*task
	inHand  map[ledger.AccountID]bool      // accounts that a lane of this node works on
	resting map[ledger.AccountID]time.Time // accounts that were busy on another node: not to be tried before
	closed  bool

	freed        map[string]bool // locks that were given back since a lane asked for some
	patientUntil time.Time       // no batch of a small part of what waits before

	onReserve func()        // told of each command whose accounts are kept for it
	changed   chan struct{} // closed and replaced at each change
}

func newQueue(config Config, system string) *queue {
	return &queue{
		system:   system,
		tasksMax: config.QueueMax, batchTransfersMax: config.BatchTransfersMax, batchAccountsMax: config.BatchAccountsMax,
		inHand: map[ledger.AccountID]bool{}, resting: map[ledger.AccountID]time.Time{}, changed: make(chan struct{}),
		freed: map[string]bool{}, onReserve: func() {},
	}
}

// push adds a task; false when the queue is full or closed.
func (q *queue) push(t *task) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(q.tasks) >= q.tasksMax {
		return false
	}
	q.tasks = append(q.tasks, t)
	q.wake()
	return true
}

// giveBack returns taken tasks to the head of the queue, to be taken again after the delay. Those that come for an account
// that is busy elsewhere wait with them, so that all of them make one batch and not many small ones. The tasks whose
// callers have left meanwhile are returned: they are the lane's to settle.
func (q *queue) giveBack(tasks []*task, delay time.Duration, elsewhere []ledger.AccountID) (dropped []*task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	back := make([]*task, 0, len(tasks)+len(q.tasks))
	now := time.Now()
	notBefore := now.Add(delay)
	for _, id := range elsewhere {
		if !q.freed[accountLock(q.system, id)] {
			q.resting[id] = notBefore
		}
	}
	for _, t := range tasks {
		if t.notBefore, t.queued = notBefore, now; slices.ContainsFunc(elsewhere, t.has) {
			t.notBefore = now // the account's rest is its own, which may end sooner
		}
		if t.state.CompareAndSwap(taken, waiting) {
			back = append(back, t)
		} else {
			dropped = append(dropped, t)
		}
	}
	q.tasks = append(back, q.tasks...)
	q.wake()
	return dropped
}

// rest keeps accounts from being tried for a while.
func (q *queue) rest(accounts []ledger.AccountID, length time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range accounts {
		q.resting[id] = time.Now().Add(length)
	}
}

// asks begins to remember which locks are given back: a lane that is told that one of them is busy may hear it too late.
func (q *queue) asks() {
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.freed)
}

// free ends the rest of accounts, by the names of their locks: another node has given them back.
func (q *queue) free(names []string) {
	names = slices.Sorted(slices.Values(names))
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, name := range names {
		q.freed[name] = true
	}
	woken := false
	for id := range q.resting {
		if _, freed := slices.BinarySearch(names, accountLock(q.system, id)); freed {
			delete(q.resting, id)
			woken = true
		}
	}
	if woken {
		q.wake()
	}
}

// take waits for tasks and takes all that one batch holds; nil when the queue is closed and empty.
func (q *queue) take() []*task {
	for {
		q.mu.Lock()
		batch, next := q.pick(time.Now())
		finished, changed := q.closed && len(q.tasks) == 0, q.changed
		q.mu.Unlock()
		if len(batch) > 0 || finished {
			return batch
		}
		waitFor(changed, next)
	}
}

// await waits until tasks wait, or the queue is closed.
func (q *queue) await() {
	for {
		q.mu.Lock()
		ready, changed := q.closed || len(q.tasks) > 0, q.changed
		q.mu.Unlock()
		if ready {
			return
		}
		<-changed
	}
}

// grows waits until more than that many tasks wait, for a time at most, and tells how many do.
func (q *queue) grows(than int, atMost time.Duration) int {
	for end := time.Now().Add(atMost); ; {
		q.mu.Lock()
		waiting, changed := len(q.tasks), q.changed
		q.mu.Unlock()
		if waiting > than || !time.Now().Before(end) {
			return waiting
		}
		waitFor(changed, end)
	}
}

// waitFor waits for a change, or until the next task that was given back may be taken.
func waitFor(changed <-chan struct{}, next time.Time) {
	if next.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

// release lets other lanes work on the accounts of a batch again.
func (q *queue) release(batch []*task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range batch {
		for _, id := range t.accounts {
			delete(q.inHand, id)
		}
	}
	q.wake()
}

// empty takes all that waits out of the queue, for a lane to settle.
func (q *queue) empty() (all []*task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range q.tasks {
		if t.state.CompareAndSwap(waiting, taken) {
			all = append(all, t)
		}
	}
	q.tasks = nil
	return all
}

// close refuses new tasks; lanes end once the rest is done.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.wake()
}

func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.tasks)
}

func (q *queue) wake() {
	close(q.changed)
	q.changed = make(chan struct{})
}
