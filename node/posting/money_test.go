package posting_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"lockstep/cluster/local/servers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
)

func settle(r result, end ledger.State, to ledger.Number, minor int64) ledger.Settle {
	hold := r.Result.Hold
	return ledger.Settle{
		Hold: hold.ID, Actor: ledger.Actor{Principal: alice}, Account: ledger.NewNumber("alpha", hold.Account), End: end,
		Transfer: ledger.TransferID(newID()), To: to, Minor: minor,
	}
}

// An atomic batch is all or nothing, also amid others; a batch that is not says for each transfer what became of it.
func TestBatchesAreAtomicOrNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open()
	payer, payee := n.funded(100), w.account(alice)
	batch := func(atomic bool, amounts ...int64) posting.Command {
		o := ledger.Batch{Atomic: atomic}
		for _, amount := range amounts {
			o.Transfers = append(o.Transfers, transfer(payer, payee, amount))
		}
		return fresh(o)
	}
	results := n.combine(
		fresh(transfer(payer, payee, 10)), batch(true, 30, 30, 31), fresh(transfer(payer, payee, 5)),
		batch(true, 20, 20), batch(false, 40, 60, 1), fresh(transfer(payer, payee, 5)),
	)
	for i, want := range []ledger.Code{"", ledger.InsufficientFunds, "", "", "", ledger.InsufficientFunds} {
		if code := results[i].code(); code != want {
			t.Errorf("command %d was answered %q, want %q", i, code, want)
		}
	}
	if items := results[4].Result.Batch; len(items) != 3 || items[0].Refusal != nil || items[1].Refusal == nil || items[2].Refusal != nil {
		t.Errorf("the items of a batch that is not atomic: %+v", items)
	}
	if from, to := w.posted(payer), w.posted(payee); from != 4 || to != 96 {
		t.Errorf("the balances are %d and %d, not 4 and 96", from, to)
	}
	if entries := w.number("SELECT COUNT(*) FROM entries WHERE account_id = ?", payer.Serial()); entries != 7 {
		t.Errorf("%d entries, want 7", entries)
	}
	w.verify()
}

// A hold is captured or voided once, whichever node is asked first; a capture of less gives the rest back.
func TestAHoldEndsOnce(t *testing.T) {
	t.Parallel()
	const holds = 12
	w := newWorld(t)
	nodes := []*node{w.open(), w.open()}
	payer, payee := nodes[0].funded(1000), w.account(alice)
	ended := map[ledger.State]int64{}
	for i := range holds {
		made := nodes[i%2].succeed(hold(payer, 10, time.Hour))
		answers := []<-chan result{
			nodes[0].start(fresh(settle(made, ledger.Posted, payee, 4))), nodes[1].start(fresh(settle(made, ledger.Posted, payee, 4))),
			nodes[0].start(fresh(settle(made, ledger.Voided, "", 0))), nodes[1].start(fresh(settle(made, ledger.Voided, "", 0))),
		}
		winners := 0
		for _, r := range receive(answers) {
			switch {
			case r.ok():
				winners++
				ended[r.Result.Hold.State]++
			case r.code() != ledger.InvalidState:
				t.Errorf("the end of a hold was answered %q", r.code())
			}
		}
		if winners != 1 {
			t.Errorf("a hold ended %d times", winners)
		}
	}
	t.Logf("ended: %v", ended)
	if from, to := w.posted(payer), w.posted(payee); from != 1000-4*ended[ledger.Posted] || to != 1000-from {
		t.Errorf("the balances are %d and %d after %d captures of 4", from, to, ended[ledger.Posted])
	}
	if pending := w.pendingDebit(payer); pending != 0 {
		t.Errorf("%d are still held", pending)
	}
	w.verify()
}

// Holds expire by the database's clock, once, whoever of the nodes comes first, and together in few transactions.
func TestHoldsExpireOnce(t *testing.T) {
	t.Parallel()
	const holds = 40
	w := newWorld(t)
	nodes := []*node{w.open(), w.open()}
	payer := nodes[0].funded(1000)
	var short []result
	for range holds {
		short = append(short, nodes[0].succeed(hold(payer, 10, 10*time.Millisecond)))
	}
	nodes[0].succeed(hold(payer, 10, time.Hour))
	w.eventually("the holds are due", func() bool {
		return w.number("SELECT COUNT(*) FROM holds WHERE expires_at <= UTC_TIMESTAMP(6)") == holds
	})
	if r := nodes[0].submit(fresh(settle(short[0], ledger.Posted, w.account(alice), 0))); r.code() != ledger.InvalidState {
		t.Errorf("the capture of a hold whose time is over was answered %q", r.code())
	}
	before := nodes[0].metric("commit_seconds") + nodes[1].metric("commit_seconds")
	var both sync.WaitGroup
	for _, n := range nodes {
		both.Go(func() { n.engine.ExpireDue(w.context()) })
	}
	both.Wait()
	if ran := nodes[0].metric("commit_seconds") + nodes[1].metric("commit_seconds") - before; ran > holds/2 {
		t.Errorf("%d holds expired in %v transactions", holds, ran)
	}
	if expired := w.number("SELECT COUNT(*) FROM holds WHERE state = 'expired'"); expired != holds {
		t.Errorf("%d holds expired, want %d", expired, holds)
	}
	if pending := w.pendingDebit(payer); pending != 10 {
		t.Errorf("%d are still held, want 10", pending)
	}
	w.verify()
}

// The expiry works by itself until it is told to end.
func TestExpiryRunsUntilItIsStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open()
	payer := n.funded(1000)
	n.succeed(hold(payer, 10, time.Millisecond))
	ctx, stop := context.WithCancel(w.context())
	var running sync.WaitGroup
	running.Go(func() { n.engine.ExpireHolds(ctx) })
	w.eventually("the hold expires", func() bool { return w.pendingDebit(payer) == 0 })
	stop()
	running.Wait()
	w.verify()
}

// A node whose clock is wrong promises the same hour as the others.
func TestExpiryIsTheDatabasesTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open(func(o *options) {
		o.store.AllowUnsafe = true
		o.store.Clock = func() time.Time { return time.Now().Add(-3 * time.Hour) }
	})
	payer := n.funded(1000)
	made := n.succeed(hold(payer, 10, time.Minute))
	left := w.number("SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(6), expires_at) FROM holds WHERE id = ?", made.Result.Hold.ID)
	if left < 30 || left > 60 {
		t.Errorf("a hold of a minute is over in %d s", left)
	}
	if late := w.number("SELECT TIMESTAMPDIFF(SECOND, created_at, UTC_TIMESTAMP(6)) FROM idempotency LIMIT 1"); late < 0 || late > 30 {
		t.Errorf("a claim was made %d s ago", late)
	}
	n.engine.ExpireDue(w.context())
	if pending := w.pendingDebit(payer); pending != 10 {
		t.Errorf("%d are held, want 10", pending)
	}
}

// Each lane keeps a share of `cash` of its own; together they are what all deposits less all withdrawals say.
func TestCashIsTheSumOfItsStripes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	two := func(o *options) { o.engine.Lanes, o.engine.BatchTransfersMax = 2, 4 }
	nodes := []*node{w.open(two), w.open(two)}
	accounts := w.accounts(alice, 8)
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			n, account := nodes[i%2], accounts[i%8]
			n.submit(fresh(deposit(account, 30)))
			n.submit(fresh(pay(ledger.Withdrawal, account, ledger.Cash, 20)))
			n.submit(fresh(pay(ledger.Withdrawal, account, ledger.Cash, 10_000)))
		})
	}
	all.Wait()
	cash := w.number("SELECT SUM(posted) FROM accounts WHERE system_account = ? AND currency = 'KRW'", ledger.CashSerial)
	people := w.number("SELECT SUM(posted) FROM accounts WHERE system_account IS NULL")
	if cash != -64*10 || people != 64*10 {
		t.Errorf("cash is %d and the accounts have %d, want -640 and 640", cash, people)
	}
	stripes := w.number("SELECT COUNT(*) FROM accounts WHERE system_account IS NOT NULL")
	if lanes := w.number("SELECT COUNT(DISTINCT node, lane) FROM accounts WHERE system_account IS NOT NULL"); lanes != stripes || lanes < 2 || lanes > 4 {
		t.Errorf("%d lanes have %d stripes, want one for each lane that worked", lanes, stripes)
	}
	for _, n := range nodes {
		if failed := n.metric("failures_total"); failed != 0 {
			t.Errorf("%v transactions failed", failed)
		}
	}
	w.verify()
}

// A new stripe whose COMMIT is lost is made again: its id is computed.
func TestAStripeIsMadeAgainWhenItsCommitIsLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxy(servers.Shared(t).SourceAddr, nil)
	n := w.open(p.through)
	account := w.account(alice)
	for _, lost := range []fate{losesAnswer, losesQuestion} {
		w.exec("DELETE FROM accounts WHERE system_account IS NOT NULL AND version = 0")
		p.nextCommit(lost, 0)
		n.succeed(deposit(account, 5))
	}
	if cash := w.number("SELECT SUM(posted) FROM accounts WHERE system_account = ?", ledger.CashSerial); cash != -10 {
		t.Errorf("cash is %d, not -10", cash)
	}
	w.verify()
}
