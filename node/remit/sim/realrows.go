package sim

import (
	"context"
	"database/sql"
	"errors"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

// Rows implements System.
func (r *Real) Rows() (rows Rows, err error) {
	var failures [5]error
	rows.Accounts, failures[0] = rowsOf(r.admin, scanAccount, `SELECT id, owner, currency, label, status, posted, pending_debit,
		pending_credit, overdraft_limit, version FROM accounts`)
	rows.Entries, failures[1] = rowsOf(r.admin, scanEntry, `SELECT account_id, sequence, transfer_id, kind, amount, currency,
		balance_after, counterparty, created_at FROM entries`)
	rows.Transfers, failures[2] = rowsOf(r.admin, scanTransfer, `SELECT id, kind, state, from_number, to_number, payer_id, payee_id,
		amount, currency, description, reference, created_at, finished_at FROM transfers
		WHERE id NOT IN (SELECT id FROM remittances)`)
	ids, failure := rowsOf(r.admin, func(rows *sql.Rows) (id ledger.TransferID, err error) {
		return id, rows.Scan(&id)
	}, "SELECT id FROM remittances")
	failures[3] = failure
	failures[4] = r.ask(func(ctx context.Context, q *store.Queries) error {
		found, err := q.Remittances(ctx, ids)
		if err != nil {
			return err
		}
		rows.Remittances = nil
		for _, remittance := range found {
			rows.Remittances = append(rows.Remittances, remittance)
		}
		rows.Exposures, err = q.Exposures(ctx)
		return err
	})
	rows.sort()
	return rows, errors.Join(failures[:]...)
}

// scanAccount leaves out when the account was made, which is not the simulation's time.
func scanAccount(rows *sql.Rows) (a ledger.Account, err error) {
	return a, rows.Scan(&a.ID, &a.Owner, &a.Currency, &a.Label, &a.Status, &a.Posted, &a.PendingDebit, &a.PendingCredit, &a.OverdraftLimit, &a.Version)
}

func scanEntry(rows *sql.Rows) (e ledger.Entry, err error) {
	return e, rows.Scan(&e.Account, &e.Sequence, &e.Transfer, &e.Kind, &e.Amount, &e.Currency, &e.BalanceAfter, &e.Counterparty, &e.CreatedAt)
}

func scanTransfer(rows *sql.Rows) (t ledger.Transfer, err error) {
	var finished sql.NullTime
	err = rows.Scan(&t.ID, &t.Kind, &t.State, &t.From, &t.To, &t.PayerID, &t.PayeeID, &t.Amount.Minor, &t.Amount.Currency,
		&t.Description, &t.Reference, &t.CreatedAt, &finished)
	t.FinishedAt = finished.Time
	return t, err
}
