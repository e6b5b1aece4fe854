package bench_test

import (
	"database/sql"
	"testing"

	"lockstep/cluster/bench"
	"lockstep/node/store/storetest"
	"lockstep/node/verify"
)

// A journal written by plain SQL breaks no invariant, so that a load on top of it can be verified too.
func TestThePreloadedJournalHasNoBreach(t *testing.T) {
	t.Parallel()
	_, database := storetest.Database(t)
	db, err := sql.Open("mysql", database.Admin+bench.PreloadParams)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const accounts, rounds = 3000, 9 // more rows than one chunk has
	if err := bench.WriteJournal(t.Context(), db, storetest.System, accounts, rounds); err != nil {
		t.Fatal(err)
	}
	report, err := verify.Run(t.Context(), database.Admin, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() {
		t.Errorf("the journal has breaches: %v", report.Breaches)
	}
	if report.Accounts != accounts+1 || report.Transfers != accounts*(1+rounds) || report.Entries != 2*report.Transfers {
		t.Errorf("%d accounts, %d transfers and %d entries were written", report.Accounts, report.Transfers, report.Entries)
	}
	var claims int
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM idempotency").Scan(&claims); err != nil || claims != accounts*rounds {
		t.Errorf("%d idempotency keys were written: %v", claims, err)
	}
}
