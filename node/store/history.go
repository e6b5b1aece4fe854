package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"lockstep/node/ledger"
)

// EntryRow is a line of a statement.
type EntryRow struct {
	ledger.Entry
	Description string // of its transfer
	Reference   string // of its transfer
}

// EntryFilter chooses lines of one account's statement. Zero fields choose all.
type EntryFilter struct {
	Account                ledger.AccountID
	Before                 int64 // the last sequence of the page before; 0 begins with the newest
	Kind                   ledger.Kind
	State                  ledger.State // of the transfer
	Reference              string
	CreatedFrom, CreatedTo time.Time // from inclusive, to exclusive
	Limit                  int
}

// Entries reads a page of a statement, newest first. Sequences are taken under the account's lock, so that no entry can
// appear behind a page that was read.
func (q *Queries) Entries(ctx context.Context, filter EntryFilter) ([]EntryRow, error) {
	var where conditions
	where.and("e.account_id = ?", filter.Account)
	if filter.Before > 0 {
		where.and("e.sequence < ?", filter.Before)
	}
	where.equal("e.kind", string(filter.Kind))
	where.equal("t.state", string(filter.State))
	where.equal("t.reference", filter.Reference)
	where.between("e.created_at", filter.CreatedFrom, filter.CreatedTo)
	found, err := collect(ctx, q.conn, scanEntry, `SELECT e.account_id, e.sequence, e.transfer_id, e.kind, e.amount, e.currency,
		e.balance_after, e.counterparty, e.created_at, COALESCE(t.description, ''), COALESCE(t.reference, '')
		FROM entries e LEFT JOIN transfers t ON t.id = e.transfer_id`+
		where.text()+" ORDER BY e.sequence DESC LIMIT ?", append(where.args, page(filter.Limit))...)
	if err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	return found, nil
}

func scanEntry(rows *sql.Rows) (EntryRow, error) {
	var e EntryRow
	err := rows.Scan(&e.Account, &e.Sequence, &e.Transfer, &e.Kind, &e.Amount, &e.Currency,
		&e.BalanceAfter, &e.Counterparty, &e.CreatedAt, &e.Description, &e.Reference)
	return e, err
}

// Transfer reads a transfer, or ErrMiss.
func (q *Queries) Transfer(ctx context.Context, id ledger.TransferID) (ledger.Transfer, error) {
	found, err := collect(ctx, q.conn, scanTransfer, "SELECT "+transferColumns+" FROM transfers WHERE id = ? LIMIT 1", id)
	return only(found, err, "read transfer")
}

func (c *conditions) equal(column, value string) {
	if value != "" {
		c.and(column+" = ?", value)
	}
}

func (c *conditions) between(column string, from, to time.Time) {
	if !from.IsZero() {
		c.and(column+" >= ?", from)
	}
	if !to.IsZero() {
		c.and(column+" < ?", to)
	}
}
