package store

import (
	"context"
	"database/sql"
	"fmt"

	"lockstep/node/ledger"
)

// The daily limits of accounts have a table of their own, which only batches with a limited account touch: the account's
// row says whether it is one, and its lock is the lock of its limit.

const limitColumns = `daily_out, day_began, used, since`

// nullLimit is a limit as a row has it, or all nulls.
type nullLimit struct {
	out, used    sql.NullInt64
	began, since sql.NullTime
}

func (n *nullLimit) fields() []any { return []any{&n.out, &n.began, &n.used, &n.since} }

func (n *nullLimit) limit() ledger.DailyLimit {
	return ledger.DailyLimit{
		Kept: n.began.Valid, Capped: n.out.Valid, Out: n.out.Int64, Day: n.began.Time, Used: n.used.Int64, Since: n.since.Time,
	}
}

// LockLimits completes accounts that the transaction has locked: those that have a limit. Where none is limited it costs
// nothing. A limited account whose limit has no row is damage, and an error: without it anything could leave.
func LockLimits(ctx context.Context, tx *Tx, accounts []ledger.Account) error {
	var ids []ledger.AccountID
	places := map[ledger.AccountID]int{}
	for i := range accounts {
		if accounts[i].Daily.Kept {
			places[accounts[i].ID] = i
			ids = append(ids, accounts[i].ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	scan := func(rows *sql.Rows) error {
		var id ledger.AccountID
		var row nullLimit
		if err := rows.Scan(append([]any{&id}, row.fields()...)...); err != nil {
			return err
		}
		accounts[places[id]].Daily = row.limit()
		delete(places, id)
		return nil
	}
	query := `SELECT account_id, ` + limitColumns + ` FROM daily_limits FORCE INDEX (PRIMARY) WHERE account_id IN (` +
		marks(len(ids)) + `) ORDER BY account_id FOR UPDATE`
	if err := tx.Query(ctx, scan, query, anys(ids)...); err != nil {
		return fmt.Errorf("lock limits: %w", err)
	}
	for id := range places {
		return fmt.Errorf("account %d is limited and its limit has no row", id)
	}
	return nil
}

// PutLimits queues the limits of accounts that the transaction has locked; first are those that had none before.
func PutLimits(tx *Tx, accounts, first []ledger.Account) {
	var values bulk
	for _, a := range accounts {
		d := a.Daily
		values.row(a.ID, sql.NullInt64{Int64: d.Out, Valid: d.Capped}, d.Day, d.Used, d.Since)
	}
	values.queue(tx, `INSERT INTO daily_limits (account_id, daily_out, day_began, used, since)`,
		` ON DUPLICATE KEY UPDATE daily_out = VALUES(daily_out), day_began = VALUES(day_began), used = VALUES(used)`)
	if len(first) == 0 {
		return
	}
	ids := make([]ledger.AccountID, 0, len(first))
	for _, a := range first {
		ids = append(ids, a.ID)
	}
	tx.queue(`UPDATE accounts SET limited = 1 WHERE id IN (`+marks(len(ids))+`)`, anys(ids)...)
}
