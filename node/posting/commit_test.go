package posting_test

import (
	"errors"
	"testing"
	"time"

	"lockstep/cluster/local/servers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
)

var errLost = errors.New("the connection is lost")

// kill ends the connections to the test's database, as the server itself would.
func (w *world) kill() error {
	rows, err := w.admin.QueryContext(w.context(), "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = ? AND ID <> CONNECTION_ID()", w.database.Name)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return err
		}
		_, _ = w.admin.ExecContext(w.context(), "KILL ?", id) // it may have ended
	}
	return rows.Err()
}

// agree requires that each answer of a deposit says what the journal says, and that money moved once for each success.
func (w *world) agree(account ledger.Number, before, amount int64, results ...result) {
	w.Helper()
	successes := int64(0)
	for i, r := range results {
		if !r.ok() {
			continue
		}
		successes++
		if r.Result.Transfer == nil { // a replay names another's transfer
			continue
		}
		if rows := w.number("SELECT COUNT(*) FROM transfers WHERE id = ?", r.Result.Transfer.ID); rows != 1 {
			w.Errorf("a command claims a success that the journal does not have: command %d", i)
		}
	}
	if moved := w.posted(account) - before; moved != successes*amount {
		w.Errorf("money did not move once for each success: %d successes of %d moved %d", successes, amount, moved)
	}
}

// Whatever is lost at COMMIT, each caller learns what became of its command, and the money moves once.
func TestALostCommitIsAnsweredTruly(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		lose  func(w *world, n *node) // arranged before the batch
		proxy fate
	}{
		"the answer is lost":             {lose: func(_ *world, n *node) { n.faults.once("after_commit", func() error { return errLost }) }},
		"nothing was sent":               {lose: func(_ *world, n *node) { n.faults.once("before_commit", func() error { return errLost }) }},
		"the server ends the connection": {lose: func(w *world, n *node) { n.faults.once("before_commit", w.kill) }},
		"the connection ends after it": {lose: func(w *world, n *node) {
			n.faults.once("after_commit", func() error { return errors.Join(w.kill(), errLost) })
		}},
		"the network loses the answer":   {proxy: losesAnswer},
		"the network loses the question": {proxy: losesQuestion},
		"the network delivers it late":   {proxy: comesLate},
		"it is lost three times in a row": {lose: func(_ *world, n *node) {
			for range 3 {
				n.faults.once("before_commit", func() error { return errLost })
			}
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.proxy(servers.Shared(t).SourceAddr, nil)
			n := w.open(p.through)
			account := n.funded(1000)
			promise := hold(account, 7, time.Hour)
			open := n.plugged()
			// Without a claim only the lane's row keeps a command from running twice.
			unclaimed := posting.Command{Operation: promise, Renderer: plain{}}
			answers := n.queue(fresh(deposit(account, 10)), fresh(deposit(account, 10)), unclaimed, fresh(deposit(account, 10)))
			n.faults.once("before_commit", func() error { // after the plug's
				if test.lose != nil {
					test.lose(w, n)
					return n.faults.reach("before_commit")
				}
				p.nextCommit(test.proxy, 700*time.Millisecond)
				return nil
			})
			open()
			results := receive(answers)
			for i, r := range results {
				if !r.ok() || r.Replayed {
					t.Errorf("command %d of a lost COMMIT: %v, replayed %t", i, r.err, r.Replayed)
				}
			}
			w.agree(account, 1000, 10, results[0], results[1], results[3])
			if pending := w.pendingDebit(account); pending != 7 {
				t.Errorf("a command of a lost COMMIT ran twice: pending_debit is %d, not 7", pending)
			}
			if n.metric("unknown_commits_total") == 0 {
				t.Error("no COMMIT was lost")
			}
			n.succeed(deposit(account, 1)) // the lane goes on
			w.verify()
		})
	}
}

// One key of a batch whose COMMIT was lost is there, because another node did it meanwhile; that says nothing about the
// others.
func TestALostBatchClaimsNothingThatAnotherNodeDid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n, other := w.open(), w.open()
	account := n.funded(100)
	other.funded(1)
	open := n.plugged()
	answers := n.queue(fresh(deposit(account, 10)), asked(deposit(account, 10), "shared"), fresh(deposit(account, 10)))
	reached, resume := n.pause("before_commit")
	open()
	w.await(reached, "COMMIT")
	must(t, w.kill()) // the claims are free again, and the node does not know yet
	byOther := other.submit(asked(deposit(account, 10), "shared"))
	resume(nil)
	results := receive(answers)
	for i, r := range results {
		if !r.ok() || r.Replayed != (i == 1) {
			t.Errorf("command %d: %v, replayed %t", i, r.err, r.Replayed)
		}
	}
	if !byOther.ok() || string(byOther.Answer.Body) != string(results[1].Answer.Body) {
		t.Errorf("the shared key's answers differ: %v %s and %s", byOther.err, byOther.Answer.Body, results[1].Answer.Body)
	}
	w.agree(account, 100, 10, results...)
	w.verify()
}

// A caller that cannot wait hears that the outcome is unknown; asking again, here or elsewhere, tells it.
func TestAnUnknownOutcomeIsLearnedByAskingAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxy(servers.Shared(t).SourceAddr, nil)
	n, other := w.open(p.through), w.open()
	account := n.funded(100)
	for _, lost := range []fate{comesLate, losesQuestion} {
		before := w.posted(account)
		key := newID()
		reached := make(chan struct{})
		n.faults.once("before_commit", func() error {
			if lost == comesLate {
				p.nextCommit(lost, 700*time.Millisecond)
			} else {
				p.cut(true) // the lane cannot even ask
			}
			close(reached)
			return nil
		})
		first := n.until(reached, asked(deposit(account, 10), key))
		w.await(reached, "COMMIT")
		if first.code() != ledger.OutcomeUnknown {
			t.Errorf("a caller whose deadline came before the outcome heard %q", first.code())
		}
		if impatient := n.within(50*time.Millisecond, asked(deposit(account, 10), key)); impatient.code() != ledger.RequestInProgress {
			t.Errorf("a repeat that could not wait heard %q", impatient.code())
		}
		here, there := n.start(asked(deposit(account, 10), key)), other.start(asked(deposit(account, 10), key))
		p.cut(false)
		again := []result{<-here, <-there}
		for _, r := range again {
			if !r.ok() {
				t.Errorf("the repeat of an unknown outcome: %v", r.code())
			}
		}
		if a, b := string(again[0].Answer.Body), string(again[1].Answer.Body); a != b {
			t.Errorf("two repeats have two answers: %s and %s", a, b)
		}
		if moved := w.posted(account) - before; moved != 10 {
			t.Errorf("money did not move once under an unknown outcome: %d", moved)
		}
	}
	w.verify()
}

// A batch whose COMMIT is lost, and whose node id is another's before it can ask, stays unknown.
func TestALostCommitOfALostNodeStaysUnknown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.LeaseEvery, w.config.LeaseFor = time.Minute, 5*time.Minute // it is not to be renewed once it was ended
	old := w.open()
	account := old.funded(100)
	reached, resume := old.pause("before_commit")
	key := newID()
	first := old.start(asked(deposit(account, 10), key))
	w.await(reached, "COMMIT")
	must(t, w.kill())
	w.endLease(old)
	heir := w.open()
	resume(nil)
	if r := <-first; r.code() != ledger.OutcomeUnknown {
		t.Errorf("a lost COMMIT of a lost node was answered %q", r.code())
	}
	w.await(old.engine.Lost(), "the first node notices")
	if r := heir.submit(asked(deposit(account, 10), key)); !r.ok() || w.posted(account) != 110 {
		t.Errorf("the repeat at the next node: %v, balance %d", r.err, w.posted(account))
	}
	w.verify()
}
