package posting_test

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/cluster/local/servers"
	"lockstep/locks"
	"lockstep/node/ledger"
	"lockstep/node/posting"
)

// take holds names as another node would, until release is called.
func (w *world) take(prefix string, names ...string) (release func()) {
	w.Helper()
	locker, set := w.locker(prefix), (*locks.Set)(nil)
	giveBack := func() {
		_, err := set.Release(w.context())
		must(w, err)
	}
	w.eventually("the locks are free", func() bool {
		var err error
		set, err = locker.Acquire(w.context(), names)
		must(w, err)
		if len(set.Held()) == len(names) {
			return true
		}
		giveBack()
		return false
	})
	return giveBack
}

func lockOf(number ledger.Number) string { return "account:" + string(number) }

// While another node has an account, its commands go round in the queue; the others of their batch do not wait for them.
func TestCommandsOfABusyAccountRunWhenItIsFree(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	prefix := newPrefix()
	n := w.open(withLocker(w.locker(prefix)))
	busy, free := n.funded(100), n.funded(100)
	release := w.take(prefix, lockOf(busy))
	waiting := n.start(fresh(deposit(busy, 10)))
	across := n.start(fresh(transfer(free, busy, 1)))
	n.eventually("the commands come back", func() bool { return n.metric("busy_total") > 10 || w.posted(busy) != 100 })
	n.succeed(deposit(free, 10))
	impatient := asked(deposit(busy, 1000), "impatient")
	given := n.within(50*time.Millisecond, impatient).code()
	if given != ledger.Overloaded && given != ledger.OutcomeUnknown {
		t.Errorf("a deadline at a busy account: %q", given)
	}
	if posted := w.posted(busy); posted != 100 {
		t.Errorf("a command ran while another node had its account: the balance is %d, not 100", posted)
	}
	release()
	for _, r := range receive([]<-chan result{waiting, across}) {
		if !r.ok() {
			t.Errorf("a command after its account was free: %v", r.err)
		}
	}
	n.succeed(deposit(busy, 1)) // behind the one that was given up
	want := int64(112)
	if given == ledger.OutcomeUnknown { // a lane had it in hand when its caller left
		want += 1000
		if r := n.submit(impatient); !r.ok() {
			t.Errorf("the repeat of an unknown outcome: %v", r.err)
		}
	}
	if posted := w.posted(busy); posted != want || w.posted(free) != 109 {
		t.Errorf("the balances are %d and %d, not %d and 109", posted, w.posted(free), want)
	}
	w.verify()
}

// Redis is never the proof: without it the rows decide, and the engine says so.
func TestWithoutRedisTheRowsDecide(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var nobody []string
	for range 3 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		nobody = append(nobody, listener.Addr().String())
		must(t, listener.Close())
	}
	nodes := []*node{w.open(withLocker(w.locker(newPrefix(), nobody...))), w.open(withLocker(w.locker(newPrefix(), nobody...)))}
	storm(t, w, nodes, 500*time.Millisecond)
	for i, n := range nodes {
		if n.metric("degraded_batches_total") == 0 {
			t.Errorf("node %d ran without Redis and does not say so", i)
		}
	}
}

// Transfers both ways and in cycles over the nodes: no deadlock, nobody starves, no money is lost. Not even with two
// nodes that lock in two different places.
func TestOppositeTransfersOverTwoNodes(t *testing.T) {
	t.Parallel()
	tests := map[string]func(w *world) []posting.Locker{
		"with Redis": func(w *world) []posting.Locker {
			prefix := newPrefix()
			return []posting.Locker{w.locker(prefix), w.locker(prefix)}
		},
		"with row locks alone": func(*world) []posting.Locker { return []posting.Locker{nil, nil} },
		"with Redis split in two": func(w *world) []posting.Locker {
			return []posting.Locker{w.locker(newPrefix()), w.locker(newPrefix())}
		},
	}
	for name, lockers := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t).patient()
			var nodes []*node
			for _, locker := range lockers(w) {
				nodes = append(nodes, w.open(withLocker(locker)))
			}
			successes := storm(t, w, nodes, time.Second)
			all := successes[0] + successes[1]
			for i, n := range nodes {
				if share := float64(successes[i]) / float64(all); share < 0.1 {
					t.Errorf("node %d has %.0f%% of %d successes", i, 100*share, all)
				}
				if again := n.metric("failures_total"); again != 0 {
					t.Errorf("node %d: %v transactions failed", i, again)
				}
			}
		})
	}
}

// storm transfers both ways between two hot accounts, and in cycles over others, on all nodes. It requires that nothing
// but refusals fails, and counts the successes of each node.
func storm(t *testing.T, w *world, nodes []*node, length time.Duration) []int64 {
	t.Helper()
	var accounts []ledger.Number
	for range 10 {
		accounts = append(accounts, nodes[0].funded(100))
	}
	successes := make([]atomic.Int64, len(nodes))
	var refused atomic.Int64
	var all sync.WaitGroup
	deadline := time.Now().Add(length)
	for i, n := range nodes {
		for c := range 24 {
			all.Go(func() {
				for step := c; time.Now().Before(deadline); step++ {
					from, to := accounts[c%2], accounts[1-c%2] // both ways
					if c >= 12 {
						from, to = accounts[step%10], accounts[(step+1)%10] // in a cycle
					}
					switch r := n.submit(fresh(transfer(from, to, int64(1+step%40)))); {
					case r.ok():
						successes[i].Add(1)
					case r.code() == ledger.InsufficientFunds:
						refused.Add(1)
					default:
						t.Errorf("a transfer failed: %v", r.err)
					}
				}
			})
		}
	}
	all.Wait()
	var counts []int64
	for i := range successes {
		counts = append(counts, successes[i].Load())
	}
	t.Logf("successes of each node %v, refused %d", counts, refused.Load())
	if posted := w.number("SELECT SUM(posted) FROM accounts WHERE system_account IS NULL"); posted != 1000 {
		t.Errorf("the sum of all balances is %d, not 1000", posted)
	}
	w.verify()
	return counts
}

// slowToGiveBack keeps scripts back that do not end with the time that a lock lives: those that release.
func slowToGiveBack(question []byte) time.Duration {
	ttl := []byte(strconv.FormatInt(lockTTL.Milliseconds(), 10) + "\r\n")
	if bytes.Contains(bytes.ToUpper(question), []byte("EVAL")) && !bytes.HasSuffix(question, ttl) {
		return 80 * time.Millisecond
	}
	return 0
}

// A lane's own locks of the batch before never make its next one wait, however slowly Redis takes them back.
func TestALaneIsNotBusyWithItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var slow []string
	for _, addr := range servers.Shared(t).RedisAddrs {
		slow = append(slow, w.proxy(addr, slowToGiveBack).listener.Addr().String())
	}
	n := w.open(withLocker(w.locker(newPrefix(), slow...)))
	account := n.funded(100)
	limit := int64(5)
	forbidden := asked(ledger.Amend{Actor: ledger.Actor{Principal: alice}, Number: account, OverdraftLimit: &limit}, "forbidden")
	for range 5 {
		if r := n.submit(fresh(deposit(account, 1))); !r.ok() {
			t.Errorf("a lane found its own locks busy: %v", r.err)
		}
		if r := n.submit(forbidden); r.err != nil || r.Answer.Status != 403 {
			t.Errorf("a repeat of an answer that was not stored: %v", r.err)
		}
	}
	if busy := n.metric("busy_total"); busy != 0 {
		t.Errorf("a lane found its own locks busy: %v commands went back", busy)
	}
	if n.metric("degraded_batches_total") != 0 || n.metric("locks_lost_total") != 0 {
		t.Errorf("degraded %v, lost %v", n.metric("degraded_batches_total"), n.metric("locks_lost_total"))
	}
}

// Commands that come for an account that is busy elsewhere wait together, so that they make one batch when it is free and
// do not ask Redis one by one.
func TestCommandsOfABusyAccountWaitTogether(t *testing.T) {
	t.Parallel()
	const (
		commands = 40
		rest     = 500 * time.Millisecond
	)
	w := newWorld(t)
	prefix := newPrefix()
	n := w.open(withLocker(w.locker(prefix)), func(o *options) {
		o.engine.BackMin, o.engine.BackMax = rest, rest+time.Millisecond
	})
	busy, free := n.funded(100), n.funded(100)
	release := w.take(prefix, lockOf(busy))
	answers := []<-chan result{n.start(fresh(deposit(busy, 1)))}
	n.eventually("the first comes back", func() bool { return n.metric("busy_total") >= 1 })
	tries, batches, began := n.metric("lock_seconds"), n.metric("commit_seconds"), time.Now()
	for range commands {
		answers = append(answers, n.start(fresh(deposit(busy, 1))))
		// The lane is free: it may have some in hand for the length of a try, so all of them are counted, not one more.
		n.eventually("all commands wait", func() bool { return n.engine.Waiting() == len(answers) })
	}
	n.succeed(deposit(free, 1)) // has no part in it
	release()
	for _, r := range receive(answers) {
		if !r.ok() {
			t.Errorf("a command after its account was free: %v", r.err)
		}
	}
	rests := float64(time.Since(began) / rest) // all of them may be tried after each, and a slow machine takes more of those
	tries, batches = n.metric("lock_seconds")-tries, n.metric("commit_seconds")-batches
	t.Logf("%v tries and %v batches in %v rests", tries, batches, rests)
	if tries > 6+rests || batches > 4 {
		t.Errorf("commands of a busy account did not wait together: %v tries and %v batches for %d commands in %v rests",
			tries, batches, commands, rests)
	}
}

// A node that was refused an account takes it as soon as the other one gives it back, and not after its own pause.
func TestANodeIsToldWhenAnAccountIsFree(t *testing.T) {
	t.Parallel()
	const pause = time.Hour
	w := newWorld(t)
	prefix := newPrefix()
	n := w.open(withLocker(w.locker(prefix)), func(o *options) { o.engine.BackMin, o.engine.BackMax = pause, pause+1 })
	busy, free := n.funded(100), n.funded(100)
	release := w.take(prefix, lockOf(busy))
	waiting := n.start(fresh(deposit(busy, 10)))
	across := n.start(fresh(transfer(busy, free, 1)))
	n.eventually("the commands come back", func() bool { return n.metric("busy_total") >= 1 && n.engine.Waiting() == 2 })
	n.succeed(deposit(free, 10)) // has no part in it
	if posted := w.posted(busy); posted != 100 {
		t.Errorf("a command ran while another node had its account: the balance is %d, not 100", posted)
	}
	release()
	for _, r := range receive([]<-chan result{waiting, across}) {
		if !r.ok() {
			t.Errorf("a command after its account was free: %v", r.err)
		}
	}
	if posted := w.posted(busy); posted != 109 || w.posted(free) != 111 {
		t.Errorf("the balances are %d and %d, not 109 and 111", posted, w.posted(free))
	}
	w.verify()
}

// hasty is a locker whose names are free again before its caller hears that they are busy.
type hasty struct {
	*locks.Locker
	meanwhile func() // after the first question
}

func (h *hasty) Acquire(ctx context.Context, names []string) (*locks.Set, error) {
	set, err := h.Locker.Acquire(ctx, names)
	h.meanwhile()
	return set, err
}

func (h *hasty) OnFree(hear func(names []string)) {
	heard := make(chan struct{})
	tell := sync.OnceFunc(func() { close(heard) })
	release := h.meanwhile
	h.meanwhile = sync.OnceFunc(func() { release(); <-heard })
	h.Locker.OnFree(func(names []string) { hear(names); tell() })
}

// An account that is given back while a lane is still being told that it is busy is tried again at once, too.
func TestANodeIsToldWhenAnAccountIsFreeTooSoon(t *testing.T) {
	t.Parallel()
	const pause = time.Hour
	w := newWorld(t)
	prefix := newPrefix()
	number := w.account(alice)
	release := w.take(prefix, lockOf(number))
	n := w.open(withLocker(&hasty{w.locker(prefix), release}), func(o *options) { o.engine.BackMin, o.engine.BackMax = pause, pause+1 })
	if r := n.within(5*time.Second, fresh(deposit(number, 10))); !r.ok() {
		t.Errorf("a command for an account that was free again: %v", r.err)
	}
	if busy := n.metric("busy_total"); busy != 1 {
		t.Errorf("the account was busy %v times, not once", busy)
	}
	w.verify()
}
