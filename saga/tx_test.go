package saga_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/go-sql-driver/mysql"

	"lockstep/saga"
)

func number(err error) uint16 {
	var fromServer *mysql.MySQLError
	if errors.As(err, &fromServer) {
		return fromServer.Number
	}
	return 0
}

func (f *fixture) begin() saga.Transaction {
	f.Helper()
	tx, err := f.db.Begin(testContext(f))
	must(f, err)
	f.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

// Each of these errors leaves a transaction, or a connection, that would go on and commit a part of what was meant.
func TestAfterAnErrorNothingCommits(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.change("INSERT INTO effects (n, saga, what) VALUES (100, 'x', 'locked'), (200, 'x', 'there')")
	holder := f.begin()
	_, err := holder.Exec(testContext(t), "UPDATE effects SET what = 'held' WHERE n = 100")
	must(t, err)
	for name, broken := range map[string]struct {
		wants func(error) bool
		run   func(ctx context.Context, tx saga.Tx) error
	}{
		"lock wait": {func(err error) bool { return number(err) == 1205 }, func(ctx context.Context, tx saga.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE effects SET what = 'taken' WHERE n = 100")
			return err
		}},
		"duplicate": {func(err error) bool { return number(err) == 1062 }, func(ctx context.Context, tx saga.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO effects (n, saga, what) VALUES (200, 'x', 'again')")
			return err
		}},
		"scan": {func(err error) bool { return errors.Is(err, errTest) }, func(ctx context.Context, tx saga.Tx) error {
			return tx.Query(ctx, func(*sql.Rows) error { return errTest }, "SELECT 1")
		}},
		"context": {func(err error) bool { return errors.Is(err, context.Canceled) }, func(ctx context.Context, tx saga.Tx) error {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			_, err := tx.Exec(ended, "INSERT INTO effects (saga, what) VALUES ('x', 'ended')")
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			tx := f.begin()
			must(t, leave("half")(ctx, tx, &saga.Saga{ID: name}))
			if err := broken.run(ctx, tx); !broken.wants(err) {
				t.Fatalf("what was to fail said: %v", err)
			}
			if _, err := tx.Exec(ctx, "INSERT INTO effects (saga, what) VALUES (?, 'after')", name); !errors.Is(err, saga.ErrPoisoned) {
				t.Errorf("a statement ran after the error: %v", err)
			}
			if err := tx.Commit(ctx); !errors.Is(err, saga.ErrPoisoned) || errors.Is(err, saga.ErrCommitUnknown) {
				t.Errorf("COMMIT was sent after the error: %v", err)
			}
			f.wantEffects(name)
		})
	}
}

func TestADeadlockEndsTheTransaction(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.change("INSERT INTO effects (n, saga, what) VALUES (1, 'x', ''), (2, 'x', '')")
	const lock = "UPDATE effects SET what = 'locked' WHERE n = ?"
	ctx := testContext(t)
	first, second := f.begin(), f.begin()
	_, err := first.Exec(ctx, lock, 1)
	must(t, err)
	_, err = second.Exec(ctx, lock, 2)
	must(t, err)
	waited := make(chan error, 1)
	go func() {
		_, err := first.Exec(ctx, lock, 2)
		waited <- err
	}()
	_, errSecond := second.Exec(ctx, lock, 1)
	errFirst := <-waited
	victim := first
	if errSecond != nil {
		victim = second
	}
	if number(errors.Join(errFirst, errSecond)) != 1213 {
		t.Fatalf("wanted a deadlock, got %v and %v", errFirst, errSecond)
	}
	if err := leave("by itself")(ctx, victim, &saga.Saga{ID: "s"}); !errors.Is(err, saga.ErrPoisoned) {
		t.Errorf("a statement ran after the deadlock: %v", err)
	}
	must(t, victim.Rollback())
	f.wantEffects("s")
}

func TestAnErrorOfCommitIsUnknown(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := testContext(t)
	tx := f.begin()
	var id int64
	must(t, tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&id) }, "SELECT CONNECTION_ID()"))
	must(t, leave("x")(ctx, tx, &saga.Saga{ID: "s"}))
	_, err := f.admin.ExecContext(ctx, "KILL ?", id)
	must(t, err)
	if err := tx.Commit(ctx); !errors.Is(err, saga.ErrCommitUnknown) {
		t.Errorf("COMMIT on a dead connection said: %v", err)
	}
	must(t, tx.Rollback())
}

// What the server answers to READ COMMITTED differs from its default: a second read sees what others committed.
func TestTransactionsAreReadCommitted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := testContext(t)
	tx := f.begin()
	count := func() (n int) {
		must(t, tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&n) }, "SELECT COUNT(*) FROM effects"))
		return n
	}
	before := count()
	f.change("INSERT INTO effects (saga, what) VALUES ('x', 'y')")
	if after := count(); before != 0 || after != 1 {
		t.Errorf("read %d rows, then %d", before, after)
	}
	must(t, tx.Commit(ctx))
	must(t, tx.Rollback())
}

// An outcome of COMMIT that nobody knows is neither success nor failure: the saga goes on from what is there.
func TestALostAnswerToCommitIsNeitherDoneTwiceNorUndone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	db := &lossy{Database: f.db, loses: 3}
	log := saga.NewLog(db, stuckAfter)
	d := define(t, trip())
	f.run(d.Start(saga.New{ID: "s"}))
	f.open(map[string]saga.Handler{"trip": d.Handler(log)})
	f.awaitState("s", saga.StateDone)
	f.wantEffects("s", forwards...)
	if db.loses != 0 {
		t.Errorf("%d answers were not lost", db.loses)
	}
}

// lossy loses the answers of its first commits; one saga's steps use it one after the other.
type lossy struct {
	saga.Database
	loses int
}

func (l *lossy) Begin(ctx context.Context) (saga.Transaction, error) {
	tx, err := l.Database.Begin(ctx)
	return &lossyTx{tx, l}, err
}

type lossyTx struct {
	saga.Transaction
	db *lossy
}

func (l *lossyTx) Commit(ctx context.Context) error {
	err := l.Transaction.Commit(ctx)
	if err == nil && l.db.loses > 0 {
		l.db.loses--
		return saga.ErrCommitUnknown
	}
	return err
}
