package ledger_test

import (
	"testing"

	"lockstep/node/ledger"
)

var (
	beta   = ledger.Peer{System: "beta", Settlement: 10}
	payee  = ledger.NewNumber("beta", 1000)
	amount = ledger.Money{Minor: 40, Currency: "KRW"}
)

// between is a book of one customer's account and this lane's stripes, in which a remittance may be.
func between(balance int64, change func(*ledger.Account), found ...ledger.Remittance) *ledger.Book {
	account := ledger.Account{ID: 1000, Owner: "client:0", Currency: "KRW", Status: ledger.Open, Posted: balance}
	if change != nil {
		change(&account)
	}
	accounts := []ledger.Account{account}
	for _, system := range []ledger.AccountID{beta.Settlement, ledger.ReceivableSerial} {
		accounts = append(accounts, ledger.Account{ID: lane.Stripe(system, "KRW"), Currency: "KRW", Status: ledger.Open})
	}
	book := ledger.NewBook("alpha", lane, start, accounts, nil)
	book.WithPeers(found, []ledger.Exposure{{ExposureKey: ledger.ExposureKey{Peer: "beta", Currency: "KRW"}}})
	book.Stand(7, false)
	return book
}

func recovery() ledger.Recover {
	return ledger.Recover{ID: "t", Peer: beta, From: ledger.NewNumber("alpha", 1000), To: payee, Amount: amount, PayeeEpoch: 3, OwnEpoch: 7}
}

func held(state ledger.State, minor int64) ledger.Remittance {
	transfer := ledger.Transfer{ID: "t", Kind: ledger.Payment, State: state, From: ledger.NewNumber("alpha", 1000), To: payee, PayerID: 1000, Amount: ledger.Money{Minor: minor, Currency: "KRW"}}
	return ledger.Remittance{ID: "t", Payer: "alpha", Payee: "beta", State: state, PayerEpoch: 1, Transfer: &transfer}
}

// What was committed once is posted again from the hold, else from the account, else from receivable; twice is as once.
func TestAForgottenPaymentIsPostedOnce(t *testing.T) {
	receivable, account := lane.Stripe(ledger.ReceivableSerial, "KRW"), ledger.AccountID(1000)
	for name, c := range map[string]struct {
		book *ledger.Book
		from ledger.AccountID
	}{
		"hold":            {between(40, func(a *ledger.Account) { a.PendingDebit = 40 }, held(ledger.Pending, 40)), account},
		"frozen hold":     {between(40, func(a *ledger.Account) { a.PendingDebit, a.Status = 40, ledger.Frozen }, held(ledger.Pending, 40)), account},
		"account":         {between(40, nil), account},
		"frozen account":  {between(40, func(a *ledger.Account) { a.Status = ledger.Frozen }), account},
		"overdraft":       {between(0, func(a *ledger.Account) { a.OverdraftLimit = 40 }), account},
		"too little":      {between(39, nil), receivable},
		"held elsewhere":  {between(40, func(a *ledger.Account) { a.PendingDebit = 1 }), receivable},
		"closed":          {between(0, func(a *ledger.Account) { a.Status = ledger.Closed }), receivable},
		"other currency":  {between(40, func(a *ledger.Account) { a.Currency = "USD" }), receivable},
		"no such account": {between(40, func(a *ledger.Account) { a.ID = 1001 }), receivable},
	} {
		for range 2 {
			result, err := recovery().Apply(c.book)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			r := result.Remittance
			if r.State != ledger.Posted || r.Transfer.PayerID != c.from || r.PayerEpoch != 7 || r.PayeeEpoch != 3 || r.CreditedAt.IsZero() {
				t.Errorf("%s: %+v of %+v", name, r, r.Transfer)
			}
		}
		if exposures := c.book.ChangedExposures(); len(c.book.Entries) != 2 || len(exposures) != 1 || exposures[0].Posted != 40 {
			t.Errorf("%s: entries %+v, exposures %+v", name, c.book.Entries, exposures)
		}
		for _, changed := range c.book.Changed() {
			if changed.ID == c.from && (changed.PendingDebit > 1 || !changed.Stripe() && changed.Available() < 0) {
				t.Errorf("%s: the payer is %+v", name, changed)
			}
		}
		if events := c.book.Events; len(events) != 1 || events[0].Type != ledger.EventCommitted || events[0].Epoch != 7 {
			t.Errorf("%s: the peer, which may have lost by now what it has shown, is told %+v", name, events)
		}
	}
}

// Our own word against our own books is for people to look at.
func TestAContradictionIsNotRecovered(t *testing.T) {
	tombstone := ledger.Remittance{ID: "t", Payer: "alpha", Payee: "beta", State: ledger.Voided}
	for name, found := range map[string]ledger.Remittance{
		"given up": held(ledger.Voided, 40), "closed": tombstone, "of another amount": held(ledger.Pending, 41), "posted otherwise": held(ledger.Posted, 39),
	} {
		book := between(100, func(a *ledger.Account) { a.PendingDebit = 50 }, found)
		if _, err := recovery().Apply(book); ledger.CodeOf(err) != ledger.TransferConflict || len(book.Entries) != 0 || len(book.Changed()) != 0 {
			t.Errorf("%s: %v, entries %v", name, err, book.Entries)
		}
	}
}

// Unreconciled books begin, decide and close nothing, whatever a node that has not noticed it asks for; what they know they
// answer.
func TestUnreconciledBooksDecideNothing(t *testing.T) {
	alice := ledger.Actor{Principal: "client:0"}
	own := ledger.NewNumber("alpha", 1000)
	conclude := ledger.Conclude{ID: "t", Peer: beta, From: own, Currency: "KRW", End: ledger.Voided, Failure: ledger.PeerUnavailable, Epoch: 1}
	pivot := conclude
	pivot.End, pivot.Epoch = ledger.Posted, 7
	pending := func() *ledger.Book {
		return between(40, func(a *ledger.Account) { a.PendingDebit = 40 }, held(ledger.Pending, 40))
	}
	promise := ledger.Promise{ID: "p", Peer: beta, Epoch: 9, From: payee, To: own, Amount: amount}
	for name, c := range map[string]struct {
		book      *ledger.Book
		operation ledger.Operation
	}{
		"a new transfer": {between(90, nil), ledger.Remit{ID: "n", Actor: alice, Peer: beta, From: own, To: payee, Amount: amount}},
		"an abort":       {pending(), conclude},
		"a pivot":        {pending(), pivot},
		"a close":        {between(0, nil), ledger.Close{ID: "u", Payer: "alpha", Payee: "beta"}},
		"a prepare":      {between(0, nil), ledger.Prepare{Promise: promise}},
	} {
		_, err := c.operation.Apply(c.book)
		made, changed := c.book.ChangedRemittances()
		if ledger.CodeOf(err) != ledger.SourceUnavailable || len(made)+len(changed)+len(c.book.Changed()) != 0 {
			t.Errorf("%s: %v, made %v, changed %v", name, err, made, changed)
		}
		c.book.Stand(7, true)
		if _, err := c.operation.Apply(c.book); err != nil {
			t.Errorf("%s in reconciled books: %v", name, err)
		}
		made, changed = c.book.ChangedRemittances()
		for _, r := range append(made, changed...) {
			if r.Payer == "alpha" && r.PayerEpoch < 7 && r.Transfer != nil {
				t.Errorf("%s was written in epoch %d", name, r.PayerEpoch)
			}
		}
	}
	if result, err := conclude.Apply(between(0, nil, held(ledger.Posted, 40))); err != nil || result.Remittance.State != ledger.Posted {
		t.Errorf("what is decided is not told: %+v, %v", result.Remittance, err)
	}
	if _, err := (ledger.Close{ID: "u", Payer: "alpha", Payee: "beta", Reconciling: 7}).Apply(between(0, nil)); err != nil {
		t.Errorf("a reconciliation cannot close: %v", err)
	}
	if _, err := (ledger.Close{ID: "u", Payer: "alpha", Payee: "beta", Reconciling: 6}).Apply(between(0, nil)); ledger.CodeOf(err) != ledger.SourceUnavailable {
		t.Errorf("a reconciliation of an epoch that is over closes: %v", err)
	}
}
