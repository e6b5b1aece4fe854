package verify_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver
	"go.uber.org/goleak"

	"lockstep/node/ledger"
	"lockstep/node/verify"
)

// TestMain lets more tests run at once than there are cores, for they wait for servers most of the time.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil { // the command line is read later
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// Books that real engines kept have no breach, whatever happened in them.
func TestHealthyBooksHaveNoBreach(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	b.fill()
	const unposted = 7 // of exchange: one pending and one voided each way, one that nobody has had to look after, a return, and a limited one
	heard := 0
	report, err := verify.Run(t.Context(), b.database.Source, func(verify.Finding) { heard++ })
	b.must(err)
	if !report.OK() {
		t.Errorf("breaches in healthy books: %v", report.Breaches)
	}
	if report.System != "alpha" || report.Accounts < 7 || report.Transfers < 15 || report.Entries != 2*(report.Transfers-unposted) {
		t.Errorf("counted %+v", report)
	}
	if heard != len(report.Findings) || heard < 20 {
		t.Errorf("heard of %d findings of %d", heard, len(report.Findings))
	}
}

// A database that was just migrated is healthy too.
func TestEmptyBooksHaveNoBreach(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	report, err := verify.Run(t.Context(), b.database.Replica, nil)
	for end := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		report, err = verify.Run(t.Context(), b.database.Replica, nil) // the replica may not have all tables yet
	}
	b.must(err)
	if !report.OK() || report.Transfers != 0 {
		t.Errorf("got %+v", report)
	}
}

// A run beside writers sees no change half done: its snapshot is one.
func TestARunBesideWritersHasNoBreach(t *testing.T) {
	t.Parallel()
	const duringMin = 200
	b := newBooks(t)
	accounts := []ledger.Number{b.open("KRW", 1_000_000), b.open("KRW", 1_000_000), b.open("KRW", 1_000_000)}
	var writing atomic.Bool
	var written atomic.Int64
	var writers sync.WaitGroup
	writing.Store(true)
	for writer := range 16 {
		writers.Go(func() {
			for i := 0; writing.Load(); i++ {
				from, to := accounts[i%3], accounts[(i+1+writer%2)%3]
				b.submit(writer%2, transfer(from, to, 1))
				b.submit(writer%2, deposit(to, 3))
				written.Add(2)
			}
		})
	}
	runs, during := 0, int64(0) // commands that ended while a run went on
	for deadline := time.Now().Add(20 * time.Second); during < duringMin && time.Now().Before(deadline); runs++ {
		before := written.Load()
		report, err := verify.Run(t.Context(), b.database.Source, nil)
		if err != nil || !report.OK() {
			t.Errorf("beside writers: %v, %v", report.Breaches, err)
			break
		}
		during += written.Load() - before
	}
	writing.Store(false)
	writers.Wait()
	if t.Logf("%d runs, %d commands beside them", runs, during); during < duringMin {
		t.Error("too little was written for this to show anything")
	}
}

// Each corruption is seen under the invariant that it breaks.
func TestACorruptedRowIsNamed(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	b.fill()
	for _, c := range allCorruptions() {
		report := b.corrupted(t, c.statement)
		if !slices.ContainsFunc(report.Breaches, func(found verify.Breach) bool { return found.Invariant == c.breaks }) {
			t.Errorf("not seen as a breach of %s: %s\nseen: %v", c.breaks, c.statement, report.Breaches)
		}
	}
	if report := b.corrupted(t, "DO 1"); !report.OK() {
		t.Errorf("without a corruption: %v", report.Breaches)
	}
}

func TestEveryInvariantHasACorruption(t *testing.T) {
	t.Parallel()
	for name := range verify.Queries() {
		if !slices.ContainsFunc(allCorruptions(), func(c corruption) bool { return c.breaks == name }) {
			t.Errorf("no corruption breaks %s: nobody has seen it fail", name)
		}
	}
}

// The largest and smallest numbers that a column can hold are breaches, not errors of a query.
func TestExtremeNumbersAreNamed(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	b.fill()
	for table, columns := range map[string][]string{
		"accounts":  {"posted", "pending_debit", "pending_credit", "overdraft_limit", "version"},
		"transfers": {"amount"},
		"holds":     {"amount", "captured"},
		"entries":   {"amount", "balance_after"},
		"exposures": {"reserved", "credited", "posted"},
	} {
		for _, column := range columns {
			for _, number := range []string{"9223372036854775807", "-9223372036854775808"} {
				if b.corrupted(t, "UPDATE "+table+" SET "+column+" = "+number).OK() {
					t.Errorf("%s.%s = %s everywhere: no breach", table, column, number)
				}
			}
		}
	}
}

// corrupted checks the books as they are after the statement, which is then rolled back. CHECKs are switched off: a
// restored copy or a hand on the database has none.
func (b *books) corrupted(t *testing.T, statement string) verify.Report {
	t.Helper()
	db, err := sql.Open("mysql", b.database.Admin)
	b.must(err)
	defer db.Close()
	conn, err := db.Conn(t.Context())
	b.must(err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "SET check_constraint_checks = 0")
	b.must(err)
	tx, err := conn.BeginTx(t.Context(), nil)
	b.must(err)
	defer tx.Rollback()
	result, err := tx.ExecContext(t.Context(), statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	if changed, err := result.RowsAffected(); err == nil && changed == 0 && statement != "DO 1" {
		t.Errorf("changed nothing: %s", statement)
	}
	report, err := verify.Inspect(t.Context(), tx, nil)
	if err != nil {
		t.Errorf("%s: %v", statement, err)
	}
	return report
}

// The command prints every finding and fails upon a breach; --json is one object.
func TestTheCommandFailsUponABreach(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	b.fill()
	out, healthy := run(t, verify.Command{DSN: []string{b.database.Source}})
	if healthy != nil || !strings.Contains(out, "holds   entries_sum_to_zero") || !strings.Contains(out, "0 breaches") {
		t.Errorf("%v:\n%s", healthy, out)
	}
	db, err := sql.Open("mysql", b.database.Admin)
	b.must(err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), "UPDATE entries SET amount = amount + 1 WHERE sequence = 2 LIMIT 1")
	b.must(err)
	out, breach := run(t, verify.Command{DSN: []string{b.database.Source}})
	if !errors.Is(breach, verify.ErrBreach) || !strings.Contains(out, "BREACH  entries_sum_to_zero") || strings.Contains(out, " 0 breaches") {
		t.Errorf("%v:\n%s", breach, out)
	}
	out, breach = run(t, verify.Command{DSN: []string{b.database.Source}, JSON: true})
	var report struct {
		OK       *bool            `json:"ok"`
		System   string           `json:"system"`
		Findings []verify.Finding `json:"findings"`
		Breaches []verify.Breach  `json:"breaches"`
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("not one object on one line (%v):\n%s", err, out)
	}
	if !errors.Is(breach, verify.ErrBreach) || report.OK == nil || *report.OK || report.System != "alpha" || len(report.Breaches) == 0 {
		t.Errorf("%v: %s", breach, out)
	}
}

// Without --dsn the command checks the systems of the local cluster.
func TestTheCommandReadsCredentials(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	dir := t.TempDir()
	_, err := run(t, verify.Command{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "make up") {
		t.Errorf("without a cluster: %v", err)
	}
	credentials, err := json.Marshal(map[string]any{"systems": []map[string]string{
		{"id": "alpha", "mysql_source_dsn": b.database.Source}, {"id": "beta", "mysql_source_dsn": b.database.Source},
	}})
	b.must(err)
	b.must(os.WriteFile(filepath.Join(dir, "credentials.json"), credentials, 0o600))
	for system, want := range map[string]int{"": 2, "alpha": 1} {
		out, err := run(t, verify.Command{Dir: dir, System: system})
		if got := strings.Count(out, "system alpha:"); err != nil || got != want {
			t.Errorf("--system %q checked %d, want %d: %v", system, got, want, err)
		}
	}
	if _, err := run(t, verify.Command{Dir: dir, System: "gamma"}); err == nil || !strings.Contains(err.Error(), "alpha, beta") {
		t.Errorf("an unknown system: %v", err)
	}
}

func run(t *testing.T, command verify.Command) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := command.Run(t.Context(), &out)
	return out.String(), err
}

// A cancelled context ends a run.
func TestARunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := verify.Run(ctx, b.database.Source, func(verify.Finding) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
