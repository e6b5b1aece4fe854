package bench

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver of all databases here
	"github.com/google/uuid"
)

// direct is what an application does that writes SQL by hand: tables of its own with the shape of ours, on the same
// server. Its figures are what the engine's are held against.
type direct struct {
	db    *sql.DB
	conns []*sql.Conn // warm
}

const (
	// sqlParams are the parameters that every data source name of a money session has.
	sqlParams = "?timeout=2s&readTimeout=6s&writeTimeout=3s&interpolateParams=true&clientFoundRows=true&rejectReadOnly=true&" +
		"parseTime=true&loc=UTC&charset=utf8mb4"
	directConns    = 32
	directAccounts = accounts
	combinedConns  = 1
	directBalance  = 1_000_000_000
	combined       = 256 // transfers in one transaction: the practical limit of combining
)

// openDirect copies the shape of our tables, adds the unique key of an idempotent application, and warms all connections.
func openDirect(ctx context.Context, dsn string) (*direct, error) {
	db, err := sql.Open("mysql", dsn+sqlParams)
	if err != nil {
		return nil, fmt.Errorf("open direct SQL: %w", err)
	}
	db.SetMaxOpenConns(directConns)
	d := &direct{db: db}
	if err := d.prepare(ctx); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *direct) prepare(ctx context.Context) error {
	for _, statement := range []string{
		`DROP TABLE IF EXISTS bench_accounts, bench_transfers, bench_entries`,
		`CREATE TABLE bench_accounts LIKE accounts`,
		`CREATE TABLE bench_transfers LIKE transfers`,
		`CREATE TABLE bench_entries LIKE entries`,
		`ALTER TABLE bench_transfers ADD COLUMN idem_key VARCHAR(255) NOT NULL, ADD UNIQUE KEY (idem_key)`,
	} {
		if _, err := d.db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("make the tables of direct SQL: %w", err)
		}
	}
	if err := d.fill(ctx); err != nil {
		return err
	}
	return d.warm(ctx)
}

func (d *direct) fill(ctx context.Context) error {
	const step = 1000
	for first := 1; first <= directAccounts; first += step {
		rows := make([]string, step)
		for i := range rows {
			rows[i] = fmt.Sprintf("(%d,%d,0,'client:%d','%s','','open',0,0,0,UTC_TIMESTAMP(6))",
				first+i, directBalance, i%principals, currency)
		}
		if _, err := d.db.ExecContext(ctx, directAccountInsert+strings.Join(rows, ",")); err != nil {
			return fmt.Errorf("fill the tables of direct SQL: %w", err)
		}
	}
	return nil
}

// warm opens all connections before anything is measured. Each keeps READ COMMITTED for its life, which saves the
// statement that would choose it in every transaction.
func (d *direct) warm(ctx context.Context) error {
	for range directConns {
		conn, err := d.db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("warm direct SQL: %w", err)
		}
		d.conns = append(d.conns, conn)
		if err := conn.PingContext(ctx); err != nil {
			return fmt.Errorf("warm direct SQL: %w", err)
		}
		if _, err := conn.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"); err != nil {
			return fmt.Errorf("warm direct SQL: %w", err)
		}
	}
	return nil
}

func (d *direct) close() {
	for _, conn := range d.conns {
		_ = conn.Close()
	}
	_ = d.db.Close()
}

// transaction is what an application does on one of its connections.
type transaction func(context.Context, *sql.Conn) error

// run repeats a transaction on some of the warm connections. Each transaction counts as one success; deadlocks cannot
// happen, for rows lock in order.
func (d *direct) run(ctx context.Context, name string, conns int, duration time.Duration, work transaction) (result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := make([]result, conns)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range parts {
		wg.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				if start.Sub(began) >= duration {
					return
				}
				if err := work(ctx, d.conns[i]); err != nil {
					cancel(err)
					return
				}
				end := time.Now()
				parts[i].samples = append(parts[i].samples, sample{at: end.Sub(began), took: end.Sub(start)})
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return result{}, fmt.Errorf("%s: %w", name, err)
	}
	all := join(parts...)
	all.name, all.conns, all.took = name, conns, time.Since(began)
	return all, nil
}

const (
	directAccountInsert = `INSERT INTO bench_accounts (id, posted, version, owner, currency, label, status, pending_debit,
		pending_credit, overdraft_limit, created_at) VALUES `
	directTransferInsert = `INSERT INTO bench_transfers (id, payer_system, kind, state, from_number, to_number, payer_id, payee_id,
		amount, currency, description, reference, hold_id, created_at, finished_at, idem_key) VALUES `
	directTransferRow = `(?,'alpha','transfer','posted',?,?,?,?,1,'` + currency + `','','',NULL,?,?,?)`

	directEntryInsert = `INSERT INTO bench_entries (account_id, sequence, transfer_id, kind, amount, currency, balance_after,
		counterparty, created_at) VALUES `
	directEntryRow = `(?,?,?,'transfer',?,'` + currency + `',?,?,?)`
)

// single is one transfer in one transaction: seven round trips.
func (d *direct) single(ctx context.Context, conn *sql.Conn) error {
	one, other := directPair()
	from, to := directNumber(one), directNumber(other)
	id, now := uuid.Must(uuid.NewV7()).String(), time.Now().UTC()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, directTransferInsert+directTransferRow, id, from, to, one, other, now, now, id); err != nil {
		return err
	}
	rows, err := lockDirect(ctx, tx, []any{min(one, other), max(one, other)})
	if err != nil {
		return err
	}
	payer, payee := rows[one], rows[other]
	payer.pay(-1)
	payee.pay(1)
	const update = "UPDATE bench_accounts SET posted=?, version=? WHERE id=?"
	if _, err := tx.ExecContext(ctx, update, payer.posted, payer.version, one); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, update, payee.posted, payee.version, other); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, directEntryInsert+directEntryRow+","+directEntryRow,
		one, payer.version, id, -1, payer.posted, to, now, other, payee.version, id, 1, payee.posted, from, now); err != nil {
		return err
	}
	return tx.Commit()
}

func directPair() (one, other int64) {
	one, other = rand.Int64N(directAccounts)+1, rand.Int64N(directAccounts-1)+1
	if other >= one {
		other++
	}
	return one, other
}

func directNumber(id int64) string { return fmt.Sprintf("alpha-%012d00", id) }

type directRow struct{ posted, version int64 }

func (r *directRow) pay(amount int64) { r.posted, r.version = r.posted+amount, r.version+1 }

// lockDirect locks rows in order.
func lockDirect(ctx context.Context, tx *sql.Tx, ids []any) (map[int64]*directRow, error) {
	rows, err := tx.QueryContext(ctx, "SELECT id, posted, version FROM bench_accounts FORCE INDEX (PRIMARY) WHERE id IN (?"+
		strings.Repeat(",?", len(ids)-1)+") ORDER BY id FOR UPDATE", ids...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[int64]*directRow, len(ids))
	for rows.Next() {
		var id int64
		row := new(directRow)
		if err := rows.Scan(&id, &row.posted, &row.version); err != nil {
			return nil, err
		}
		found[id] = row
	}
	return found, rows.Err()
}

// many is 256 transfers in one transaction, with one statement per table.
func (d *direct) many(ctx context.Context, conn *sql.Conn) error {
	pairs, ids := make([][2]int64, combined), make([]int64, 0, 2*combined)
	for i := range pairs {
		pairs[i][0], pairs[i][1] = directPair()
		ids = append(ids, pairs[i][0], pairs[i][1])
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	sorted := make([]any, len(ids))
	for i, id := range ids {
		sorted[i] = id
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	rows, err := lockDirect(ctx, tx, sorted)
	if err != nil {
		return err
	}
	var transfers, entries, changed []any
	now := time.Now().UTC()
	for _, pair := range pairs {
		id := uuid.Must(uuid.NewV7()).String()
		numbers := [2]string{directNumber(pair[0]), directNumber(pair[1])}
		transfers = append(transfers, id, numbers[0], numbers[1], pair[0], pair[1], now, now, id)
		for side, account := range pair {
			row, amount := rows[account], int64(2*side-1)
			row.pay(amount)
			entries = append(entries, account, row.version, id, amount, row.posted, numbers[1-side], now)
		}
	}
	for _, id := range ids {
		changed = append(changed, id, rows[id].posted, rows[id].version, now)
	}
	for _, bulk := range []struct {
		insert, row, after string
		args               []any
	}{
		{directTransferInsert, directTransferRow, "", transfers},
		{directEntryInsert, directEntryRow, "", entries},
		{directAccountInsert, `(?,?,?,'','','','',0,0,0,?)`, " ON DUPLICATE KEY UPDATE posted=VALUES(posted), version=VALUES(version)", changed},
	} {
		count := len(bulk.args) / strings.Count(bulk.row, "?")
		if _, err := tx.ExecContext(ctx, bulk.insert+bulk.row+strings.Repeat(","+bulk.row, count-1)+bulk.after, bulk.args...); err != nil {
			return err
		}
	}
	return tx.Commit()
}
