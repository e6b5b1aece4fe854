package posting_test

import (
	"slices"
	"testing"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
)

// beta makes a peer known.
func (w *world) beta() ledger.Peer {
	w.Helper()
	must(w, w.setup.PutPeer(w.context(), store.PeerRow{ID: "beta", BaseURL: "http://127.0.0.1:1", JWKS: "{}", Epoch: 1}))
	return ledger.Peer{System: "beta", Settlement: ledger.AccountID(w.number("SELECT settlement FROM peers WHERE id = 'beta'"))}
}

func remit(peer ledger.Peer, from ledger.Number, minor int64) ledger.Remit {
	return ledger.Remit{
		ID: ledger.TransferID(newID()), Actor: ledger.Actor{Principal: alice}, Peer: peer, From: from, To: ledger.NewNumber("beta", 1000),
		Amount: ledger.Money{Minor: minor, Currency: "KRW"}, Epoch: 1, ExpiresIn: time.Minute, LookAfter: time.Hour,
	}
}

// concluded decides a transfer that was held, with what is known of it.
func concluded(held ledger.Remittance, peer ledger.Peer, end ledger.State) ledger.Conclude {
	c := ledger.Conclude{
		ID: held.ID, Peer: peer, From: held.Transfer.From, Currency: held.Transfer.Amount.Currency, End: end, Epoch: 1, PayeeEpoch: 1, Held: &held,
	}
	if end == ledger.Voided {
		c.Failure, c.PayeeEpoch = ledger.PeerUnavailable, 0
	}
	return c
}

// step runs what no client waits for.
func (n *node) step(operation ledger.Operation) result {
	outcome, err := n.engine.Submit(n.context(), posting.Command{Operation: operation})
	return result{outcome, err}
}

// What was held ends while another node has its account: nothing can refuse it, and the row is enough.
func TestAStepThatEndsWhatWasHeldNeedsNoRedisLock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	prefix := newPrefix()
	n, peer := w.open(withLocker(w.locker(prefix))), w.beta()
	account := n.funded(100)
	held := n.succeed(remit(peer, account, 30))
	release := w.take(prefix, lockOf(account))
	another := n.start(fresh(remit(peer, account, 1)))
	n.eventually("the command of a client comes back", func() bool { return n.metric("busy_total") > 3 })
	if r := n.step(concluded(*held.Result.Remittance, peer, ledger.Posted)); r.code() != "" || w.posted(account) != 70 {
		t.Errorf("the pivot: %v, the balance is %d", r.err, w.posted(account))
	}
	if pending := w.pendingDebit(account); pending != 0 {
		t.Errorf("a client's command ran while another node had its account: %d are pending", pending)
	}
	release()
	if r := <-another; !r.ok() {
		t.Errorf("once the account is free: %v", r.err)
	}
	w.verify()
}

// A source that was promoted may lack an exposure that a lane believes to have made.
func TestAnExposureIsMadeAgainAfterItWasLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n, peer := w.open(), w.beta()
	account := n.funded(100)
	w.exec("INSERT INTO exposures (peer, currency, epoch, reserved, credited, posted, settled) VALUES ('beta', 'USD', 1, 0, 0, 0, 0)") // one that is there, of the same peer
	for range 2 {
		held := *n.succeed(remit(peer, account, 30)).Result.Remittance
		w.exec("DELETE FROM exposures WHERE currency = 'KRW'")
		if r := n.step(concluded(held, peer, ledger.Posted)); r.code() != "" {
			t.Errorf("decided after the exposure was lost: %q", r.code())
		}
		if posted := w.number("SELECT posted FROM exposures WHERE currency = 'KRW'"); posted != 30 {
			t.Errorf("%d were posted, not 30", posted)
		}
	}
}

// A decision brings what it knows of the transfer; whoever comes second finds how it has ended, and not what was known before.
func TestADecisionWithOldKnowledgeFindsTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n, peer := w.open(), w.beta()
	account := n.funded(100)
	first := remit(peer, account, 30)
	first.Reference, first.Description, first.Origin = "42", "rent", "sealed"
	held := *n.succeed(first).Result.Remittance
	decide := func(end ledger.State) ledger.Remittance {
		t.Helper()
		r := n.step(concluded(held, peer, end))
		if r.code() != "" {
			t.Fatal(r.code(), r.err)
		}
		return *r.Result.Remittance
	}
	if got := decide(ledger.Posted); got.State != ledger.Posted || got.Transfer.Reference != "42" || got.Origin != "sealed" {
		t.Errorf("decided is %+v", got)
	}
	if got := decide(ledger.Voided); got.State != ledger.Posted || got.Transfer.State != ledger.Posted || got.PayeeEpoch != 1 || got.Failure != "" {
		t.Errorf("the second decision shows %+v of %+v", got.Transfer, got)
	}
	n.combine(
		posting.Command{Operation: concluded(held, peer, ledger.Voided)},
		posting.Command{Operation: ledger.NoteCredit{IDs: []ledger.TransferID{held.ID}, Peer: peer, Epoch: 1, Currency: "KRW"}},
	)
	if w.posted(account) != 70 || w.pendingDebit(account) != 0 || w.number("SELECT COUNT(*) FROM remittances WHERE credited_at IS NOT NULL") != 1 {
		t.Errorf("the balance is %d, %d are pending", w.posted(account), w.pendingDebit(account))
	}
	gone := held
	gone.ID = ledger.TransferID(newID())
	if r := n.step(concluded(gone, peer, ledger.Posted)); r.code() != ledger.TransferNotFound {
		t.Errorf("a transfer that is not there any more: %v", r.err)
	}
	w.verify()
}

// A listener hears how a transfer has ended, once.
func TestListenersHearTheEndOfATransferBetweenSystems(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n, peer := w.open(), w.beta()
	account := n.funded(100)
	before := len(w.outbox())
	posted, voided := *n.succeed(remit(peer, account, 1)).Result.Remittance, *n.succeed(remit(peer, account, 1)).Result.Remittance
	if rows := w.outbox()[before:]; len(rows) != 0 {
		t.Errorf("what has begun is told: %v", rows)
	}
	for end, r := range map[ledger.State]ledger.Remittance{ledger.Posted: posted, ledger.Voided: voided} {
		if r := n.step(concluded(r, peer, end)); r.code() != "" {
			t.Fatal(r.code(), r.err)
		}
	}
	told := map[string][]string{}
	for _, row := range w.outbox()[before:] {
		for name, ids := range row {
			told[name] = append(told[name], ids...)
		}
	}
	if len(told) != 2 || !slices.Equal(told["transfer.posted"], []string{string(posted.ID)}) || !slices.Equal(told["transfer.voided"], []string{string(voided.ID)}) {
		t.Errorf("told is %v", told)
	}
}
