package node_test

import (
	"testing"

	"lockstep/api/client"
	"lockstep/node/ledger"
)

// close ends an account as an operator does; it must be empty.
func (s *system) close(account string) {
	s.Helper()
	result, err := s.root.ExecContext(s.context(), "UPDATE accounts SET status = 'closed' WHERE id = ? AND posted = 0", ledger.Number(account).Serial())
	must(s, err)
	if changed, err := result.RowsAffected(); err != nil || changed != 1 {
		s.Fatalf("%s was not closed: %d, %v", account, changed, err)
	}
}

// empty opens an account without money.
func (s *system) empty() string {
	s.Helper()
	account, err := s.client.OpenAccount(s.context(), client.NewAccount{Currency: krw})
	must(s, err)
	return account.Number
}

// What a restored system finds credited to an account that has since been closed, or that it has forgotten, it sends back, once,
// even if it is restored again and has forgotten that it did. Only what cannot be sent back stays in suspense.
func TestWhatNoAccountCanTakeComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	payer, gone := w.alpha.funded("1000"), w.alpha.funded("40")
	frozen := w.alpha.funded("500")
	closed := w.beta.empty()
	backup := w.beta.backup()
	forgotten := w.beta.empty()
	for _, pay := range []client.Payment{
		{From: payer, To: closed, Amount: "300"},
		{From: payer, To: forgotten, Amount: "20"},
		{From: gone, To: closed, Amount: "40"},
		{From: frozen, To: closed, Amount: "5"},
	} {
		pay.Currency = krw
		_, err := w.alpha.client.Transfer(w.context(), pay)
		must(t, err)
	}
	w.settle()
	w.alpha.close(gone)
	_, err := w.alpha.root.ExecContext(w.context(), "UPDATE accounts SET status = 'frozen' WHERE id = ?", ledger.Number(frozen).Serial())
	must(t, err)
	for range 2 {
		w.beta.restore(backup)
		w.beta.close(closed)
		w.beta.reconciles("4 credited", "beta is ready")
		w.settle()
		if got := w.alpha.posted(payer) + " " + w.alpha.posted(frozen) + " " + w.beta.posted(closed); got != "1000 500 0" {
			t.Errorf("payer, the frozen payer and the closed payee have %s, wanted 1000 500 0", got)
		}
		if kept := w.beta.number("SELECT SUM(posted) FROM accounts WHERE system_account = 2"); kept != 40 {
			t.Errorf("suspense is %d, wanted 40: only one payer is gone", kept)
		}
		for state, want := range map[string]int64{"posted": 3, "voided": 1} {
			if found := w.beta.number("SELECT COUNT(*) FROM transfers WHERE kind = 'return' AND state = ?", state); found != want {
				t.Errorf("%d returns are %s, wanted %d", found, state, want)
			}
		}
		w.verify()
	}
	seen, err := w.alpha.client.Transfers(w.context(), client.Filter{Account: payer, Kind: "return"})
	must(t, err)
	if len(seen.Transfers) != 2 || seen.Transfers[0].State != "posted" || seen.Transfers[0].To != payer {
		t.Errorf("the payer sees the returns %+v", seen.Transfers)
	}
}
