package posting_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"lockstep/node/ledger"
)

// stream asks one deposit after the other on each node, by several callers, until stop is closed, and counts what each
// node served.
func stream(nodes []*node, account ledger.Number, stop <-chan struct{}, running *sync.WaitGroup) []*atomic.Int64 {
	const callers = 8
	var served []*atomic.Int64
	for _, n := range nodes {
		count := &atomic.Int64{}
		served = append(served, count)
		for range callers {
			running.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if r := n.submit(fresh(deposit(account, 1))); !r.ok() {
						n.Errorf("a deposit: %v", r.err)
						return
					}
					count.Add(1)
				}
			})
		}
	}
	return served
}

// twoNodes share an account's names in Redis.
func (w *world) twoNodes() []*node {
	prefix := newPrefix()
	return []*node{w.open(withLocker(w.locker(prefix))), w.open(withLocker(w.locker(prefix)))}
}

// Two nodes share a hot account: neither leaves the other with less than its part. What else the machine does may keep one of
// them back for a while, so it is some hundreds in a row that have to be shared, and not the first.
func TestAHotAccountIsShared(t *testing.T) {
	t.Parallel()
	const commands, share = 600, 30 // in a row, and percent of them
	w := newWorld(t)
	nodes := w.twoNodes()
	account := nodes[0].funded(1)
	stop := make(chan struct{})
	var running sync.WaitGroup
	served := stream(nodes, account, stop, &running)
	var before [2]int64
	w.eventually("both nodes have their part of what is served in a row", func() bool {
		now := [2]int64{served[0].Load(), served[1].Load()}
		parts := [2]int64{now[0] - before[0], now[1] - before[1]}
		row := parts[0] + parts[1]
		if row < commands {
			return false
		}
		t.Logf("served %d and %d in a row", parts[0], parts[1])
		before = now
		return min(parts[0], parts[1])*100 >= row*share
	})
	close(stop)
	running.Wait()
	all := served[0].Load() + served[1].Load()
	if posted := w.posted(account); posted != all+1 {
		t.Errorf("the balance is %d after %d deposits of 1", posted, all)
	}
	w.verify()
}

// A transfer between two accounts that both nodes work on all the time needs both at once, and gets them.
func TestTransfersBetweenTwoHotAccountsFinish(t *testing.T) {
	t.Parallel()
	const callers, each = 4, 10
	w := newWorld(t)
	nodes := w.twoNodes()
	first, second := nodes[0].funded(1000), w.account(alice)
	stop := make(chan struct{})
	var running, transfers sync.WaitGroup
	served := append(stream(nodes, first, stop, &running), stream(nodes, second, stop, &running)...)
	var finished atomic.Int64
	for _, n := range nodes {
		for range callers {
			transfers.Go(func() {
				for range each {
					if r := n.submit(fresh(transfer(first, second, 1))); !r.ok() {
						t.Errorf("a transfer between two hot accounts: %v", r.err)
						return
					}
					finished.Add(1)
				}
			})
		}
	}
	transfers.Wait()
	close(stop)
	running.Wait()
	const all = 2 * callers * each
	if finished.Load() != all {
		t.Errorf("%d of %d transfers finished", finished.Load(), all)
	}
	for i, count := range served {
		if count.Load() == 0 {
			t.Errorf("node %d served nothing of account %d meanwhile", i%2, i/2)
		}
	}
	t.Logf("%d transfers finished beside %d, %d, %d and %d deposits", all, served[0].Load(), served[1].Load(), served[2].Load(), served[3].Load())
	if posted := w.posted(second); posted != all+served[2].Load()+served[3].Load() {
		t.Errorf("the second account has %d", posted)
	}
	w.verify()
}
