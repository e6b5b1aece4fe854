package chaos

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	_ "github.com/go-sql-driver/mysql" // the auditor reads the databases past the nodes

	"lockstep/cluster/local"
	"lockstep/node/ledger"
)

// Books are what the database of one system has at one moment.
type Books struct {
	System      string                   `json:"system"`
	Accounts    map[string]Balance       `json:"accounts"` // of customers, by number
	Transfers   []Posting                `json:"transfers"`
	Holds       map[string]HoldRow       `json:"holds"`       // by id
	Remittances map[string]RemittanceRow `json:"remittances"` // transfers between systems, by id
}

// Posting is a transfer as a system has it.
type Posting struct {
	ID        string `json:"id"`
	Payer     string `json:"payer"` // its system
	Kind      string `json:"kind"`
	State     string `json:"state"`
	From      string `json:"from"`
	To        string `json:"to"`
	Amount    int64  `json:"amount"`
	Reference string `json:"reference"`
	Hold      string `json:"hold,omitempty"`
}

// HoldRow is a hold as a system has it.
type HoldRow struct {
	Account  string `json:"account"`
	Amount   int64  `json:"amount"`
	Captured int64  `json:"captured"`
	State    string `json:"state"`
}

// RemittanceRow is the end of a transfer between systems as one of them has it.
type RemittanceRow struct {
	State string `json:"state"`
}

// readBooks reads a system's source in one snapshot.
func readBooks(ctx context.Context, system local.SystemCredentials) (Books, error) {
	b := Books{System: system.ID, Accounts: map[string]Balance{}, Holds: map[string]HoldRow{}, Remittances: map[string]RemittanceRow{}}
	db, err := sql.Open("mysql", system.MySQLSourceDSN+"?timeout=2s")
	if err != nil {
		return b, fmt.Errorf("read the books: %w", err)
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return b, fmt.Errorf("read the books: %w", err)
	}
	defer tx.Rollback()
	number := func(id int64) string { return string(ledger.NewNumber(system.ID, ledger.AccountID(id))) }
	for _, part := range []struct {
		query string
		scan  func(*sql.Rows) error
	}{
		{"SELECT id, posted, pending_debit FROM accounts WHERE system_account IS NULL", func(rows *sql.Rows) error {
			var id int64
			var balance Balance
			err := rows.Scan(&id, &balance.Posted, &balance.Held)
			b.Accounts[number(id)] = balance
			return err
		}},
		{"SELECT id, payer_system, kind, state, from_number, to_number, amount, reference, COALESCE(hold_id, '') FROM transfers", func(rows *sql.Rows) error {
			var p Posting
			err := rows.Scan(&p.ID, &p.Payer, &p.Kind, &p.State, &p.From, &p.To, &p.Amount, &p.Reference, &p.Hold)
			b.Transfers = append(b.Transfers, p)
			return err
		}},
		{"SELECT id, account_id, amount, captured, state FROM holds", func(rows *sql.Rows) error {
			var id string
			var account int64
			var h HoldRow
			err := rows.Scan(&id, &account, &h.Amount, &h.Captured, &h.State)
			h.Account = number(account)
			b.Holds[id] = h
			return err
		}},
		{"SELECT id, state FROM remittances", func(rows *sql.Rows) error {
			var id string
			var r RemittanceRow
			err := rows.Scan(&id, &r.State)
			b.Remittances[id] = r
			return err
		}},
	} {
		if err := each(ctx, tx, part.query, part.scan); err != nil {
			return b, fmt.Errorf("read the books of %s: %w", system.ID, err)
		}
	}
	return b, nil
}

func each(ctx context.Context, tx *sql.Tx, query string, scan func(*sql.Rows) error) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

const settledPoll = 500 * time.Millisecond

// awaitSettled polls until every transfer between the systems has ended alike on both sides, and reads the books then, or
// as they are when the context ends.
func awaitSettled(ctx context.Context, systems []local.SystemCredentials) ([]Books, error) {
	var books []Books
	for {
		now, err := readAll(context.WithoutCancel(ctx), systems)
		if err == nil {
			books = now
			if len(unlike(books)) == 0 {
				return books, nil
			}
		}
		if !sleep(ctx, settledPoll) {
			return books, err
		}
	}
}

func readAll(ctx context.Context, systems []local.SystemCredentials) (books []Books, err error) {
	for _, system := range systems {
		of, err := readBooks(ctx, system)
		if err != nil {
			return nil, err
		}
		books = append(books, of)
	}
	return books, nil
}
