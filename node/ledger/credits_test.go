package ledger_test

import (
	"testing"
	"time"

	"lockstep/node/ledger"
)

// Credits are noted all or none, so that one which our books contradict can be found without the others being half told.
func TestCreditsAreNotedTogetherOrNotAtAll(t *testing.T) {
	t.Parallel()
	rows := newRemoteRows()
	for _, step := range []ledger.RemoteOperation{remit(), conclude(ledger.Posted)} {
		if _, code := rows.do(step); code != "" {
			t.Fatalf("%T: %s", step, code)
		}
	}
	both := noteCredit()
	both.IDs = append(both.IDs, "of nobody")
	if _, code := rows.do(both); code != ledger.TransferConflict || !rows.remittances[remitted].CreditedAt.IsZero() {
		t.Errorf("with one that is unknown: %q, credited %v", code, rows.remittances[remitted].CreditedAt)
	}
	if _, code := rows.do(noteCredit()); code != "" || rows.remittances[remitted].CreditedAt.IsZero() {
		t.Errorf("alone: %q, credited %v", code, rows.remittances[remitted].CreditedAt)
	}
}

// A credit's time is written without the rest of the row, unless the same batch has changed that too.
func TestOnlyACreditIsOnlyNoted(t *testing.T) {
	t.Parallel()
	rows := newRemoteRows()
	for _, step := range []ledger.RemoteOperation{remit(), conclude(ledger.Posted)} {
		rows.do(step)
	}
	book := func(r ledger.Remittance) *ledger.Book {
		b := ledger.NewBook(own, ledger.Lane{Node: 1}, rows.now, nil, nil)
		b.WithPeers([]ledger.Remittance{r}, nil)
		b.Stand(ownEpoch, true)
		return b
	}
	b := book(rows.remittances[remitted])
	if _, err := noteCredit().Apply(b); err != nil || !b.Noted(remitted) {
		t.Errorf("a credit by itself: noted %v, %v", b.Noted(remitted), err)
	}
	if _, changed := b.ChangedRemittances(); len(changed) != 1 || changed[0].CreditedAt.IsZero() {
		t.Errorf("changed: %+v", changed)
	}

	both := newRemoteRows()
	both.do(remit())
	both.beside = []ledger.Operation{noteCredit()}
	if _, code := both.do(conclude(ledger.Posted)); code != "" || both.noted[remitted] || both.remittances[remitted].CreditedAt.IsZero() {
		t.Errorf("with its decision: noted %v, %q", both.noted, code)
	}
}

// A batch that locks no account has no time of the database but an estimate, which may lie before the decision.
func TestACreditIsNotNotedBeforeTheDecision(t *testing.T) {
	t.Parallel()
	rows := newRemoteRows()
	for _, step := range []ledger.RemoteOperation{remit(), conclude(ledger.Posted)} {
		if _, code := rows.do(step); code != "" {
			t.Fatalf("%T: %s", step, code)
		}
	}
	rows.now = rows.now.Add(-time.Minute)
	decided := rows.remittances[remitted].FinishedAt
	if _, code := rows.do(noteCredit()); code != "" || !rows.remittances[remitted].CreditedAt.Equal(decided) {
		t.Errorf("%q, credited at %v, decided at %v", code, rows.remittances[remitted].CreditedAt, decided)
	}
}
