package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/big"
	"strings"
	"time"

	"lockstep/node/ledger"
)

// pageMax bounds what one page may hold, whatever the caller asks for.
const pageMax = 1000

// Queries reads, on one connection to the source or a replica. Each method is one statement and so sees one state; two
// methods may see two.
type Queries struct {
	conn   querier
	system string
}

// limitedAccounts are accounts with their limits; no limit is looked for where there is none.
const limitedAccounts = " FROM accounts LEFT JOIN daily_limits ON limited = 1 AND account_id = id"

func scanAccount(rows *sql.Rows) (ledger.Account, error) {
	var a ledger.Account
	var row nullLimit
	err := rows.Scan(append([]any{
		&a.ID, &a.Owner, &a.Currency, &a.Label, &a.Status, &a.Posted, &a.PendingDebit, &a.PendingCredit,
		&a.OverdraftLimit, &a.Version, &a.CreatedAt, &a.Daily.Kept,
	}, row.fields()...)...)
	a.Daily = row.limit()
	return a, err
}

// Account reads an ordinary account, or ErrMiss.
func (q *Queries) Account(ctx context.Context, id ledger.AccountID) (ledger.Account, error) {
	found, err := collect(ctx, q.conn, scanAccount,
		"SELECT "+accountColumns+", "+limitColumns+limitedAccounts+" WHERE id = ? AND system_account IS NULL", id)
	return only(found, err, "read account")
}

// AccountFilter chooses accounts.
type AccountFilter struct {
	Owner string           // a principal; "" is everyone
	After ledger.AccountID // the last one of the page before
	Limit int
}

// Accounts lists ordinary accounts in ascending order of their ids. Ids are taken before they are committed, so an
// account that was being made while a page was read may only show when the list is read again.
func (q *Queries) Accounts(ctx context.Context, filter AccountFilter) ([]ledger.Account, error) {
	var where conditions
	where.and("system_account IS NULL")
	where.and("id > ?", filter.After)
	if filter.Owner != "" {
		where.and("owner = ?", filter.Owner)
	}
	found, err := collect(ctx, q.conn, scanAccount, "SELECT "+accountColumns+", "+limitColumns+limitedAccounts+
		where.text()+" ORDER BY id LIMIT ?", append(where.args, page(filter.Limit))...)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return found, nil
}

// Hold reads a hold, or ErrMiss.
func (q *Queries) Hold(ctx context.Context, id ledger.HoldID) (ledger.Hold, error) {
	found, err := collect(ctx, q.conn, scanHold, "SELECT "+holdColumns+" FROM holds WHERE id = ?", id)
	return only(found, err, "read hold")
}

// CurrencyBalance is one currency's line of the trial balance, in minor units over all accounts.
type CurrencyBalance struct {
	Currency      ledger.Currency
	Entries       *big.Int // sum of the journal
	Posted        *big.Int // sum of the accounts, stripes of system accounts included
	PendingDebit  *big.Int
	PendingCredit *big.Int
}

// Balanced tells whether every debit has its credit, in the journal and in the balances.
func (b CurrencyBalance) Balanced() bool { return b.Entries.Sign() == 0 && b.Posted.Sign() == 0 }

// TrialBalance sums journal and accounts per currency, in order of the currencies. It reads all of both in one
// statement and so one state; on a journal too long for StatementMax it fails, and `lockstep verify` is to be used.
func (q *Queries) TrialBalance(ctx context.Context) ([]CurrencyBalance, error) {
	var lines []CurrencyBalance
	err := each(ctx, q.conn, func(rows *sql.Rows) error {
		var currency ledger.Currency
		var sums [4]string
		if err := rows.Scan(&currency, &sums[0], &sums[1], &sums[2], &sums[3]); err != nil {
			return err
		}
		if len(lines) == 0 || lines[len(lines)-1].Currency != currency {
			lines = append(lines, CurrencyBalance{currency, new(big.Int), new(big.Int), new(big.Int), new(big.Int)})
		}
		return lines[len(lines)-1].add(sums)
	}, `SELECT currency, SUM(amount) AS entries, 0 AS posted, 0 AS pending_debit, 0 AS pending_credit FROM entries GROUP BY currency
		UNION ALL
		SELECT currency, 0, SUM(posted), SUM(pending_debit), SUM(pending_credit) FROM accounts GROUP BY currency
		ORDER BY currency`)
	if err != nil {
		return nil, fmt.Errorf("sum the trial balance: %w", err)
	}
	return lines, nil
}

// add adds decimal integers: sums of BIGINTs leave the range of int64.
func (b *CurrencyBalance) add(sums [4]string) error {
	for i, total := range []*big.Int{b.Entries, b.Posted, b.PendingDebit, b.PendingCredit} {
		part, whole := new(big.Int).SetString(sums[i], 10)
		if !whole {
			return fmt.Errorf("sum %q is no integer", sums[i])
		}
		total.Add(total, part)
	}
	return nil
}

// NodeRow is a node as its lease shows it. Times are the database's.
type NodeRow struct {
	ID          int
	Incarnation string
	Address     string
	Version     string
	State       string // "running" or "stopped"
	StartedAt   time.Time
	SeenAt      time.Time // its last renewal
	LeaseUntil  time.Time // past: it is gone, and its id is free
}

// Nodes lists the nodes that were ever seen under an id that is still theirs, by id.
func (q *Queries) Nodes(ctx context.Context) ([]NodeRow, error) {
	found, err := collect(ctx, q.conn, func(rows *sql.Rows) (NodeRow, error) {
		var n NodeRow
		err := rows.Scan(&n.ID, &n.Incarnation, &n.Address, &n.Version, &n.State, &n.StartedAt, &n.SeenAt, &n.LeaseUntil)
		return n, err
	}, "SELECT id, incarnation, address, version, state, started_at, seen_at, lease_until FROM nodes ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return found, nil
}

// conditions builds a WHERE clause.
type conditions struct {
	parts []string
	args  []any
}

func (c *conditions) and(condition string, args ...any) {
	c.parts = append(c.parts, condition)
	c.args = append(c.args, args...)
}

func (c *conditions) text() string {
	if len(c.parts) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(c.parts, " AND ")
}

func page(limit int) int { return max(1, min(limit, pageMax)) }

// collect reads all rows.
func collect[T any](ctx context.Context, q querier, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	var found []T
	err := each(ctx, q, func(rows *sql.Rows) error {
		row, err := scan(rows)
		found = append(found, row)
		return err
	}, query, args...)
	return found, err
}

// only is the single row of a query by key, or ErrMiss.
func only[T any](found []T, err error, verb string) (T, error) {
	var none T
	switch {
	case err != nil:
		return none, fmt.Errorf("%s: %w", verb, err)
	case len(found) == 0:
		return none, fmt.Errorf("%s: %w", verb, ErrMiss)
	}
	return found[0], nil
}
