package bench_test

import (
	"database/sql"
	"testing"

	"lockstep/cluster/bench"
	"lockstep/node/store/storetest"
)

// What the engine is measured against keeps pace with the schema that it copies.
func TestDirectSQLFitsTheSchema(t *testing.T) {
	t.Parallel()
	_, database := storetest.Database(t)
	if err := bench.Yardstick(t.Context(), database.Admin); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("mysql", database.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var transfers, entries, sum int
	if err := db.QueryRowContext(t.Context(), `SELECT (SELECT COUNT(*) FROM bench_transfers), COUNT(*), SUM(amount)
		FROM bench_entries`).Scan(&transfers, &entries, &sum); err != nil {
		t.Fatal(err)
	}
	if transfers != 1+256 || entries != 2*transfers || sum != 0 {
		t.Errorf("%d transfers and %d entries that sum to %d were written", transfers, entries, sum)
	}
}
