package store_test

import (
	"context"
	"database/sql"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

// TestMain lets more tests run at once than there are cores, for they wait for servers most of the time.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil { // the command line is read later
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// testMax bounds what a test may wait for.
const testMax = 30 * time.Second

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testMax)
	tb.Cleanup(cancel)
	return ctx
}

// within polls until the condition holds.
func within(tb testing.TB, limit time.Duration, what string, condition func() bool) {
	tb.Helper()
	deadline := time.Now().Add(limit)
	for !condition() {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// waiting tells whether a statement runs for so long that it waits for a lock. (information_schema.innodb_trx shows nothing new
// while it is read more often than ten times a second, by whomever.)
func waiting(tb testing.TB, admin *sql.DB, statement string) bool {
	tb.Helper()
	var waits int
	must(tb, admin.QueryRowContext(testContext(tb), `SELECT COUNT(*) FROM information_schema.PROCESSLIST
		WHERE DB = DATABASE() AND INFO LIKE ? AND TIME_MS > 100 AND ID <> CONNECTION_ID()`, statement).Scan(&waits))
	return waits > 0
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// open opens a pool of root or another account, beside the store.
func open(tb testing.TB, dsn string) *sql.DB {
	tb.Helper()
	db, err := sql.Open("mysql", dsn)
	must(tb, err)
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

func begin(tb testing.TB, s *store.Store) *store.Tx {
	tb.Helper()
	tx, err := s.Begin(testContext(tb))
	must(tb, err)
	tb.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func exec(tb testing.TB, tx *store.Tx, query string, args ...any) {
	tb.Helper()
	_, err := tx.Exec(testContext(tb), query, args...)
	must(tb, err)
}

// The tests of transactions use the lanes' rows, which are small.
const insertLane = "INSERT INTO lanes (node, lane, incarnation, batch) VALUES (?, 0, 'x', 0)"

// lanes lists which nodes have a lane, as another connection sees it.
func lanes(tb testing.TB, s *store.Store) []int {
	tb.Helper()
	var nodes []int
	rows, err := s.Source().QueryContext(testContext(tb), "SELECT node FROM lanes ORDER BY node")
	must(tb, err)
	defer rows.Close()
	for rows.Next() {
		var node int
		must(tb, rows.Scan(&node))
		nodes = append(nodes, node)
	}
	must(tb, rows.Err())
	return nodes
}

// bank is a store with a lane whose cash stripe pays deposits.
type bank struct {
	*store.Store
	lane ledger.Lane
}

func newBank(tb testing.TB, s *store.Store) bank {
	tb.Helper()
	b := bank{s, ledger.Lane{Node: 1}}
	must(tb, s.MakeStripe(testContext(tb), b.lane, ledger.CashSerial, "KRW"))
	return b
}

// account opens an account of the owner's.
func (b bank) account(tb testing.TB, owner string) ledger.Account {
	tb.Helper()
	tx := begin(tb, b.Store)
	account, err := tx.CreateAccount(testContext(tb), ledger.Account{Owner: owner, Currency: "KRW", Status: ledger.Open})
	must(tb, err)
	_, err = tx.Commit(testContext(tb))
	must(tb, err)
	return account
}

func (b bank) number(id ledger.AccountID) ledger.Number { return ledger.NewNumber(b.System(), id) }

func newID() ledger.TransferID { return ledger.TransferID(uuid.Must(uuid.NewV7()).String()) }

// deposit pays cash into the account.
func (b bank) deposit(tb testing.TB, to ledger.Account, minor int64, change ...func(*ledger.Pay)) (ledger.Transfer, store.Token) {
	tb.Helper()
	pay := ledger.Pay{
		ID: newID(), Actor: ledger.Actor{Depositor: true}, Kind: ledger.Deposit,
		From: ledger.Cash, To: b.number(to.ID), Amount: ledger.Money{Minor: minor, Currency: "KRW"},
	}
	for _, f := range change {
		f(&pay)
	}
	result, token, err := b.post(testContext(tb), pay)
	must(tb, err)
	return *result.Transfer, token
}

// transfer pays from one account into another.
func (b bank) transfer(tb testing.TB, from, to ledger.Account, minor int64) ledger.Transfer {
	tb.Helper()
	result, _, err := b.post(testContext(tb), ledger.Pay{
		ID: newID(), Actor: ledger.Actor{Principal: from.Owner}, Kind: ledger.Payment,
		From: b.number(from.ID), To: b.number(to.ID), Amount: ledger.Money{Minor: minor, Currency: "KRW"},
	})
	must(tb, err)
	return *result.Transfer
}

// post runs one operation in one transaction, as the engine does for many.
func (b bank) post(ctx context.Context, operation ledger.Operation) (result ledger.Result, token store.Token, err error) {
	tx, err := b.Begin(ctx)
	if err != nil {
		return result, "", err
	}
	defer func() { _ = tx.Rollback() }()
	ids := operation.Accounts(b.System(), b.lane)
	slices.Sort(ids)
	accounts, look, err := store.LockAccounts(ctx, tx, ids)
	if err != nil {
		return result, "", err
	}
	book := ledger.NewBook(b.System(), b.lane, look.Now, accounts, nil)
	if result, err = operation.Apply(book); err != nil {
		return result, "", err
	}
	store.InsertTransfers(tx, b.System(), book.Transfers)
	store.InsertEntries(tx, book.Entries)
	store.UpdateAccounts(tx, book.Changed())
	store.PutHolds(tx, book.ChangedHolds())
	if _, err = tx.Flush(ctx); err != nil {
		return result, "", err
	}
	token, err = tx.Commit(ctx)
	return result, token, err
}
