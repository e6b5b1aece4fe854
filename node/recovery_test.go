package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/api/client"
	"lockstep/node"
	"lockstep/node/store"
)

// traffic is money that goes both ways between two accounts of each system, and what clients were told of it.
type traffic struct {
	*world
	alpha, beta []string // accounts

	mu       sync.Mutex
	told     [][]client.Transfer // acknowledged as posted, by round
	balances map[string]int64
}

const (
	startBalance = 1_000_000
	eachWay      = 25 // transfers of a round and direction
)

func newTraffic(w *world) *traffic {
	w.Helper()
	t := &traffic{world: w, balances: map[string]int64{}}
	for range 2 {
		t.alpha = append(t.alpha, w.alpha.funded(fmt.Sprint(startBalance)))
		t.beta = append(t.beta, w.beta.funded(fmt.Sprint(startBalance)))
	}
	return t
}

// round moves different amounts both ways at once, and waits until both systems know all of it.
func (t *traffic) round() {
	t.Helper()
	t.told = append(t.told, nil)
	t.together(2*eachWay, func(i int) error {
		from, accounts, others := t.world.alpha, t.alpha, t.beta
		if i%2 == 1 {
			from, accounts, others = t.world.beta, t.beta, t.alpha
		}
		transfer, err := from.client.Transfer(t.context(), client.Payment{
			From: accounts[i/2%2], To: others[i/4%2], Amount: fmt.Sprint(100 + i), Currency: krw,
		})
		if err != nil {
			return err
		}
		for end := time.Now().Add(patience); transfer.State == "pending" && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if transfer, err = from.client.TransferByID(t.context(), transfer.ID, client.Fresh()); err != nil {
				return err
			}
		}
		if transfer.State != "posted" {
			return fmt.Errorf("transfer %s is %s", transfer.ID, transfer.State)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.told[len(t.told)-1] = append(t.told[len(t.told)-1], transfer)
		return nil
	})
	t.settle()
}

// check requires that both systems know the transfers of the first rounds, and no later one, and that every balance follows
// from them.
func (t *traffic) check(rounds int) {
	t.Helper()
	balances := map[string]int64{}
	for _, account := range slices.Concat(t.alpha, t.beta) {
		balances[account] = startBalance
	}
	for i, told := range t.told {
		for _, transfer := range told {
			var amount int64
			_, err := fmt.Sscan(transfer.Amount, &amount)
			must(t, err)
			want := int64(0)
			if i < rounds {
				want = 1
				balances[transfer.From] -= amount
				balances[transfer.To] += amount
			}
			for _, s := range []*system{t.world.alpha, t.world.beta} {
				if n := s.number("SELECT COUNT(*) FROM transfers WHERE id = ? AND state = 'posted'", transfer.ID); n != want {
					t.Errorf("%s has transfer %s of round %d %d times, wanted %d", s.id, transfer.ID, i, n, want)
				}
			}
		}
	}
	for account, want := range balances {
		s := t.world.alpha
		if strings.HasPrefix(account, "beta") {
			s = t.world.beta
		}
		if got := s.posted(account); got != fmt.Sprint(want) {
			t.Errorf("%s has %s, and clients were told %d", account, got, want)
		}
	}
}

// Whatever a restored system has forgotten, the other side knows. The payer posts again what was credited on its word, the
// payee credits again what was posted, and all balances are what clients were told.
func TestARestoredSystemLearnsFromItsPeer(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"alpha", "beta"} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			restored := map[string]*system{"alpha": w.alpha, "beta": w.beta}[id]
			flow := newTraffic(w)
			flow.round()
			backup := restored.backup()
			flow.round()
			restored.restore(backup)
			restored.refusesUntilReconciled()
			restored.reconciles(fmt.Sprintf("%d recovered (0 of them", eachWay), fmt.Sprintf("%d credited", eachWay), id+" is ready")
			restored.reconciles("0 recovered", "0 credited", fmt.Sprintf("%d agreed", 4*eachWay))
			w.settle()
			flow.check(2)
			flow.round()
			flow.check(3)
			w.verify()
		})
	}
}

// refusesUntilReconciled requires that money moves inside the system, and none to another.
func (s *system) refusesUntilReconciled() {
	s.Helper()
	from, to := s.funded("500"), s.funded("1")
	pay := client.Payment{From: from, To: to, Amount: "5", Currency: krw}
	_, err := s.client.Transfer(s.context(), pay)
	must(s, err)
	pay.To = (map[string]*system{"alpha": s.beta, "beta": s.alpha}[s.id]).funded("1")
	if paid, err := s.untilRefused(pay); err == nil {
		s.Errorf("a transfer out of the unreconciled %s is %+v", s.id, paid)
	}
}

// untilRefused asks for a transfer until it was answered with 503 source_unavailable, which the client takes for a reason to
// ask again.
func (s *system) untilRefused(pay client.Payment, options ...client.Option) (paid client.Transfer, err error) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.context())
	defer cancel()
	before, ended := s.seen.count("503 source_unavailable"), make(chan struct{})
	go func() {
		defer close(ended)
		paid, err = s.client.Transfer(ctx, pay, options...)
	}()
	s.eventually("an unreconciled system refuses a transfer to another one", func() bool {
		return s.seen.count("503 source_unavailable") > before || isClosed(ended)
	})
	cancel()
	<-ended
	return paid, err
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Both may have been restored at once, to different times. What one of them still knows both know in the end, and what both
// forgot never happened.
func TestTwoSystemsThatWereRestoredLearnFromOneAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	flow := newTraffic(w)
	flow.round()
	alpha := w.alpha.backup()
	flow.round()
	beta := w.beta.backup()
	flow.round()
	w.beta.stop()
	w.alpha.restore(alpha)
	w.beta.restore(beta)
	results := make(chan error, 2)
	for _, s := range []*system{w.alpha, w.beta} {
		go func() { _, err := s.reconcile(s.context()); results <- err }()
	}
	must(t, errors.Join(<-results, <-results))
	w.alpha.knowsTheEpochOf(w.beta)
	w.beta.knowsTheEpochOf(w.alpha)
	w.settle()
	flow.check(2)
	flow.round()
	w.verify()
}

// knowsTheEpochOf requires that nothing counts here any more that the other system said before its restore.
func (s *system) knowsTheEpochOf(other *system) {
	s.Helper()
	epoch := other.number("SELECT epoch FROM `system`")
	if n := s.number("SELECT COUNT(*) FROM exposures WHERE epoch <> ?", epoch) + s.number("SELECT COUNT(*) FROM peers WHERE epoch <> ?", epoch); n != 0 {
		s.Errorf("%d rows of %s are not in epoch %d of %s", n, s.id, epoch, other.id)
	}
}

// A restored system may have forgotten the epoch of a peer that was restored before it, and then words of the peer would
// count again that the peer has taken back. It learns the epoch before it believes anything.
func TestARestoredSystemLearnsThePeersEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	flow := newTraffic(w)
	flow.round() // there are exposures then
	beta := w.beta.backup()
	w.alpha.restore(w.alpha.backup())
	w.alpha.reconciles("alpha is ready")
	w.beta.knowsTheEpochOf(w.alpha)
	w.beta.restore(beta)
	w.beta.reconciles("beta is ready")
	w.beta.knowsTheEpochOf(w.alpha)
	w.verify()
}

// A reconciliation that dies is run again, wherever it died.
func TestAReconciliationThatDiedIsRunAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	flow := newTraffic(w)
	backup := w.alpha.backup()
	flow.round()
	w.alpha.restore(backup)
	died := 0
	for limit := 20 * time.Millisecond; ; limit = limit * 5 / 4 {
		ctx, cancel := context.WithTimeout(w.context(), limit)
		_, err := w.alpha.reconcile(ctx)
		cancel()
		if err == nil {
			break
		}
		died++
	}
	if died == 0 {
		t.Error("no reconciliation died")
	}
	w.settle()
	flow.check(1)
	w.verify()
}

// A payment that the peer has credited stands, even when the customer has spent the money again after the restore, or the
// account is gone. Somebody owes it then.
func TestWhatNoAccountCanPayIsReceivable(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	spender, friend, payee := w.alpha.funded("700"), w.alpha.funded("1"), w.beta.funded("1")
	backup := w.alpha.backup()
	lost := w.alpha.funded("400")
	for from, amount := range map[string]string{spender: "700", lost: "400"} {
		_, err := w.alpha.client.Transfer(w.context(), client.Payment{From: from, To: payee, Amount: amount, Currency: krw})
		must(t, err)
	}
	w.settle()
	w.alpha.restore(backup)
	_, err := w.alpha.client.Transfer(w.context(), client.Payment{From: spender, To: friend, Amount: "600", Currency: krw})
	must(t, err)
	w.alpha.reconciles("2 recovered (2 of them")
	w.settle()
	if owed := w.alpha.number("SELECT SUM(posted) FROM accounts WHERE system_account = 3"); owed != -1100 {
		t.Errorf("receivable is %d, wanted -1100", owed)
	}
	if got := w.alpha.posted(spender) + " " + w.beta.posted(payee); got != "100 1101" {
		t.Errorf("payer and payee have %s, wanted 100 1101", got)
	}
	if again := w.alpha.funded("1"); again == lost {
		t.Errorf("the number %s of a forgotten account was given to another one", again)
	}
	w.verify()
}

// A client that has lost its answer with the payment, and repeats its key, is told of the payment that was found again: it
// does not pay twice. While nothing is reconciled it is told to wait.
func TestAKeyThatWasLostIsFoundAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	payer, payee := w.alpha.funded("1000"), w.beta.funded("1")
	backup := w.alpha.backup()
	pay := client.Payment{From: payer, To: payee, Amount: "300", Currency: krw, Description: "rent", Reference: "2026-11"}
	const key = "rent-of-November"
	first, err := w.alpha.client.Transfer(w.context(), pay, client.WithKey(key))
	must(t, err)
	w.settle()
	w.alpha.restore(backup)
	if early, err := w.alpha.untilRefused(pay, client.WithKey(key)); err == nil {
		t.Errorf("before the books were compared the key answers %+v", early)
	}
	w.alpha.reconciles("1 recovered")
	again, err := w.alpha.client.Transfer(w.context(), pay, client.WithKey(key))
	must(t, err)
	if again.ID != first.ID || again.State != "posted" || again.Reference != pay.Reference || again.Description != pay.Description {
		t.Errorf("the key answers %+v, and at first it answered %+v", again, first)
	}
	other := pay
	other.Amount = "301"
	var refused *client.Problem
	if _, err := w.alpha.client.Transfer(w.context(), other, client.WithKey(key)); !errors.As(err, &refused) || refused.Code != "idempotency_key_reused" {
		t.Errorf("the key of another payment: %v", err)
	}
	w.settle()
	if got := w.alpha.posted(payer) + " " + w.beta.posted(payee); got != "700 301" {
		t.Errorf("payer and payee have %s, wanted 700 301", got)
	}
	w.verify()
}

// Credits above the peer's cap are not booked by themselves: an operator raises the cap and reconciles again.
func TestForgottenCreditsHeedTheCap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	payer, payee := w.alpha.funded("900"), w.beta.funded("1")
	backup := w.beta.backup()
	_, err := w.alpha.client.Transfer(w.context(), client.Payment{From: payer, To: payee, Amount: "900", Currency: krw})
	must(t, err)
	w.settle()
	w.beta.restore(backup)
	w.beta.meet(w.alpha, "899")
	if said, err := w.beta.reconcile(w.context()); err == nil || !strings.Contains(said, "above the cap") || !strings.Contains(said, "missing [alpha]") {
		t.Errorf("reconcile above the cap: %v, and it says %q", err, said)
	}
	if got := w.beta.posted(payee); got != "1" {
		t.Errorf("the payee has %s above the cap", got)
	}
	w.beta.meet(w.alpha, "900")
	w.beta.reconciles("1 credited", "beta is ready")
	w.settle()
	if got := w.beta.posted(payee); got != "901" {
		t.Errorf("the payee has %s, wanted 901", got)
	}
	w.verify()
}

// A restore asks for nodes that are down and a file that is whole, and leaves a database alone that it may not replace.
func TestARestoreRefusesWhatItMayNotReplace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.alpha.funded("5")
	backup := w.alpha.backup()
	restore := func(s *system, path string, force bool) error {
		return (&node.RestoreCommand{ConfigFlags: s.flags(), In: path, Force: force}).Run(w.context(), io.Discard)
	}
	if err := restore(w.alpha, backup, false); !errors.Is(err, store.ErrNodesAlive) {
		t.Errorf("restore under a living node: %v", err)
	}
	text, err := os.ReadFile(backup)
	must(t, err)
	for name, broken := range map[string][]byte{
		"cut.sql": text[:len(text)/2], "endless.sql": text[:strings.LastIndex(string(text), "-- end")],
		"changed.sql": []byte(strings.Replace(string(text), "INSERT", "insert", 1)), "empty.sql": nil,
	} {
		must(t, os.WriteFile(w.alpha.path(name), broken, 0o600))
		if err := restore(w.alpha, w.alpha.path(name), true); err == nil {
			t.Errorf("%s was restored", name)
		}
	}
	if err := restore(w.beta, backup, true); err == nil {
		t.Error("alpha's backup was restored into beta")
	}
	if n := w.alpha.number("SELECT COUNT(*) FROM `system` WHERE state = 'ready' AND epoch = 1"); n != 1 {
		t.Error("a refused restore has changed the system's state")
	}
	before := w.alpha.number("SELECT SUM(posted) FROM accounts WHERE system_account IS NULL")
	err = restore(w.alpha, backup, true) // the node loses its lane
	if err != nil && strings.Contains(err.Error(), "until it is run again") {
		t.Logf("the node has written into what was being filled: %v", err) // its audit has no lane
		err = restore(w.alpha, backup, true)
	}
	must(t, err)
	select {
	case err := <-w.alpha.done:
		if !errors.Is(err, node.ErrLost) {
			t.Errorf("the node under a forced restore ended with %v", err)
		}
		w.alpha.end = nil
	case <-time.After(patience):
		t.Error("the node under a forced restore goes on")
	}
	if after := w.alpha.number("SELECT SUM(posted) FROM accounts WHERE system_account IS NULL"); after != before {
		t.Errorf("%d after the restore, %d before", after, before)
	}
}

// A failover asks for an old source that is away for good: one that takes writes is refused whatever the operator says, one
// that does not answer needs the operator's word. What it is to go to may be as wrong.
func TestAFailoverRefusesWhatItMayNotReplace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := w.beta.database
	failover := func(s *system, source string, fenced bool) error { // to a server that nobody may promote, should a refusal be missing
		s.database.Source = source
		s.configure()
		return (&node.FailoverCommand{ConfigFlags: s.flags(), To: own.Admin, Fenced: fenced}).Run(w.context(), io.Discard)
	}
	away := strings.Replace(own.Source, own.Source[strings.Index(own.Source, "("):strings.Index(own.Source, ")")], "("+freeAddress(t), 1)
	for _, fenced := range []bool{true, false} {
		if err := failover(w.beta, own.Source, fenced); !errors.Is(err, node.ErrSourceAlive) {
			t.Errorf("a source that takes writes, fenced %v: %v", fenced, err)
		}
	}
	begin, end := strings.Index(own.Source, "(")+1, strings.Index(own.Source, ")")
	w.beta.candidates, w.beta.database.Source = []string{own.Source[begin:end]}, away // as after a failover that nodes have followed
	w.beta.configure()
	onward := node.FailoverCommand{ConfigFlags: w.beta.flags(), To: own.Replica, Fenced: true} // whose account may promote nothing
	if err := onward.Run(w.context(), io.Discard); !errors.Is(err, node.ErrSourceAlive) || !strings.Contains(err.Error(), own.Source[begin:end]) {
		t.Errorf("to a replica, while a candidate takes writes: %v", err)
	}
	for name, source := range map[string]string{"does not answer": away, "is read-only": own.Replica} {
		if err := failover(w.beta, source, false); !errors.Is(err, node.ErrNotFenced) {
			t.Errorf("a source that %s: %v", name, err)
		}
		if err := failover(w.beta, source, true); !errors.Is(err, store.ErrTakesWrites) {
			t.Errorf("a source that %s, to one that takes writes: %v", name, err)
		}
	}
	if err := failover(w.alpha, away, true); err == nil || !strings.Contains(err.Error(), `belongs to system "beta"`) {
		t.Errorf("a failover of alpha to a server of beta: %v", err)
	}
	if n := w.beta.number("SELECT COUNT(*) FROM `system` WHERE state = 'ready' AND epoch = 1"); n != 1 {
		t.Error("a refused failover has changed the system's state")
	}
}
