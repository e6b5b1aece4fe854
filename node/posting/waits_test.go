package posting_test

import (
	"strconv"
	"sync"
	"testing"
	"time"

	"lockstep/cluster/local/servers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
)

// A row that somebody else keeps is waited for once. Then the batch goes on without the commands of that row, which are
// neither refused nor lost, and later ones do not wait again.
func TestAKeptRowStopsOnlyItsOwnCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.LockWaitMax = time.Second
	n := w.open()
	kept, free := n.funded(100), n.funded(100)
	missing := ledger.NewNumber("alpha", kept.Serial()+1_000_000)
	open := n.plugged()
	answers := n.queue(
		fresh(deposit(kept, 10)), fresh(deposit(free, 10)), fresh(deposit(missing, 10)), fresh(transfer(kept, free, 1)),
	)
	release := w.lockRow(kept)
	open()
	if r := <-answers[1]; !r.ok() {
		t.Errorf("a command beside the kept row: %v", r.err)
	}
	if code := (<-answers[2]).code(); code != ledger.AccountNotFound {
		t.Errorf("a command of a missing account beside the kept row heard %q", code)
	}
	if waits := n.metric("failures_total", "again"); waits != 1 {
		t.Errorf("the row was waited for %v times before the others went on", waits)
	}
	if refused := n.metric("commands_total", "refused"); refused != 1 {
		t.Errorf("%v commands were refused, one of them for its account is missing", refused)
	}
	later := n.start(fresh(deposit(kept, 100)))
	n.succeed(deposit(free, 10))
	n.eventually("the kept row's commands are tried again", func() bool { return n.metric("skipped_total") >= 5 })
	if waits := n.metric("failures_total", "again"); waits != 1 {
		t.Errorf("the row was waited for again: %v times", waits)
	}
	if posted := w.posted(kept); posted != 100 {
		t.Fatalf("the kept row was free too early: the balance is %d", posted)
	}
	if claims := w.number(`SELECT COUNT(*) FROM idempotency c LEFT JOIN transfers t ON t.id = c.transfer_id
		WHERE c.status IS NULL AND t.id IS NULL`); claims != 0 {
		t.Errorf("commands that left the batch left %d claims behind", claims)
	}
	release()
	for i, r := range receive([]<-chan result{answers[0], answers[3], later}) {
		if !r.ok() || r.Replayed {
			t.Errorf("command %d of the kept row was answered %q, replayed %t", i, r.code(), r.Replayed)
		}
	}
	if w.posted(kept) != 209 || w.posted(free) != 121 {
		t.Errorf("the balances are %d and %d, not 209 and 121", w.posted(kept), w.posted(free))
	}
	if splits := n.metric("splits_total"); splits != 0 {
		t.Errorf("%v batches were split", splits)
	}
	w.verify()
}

// keptPause is how long the engine leaves a kept row alone.
const keptPause = 50 * time.Millisecond

// A row that is merely locked when a batch comes that skips another one does not count as kept: it is waited for.
func TestARowThatWasSkippedInPassingIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.LockWaitMax = time.Second
	n := w.open()
	kept, passing := n.funded(100), n.funded(100)
	releases := []func(){w.lockRow(kept)}
	answers := []<-chan result{n.start(fresh(deposit(kept, 1)))}
	n.eventually("the kept row is left alone", func() bool { return n.metric("skipped_total") >= 1 })
	open := n.plugged()
	answers = append(answers, n.queue(fresh(deposit(passing, 1)))...)
	releases = append(releases, w.lockRow(passing))
	<-time.After(2 * keptPause) // both are due in the next batch
	if waits := n.metric("failures_total", "again"); waits != 1 {
		t.Errorf("%v rows were waited for, not the kept one alone", waits)
	}
	open()
	n.eventually("the other row is waited for", func() bool { return n.metric("failures_total", "again") == 2 })
	for _, release := range releases {
		release()
	}
	for _, r := range receive(answers) {
		if !r.ok() {
			t.Errorf("a command whose row is free again: %v", r.err)
		}
	}
	w.verify()
}

// Who keeps an account inside a batch may keep one of its holds as well: that too is waited for once.
func TestAKeptHoldStopsOnlyItsOwnCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.LockWaitMax = time.Second
	n := w.open()
	kept, free := n.funded(100), n.funded(100)
	promise := hold(kept, 5, time.Hour)
	n.succeed(promise)
	void := ledger.Settle{Hold: promise.ID, Actor: ledger.Actor{Principal: alice}, Account: kept, End: ledger.Voided}
	open := n.plugged()
	answers := n.queue(fresh(void), fresh(deposit(free, 10)))
	tx, err := w.setup.Begin(w.context())
	must(t, err)
	defer tx.Rollback()
	_, _, err = store.LockAccounts(w.context(), tx, []ledger.AccountID{kept.Serial()})
	must(t, err)
	_, err = store.LockHolds(w.context(), tx, []ledger.HoldID{promise.ID})
	must(t, err)
	open()
	if r := <-answers[1]; !r.ok() {
		t.Errorf("a command beside the kept hold: %v", r.err)
	}
	if waits := n.metric("failures_total", "again"); waits != 1 {
		t.Errorf("the hold was waited for: %v waits", waits)
	}
	must(t, tx.Rollback())
	if r := <-answers[0]; !r.ok() || w.pendingDebit(kept) != 0 {
		t.Errorf("the command of the kept hold: %v, pending_debit %d", r.err, w.pendingDebit(kept))
	}
	w.verify()
}

// A statement that is killed, or that a frozen server finds too old when it goes on, says nothing of its command: the batch is
// run once more.
func TestAnInterruptedBatchIsRunAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t).patient()
	n := w.open()
	account := n.funded(100)
	release := w.lockRow(account)
	answer := n.start(fresh(deposit(account, 10)))
	waits := `SELECT COALESCE(MAX(ID), 0) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND INFO LIKE '%FOR UPDATE%' AND ID <> CONNECTION_ID()`
	n.eventually("the batch waits for the row", func() bool { return w.number(waits) != 0 })
	_, err := w.admin.Exec("KILL QUERY " + strconv.FormatInt(w.number(waits), 10))
	must(t, err)
	n.eventually("the statement was killed", func() bool { return n.metric("failures_total", "command") == 1 })
	release()
	if r := <-answer; !r.ok() {
		t.Errorf("a command whose statement was killed: %v", r.err)
	}
	if posted := w.posted(account); posted != 110 {
		t.Errorf("the balance is %d, not 110", posted)
	}
	w.verify()
}

// stay is an operation that keeps its lane busy.
type stay struct {
	ledger.Operation
	arrive func()
	gate   <-chan struct{}
}

func (s stay) Apply(b *ledger.Book) (ledger.Result, error) {
	s.arrive()
	<-s.gate
	return s.Operation.Apply(b)
}

// inHand makes a lane work on the account until done is called.
func (n *node) inHand(account ledger.Number) (done func()) {
	n.Helper()
	arrived, gate := make(chan struct{}), make(chan struct{})
	leave := sync.OnceFunc(func() { close(gate) })
	n.Cleanup(leave)
	answer := n.start(fresh(stay{deposit(account, 1), sync.OnceFunc(func() { close(arrived) }), gate}))
	n.await(arrived, "a lane has the account in hand")
	return func() {
		leave()
		if r := <-answer; !r.ok() {
			n.Errorf("the command that kept the account: %v", r.err)
		}
	}
}

// The engine's bounds for a command that is passed over.
const (
	reserveAfter = 20 * time.Millisecond
	reserveUntil = 500 * time.Millisecond
)

// A command that needs two accounts is passed over while another lane has one of them. After a while the other is kept for
// it: what comes later does not overtake it.
func TestACommandOfTwoAccountsIsNotOvertakenForLong(t *testing.T) {
	t.Parallel()
	const later, attemptsMax = 10, 20
	w := newWorld(t)
	n := w.open(func(o *options) { o.engine.Lanes = 2 })
	for range attemptsMax {
		first, second := n.funded(100), n.account(alice)
		done := n.inHand(first)
		began, before := time.Now(), n.metric("reserved_total")
		both := transfer(first, second, 1)
		answers := n.queue(fresh(both))
		<-time.After(reserveAfter + time.Millisecond) // it has waited for so long at least
		for i := range later {
			answers = append(answers, n.start(fresh(deposit([]ledger.Number{second, first}[i%2], 1))))
		}
		n.eventually("the other account is kept, or not", func() bool {
			return n.metric("reserved_total") > before && n.engine.Waiting() == later+1 || w.posted(second) == later/2
		})
		inTime := time.Since(began) < reserveUntil/2
		done()
		for _, r := range receive(answers) {
			if !r.ok() {
				t.Errorf("a command: %v", r.err)
			}
		}
		if !inTime {
			continue // the machine was too slow: nothing is kept for so long
		}
		if overtook := w.number(`SELECT COUNT(*) FROM entries e JOIN entries b ON b.account_id = e.account_id AND e.sequence < b.sequence
			WHERE b.transfer_id = ? AND b.account_id = ?`, both.ID, second.Serial()); overtook != 0 {
			t.Errorf("a command of two accounts was overtaken by %d that came later", overtook)
		}
		w.verify()
		return
	}
	t.Errorf("the commands did not come in time in %d attempts", attemptsMax)
}

// Accounts that nobody gets, because one of them is kept for long, are given to the others again.
func TestAnAccountIsKeptForAMomentOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open(func(o *options) { o.engine.Lanes = 2 })
	first, second := n.funded(100), n.account(alice)
	done := n.inHand(first)
	began := time.Now()
	both := n.queue(fresh(transfer(first, second, 1)))
	<-time.After(reserveAfter + time.Millisecond) // it has waited for so long at least
	after := n.start(fresh(deposit(second, 1)))
	n.eventually("the others go on", func() bool { return w.posted(second) == 1 || time.Since(began) > patience/2 })
	if waited := time.Since(began); n.metric("reserved_total") != 1 || waited < reserveUntil || waited > patience/2 {
		t.Errorf("the account was kept for %v, %v times", waited, n.metric("reserved_total"))
	}
	done()
	for _, r := range receive(append(both, after)) {
		if !r.ok() {
			t.Errorf("a command: %v", r.err)
		}
	}
	w.verify()
}

// A source that has just failed is not asked by everybody; it is found again when it is back.
func TestAFailedSourceIsLeftAloneForAMoment(t *testing.T) {
	t.Parallel()
	const triesMax = 200
	w := newWorld(t)
	p := w.proxy(servers.Shared(t).SourceAddr, nil)
	n := w.open(p.through)
	account := n.funded(100)
	p.cut(true)
	shunned := 0
	for tries := 0; shunned < 20 && tries < triesMax; tries++ {
		failures, before := n.metric("failures_total"), n.metric("shunned_total")
		if r := n.submit(fresh(deposit(account, 10))); r.code() != ledger.SourceUnavailable {
			t.Errorf("without a source a caller hears %q", r.code())
		}
		if n.metric("shunned_total") == before {
			continue
		}
		shunned++
		if asked := n.metric("failures_total") - failures; asked != 0 {
			t.Errorf("the source that is left alone was asked %v times", asked)
		}
	}
	if shunned == 0 {
		t.Errorf("the failed source was asked by each of %d commands", triesMax)
	}
	p.cut(false)
	if r := n.recovered(fresh(deposit(account, 10))); !r.ok() || w.posted(account) != 110 {
		t.Errorf("when the source is back: %v, balance %d", r.err, w.posted(account))
	}
	n.succeed(deposit(account, 1)) // at once: the source is well
	w.verify()
}

// Without early release another node finds the account's name busy until the COMMIT is known; with it, the name is free
// once the row is locked, and the row is what is waited for.
func TestRedisLocksAreReleasedBeforeCommitOrAfter(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			prefix := newPrefix()
			n := w.open(withLocker(w.locker(prefix)), func(o *options) { o.engine.LateRelease = late })
			other := w.open(withLocker(w.locker(prefix)))
			account := n.funded(100)
			arrived, gate := make(chan struct{}), make(chan struct{})
			apply := sync.OnceFunc(func() { close(gate) })
			defer apply()
			atCommit, commit := n.pause("before_commit")
			first := n.start(fresh(stay{deposit(account, 1), sync.OnceFunc(func() { close(arrived) }), gate}))
			w.await(arrived, "the rows")
			if late {
				apply()
				w.await(atCommit, "COMMIT")
			}
			second := other.start(fresh(deposit(account, 10)))
			waits := func() bool { return w.waitingFor("SELECT id, owner") == 1 }
			w.eventually("the other node waits", func() bool { return waits() || other.metric("busy_total") > 10 })
			if waits() == late {
				t.Errorf("the other node waits for the row %t, for the name %v times", waits(), other.metric("busy_total"))
			}
			apply()
			commit(nil)
			for _, r := range receive([]<-chan result{first, second}) {
				if !r.ok() {
					t.Errorf("a deposit: %v", r.err)
				}
			}
			if posted := w.posted(account); posted != 111 {
				t.Errorf("the balance is %d, not 111", posted)
			}
			w.verify()
		})
	}
}

// The engine's longest patience with accounts that another node has.
const patienceMax = 50 * time.Millisecond

// A lane that has just had its turn makes no batch of a small part of what waits, when another node has the accounts of the
// rest; a larger part it does not put off, and a small one not for long.
func TestASmallPartOfWhatWaitsIsPutOffForAMoment(t *testing.T) {
	t.Parallel()
	const blocked = 10
	w := newWorld(t)
	prefix := newPrefix()
	n := w.open(withLocker(w.locker(prefix)), func(o *options) { // not tried again before the test has seen that it was put off
		o.engine.BackMin, o.engine.BackMax = patienceMax/2, patienceMax/2+1
	})
	busy, free, payee := n.funded(100), n.funded(100), w.account(alice)
	// try has a turn, then asks for the busy account and, as often as told, for the free one. The busy one is given back once the
	// batch is put off, or not before all for the free one are answered.
	try := func(ready int, soon bool) (batches, putOff float64) {
		release := sync.OnceFunc(w.take(prefix, lockOf(busy)))
		defer release()
		open := n.plugged()
		began, putOff, batches := time.Now(), n.metric("put_off_total"), n.metric("commit_seconds")
		var commands []posting.Command
		for range blocked {
			commands = append(commands, fresh(deposit(busy, 1)))
		}
		for range ready { // no account of which is kept for those before
			commands = append(commands, fresh(transfer(free, payee, 1)))
		}
		answers := n.queue(commands...)
		<-time.After(patienceMax - time.Since(began)) // a turn so long that patience has its greatest length
		open()
		if soon {
			n.eventually("the batch is put off, or all others are answered", func() bool {
				return n.metric("put_off_total") > putOff || n.metric("commit_seconds") >= batches+2
			})
			release()
		}
		for _, r := range receive(answers[blocked:]) {
			if !r.ok() {
				t.Errorf("a command that was ready: %v", r.err)
			}
		}
		release()
		for _, r := range receive(answers[:blocked]) {
			if !r.ok() {
				t.Errorf("a command whose account is free again: %v", r.err)
			}
		}
		return n.metric("commit_seconds") - batches - 1, n.metric("put_off_total") - putOff // without the turn
	}
	if _, putOff := try(blocked/2, false); putOff != 0 {
		t.Errorf("a batch of half of what waits was put off %v times", putOff)
	}
	// One by one neither the machine's pauses nor its haste decide: it is rare that the lane is overtaken by who gives the account
	// back, and that patience is over before the batch comes.
	together, apart := 0, 0
	for together < 5 && apart < 12 {
		try(1, false) // which ends although the other account stays busy
		if batches, putOff := try(1, true); putOff > 0 && batches == 1 {
			together++
		} else {
			apart++
		}
	}
	t.Logf("%d of %d small parts waited for the rest", together, together+apart)
	if apart == 12 {
		t.Errorf("a small part of what waits made a batch of its own %d times in %d", apart, together+apart)
	}
	w.verify()
}
