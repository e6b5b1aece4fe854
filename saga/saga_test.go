package saga_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"lockstep/cluster/local/servers"
	"lockstep/saga"
)

// testMax bounds what a test may wait for.
const testMax = 30 * time.Second

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testMax)
	tb.Cleanup(cancel)
	return ctx
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// within polls until the condition holds.
func within(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	deadline := time.Now().Add(testMax)
	for !condition() {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %s: %s", testMax, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// fixture is a database of the test's own, with the tables of the library and one in which steps leave their effects.
type fixture struct {
	testing.TB
	sql   *sql.DB
	admin *sql.DB
	db    saga.Database
	log   *saga.Log
}

const stuckAfter = time.Hour

func setup(tb testing.TB) *fixture {
	tb.Helper()
	database := servers.Shared(tb).Database(tb)
	admin := pool(tb, database.Migrate)
	must(tb, saga.Migrate(testContext(tb), admin))
	_, err := admin.ExecContext(testContext(tb), `CREATE TABLE effects (n BIGINT NOT NULL AUTO_INCREMENT, saga VARCHAR(64) NOT NULL,
		what VARCHAR(64) NOT NULL, PRIMARY KEY (n)) ENGINE=InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin`)
	must(tb, err)
	f := &fixture{TB: tb, sql: pool(tb, database.Source), admin: pool(tb, database.Admin)}
	f.db = recorded{saga.SQL(f.sql)}
	f.log = saga.NewLog(f.db, stuckAfter)
	return f
}

func pool(tb testing.TB, dsn string) *sql.DB {
	tb.Helper()
	config, err := mysql.ParseDSN(dsn)
	must(tb, err)
	config.ParseTime, config.Loc, config.ClientFoundRows, config.InterpolateParams = true, time.UTC, true, true
	config.Timeout, config.ReadTimeout, config.WriteTimeout = 2*time.Second, 20*time.Second, 3*time.Second
	connector, err := mysql.NewConnector(config)
	must(tb, err)
	db := sql.OpenDB(connector)
	tb.Cleanup(func() { must(tb, db.Close()) })
	return db
}

// tx runs work in a transaction, and commits it when work succeeds.
func (f *fixture) tx(work func(ctx context.Context, tx saga.Tx) error) error {
	f.Helper()
	ctx := testContext(f)
	tx, err := f.db.Begin(ctx)
	must(f, err)
	if err := work(ctx, tx); err != nil {
		must(f, tx.Rollback())
		return err
	}
	return tx.Commit(ctx)
}

func (f *fixture) run(statements ...saga.Statement) {
	f.Helper()
	must(f, f.tx(func(ctx context.Context, tx saga.Tx) error {
		for _, s := range statements {
			if err := s.Exec(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	}))
}

// change runs a statement by itself, past the library.
func (f *fixture) change(query string, args ...any) {
	f.Helper()
	_, err := f.sql.ExecContext(testContext(f), query, args...)
	must(f, err)
}

func (f *fixture) get(id string) saga.Saga {
	f.Helper()
	s, err := f.log.Get(testContext(f), id)
	must(f, err)
	return s
}

func (f *fixture) count(query string, args ...any) (n int) {
	f.Helper()
	must(f, f.sql.QueryRowContext(testContext(f), query, args...).Scan(&n))
	return n
}

// effects lists what the steps of a saga did, in order.
func (f *fixture) effects(id string) (all []string) {
	f.Helper()
	rows, err := f.sql.QueryContext(testContext(f), "SELECT what FROM effects WHERE saga = ? ORDER BY n", id)
	must(f, err)
	defer rows.Close()
	for rows.Next() {
		var what string
		must(f, rows.Scan(&what))
		all = append(all, what)
	}
	must(f, rows.Err())
	return all
}

func (f *fixture) wantEffects(id string, wanted ...string) {
	f.Helper()
	if found := f.effects(id); !slices.Equal(found, wanted) {
		f.Errorf("saga %s had the effects %q, wanted %q", id, found, wanted)
	}
}

func (f *fixture) wantState(id string, wanted saga.State) saga.Saga {
	f.Helper()
	s := f.get(id)
	if s.State != wanted {
		f.Errorf("saga %s is %s at %q (%s), wanted %s", id, s.State, s.Step, s.Reason, wanted)
	}
	return s
}

// claim leases one saga.
func (f *fixture) claim(kind, owner string) saga.Saga {
	f.Helper()
	claimed, err := f.log.Claim(testContext(f), []string{kind}, owner, 1, time.Minute)
	must(f, err)
	if len(claimed) != 1 {
		f.Fatalf("claimed %d sagas, wanted 1", len(claimed))
	}
	return claimed[0]
}

// handlers makes a runner's map of one definition.
func (f *fixture) handlers(kind string, d *saga.Definition) map[string]saga.Handler {
	return map[string]saga.Handler{kind: d.Handler(f.log)}
}

// open runs a quick runner until the test ends.
func (f *fixture) open(handlers map[string]saga.Handler, change ...func(*saga.Runner)) *saga.Runner {
	f.Helper()
	r := saga.DefaultRunner(f.log, handlers)
	r.Poll, r.Lease = 20*time.Millisecond, 10*time.Second
	r.Backoff.Min, r.Backoff.Max = time.Millisecond, 10*time.Millisecond
	r.Logger = slog.New(slog.NewTextHandler(f.Output(), nil))
	for _, c := range change {
		c(r)
	}
	must(f, r.Open(testContext(f)))
	f.Cleanup(func() { must(f, r.Close()) })
	return r
}

func (f *fixture) awaitState(id string, wanted saga.State) {
	f.Helper()
	within(f, id+" is "+string(wanted), func() bool { return f.get(id).State == wanted })
}

// leave is a step's work: it leaves an effect.
func leave(what string) func(context.Context, saga.Tx, *saga.Saga) error {
	return func(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
		_, err := tx.Exec(ctx, "INSERT INTO effects (saga, what) VALUES (?, ?)", s.ID, what)
		return err
	}
}

func fail(err error) func(context.Context, saga.Tx, *saga.Saga) error {
	return func(context.Context, saga.Tx, *saga.Saga) error { return err }
}

// trip has every kind of step; each leaves its name, and its undo the name with a minus.
func trip() []saga.Step {
	return []saga.Step{
		{Name: "flight", Do: leave("flight"), Undo: leave("-flight")},
		{
			Name: "hotel", Do: leave("hotel"), Undo: leave("-hotel"), Cancel: leave("cancel hotel"),
			Call: func(_ context.Context, s *saga.Saga) error {
				s.Data = append(s.Data, " called"...)
				return nil
			},
		},
		{Name: "pay", Kind: saga.Pivot, Do: leave("pay")},
		{Name: "ticket", Kind: saga.Retriable, Do: leave("ticket")},
		{Name: "mail", Kind: saga.Retriable, Do: leave("mail")},
	}
}

func define(tb testing.TB, steps []saga.Step) *saga.Definition {
	tb.Helper()
	d, err := saga.Define("trip", steps...)
	must(tb, err)
	return d
}

var errTest = errors.New("it did not work")

// statements are all that the tests of this process sent, for the test of their grammar.
var statements sync.Map

// recorded notes the statements that pass through a database.
type recorded struct{ saga.Database }

func (r recorded) Begin(ctx context.Context) (saga.Transaction, error) {
	tx, err := r.Database.Begin(ctx)
	return recordedTx{tx}, err
}

type recordedTx struct{ saga.Transaction }

func (r recordedTx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	note(query)
	return r.Transaction.Exec(ctx, query, args...)
}

func (r recordedTx) Query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	note(query)
	return r.Transaction.Query(ctx, scan, query, args...)
}

func note(query string) { statements.Store(strings.Join(strings.Fields(query), " "), true) }
