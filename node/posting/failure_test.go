package posting_test

import (
	"database/sql"
	"testing"
	"time"

	"lockstep/cluster/local/servers"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// lockRow holds an account's row until release is called.
func (w *world) lockRow(number ledger.Number) (release func()) {
	w.Helper()
	tx, err := w.setup.Begin(w.context())
	must(w, err)
	_, _, err = store.LockAccounts(w.context(), tx, []ledger.AccountID{number.Serial()})
	must(w, err)
	return func() { must(w, tx.Rollback()) }
}

// A row that somebody else keeps for longer than a lock is waited for costs time, and nothing else.
func TestARowThatIsKeptElsewhereIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.LockWaitMax = time.Second
	nodes := map[string]*node{
		"tried again":       w.open(),
		"back in the queue": w.open(func(o *options) { o.engine.RepeatsMax = 1 }),
	}
	answers, accounts := map[string]<-chan result{}, map[string]ledger.Number{}
	var releases []func()
	for name, n := range nodes {
		accounts[name] = n.funded(100)
		releases = append(releases, w.lockRow(accounts[name]))
		answers[name] = n.start(fresh(deposit(accounts[name], 10)))
	}
	for name, n := range nodes {
		n.eventually("the wait for the row ends: "+name, func() bool { return n.metric("failures_total", "again") == 1 })
		if posted := w.posted(accounts[name]); posted != 100 {
			t.Errorf("%s: the balance is %d while the row is kept", name, posted)
		}
	}
	for _, release := range releases {
		release()
	}
	for name, answer := range answers {
		if r := <-answer; !r.ok() || w.posted(accounts[name]) != 110 {
			t.Errorf("%s: %v, balance %d", name, r.err, w.posted(accounts[name]))
		}
	}
	w.verify()
}

// The row of a stripe may be kept as well, by a transaction of the lane's own that hangs. It has no lock in Redis.
func TestAStripeThatIsKeptElsewhereIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.LockWaitMax = time.Second
	n := w.open(func(o *options) { o.engine.Lanes = 1 })
	account := n.funded(100)
	free := w.lockRow(account)
	answer := n.start(fresh(deposit(account, 10)))
	skipped := func() float64 { return n.metric("skipped_total") }
	n.eventually("the account is known to be kept", func() bool { return skipped() > 0 })
	tx, err := w.setup.Begin(w.context())
	must(w, err)
	var stripes []ledger.AccountID
	must(w, tx.Query(w.context(), func(rows *sql.Rows) error {
		var id ledger.AccountID
		err := rows.Scan(&id)
		stripes = append(stripes, id)
		return err
	}, "SELECT id FROM accounts WHERE system_account IS NOT NULL"))
	_, _, err = store.LockAccounts(w.context(), tx, stripes)
	must(w, err)
	if len(stripes) == 0 {
		t.Fatal("there is no stripe")
	}
	before := skipped()
	n.eventually("its stripe is found kept as well", func() bool { return skipped() > before+1 })
	free()
	n.eventually("the account is free and the stripe is not", func() bool { return skipped() > before+3 })
	if posted := w.posted(account); posted != 100 {
		t.Errorf("the balance is %d while the stripe is kept", posted)
	}
	must(t, tx.Rollback())
	if r := <-answer; !r.ok() || w.posted(account) != 110 {
		t.Errorf("%v, balance %d", r.err, w.posted(account))
	}
	w.verify()
}

// A connection that is lost before COMMIT is replaced once; without the source the caller hears that nothing was applied,
// and the engine goes on when it is back.
func TestALostConnectionIsReplacedOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t).patient()
	p := w.proxy(servers.Shared(t).SourceAddr, nil)
	n := w.open(p.through)
	account := n.funded(100)
	release := w.lockRow(account)
	answer := n.start(fresh(deposit(account, 10)))
	w.eventually("the lane waits for the row", func() bool { return w.waitingFor("SELECT id, owner") == 1 })
	p.cut(false)
	release()
	if r := <-answer; !r.ok() || w.posted(account) != 110 {
		t.Errorf("after a lost connection: %v, balance %d", r.err, w.posted(account))
	}
	if lost := n.metric("failures_total", "server"); lost != 1 {
		t.Errorf("%v connections were lost, want 1", lost)
	}
	p.cut(true)
	command := fresh(deposit(account, 10))
	if r := n.submit(command); r.code() != ledger.SourceUnavailable {
		t.Errorf("without a source a caller hears %q", r.code())
	}
	p.cut(false)
	if r := n.recovered(command); !r.ok() || r.Replayed || w.posted(account) != 120 {
		t.Errorf("when the source is back: %v, balance %d", r.err, w.posted(account))
	}
	w.verify()
}
