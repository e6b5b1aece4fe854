package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lockstep/node/ledger"
)

// The statements of a posting batch: each function is one statement, whatever the number of rows. What only writes is
// queued and leaves with Tx.Flush: a round trip costs more than most statements.

// AdvanceLane queues the batch's number for the lane's row. When the flush finds no row, another process owns this node
// id: the caller must stop at once.
func AdvanceLane(tx *Tx, lane ledger.Lane, incarnation string, batch int64) {
	tx.queue(`UPDATE lanes SET batch = ? WHERE node = ? AND lane = ? AND incarnation = ?`,
		batch, lane.Node, lane.Lane, incarnation)
}

// LaneBatch locks the lane's row and tells who owns it and the number of its last committed batch. While a transaction
// of the lane is still open it waits for it, and fails with error 1205 when that takes too long.
func LaneBatch(ctx context.Context, tx *Tx, lane ledger.Lane) (incarnation string, batch int64, err error) {
	found := false
	scan := func(rows *sql.Rows) error {
		found = true
		return rows.Scan(&incarnation, &batch)
	}
	err = tx.Query(ctx, scan, `SELECT incarnation, batch FROM lanes WHERE node = ? AND lane = ? FOR UPDATE`, lane.Node, lane.Lane)
	if err == nil && !found {
		err = errors.New("the lane has no row")
	}
	if err != nil {
		return "", 0, fmt.Errorf("read lane: %w", err)
	}
	return incarnation, batch, nil
}

const accountColumns = `id, owner, currency, label, status, posted, pending_debit, pending_credit, overdraft_limit, version, created_at, limited`

// Look is what a batch learns once its accounts are locked. It is zero when there were none to lock.
type Look struct {
	Now      time.Time // the database's; later lines of an account have later times
	Webhooks int64     // the mark of the webhooks: see MarkWebhooks
}

// LockAccounts locks the rows of ids, which must be sorted, and looks. Ids without a row are left
// out, and of limits only whether there is one: LockLimits reads the rest. The plan is forced to the primary key, so that rows lock in canonical order whatever the optimiser thinks.
func LockAccounts(ctx context.Context, tx *Tx, ids []ledger.AccountID) (accounts []ledger.Account, look Look, err error) {
	return lockAccounts(ctx, tx, ids, " FOR UPDATE")
}

// LockFreeAccounts is LockAccounts without waiting: rows that another transaction keeps are busy. To the locking read they
// look as if they were missing, so a plain one tells which are there.
func LockFreeAccounts(ctx context.Context, tx *Tx, ids []ledger.AccountID) (accounts []ledger.Account, look Look, busy []ledger.AccountID, err error) {
	accounts, look, err = lockAccounts(ctx, tx, ids, " FOR UPDATE SKIP LOCKED")
	if err != nil || len(accounts) == len(ids) {
		return accounts, look, nil, err
	}
	locked := map[ledger.AccountID]bool{}
	for i := range accounts {
		locked[accounts[i].ID] = true
	}
	missing := slices.DeleteFunc(slices.Clone(ids), func(id ledger.AccountID) bool { return locked[id] })
	scan := func(rows *sql.Rows) error {
		var id ledger.AccountID
		err := rows.Scan(&id)
		busy = append(busy, id)
		return err
	}
	query := `SELECT id FROM accounts FORCE INDEX (PRIMARY) WHERE id IN (` + marks(len(missing)) + `) ORDER BY id`
	if err := tx.Query(ctx, scan, query, anys(missing)...); err != nil {
		return nil, Look{}, nil, fmt.Errorf("look for accounts that could not be locked: %w", err)
	}
	return accounts, look, busy, nil
}

func lockAccounts(ctx context.Context, tx *Tx, ids []ledger.AccountID, lock string) (accounts []ledger.Account, look Look, err error) {
	if len(ids) == 0 {
		return nil, Look{}, nil
	}
	scan := func(rows *sql.Rows) error {
		var a ledger.Account
		err := rows.Scan(&a.ID, &a.Owner, &a.Currency, &a.Label, &a.Status, &a.Posted, &a.PendingDebit,
			&a.PendingCredit, &a.OverdraftLimit, &a.Version, &a.CreatedAt, &a.Daily.Kept)
		accounts = append(accounts, a)
		return err
	}
	tx.ask(`SELECT `+accountColumns+` FROM accounts FORCE INDEX (PRIMARY) WHERE id IN (`+marks(len(ids))+`) ORDER BY id`+lock,
		scan, anys(ids)...)
	// Asked behind the locks.
	tx.ask("SELECT UTC_TIMESTAMP(6), (SELECT webhooks FROM `system` WHERE only = 1)", func(rows *sql.Rows) error {
		return rows.Scan(&look.Now, &look.Webhooks)
	})
	if err := tx.Answers(ctx); err != nil {
		return nil, Look{}, fmt.Errorf("lock accounts: %w", err)
	}
	return accounts, look, nil
}

const holdColumns = `id, account_id, to_number, amount, currency, state, captured, expires_at, created_at`

// LockHolds locks the holds of ids, which must be sorted.
func LockHolds(ctx context.Context, tx *Tx, ids []ledger.HoldID) (holds []ledger.Hold, err error) {
	if len(ids) == 0 {
		return nil, nil
	}
	scan := func(rows *sql.Rows) error {
		hold, err := scanHold(rows)
		holds = append(holds, hold)
		return err
	}
	query := `SELECT ` + holdColumns + ` FROM holds FORCE INDEX (PRIMARY) WHERE id IN (` + marks(len(ids)) + `) ORDER BY id FOR UPDATE`
	if err := tx.Query(ctx, scan, query, anys(ids)...); err != nil {
		return nil, fmt.Errorf("lock holds: %w", err)
	}
	return holds, nil
}

func scanHold(rows *sql.Rows) (ledger.Hold, error) {
	var h ledger.Hold
	err := rows.Scan(&h.ID, &h.Account, &h.To, &h.Amount.Minor, &h.Amount.Currency, &h.State, &h.Captured, &h.ExpiresAt, &h.CreatedAt)
	return h, err
}

// DueHolds lists pending holds of clients whose time is over, oldest first.
func DueHolds(ctx context.Context, db *sql.DB, limit int) (holds []ledger.Hold, err error) {
	rows, err := db.QueryContext(ctx, `SELECT `+holdColumns+` FROM holds
		WHERE state = 'pending' AND expires_at <= UTC_TIMESTAMP(6) ORDER BY expires_at LIMIT ?`, limit)
	if err != nil {
		return nil, fmt.Errorf("list due holds: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		hold, err := scanHold(rows)
		if err != nil {
			return nil, fmt.Errorf("read due hold: %w", err)
		}
		holds = append(holds, hold)
	}
	return holds, rows.Err()
}

const transferColumns = `id, kind, state, from_number, to_number, payer_id, payee_id, amount, currency, description, reference,
	COALESCE(hold_id, ''), created_at, finished_at`

// ReadResults reads what answers are rendered from again: transfers that this system pays, by id, and how those to other
// systems stand.
func ReadResults(ctx context.Context, tx *Tx, ids []ledger.TransferID) (map[ledger.TransferID]ledger.Result, error) {
	results := make(map[ledger.TransferID]ledger.Result, len(ids))
	if len(ids) == 0 {
		return results, nil
	}
	remitted := false
	scan := func(rows *sql.Rows) error {
		t, err := scanTransfer(rows)
		results[t.ID] = ledger.Result{Transfer: &t}
		remitted = remitted || t.Remote()
		return err
	}
	query := `SELECT ` + transferColumns + ` FROM transfers WHERE id IN (` + marks(len(ids)) + `)`
	if err := tx.Query(ctx, scan, query, anys(ids)...); err != nil {
		return nil, fmt.Errorf("read transfers: %w", err)
	}
	if remitted {
		return results, readRemitted(ctx, tx, ids, results)
	}
	return results, nil
}

func readRemitted(ctx context.Context, tx *Tx, ids []ledger.TransferID, results map[ledger.TransferID]ledger.Result) error {
	scan := func(rows *sql.Rows) error {
		r, err := scanRemittance(rows)
		results[r.ID] = ledger.Result{Transfer: r.Transfer, Remittance: &r}
		return err
	}
	query := remittanceRead + ` WHERE r.id IN (` + marks(len(ids)) + `)`
	if err := tx.Query(ctx, scan, query, anys(ids)...); err != nil {
		return fmt.Errorf("read remittances: %w", err)
	}
	return nil
}

func scanTransfer(rows *sql.Rows) (ledger.Transfer, error) { return scanTransferAnd(rows) }

// scanTransferAnd reads the columns behind those of the transfer as well.
func scanTransferAnd(rows *sql.Rows, more ...any) (ledger.Transfer, error) {
	var t ledger.Transfer
	var payer, payee sql.NullInt64
	var finished sql.NullTime
	err := rows.Scan(append([]any{
		&t.ID, &t.Kind, &t.State, &t.From, &t.To, &payer, &payee, &t.Amount.Minor, &t.Amount.Currency,
		&t.Description, &t.Reference, &t.Hold, &t.CreatedAt, &finished,
	}, more...)...)
	t.PayerID, t.PayeeID, t.FinishedAt = ledger.AccountID(payer.Int64), ledger.AccountID(payee.Int64), finished.Time
	return t, err
}

// InsertTransfers queues new transfers of this system.
func InsertTransfers(tx *Tx, system string, transfers []ledger.Transfer) {
	var values bulk
	for _, t := range transfers {
		values.row(t.ID, system, t.Kind, t.State, t.From, t.To, t.PayerID, t.PayeeID, t.Amount.Minor, t.Amount.Currency,
			t.Description, t.Reference, sql.NullString{String: string(t.Hold), Valid: t.Hold != ""}, t.CreatedAt, t.FinishedAt)
	}
	values.queue(tx, `INSERT INTO transfers (id, payer_system, kind, state, from_number, to_number, payer_id, payee_id,
		amount, currency, description, reference, hold_id, created_at, finished_at)`, "")
}

// InsertEntries queues journal lines, those of an account together: neighbours go where the server has just been. Their
// primary key, account and sequence, refuses a second line in one place.
func InsertEntries(tx *Tx, entries []ledger.Entry) {
	inOrder := slices.SortedFunc(slices.Values(entries), func(a, b ledger.Entry) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Sequence, b.Sequence))
	})
	var values bulk
	for _, e := range inOrder {
		values.row(e.Account, e.Sequence, e.Transfer, e.Kind, e.Amount, e.Currency, e.BalanceAfter, e.Counterparty, e.CreatedAt)
	}
	values.queue(tx, `INSERT INTO entries (account_id, sequence, transfer_id, kind, amount, currency, balance_after,
		counterparty, created_at)`, "")
}

// UpdateAccounts queues accounts that the transaction has locked. It is an upsert because neither MySQL nor MariaDB
// updates many rows to different values in a cheaper way; the rows exist, so nothing is inserted.
func UpdateAccounts(tx *Tx, accounts []ledger.Account) {
	var values bulk
	for _, a := range accounts {
		account, _ := ledger.StripeOf(a.ID)
		system := sql.NullInt64{Int64: int64(account), Valid: a.Stripe()}
		values.row(a.ID, a.Owner, a.Currency, a.Label, a.Status, a.Posted, a.PendingDebit, a.PendingCredit,
			a.OverdraftLimit, a.Version, system, a.CreatedAt)
	}
	values.queue(tx, `INSERT INTO accounts (id, owner, currency, label, status, posted, pending_debit, pending_credit,
		overdraft_limit, version, system_account, created_at)`, ` ON DUPLICATE KEY UPDATE owner = VALUES(owner), label = VALUES(label),
		status = VALUES(status), posted = VALUES(posted), pending_debit = VALUES(pending_debit),
		pending_credit = VALUES(pending_credit), overdraft_limit = VALUES(overdraft_limit), version = VALUES(version)`)
}

// PutHolds queues holds, new or changed.
func PutHolds(tx *Tx, holds []ledger.Hold) {
	var values bulk
	for _, h := range holds {
		values.row(h.ID, h.Account, h.To, h.Amount.Minor, h.Amount.Currency, h.State, h.Captured, h.ExpiresAt, h.CreatedAt)
	}
	values.queue(tx, `INSERT INTO holds (id, account_id, to_number, amount, currency, state, captured, expires_at, created_at)`,
		` ON DUPLICATE KEY UPDATE state = VALUES(state), captured = VALUES(captured)`)
}

// MakeStripe makes the lane's share of a system account in a currency, in a short transaction of its own; made again it
// changes nothing.
func (s *Store) MakeStripe(ctx context.Context, lane ledger.Lane, system ledger.AccountID, currency ledger.Currency) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return fmt.Errorf("make stripe: %w", err)
	}
	defer tx.Rollback()
	_, err = tx.Exec(ctx, `INSERT INTO accounts (id, owner, currency, label, status, posted, pending_debit, pending_credit,
		overdraft_limit, version, system_account, node, lane, created_at)
		VALUES (?, '', ?, '', 'open', 0, 0, 0, 0, 0, ?, ?, ?, UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE id = id`,
		lane.Stripe(system, currency), currency, system, lane.Node, lane.Lane)
	if err != nil {
		return fmt.Errorf("make stripe: %w", err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("make stripe: %w", err)
	}
	return nil
}

func marks(n int) string { return strings.Repeat("?,", n-1) + "?" }

func anys[T any](values []T) []any {
	args := slices.Grow([]any(nil), len(values))
	for _, value := range values {
		args = append(args, value)
	}
	return args
}
