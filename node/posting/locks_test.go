package posting_test

import (
	"slices"
	"sync"
	"testing"

	"lockstep/node/ledger"
)

// rowWait is the time in ms that transactions of the server have waited for rows.
func (w *world) rowWait() int64 {
	w.Helper()
	return w.number("SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'INNODB_ROW_LOCK_TIME'")
}

// hot makes the nodes work on one account until commands are done, and tells how long rows were waited for meanwhile.
func (w *world) hot(nodes []*node, account ledger.Number, commands int64) (wait, served int64) {
	w.Helper()
	stop := make(chan struct{})
	var running sync.WaitGroup
	began := w.rowWait()
	counts := stream(nodes, account, stop, &running)
	w.eventually("enough was served", func() bool { return counts[0].Load()+counts[1].Load() >= commands })
	close(stop)
	running.Wait()
	return w.rowWait() - began, counts[0].Load() + counts[1].Load()
}

// What Redis locks are for: two nodes that hold them until COMMIT is known wait for rows half as long at most as two whose
// locks are granted without asking anybody. (Such a locker has a prefix of its own.) The server's clock of waits is
// everybody's, so other tests may spoil a round.
func TestRedisLocksSpareTheWaitForRows(t *testing.T) {
	const commands, roundsMin, roundsMax = 400, 5, 12
	w := newWorld(t)
	late := func(o *options) { o.engine.LateRelease = true }
	shared := newPrefix()
	asking := []*node{w.open(late, withLocker(w.locker(shared))), w.open(late, withLocker(w.locker(shared)))}
	granted := []*node{w.open(late, withLocker(w.locker(newPrefix()))), w.open(late, withLocker(w.locker(newPrefix())))}
	account := asking[0].funded(1)
	var real, none []float64 // ms for each command, by round
	for round := range roundsMax {
		wait, served := w.hot(asking, account, commands)
		real = append(real, float64(wait)/float64(served))
		wait, served = w.hot(granted, account, commands)
		none = append(none, float64(wait)/float64(served))
		t.Logf("round %d: each command waited for rows for %.4f ms with locks, %.4f ms without", round, real[round], none[round])
		if round+1 >= roundsMin && 2*middle(real) <= middle(none) && middle(none) > 0 {
			w.verify()
			return
		}
	}
	t.Error("two nodes with Redis locks wait for rows as long as two without")
}

// middle is the median: a round that others spoil does not count for more than one.
func middle(of []float64) float64 { return slices.Sorted(slices.Values(of))[len(of)/2] }
