package bench

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// direct is what an application does that writes SQL by hand: tables of its own with the shape of ours, on the same
// server. Its figures are what the engine's are held against.
type direct struct{ db *sql.DB }

const (
	directParams   = "?timeout=2s&readTimeout=6s&writeTimeout=3s&interpolateParams=true&clientFoundRows=true&rejectReadOnly=true&parseTime=true&loc=UTC&charset=utf8mb4"
	directConns    = 32
	directAccounts = 10_000
	combined       = 256 // transfers in one transaction, the practical limit
)

// openDirect makes the tables; admin may do so.
func openDirect(ctx context.Context, admin string) (*direct, error) {
	db, err := sql.Open("mysql", admin+directParams)
	if err != nil {
		return nil, fmt.Errorf("open direct SQL: %w", err)
	}
	db.SetMaxOpenConns(directConns)
	db.SetMaxIdleConns(directConns)
	d := &direct{db: db}
	for _, statement := range []string{
		`DROP TABLE IF EXISTS bench_accounts, bench_transfers, bench_entries`,
		`CREATE TABLE bench_accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, version BIGINT NOT NULL) ENGINE=InnoDB`,
		`CREATE TABLE bench_transfers (id CHAR(36) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,
			idem_key VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE, payer BIGINT NOT NULL, payee BIGINT NOT NULL,
			amount BIGINT NOT NULL, created_at DATETIME(6) NOT NULL) ENGINE=InnoDB`,
		`CREATE TABLE bench_entries (account_id BIGINT NOT NULL, sequence BIGINT NOT NULL, transfer_id CHAR(36) CHARACTER SET ascii
			COLLATE ascii_bin NOT NULL, amount BIGINT NOT NULL, balance_after BIGINT NOT NULL, PRIMARY KEY (account_id, sequence)) ENGINE=InnoDB`,
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return nil, fmt.Errorf("prepare direct SQL: %w", err)
		}
	}
	for first := 1; first <= directAccounts; first += 1000 {
		rows := make([]string, 1000)
		for i := range rows {
			rows[i] = fmt.Sprintf("(%d,1000000,0)", first+i)
		}
		if _, err := db.ExecContext(ctx, "INSERT INTO bench_accounts VALUES "+strings.Join(rows, ",")); err != nil {
			return nil, fmt.Errorf("fill direct SQL: %w", err)
		}
	}
	return d, nil
}

func (d *direct) close() { _ = d.db.Close() }

// run works on all connections for a while and counts transfers. Deadlocks cannot happen, for rows lock in order.
func (d *direct) run(ctx context.Context, duration time.Duration, conns, each int, transfer func(context.Context) error) (rate float64, p50 time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done atomic.Int64
	var wg sync.WaitGroup
	var times latencies
	began := time.Now()
	for range conns {
		wg.Go(func() {
			for time.Since(began) < duration && ctx.Err() == nil {
				start := time.Now()
				if err := transfer(ctx); err != nil {
					cancel(err)
					return
				}
				times.add(time.Since(start))
				done.Add(int64(each))
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return 0, 0, fmt.Errorf("direct SQL: %w", err)
	}
	return float64(done.Load()) / time.Since(began).Seconds(), times.quantile(0.5), nil
}

// single is one transfer in one transaction.
func (d *direct) single(ctx context.Context) error {
	payer, payee := rand.Int64N(directAccounts)+1, rand.Int64N(directAccounts-1)+1
	if payee == payer {
		payee = directAccounts
	}
	id := uuid.NewString()
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, "INSERT INTO bench_transfers VALUES (?,?,?,?,?,UTC_TIMESTAMP(6))", id, id, payer, payee, 1); err != nil {
		return err
	}
	balances, err := lockDirect(ctx, tx, payer, payee)
	if err != nil {
		return err
	}
	from, to := balances[payer], balances[payee]
	if _, err := tx.ExecContext(ctx, "UPDATE bench_accounts SET balance=balance-1, version=version+1 WHERE id=?", payer); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE bench_accounts SET balance=balance+1, version=version+1 WHERE id=?", payee); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO bench_entries VALUES (?,?,?,?,?),(?,?,?,?,?)",
		payer, from.version+1, id, -1, from.balance-1, payee, to.version+1, id, 1, to.balance+1); err != nil {
		return err
	}
	return tx.Commit()
}

type directRow struct{ balance, version int64 }

func lockDirect(ctx context.Context, tx *sql.Tx, ids ...any) (map[any]directRow, error) {
	rows, err := tx.QueryContext(ctx, "SELECT id, balance, version FROM bench_accounts WHERE id IN (?"+
		strings.Repeat(",?", len(ids)-1)+") ORDER BY id FOR UPDATE", ids...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[any]directRow, len(ids))
	for rows.Next() {
		var id int64
		var row directRow
		if err := rows.Scan(&id, &row.balance, &row.version); err != nil {
			return nil, err
		}
		found[id] = row
	}
	return found, rows.Err()
}

// many is 256 transfers in one transaction, with one statement per table.
func (d *direct) many(ctx context.Context) error {
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer tx.Rollback()
	pairs, ids := make([][2]int64, combined), map[int64]bool{}
	for i := range pairs {
		pairs[i] = [2]int64{rand.Int64N(directAccounts/2) + 1, rand.Int64N(directAccounts/2) + directAccounts/2 + 1}
		ids[pairs[i][0]], ids[pairs[i][1]] = true, true
	}
	list := make([]any, 0, len(ids))
	for id := range ids {
		list = append(list, id)
	}
	balances, err := lockDirect(ctx, tx, list...)
	if err != nil {
		return err
	}
	var transfers, entries, accounts []any
	for _, pair := range pairs {
		id := uuid.NewString()
		transfers = append(transfers, id, id, pair[0], pair[1], 1)
		for side, account := range pair {
			row := balances[account]
			row.version++
			row.balance += int64(2*side - 1)
			balances[account] = row
			entries = append(entries, account, row.version, id, 2*side-1, row.balance)
		}
	}
	for id, row := range balances {
		accounts = append(accounts, id, row.balance, row.version)
	}
	for _, bulk := range []struct {
		insert, tuple, after string
		args                 []any
		columns              int
	}{
		{"INSERT INTO bench_transfers VALUES ", "(?,?,?,?,?,UTC_TIMESTAMP(6))", "", transfers, 5},
		{"INSERT INTO bench_entries VALUES ", "(?,?,?,?,?)", "", entries, 5},
		{"INSERT INTO bench_accounts VALUES ", "(?,?,?)", " ON DUPLICATE KEY UPDATE balance=VALUES(balance), version=VALUES(version)", accounts, 3},
	} {
		query := bulk.insert + bulk.tuple + strings.Repeat(","+bulk.tuple, len(bulk.args)/bulk.columns-1) + bulk.after
		if _, err := tx.ExecContext(ctx, query, bulk.args...); err != nil {
			return err
		}
	}
	return tx.Commit()
}
