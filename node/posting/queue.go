package posting

import (
	"maps"
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

	onReserve func()        // told of each command whose accounts are kept for it
	changed   chan struct{} // closed and replaced at each change
}

func newQueue(config Config, system string) *queue {
	return &queue{
		system:   system,
		tasksMax: config.QueueMax, batchTransfersMax: config.BatchTransfersMax, batchAccountsMax: config.BatchAccountsMax,
		inHand: map[ledger.AccountID]bool{}, resting: map[ledger.AccountID]time.Time{}, changed: make(chan struct{}),
		onReserve: func() {},
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
		q.resting[id] = notBefore
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

// free ends the rest of accounts, by the names of their locks: another node has given them back.
func (q *queue) free(names []string) {
	names = slices.Sorted(slices.Values(names))
	q.mu.Lock()
	defer q.mu.Unlock()
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

// A command that needs two busy accounts at once would wait for ever while each of them serves others. So once it has been
// passed over for reserveAfter, this node takes its accounts for nobody who came later. The end is for accounts that
// nobody gets, for they are kept elsewhere: they may not stop the others for longer.
const (
	reserveAfter = 20 * time.Millisecond
	reserveUntil = 500 * time.Millisecond
)

// pick takes what fits into a batch and says when the next task that was given back may be taken.
func (q *queue) pick(now time.Time) (batch []*task, next time.Time) {
	maps.DeleteFunc(q.resting, func(_ ledger.AccountID, until time.Time) bool { return !until.After(now) })
	kept := q.tasks[:0]
	accounts, reserved, transfers := map[ledger.AccountID]bool{}, map[ledger.AccountID]bool{}, 0
	for _, t := range q.tasks {
		due := q.due(t)
		switch {
		case t.state.Load() != waiting:
			continue
		case due.After(now), q.elsewhere(t):
			if due.After(now) {
				next = sooner(next, due)
			}
			if q.reserve(t, now, reserved) {
				next = sooner(next, t.since.Add(reserveUntil))
			}
		case !t.any(reserved) && q.fits(t, transfers, accounts) && t.state.CompareAndSwap(waiting, taken):
			for _, id := range t.accounts {
				accounts[id] = true
			}
			transfers += t.transfers
			batch = append(batch, t)
			continue
		}
		kept = append(kept, t)
	}
	clear(q.tasks[len(kept):])
	q.tasks = kept
	for id := range accounts {
		q.inHand[id] = true
	}
	return batch, next
}

// sooner is the earlier time; the zero time is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// reserve keeps the accounts of a task that was passed over for long, and tells whether it does.
func (q *queue) reserve(t *task, now time.Time, reserved map[ledger.AccountID]bool) bool {
	if waited := now.Sub(t.since); waited < reserveAfter || waited >= reserveUntil || len(t.accounts) < 2 {
		return false
	}
	for _, id := range t.accounts {
		reserved[id] = true
	}
	if !t.reserves {
		t.reserves = true
		q.onReserve()
	}
	return true
}

// elsewhere tells whether another lane works on one of the task's accounts.
func (q *queue) elsewhere(t *task) bool { return t.any(q.inHand) }

func (t *task) has(id ledger.AccountID) bool { return slices.Contains(t.accounts, id) }

func (t *task) any(of map[ledger.AccountID]bool) bool {
	if len(of) == 0 {
		return false
	}
	return slices.ContainsFunc(t.accounts, func(id ledger.AccountID) bool { return of[id] })
}

// due tells when a task may be taken.
func (q *queue) due(t *task) time.Time {
	due := t.notBefore
	for _, id := range t.accounts {
		if until := q.resting[id]; until.After(due) {
			due = until
		}
	}
	return due
}

// fits tells whether the batch has room for the task. An empty batch has room for every task.
func (q *queue) fits(t *task, transfers int, accounts map[ledger.AccountID]bool) bool {
	if transfers > 0 && transfers+t.transfers > q.batchTransfersMax {
		return false
	}
	fresh := 0
	for _, id := range t.accounts {
		if !accounts[id] {
			fresh++
		}
	}
	return transfers == 0 || len(accounts)+fresh <= q.batchAccountsMax
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
