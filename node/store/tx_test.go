package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

// quick is a configuration whose limits at the server end soon.
func quick(tb testing.TB) store.Config {
	tb.Helper()
	config := storetest.Config(tb)
	config.LockWaitMax, config.StatementMax, config.ReadMax = time.Second, 2*time.Second, 4*time.Second
	config.IdleTransactionMax = time.Second
	return config
}

func number(err error) uint16 {
	var fromServer *mysql.MySQLError
	if errors.As(err, &fromServer) {
		return fromServer.Number
	}
	return 0
}

// A deadlock ends the transaction at the server; a statement after it would belong to none, or to another.
func TestNothingIsCommittedAfterADeadlock(t *testing.T) {
	t.Parallel()
	config := quick(t)
	config.IdleTransactionMax = 5 * time.Second // a busy machine may pause between two statements
	s := storetest.OpenWith(t, config)
	for _, node := range []int{1, 2} {
		tx := begin(t, s)
		exec(t, tx, insertLane, node)
		_, err := tx.Commit(testContext(t))
		must(t, err)
	}
	const lock = "UPDATE lanes SET batch = batch + 1 WHERE node = ?"
	first, second := begin(t, s), begin(t, s)
	exec(t, first, lock, 1)
	exec(t, second, lock, 2)
	waited := make(chan error, 1)
	ctx := testContext(t)
	go func() {
		_, err := first.Exec(ctx, lock, 2)
		waited <- err
	}()
	_, errSecond := second.Exec(ctx, lock, 1)
	errFirst := <-waited
	victim, err := first, errFirst
	if errSecond != nil {
		victim, err = second, errSecond
	}
	if number(err) != 1213 {
		t.Fatalf("wanted a deadlock, got %v and %v", errFirst, errSecond)
	}
	if _, err := victim.Exec(ctx, insertLane, 3); !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("a statement ran after the deadlock that ended its transaction: %v", err)
	}
	if _, err := victim.Commit(ctx); !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("COMMIT was sent after a deadlock: %v", err)
	}
	if found := lanes(t, s); !slices.Equal(found, []int{1, 2}) {
		t.Errorf("a statement after the deadlock was committed: lanes of %v", found)
	}
}

// Each of these errors leaves the transaction alive at the server, with a part of what it should have done.
func TestNoErrorLetsHalfATransactionCommit(t *testing.T) {
	t.Parallel()
	config := quick(t)
	config.IdleTransactionMax = 5 * time.Second
	s := storetest.OpenWith(t, config)
	seed := begin(t, s)
	exec(t, seed, insertLane, 100)
	_, err := seed.Commit(testContext(t))
	must(t, err)
	holder := begin(t, s)
	exec(t, holder, "UPDATE lanes SET batch = 1 WHERE node = 100")

	errScan := errors.New("scan failed")
	for _, broken := range []struct {
		name  string
		wants func(error) bool
		run   func(ctx context.Context, tx *store.Tx) error
	}{
		{"lock wait", func(err error) bool { return number(err) == 1205 }, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE lanes SET batch = 2 WHERE node = 100")
			return err
		}},
		{"statement limit", func(err error) bool { return number(err) == 1969 }, func(ctx context.Context, tx *store.Tx) error {
			return tx.Query(ctx, func(*sql.Rows) error { return nil }, "SELECT COUNT(*), SLEEP(3) FROM lanes")
		}},
		{"duplicate key", func(err error) bool { return number(err) == 1062 }, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, insertLane, 1)
			return err
		}},
		{"CHECK", func(err error) bool { return number(err) == 4025 }, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO `system` (only, id, epoch, state) VALUES (2, 'beta', 1, 'ready')")
			return err
		}},
		{"scan", func(err error) bool { return errors.Is(err, errScan) }, func(ctx context.Context, tx *store.Tx) error {
			return tx.Query(ctx, func(*sql.Rows) error { return errScan }, "SELECT 1")
		}},
		{"context", func(err error) bool { return errors.Is(err, context.Canceled) }, func(ctx context.Context, tx *store.Tx) error {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			_, err := tx.Exec(ended, "UPDATE lanes SET batch = 2 WHERE node = 1")
			return err
		}},
	} {
		t.Run(broken.name, func(t *testing.T) {
			ctx := testContext(t)
			tx := begin(t, s)
			exec(t, tx, insertLane, 1)
			if err := broken.run(ctx, tx); !broken.wants(err) {
				t.Fatalf("the statement that was to fail said: %v", err)
			}
			if err := tx.Query(ctx, func(*sql.Rows) error { return nil }, "SELECT 1"); !errors.Is(err, store.ErrPoisoned) {
				t.Errorf("a query ran on a failed transaction: %v", err)
			}
			if _, err := tx.Commit(ctx); !errors.Is(err, store.ErrPoisoned) || errors.Is(err, store.ErrCommitUnknown) {
				t.Errorf("COMMIT was sent on a failed transaction: %v", err)
			}
			if found := lanes(t, s); slices.Contains(found, 1) {
				t.Error("half of a failed transaction was committed")
			}
		})
	}
}

// What a failed transaction leaves must not reach the next user of its connection.
func TestAConnectionComesBackOnlyRolledBack(t *testing.T) {
	t.Parallel()
	config := storetest.Config(t)
	config.SourceConnsMax = 1
	s := storetest.OpenWith(t, config)
	for node := range 5 {
		tx := begin(t, s)
		exec(t, tx, insertLane, node)
		if _, err := tx.Exec(testContext(t), "no SQL"); err == nil {
			t.Fatal("nonsense was accepted")
		}
		must(t, tx.Rollback())
		must(t, tx.Rollback())
	}
	tx := begin(t, s)
	_, err := tx.Commit(testContext(t))
	must(t, err)
	if found := lanes(t, s); len(found) != 0 {
		t.Errorf("a rolled back row was committed by the connection's next user: lanes of %v", found)
	}
}

func TestAConnectionThatCannotRollBackIsClosed(t *testing.T) {
	t.Parallel()
	config, database := storetest.Database(t)
	config.SourceConnsMax = 1
	s := storetest.OpenWith(t, config)
	ctx := testContext(t)
	tx := begin(t, s)
	exec(t, tx, insertLane, 1)
	before := connectionID(t, tx)
	_, err := open(t, database.Admin).ExecContext(ctx, "KILL ?", before)
	must(t, err)
	if err := tx.Rollback(); err == nil {
		t.Error("ROLLBACK on a dead connection reported success")
	}
	next := begin(t, s)
	if connectionID(t, next) == before {
		t.Error("a connection that could not roll back was used again")
	}
}

func connectionID(tb testing.TB, tx *store.Tx) (id int64) {
	tb.Helper()
	must(tb, tx.Query(testContext(tb), func(rows *sql.Rows) error { return rows.Scan(&id) }, "SELECT CONNECTION_ID()"))
	return id
}

// faults are fault points made of functions.
type faults struct{ before, after func() error }

func (f *faults) BeforeCommit(context.Context) error {
	if f.before == nil {
		return nil
	}
	return f.before()
}

func (f *faults) AfterCommit(context.Context) error {
	if f.after == nil {
		return nil
	}
	return f.after()
}

func TestAnyErrorOfCommitIsUnknown(t *testing.T) {
	t.Parallel()
	config, database := storetest.Database(t)
	points := &faults{}
	config.Faults = points
	s := storetest.OpenWith(t, config)
	ctx, admin := testContext(t), open(t, database.Admin)
	errCut := errors.New("cut")

	killed := begin(t, s)
	exec(t, killed, insertLane, 1)
	_, err := admin.ExecContext(ctx, "KILL ?", connectionID(t, killed))
	must(t, err)
	if _, err := killed.Commit(ctx); !errors.Is(err, store.ErrCommitUnknown) {
		t.Errorf("COMMIT without an answer is not called unknown: %v", err)
	}

	points.after = func() error { return errCut }
	lost := begin(t, s)
	exec(t, lost, insertLane, 2)
	if _, err := lost.Commit(ctx); !errors.Is(err, store.ErrCommitUnknown) || !errors.Is(err, errCut) {
		t.Errorf("a lost answer to COMMIT is not called unknown: %v", err)
	}

	points.before, points.after = func() error { return errCut }, nil
	unsent := begin(t, s)
	exec(t, unsent, insertLane, 3)
	if _, err := unsent.Commit(ctx); err == nil || errors.Is(err, store.ErrCommitUnknown) {
		t.Errorf("a COMMIT that was never sent is not told apart: %v", err)
	}
	if found := lanes(t, s); !slices.Equal(found, []int{2}) {
		t.Errorf("committed were %v, wanted only 2", found)
	}
}

func TestTransactionsReadWhatOthersCommitted(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	reader, writer := begin(t, s), begin(t, s)
	count := func() (n int) {
		must(t, reader.Query(testContext(t), func(rows *sql.Rows) error { return rows.Scan(&n) }, "SELECT COUNT(*) FROM lanes"))
		return n
	}
	if count() != 0 {
		t.Fatal("the database is not empty")
	}
	exec(t, writer, insertLane, 1)
	if count() != 0 {
		t.Error("an uncommitted row is visible")
	}
	_, err := writer.Commit(testContext(t))
	must(t, err)
	if count() != 1 {
		t.Error("a committed row is not visible: the isolation is not READ COMMITTED")
	}
}

// A node that freezes inside a transaction must not keep its rows.
func TestAnIdleTransactionLosesItsLocks(t *testing.T) {
	t.Parallel()
	s := storetest.OpenWith(t, quick(t))
	frozen := begin(t, s)
	exec(t, frozen, insertLane, 1)
	within(t, 10*time.Second, "the row of an idle transaction is free", func() bool {
		tx := begin(t, s)
		_, err := tx.Exec(testContext(t), insertLane, 1)
		must(t, tx.Rollback())
		return err == nil
	})
	if _, err := frozen.Commit(testContext(t)); err == nil {
		t.Error("a transaction that the server ended was committed")
	}
}

func TestSessionsAreStrictAndBounded(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	var mode, zone, isolation string
	var lockWait, idle int
	var limit float64
	read := func(rows *sql.Rows) error { return rows.Scan(&mode, &zone, &isolation, &lockWait, &idle, &limit) }
	must(t, begin(t, s).Query(testContext(t), read, `SELECT @@sql_mode LIKE '%STRICT_ALL_TABLES%', @@time_zone, @@tx_isolation,
		@@innodb_lock_wait_timeout, @@idle_transaction_timeout, @@max_statement_time`))
	if mode != "1" || zone != "+00:00" || isolation != "READ-COMMITTED" || lockWait != 2 || idle != 5 || limit != 5 {
		t.Errorf("strict %s, zone %s, isolation %s, lock wait %d, idle %d, statement %v", mode, zone, isolation, lockWait, idle, limit)
	}
}

func TestATransactionEndsOnce(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	tx := begin(t, s)
	_, err := tx.Commit(testContext(t))
	must(t, err)
	must(t, tx.Rollback())
	if _, err := tx.Commit(testContext(t)); !errors.Is(err, store.ErrDone) {
		t.Errorf("a second Commit said: %v", err)
	}
	if _, err := tx.Exec(testContext(t), insertLane, 1); !errors.Is(err, store.ErrDone) {
		t.Errorf("a statement after Commit said: %v", err)
	}
}

// queueRow queues a row whose id says what it is.
func queueRow(tx *store.Tx, id string) {
	tx.Queue("INSERT INTO peer_nonces (keyid, nonce, keep_until) VALUES ('test', ?, UTC_TIMESTAMP(6))", id)
}

func queuedRows(tb testing.TB, s *store.Store) (count int) {
	tb.Helper()
	must(tb, s.Source().QueryRowContext(testContext(tb), "SELECT COUNT(*) FROM peer_nonces").Scan(&count))
	return count
}

// Statements that leave together are counted one by one.
func TestFlushCountsTheRowsOfEachStatement(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	tx := begin(t, s)
	exec(t, tx, insertLane, 1)
	store.AdvanceLane(tx, ledger.Lane{Node: 1}, "x", 0) // found, though nothing changes
	store.AdvanceLane(tx, ledger.Lane{Node: 1}, "another", 7)
	queueRow(tx, "first")
	store.AdvanceLane(tx, ledger.Lane{Node: 1}, "x", 8)
	found, err := tx.Flush(testContext(t))
	must(t, err)
	if !slices.Equal(found, []int64{1, 0, 1, 1}) {
		t.Errorf("the statements found %v rows", found)
	}
	if found, err := tx.Flush(testContext(t)); err != nil || found != nil {
		t.Errorf("a second Flush found %v rows, %v", found, err)
	}
	_, err = tx.Commit(testContext(t))
	must(t, err)
	if rows := queuedRows(t, s); rows != 1 {
		t.Errorf("%d rows were committed", rows)
	}
}

// Of statements that leave together the second may fail: the first has been carried out then, and must not be committed.
func TestNothingOfAFailedFlushIsCommitted(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	tx := begin(t, s)
	exec(t, tx, insertLane, 1)
	for _, id := range []string{"first", "first", "third"} {
		queueRow(tx, id)
	}
	if _, err := tx.Flush(testContext(t)); number(err) != 1062 {
		t.Fatalf("the second statement said: %v", err)
	}
	if _, err := tx.Exec(testContext(t), insertLane, 2); !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("a statement ran after a Flush that failed: %v", err)
	}
	queueRow(tx, "fourth")
	if _, err := tx.Flush(testContext(t)); !errors.Is(err, store.ErrPoisoned) {
		t.Errorf("a Flush ran after one that failed: %v", err)
	}
	if _, err := tx.Commit(testContext(t)); err == nil || errors.Is(err, store.ErrCommitUnknown) {
		t.Errorf("COMMIT was sent after a Flush that failed: %v", err)
	}
	if rows := queuedRows(t, s); rows != 0 || len(lanes(t, s)) != 0 {
		t.Errorf("a part of a failed Flush was committed: %d rows, lanes of %v", rows, lanes(t, s))
	}
}

// What was queued and not sent would be missing from the commit.
func TestCommitRefusesStatementsThatWereNotSent(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	tx := begin(t, s)
	exec(t, tx, insertLane, 1)
	queueRow(tx, "first")
	if err := tx.Query(testContext(t), func(*sql.Rows) error { return nil }, "SELECT 1"); err == nil {
		t.Error("a query overtook a statement that was queued")
	}
	if _, err := tx.Commit(testContext(t)); err == nil || errors.Is(err, store.ErrCommitUnknown) {
		t.Errorf("COMMIT was sent before a queued statement: %v", err)
	}
	if found := lanes(t, s); len(found) != 0 || queuedRows(t, s) != 0 {
		t.Errorf("a transaction without its queued statement was committed: lanes of %v", found)
	}
	if _, err := tx.Commit(testContext(t)); !errors.Is(err, store.ErrDone) {
		t.Errorf("the refused transaction goes on: %v", err)
	}
}

// A transaction that waited for an account is told a time behind the one it waited for, so that later lines of a journal
// have later times.
func TestWhatWaitedForAnAccountIsLater(t *testing.T) {
	t.Parallel()
	config, database := storetest.Database(t)
	b := newBank(t, storetest.OpenWith(t, config))
	account := b.account(t, "client:a")
	admin := open(t, database.Admin)
	var look store.Look
	lock := func(tx *store.Tx) (err error) {
		_, look, err = store.LockAccounts(testContext(t), tx, []ledger.AccountID{account.ID})
		return err
	}
	first, second := begin(t, b.Store), begin(t, b.Store)
	must(t, lock(first))
	locked := make(chan error, 1)
	go func() { locked <- lock(second) }()
	within(t, testMax, "the second waits for the account", func() bool {
		return waiting(t, admin, fmt.Sprintf("%%accounts%%(%d)%%", account.ID))
	})
	var freed time.Time
	must(t, b.Source().QueryRowContext(testContext(t), "SELECT UTC_TIMESTAMP(6)").Scan(&freed))
	must(t, first.Rollback())
	must(t, <-locked)
	if look.Now.Before(freed) {
		t.Errorf("the second is told %s before the account was free", freed.Sub(look.Now))
	}
}
