package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
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

// TransferFilter chooses transfers. Zero fields choose all; with Account and Owner, a transfer must fit both, so that
// nobody sees what others do on an account that is not theirs.
type TransferFilter struct {
	Account                ledger.AccountID // payer or payee
	Owner                  string           // of payer or payee
	Reference              string
	State                  ledger.State
	Kind                   ledger.Kind
	CreatedFrom, CreatedTo time.Time         // from inclusive, to exclusive
	Before                 ledger.TransferID // the last id of the page before
	Limit                  int
}

// Transfers reads a page of transfers, newest first by id, which begins with its time.
func (q *Queries) Transfers(ctx context.Context, filter TransferFilter) ([]ledger.Transfer, error) {
	found, err := q.transfers(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("list transfers: %w", err)
	}
	return found, nil
}

// ownedBranchesMax is up to how many accounts of an owner a page is merged from one index walk per account and side.
// For an owner of more, walking the newest transfers of all finds a page soon enough.
const ownedBranchesMax = 50

func (q *Queries) transfers(ctx context.Context, filter TransferFilter) ([]ledger.Transfer, error) {
	switch {
	case filter.Account != 0:
		return q.transfersOf(ctx, filter, []ledger.AccountID{filter.Account})
	case filter.Owner == "":
		return q.newestTransfers(ctx, filter, "")
	}
	owned, err := collect(ctx, q.conn, func(rows *sql.Rows) (id ledger.AccountID, err error) {
		err = rows.Scan(&id)
		return id, err
	}, "SELECT id FROM accounts WHERE owner = ? ORDER BY id LIMIT ?", filter.Owner, ownedBranchesMax+1)
	if err != nil || len(owned) == 0 {
		return nil, err
	}
	if len(owned) <= ownedBranchesMax {
		return q.transfersOf(ctx, filter, owned)
	}
	return q.newestTransfers(ctx, filter, filter.Owner)
}

// transfersOf merges the newest of each account and side, so that no index walk is longer than a page.
func (q *Queries) transfersOf(ctx context.Context, filter TransferFilter, accounts []ledger.AccountID) ([]ledger.Transfer, error) {
	var branches []string
	var args []any
	for _, account := range accounts {
		for _, side := range []string{"payer", "payee"} {
			where := filter.conditions()
			where.and(side+"_id = ?", account)
			if filter.Account != 0 {
				where.party(filter.Owner)
			}
			branches = append(branches, "(SELECT "+transferColumns+" FROM transfers FORCE INDEX (transfers_"+side+")"+
				where.text()+" ORDER BY id DESC LIMIT ?)")
			args = append(append(args, where.args...), page(filter.Limit))
		}
	}
	query := strings.Join(branches, " UNION ") + " ORDER BY id DESC LIMIT ?"
	return collect(ctx, q.conn, scanTransfer, query, append(args, page(filter.Limit))...)
}

// newestTransfers walks the transfers from the newest, keeping those of the owner's accounts; "" keeps all.
func (q *Queries) newestTransfers(ctx context.Context, filter TransferFilter, owner string) ([]ledger.Transfer, error) {
	where := filter.conditions()
	where.party(owner)
	return collect(ctx, q.conn, scanTransfer, "SELECT "+transferColumns+" FROM transfers FORCE INDEX (PRIMARY)"+
		where.text()+" ORDER BY id DESC LIMIT ?", append(where.args, page(filter.Limit))...)
}

// party keeps what the owner pays or is paid; "" keeps all.
func (c *conditions) party(owner string) {
	if owner != "" {
		const owned = "EXISTS (SELECT 1 FROM accounts WHERE accounts.id = %s_id AND owner = ?)"
		c.and("("+fmt.Sprintf(owned, "payer")+" OR "+fmt.Sprintf(owned, "payee")+")", owner, owner)
	}
}

// conditions are those that do not depend on accounts.
func (f *TransferFilter) conditions() conditions {
	var where conditions
	where.and("id < ?", cursor(f.Before))
	where.equal("reference", f.Reference)
	where.equal("state", string(f.State))
	where.equal("kind", string(f.Kind))
	where.between("created_at", f.CreatedFrom, f.CreatedTo)
	return where
}

// cursor is above every id when there was no page before.
func cursor(before ledger.TransferID) string {
	if before == "" {
		return "~"
	}
	return string(before)
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
