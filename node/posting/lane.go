package posting

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"lockstep/locks"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// errLaneLost says that the lane's row carries another incarnation.
var errLaneLost = errors.New("posting: another process owns this node's id")

// lane posts one batch after the other.
type lane struct {
	*Engine
	lane    ledger.Lane
	number  int64 // of the last batch that committed
	stripes map[ledger.AccountID]bool
	exposed map[ledger.ExposureKey]bool // exposures that are there
	epoch   int64                       // in which they are
	kept    map[ledger.AccountID]bool   // accounts whose rows another transaction kept when they were last tried
	company int                         // commands of a late batch with steps between systems; a smaller one after it halves that

	listeners map[string][]store.Webhook // by owner
	mark      int64                      // of the listeners

	releases sync.WaitGroup // of Redis locks, under way
	unlocked *locks.Set     // the last one that was given back

	broken      time.Duration // how long the source is left alone after it failed; 0 while it is well
	brokenUntil time.Time
}

// keptPause is how long a row that another transaction keeps is left alone.
const keptPause = 50 * time.Millisecond

// How long a source that takes no writes is left alone: it comes back no faster for being asked by everybody.
const (
	brokenMin = 100 * time.Millisecond
	brokenMax = time.Second
)

// start learns the number of the lane's last batch.
func (l *lane) start(ctx context.Context) error {
	incarnation, number, err := l.readRow(ctx)
	if err == nil && incarnation != l.identity.Incarnation {
		err = errLaneLost
	}
	l.number = number
	return err
}

func (l *lane) run() {
	defer l.releases.Wait()
	for batch := l.queue.take(); len(batch) > 0; batch = l.queue.take() {
		l.metrics.batch(batch)
		began, before := time.Now(), l.number
		span := traceBatch(l.life, batch, l.lane)
		l.process(batch)
		span.End()
		took := time.Since(began)
		if l.number > before {
			l.queue.bePatient(took)
		}
		l.queue.release(batch)
		if betweenSystems(batch) {
			l.company = max(len(batch), l.company/2)
		} else {
			l.company = 0
		}
		if l.company >= remoteGatherFrom {
			l.queue.await()
			l.gather(l.company, min(took, remoteGatherMax), remoteGatherStep)
		} else {
			l.gather(len(batch), took/gatherShare, gatherStep)
		}
	}
}

const (
	gatherShare = 4                      // of the last batch's time
	gatherStep  = 250 * time.Microsecond // about the time in which a caller that was answered asks again
	gatherIdle  = 2                      // steps in which nobody came
	few         = 8                      // callers are waited for one by one; to wake up for each of many costs more than it saves
)

// A transfer between two systems is in three batches, one after the other, before its client hears of it. Lanes that ran one
// batch after the other would have each of them nearly empty, and it is batches that cost; so who comes next has as long to come
// as the last batch took.
const (
	remoteGatherFrom = 16 // commands: few clients are not made to wait for one another
	remoteGatherMax  = 50 * time.Millisecond
	remoteGatherStep = 4 * time.Millisecond
)

// betweenSystems tells whether a batch has a step of a transfer between two systems.
func betweenSystems(batch []*task) bool {
	return slices.ContainsFunc(batch, func(t *task) bool { _, is := t.Operation.(ledger.RemoteOperation); return is })
}

// gather lets the callers that were just answered ask again before the next batch is taken. They would else be late for
// it by a moment and wait for its end, with half of all callers in each batch. When none of several waits yet, the first
// of them has to wait for the others as well; one alone waits for nobody.
func (l *lane) gather(answered int, atMost, step time.Duration) {
	waiting := l.queue.length()
	all := waiting + answered
	if waiting == 0 && answered > 1 {
		l.queue.await()
		waiting = l.queue.length()
	}
	for end, idle := time.Now().Add(atMost), 0; waiting > 0 && waiting < all && idle < gatherIdle && time.Now().Before(end); {
		before := waiting
		if all-waiting <= few {
			waiting = l.queue.grows(before, step)
		} else {
			time.Sleep(step)
			waiting = l.queue.length()
		}
		if idle++; waiting > before {
			idle = 0
		}
	}
}

// process locks what the batch needs and posts the tasks that may run now.
func (l *lane) process(batch []*task) {
	select {
	case <-l.lost:
		l.settleAll(batch, errSource())
		return
	default:
	}
	if time.Now().Before(l.brokenUntil) {
		l.metrics.shunned.Add(float64(len(batch)))
		l.settleAll(batch, errSource())
		return
	}
	if epoch := l.store.Epoch(); epoch != l.epoch {
		l.makeAgain()
		l.epoch = epoch
	}
	set, ready := l.lock(batch)
	if len(ready) == 0 {
		l.unlock(set)
		return
	}
	_ = l.post(ready, set) // the tasks know, and the log
}

// lock takes the Redis locks of the batch's accounts in one go, once those of the last batch are given back: its names
// would seem busy else. Tasks with a busy account return to the queue. Idempotency keys need no lock: requests that share
// one are about the same accounts, or wait for its row. Without a quorum of Redis servers everything goes on: the row
// locks are the truth.
func (l *lane) lock(batch []*task) (*locks.Set, []*task) {
	if l.locker == nil {
		return nil, batch
	}
	var names []string
	for _, t := range batch {
		names = append(names, t.names...)
	}
	if len(names) == 0 {
		return nil, batch
	}
	began := time.Now()
	l.releases.Wait()
	l.queue.asks()
	set, err := l.locker.Acquire(l.life, names)
	l.metrics.lockWait.Observe(time.Since(began).Seconds())
	stage(batch, "lock", began, degradedCode(err))
	if err != nil {
		l.metrics.degraded.Inc()
		return nil, batch
	}
	var ready, busy []*task
	var elsewhere []ledger.AccountID
	for _, t := range batch {
		switch {
		case held(set, t.names):
			ready = append(ready, t)
		default:
			busy = append(busy, t)
			elsewhere = append(elsewhere, t.lacks(set)...)
		}
	}
	l.metrics.busy.Add(float64(len(busy)))
	if l.queue.isPatient(len(ready), len(busy)) {
		l.metrics.putOff.Inc()
		l.giveBack(ready, 0)
		ready = nil
	}
	l.giveBack(busy, l.again(busy), elsewhere...)
	return set, ready
}

// lacks lists the task's accounts that the set does not hold.
func (t *task) lacks(set *locks.Set) (ids []ledger.AccountID) {
	for i, id := range t.accounts {
		if set.Grant(t.names[i]) != locks.Held {
			ids = append(ids, id)
		}
	}
	return ids
}

func held(set *locks.Set, names []string) bool {
	for _, name := range names {
		if set.Grant(name) != locks.Held {
			return false
		}
	}
	return true
}

// unlock gives the set back without making anybody wait for it; a second time it does nothing.
func (l *lane) unlock(set *locks.Set) {
	if set == nil || set == l.unlocked {
		return
	}
	l.unlocked = set
	l.releases.Go(func() {
		lost, err := set.Release(context.WithoutCancel(l.life))
		l.metrics.lost.Add(float64(lost))
		if err != nil {
			l.log.Debug("release of Redis locks failed; they end by themselves", "error", err)
		}
	})
}

// again is how long busy tasks rest. The pause doubles with their tries: another node that does little is done in a moment,
// and one with a large batch has not to be asked all the time.
func (l *lane) again(busy []*task) time.Duration {
	pause := l.config.BackMin
	for _, t := range busy {
		pause = max(pause, min(l.config.BackMin<<min(t.busy, busyDoublings), l.config.BackMax))
		t.busy++
	}
	return pause + rand.N(pause/2) //nolint:gosec // a pause needs no secrecy
}

const busyDoublings = 10

// interruptedMax is how often a batch is run again whose statement did not get to its end.
const interruptedMax = 2

func (l *lane) jitter() time.Duration {
	return l.config.BackMin + rand.N(jitterTimes*l.config.BackMin) //nolint:gosec // a pause needs no secrecy
}

const jitterTimes = 7

// post runs the tasks in one transaction, repeats it where the error allows that, and answers. It returns what it gave
// up at.
func (l *lane) post(tasks []*task, set *locks.Set) error {
	defer l.unlock(set)
	as := how{skipLocked: l.anyKept(tasks)}
	for try, lost, interrupted := 1, false, 0; ; try++ {
		began := time.Now()
		b, err := l.prepare(tasks, set, as)
		stage(tasks, "transaction", began, failureCode(err))
		if err == nil {
			l.broken = 0
			l.commit(b)
			return nil
		}
		if errors.Is(err, errKeysUsed) && !as.keysUsed {
			as.keysUsed = true // and no failure
			continue
		}
		if errors.Is(err, errRaced) && try < l.config.RepeatsMax {
			continue // the row is there now
		}
		if errors.Is(err, errGone) { // once
			l.makeAgain()
			as.remade = true
			continue
		}
		l.metrics.failure(err)
		switch class := store.ClassOf(err); {
		case store.LockWait(err) && !as.skipLocked:
			as.skipLocked, as.waited = true, true
		case class == store.ClassAgain && !store.LockWait(err) && try < l.config.RepeatsMax:
			time.Sleep(l.jitter())
		case class == store.ClassServer && !lost:
			lost = true // once more, on a new connection, perhaps to a source that lacks them
			l.makeAgain()
		case store.Interrupted(err) && interrupted < interruptedMax:
			interrupted++ // again, for the server may have been frozen, or somebody kills the wrong statements
		default:
			return l.giveUp(tasks, err)
		}
	}
}

// makeAgain has stripes and exposures made again before their next use: a source that was restored or promoted may lack them.
func (l *lane) makeAgain() {
	clear(l.stripes)
	clear(l.exposed)
}

// giveUp answers tasks of which nothing was applied, or gives them another chance: in the queue when nobody is to blame,
// in smaller batches when one of them is.
func (l *lane) giveUp(tasks []*task, err error) error {
	l.makeAgain()
	switch class := store.ClassOf(err); {
	case errors.Is(err, errLaneLost):
		l.log.Error("another process owns this node's id; this one stops", "node", l.lane.Node)
		l.fail()
		l.settleAll(tasks, errSource())
	case class == store.ClassAgain, errors.Is(err, errRaced):
		l.giveBack(tasks, l.jitter())
	case class == store.ClassServer:
		l.broken = min(max(2*l.broken, brokenMin), brokenMax)
		l.brokenUntil = time.Now().Add(l.broken)
		l.log.Error("the source takes no writes", "error", err, "commands", len(tasks), "pause", l.broken)
		l.settleAll(tasks, errSource())
	case len(tasks) == 1:
		l.log.Error("a command failed; nothing was applied", "error", err, "request_id", requestID(tasks[0]))
		l.settleAll(tasks, ledger.Refuse(ledger.Internal, "the request failed on our side; nothing was applied"))
	default:
		return l.split(tasks)
	}
	return err
}

// split runs each half by itself, and so on down to the task that fails alone: its neighbours succeed, after a few
// transactions and not after one for each. When the source goes away meanwhile, the rest does not ask it again.
func (l *lane) split(tasks []*task) error {
	l.metrics.splits.Inc()
	half := len(tasks) / 2
	if err := l.post(tasks[:half], nil); store.ClassOf(err) == store.ClassServer {
		l.settleAll(tasks[half:], errSource())
		return err
	}
	return l.post(tasks[half:], nil)
}

// commit sends the COMMIT and answers each caller once its outcome is known. Tasks that left the batch return to the
// queue first: no COMMIT contains them.
func (l *lane) commit(b *batch) {
	l.sendAway(b)
	began := time.Now()
	token, err := l.sendCommit(b)
	l.metrics.commit.Observe(time.Since(began).Seconds())
	if err != nil {
		stage(b.tasks, "commit", began, "unknown")
		l.metrics.unknown.Inc()
		l.log.Warn("the outcome of a COMMIT is unknown; asking the lane's row", "error", err, "batch", b.number)
		began = time.Now()
		token, err = l.resolve(b)
		stage(b.tasks, "resolve", began, "")
	} else {
		stage(b.tasks, "commit", began, "")
	}
	if err != nil {
		l.conclude(b, err)
		return
	}
	l.number = b.number
	if l.config.Announced != nil && len(b.told) > 0 {
		l.config.Announced(b.told)
	}
	if l.config.Delivering != nil && b.heard > 0 {
		l.config.Delivering()
	}
	for i, t := range b.tasks {
		s := b.settlements[i]
		s.outcome.Token = token
		l.settle(t, s.outcome, s.err, s.stored)
	}
}

// sendAway returns the tasks of rows that are kept elsewhere to the queue.
func (l *lane) sendAway(b *batch) {
	if len(b.busy) == 0 {
		return
	}
	var stay, away []*task
	var settlements []settlement
	for i, t := range b.tasks {
		if b.settlements[i].away {
			away = append(away, t)
			continue
		}
		stay, settlements = append(stay, t), append(settlements, b.settlements[i])
	}
	b.tasks, b.settlements = stay, settlements
	l.metrics.skipped.Add(float64(len(away)))
	// A row that was merely locked when this batch came, which waited for none, may be free in a moment.
	var kept, passing []ledger.AccountID
	for _, id := range b.busy {
		if system, _ := ledger.StripeOf(id); system != 0 {
			continue // this lane's own, which no task names and no lock is for
		}
		if b.how.waited || l.kept[id] {
			l.kept[id] = true
			kept = append(kept, id)
		} else {
			passing = append(passing, id)
		}
	}
	l.queue.rest(kept, keptPause)
	l.giveBack(away, l.jitter(), passing...)
}

// anyKept tells whether a row of the tasks was last seen in the hands of another transaction: once waited for in vain is
// enough.
func (l *lane) anyKept(tasks []*task) bool {
	return slices.ContainsFunc(tasks, func(t *task) bool { return t.any(l.kept) })
}

// sendCommit commits. Every error is an unknown outcome.
func (l *lane) sendCommit(b *batch) (store.Token, error) {
	if l.config.Fault == nil {
		return b.tx.Commit(l.life)
	}
	if err := l.config.Fault("before_commit"); err != nil {
		return "", errors.Join(err, b.tx.Rollback())
	}
	token, err := b.tx.Commit(l.life)
	return token, errors.Join(err, l.config.Fault("after_commit"))
}

// conclude answers the tasks of a batch that did not commit.
func (l *lane) conclude(b *batch, err error) {
	switch {
	case errors.Is(err, errNotCommitted):
		l.giveBack(b.tasks, 0)
	case errors.Is(err, errLaneLost):
		l.fail()
		l.settleAll(b.tasks, errUnknown())
	default:
		l.settleAll(b.tasks, errUnknown())
	}
}

func (l *lane) settleAll(tasks []*task, err error) {
	for _, t := range tasks {
		l.settle(t, Outcome{}, err, false)
	}
}

func requestID(t *task) string {
	if t.Claim == nil {
		return ""
	}
	return t.Claim.RequestID
}
