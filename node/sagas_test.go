package node_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"lockstep/node"
	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
	"lockstep/saga"
)

// Most sagas never have a row in the log; an operator sees and steers them all the same.
func TestSagasWithoutARowAreShownAndSteered(t *testing.T) {
	t.Parallel()
	config := storetest.Config(t)
	db := storetest.OpenWith(t, config)
	flags := node.ConfigFlags{Config: write(t, "node.yaml", fmt.Sprintf("system: alpha\nlocks: off\nsecret: %s\nmysql: {source: %q}\n", strings.Repeat("s", 40), config.Source))}
	const open, later, posted, tombstone = "019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d21", "019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d22",
		"019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d23", "019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d24"
	unlogged(t, db, open, "alpha", "beta", ledger.Pending)
	unlogged(t, db, later, "beta", "alpha", ledger.Pending)
	unlogged(t, db, posted, "beta", "alpha", ledger.Posted)
	unlogged(t, db, tombstone, "alpha", "beta", ledger.Voided)

	if err := (&node.RetrySagaCommand{ConfigFlags: flags, ID: open}).Run(t.Context(), &bytes.Buffer{}); err != nil {
		t.Error(err)
	}
	for id, want := range map[string]error{posted: saga.ErrFinal, tombstone: saga.ErrNotFound} {
		if err := (&node.RetrySagaCommand{ConfigFlags: flags, ID: id}).Run(t.Context(), &bytes.Buffer{}); !errors.Is(err, want) {
			t.Errorf("%s is gone on with: %v, not %v", id, err, want)
		}
	}
	for state, want := range map[string][]string{"pending": {"remit", open, "await", later}, "done": {"await", posted}, "stuck": nil, "parked": nil} {
		var out bytes.Buffer
		if err := (&node.ListSagasCommand{ConfigFlags: flags, State: state, Limit: 10}).Run(t.Context(), &out); err != nil {
			t.Fatal(err)
		}
		if strings.Count(out.String(), "\n") != len(want)/2 {
			t.Errorf("%s are\n%s", state, &out)
		}
		for i := 0; i < len(want); i += 2 {
			if !strings.Contains(out.String(), want[i+1]+"  "+want[i]) {
				t.Errorf("%s, without %s %s, are\n%s", state, want[i], want[i+1], &out)
			}
		}
	}
	var out bytes.Buffer
	if err := (&node.ShowSagaCommand{ConfigFlags: flags, ID: posted}).Run(t.Context(), &out); err != nil || !strings.Contains(out.String(), "done") {
		t.Errorf("shown as\n%s, %v", &out, err)
	}
}

// unlogged writes a remittance that nobody has had to look after.
func unlogged(t *testing.T, db *store.Store, id, payer, payee string, state ledger.State) {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	r := ledger.Remittance{
		ID: ledger.TransferID(id), Payer: payer, Payee: payee, State: state, PayerEpoch: 1, ExpiresAt: now, CreatedAt: now,
		Transfer: &ledger.Transfer{
			ID: ledger.TransferID(id), Kind: ledger.Payment, State: state, From: ledger.NewNumber(payer, 1000), To: ledger.NewNumber(payee, 1000),
			Amount: ledger.Money{Minor: 1234, Currency: "USD"}, CreatedAt: now,
		},
	}
	var starts []ledger.SagaStart
	if state == ledger.Pending {
		starts = append(starts, ledger.SagaStart{ID: r.ID, After: time.Hour})
	} else {
		r.FinishedAt, r.Transfer.FinishedAt = now, now
	}
	if state == ledger.Voided {
		r.Transfer = nil // a tombstone
	}
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	store.InsertRemittances(tx, []ledger.Remittance{r}, starts...)
	if _, err := tx.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}
