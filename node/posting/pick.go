package posting

import (
	"maps"
	"slices"
	"time"

	"lockstep/node/ledger"
)

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
	if until := q.putOff(now); !until.IsZero() {
		return nil, until
	}
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
		case !t.any(reserved) && q.fits(t, transfers, accounts):
			if !t.state.CompareAndSwap(waiting, taken) {
				continue // its caller has left just now
			}
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

// Nodes that need the same accounts all the time, many for each command, work best by turns: one with nearly all accounts and
// a full batch, then the other. When each took what it could get, each would have half of the accounts, nearly no command
// would have all of its own, and every batch would be a small one. So after a batch a lane is patient, for as long as that
// batch took: it takes none of which most is busy elsewhere, as long as it may hope to have its turn soon.
const (
	patienceMax = 50 * time.Millisecond
	smallPart   = 3 // a batch is small when more than so many times as many commands have to wait
)

func small(ready, blocked int) bool { return ready > 0 && smallPart*ready < blocked }

// bePatient makes the queue give out no small batches for a while.
func (q *queue) bePatient(length time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.patientUntil = time.Now().Add(min(length, patienceMax))
}

// isPatient tells whether a batch is not to be posted now, because too few of its commands are ready.
func (q *queue) isPatient(ready, blocked int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return small(ready, blocked) && time.Now().Before(q.patientUntil)
}

// putOff says until when it is too soon for a batch, since most of what waits is busy elsewhere; the zero time is now.
func (q *queue) putOff(now time.Time) (until time.Time) {
	if !now.Before(q.patientUntil) {
		return until
	}
	ready, blocked := 0, 0
	for _, t := range q.tasks {
		if t.state.Load() != waiting || q.elsewhere(t) {
			continue
		}
		if due := q.due(t); due.After(now) {
			blocked++
			until = sooner(until, due)
		} else {
			ready++
		}
	}
	if !small(ready, blocked) {
		return time.Time{}
	}
	return sooner(until, q.patientUntil)
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
