package store

import (
	"context"
	"fmt"

	"lockstep/node/ledger"
)

// CreateAccount makes an account with the next serial. ID and CreatedAt are set by it, balances start at zero; a serial
// whose transaction is rolled back is not given again.
func (tx *Tx) CreateAccount(ctx context.Context, account ledger.Account) (ledger.Account, error) {
	result, err := tx.Exec(ctx, "INSERT INTO serials () VALUES ()")
	if err != nil {
		return ledger.Account{}, fmt.Errorf("take a serial: %w", err)
	}
	serial, err := result.LastInsertId()
	if err != nil {
		return ledger.Account{}, fmt.Errorf("take a serial: %w", tx.poison(err))
	}
	account.ID, account.CreatedAt = ledger.AccountID(serial), tx.store.Now()
	account.Posted, account.PendingDebit, account.PendingCredit, account.Version = 0, 0, 0, 0
	_, err = tx.Exec(ctx, `INSERT INTO accounts (id, owner, currency, label, status, posted, pending_debit, pending_credit,
		overdraft_limit, version, created_at) VALUES (?, ?, ?, ?, ?, 0, 0, 0, ?, 0, ?)`,
		account.ID, account.Owner, account.Currency, account.Label, account.Status, account.OverdraftLimit, account.CreatedAt)
	if err != nil {
		return ledger.Account{}, fmt.Errorf("create account: %w", err)
	}
	return account, nil
}
