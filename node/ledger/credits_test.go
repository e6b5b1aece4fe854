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
