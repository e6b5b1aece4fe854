package bench

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/node/ledger"
)

const (
	preloadAccounts  = 1_000_000
	preloadRounds    = 2           // in each, every account pays once and is paid once
	preloadFirst     = 500_000_000 // the first serial, beyond those that the nodes will give
	preloadBalance   = 1_000_000
	preloadNode      = 99_999 // whose stripe of cash explains the deposits; no real node has so high a number
	preloadPrincipal = "client:preload"
	preloadChunk     = 25_000 // rows in one transaction, about
	journalRounds    = 3

	// preloadParams has no time limits, and keeps the journal out of the binary log: every server makes its own, which is
	// far faster than to replicate it.
	preloadParams = "?interpolateParams=true&sql_log_bin=0"
)

// preload is a journal written by plain SQL: a deposit to each account, then rounds in which account i pays 1 to the
// account some places on. So each line of the journal follows from its place alone, and the server makes them.
type preload struct {
	system           string
	at               string // when all of it happened
	accounts, rounds int64
	stripe           ledger.AccountID
	checks           string // the check digits of a number by its serial modulo 97, as a list of SQL
}

func newPreload(system string, accounts, rounds int64) *preload {
	p := &preload{
		system: system, accounts: accounts, rounds: rounds,
		at:     "TIMESTAMP'" + time.Now().UTC().Format("2006-01-02 15:04:05.000000") + "'",
		stripe: ledger.Lane{Node: preloadNode}.Stripe(ledger.CashSerial, currency),
	}
	digits := make([]string, 97)
	for i := range digits {
		number := string(ledger.NewNumber(system, ledger.AccountID(preloadFirst-preloadFirst%97+i)))
		digits[i] = "'" + number[len(number)-2:] + "'"
	}
	p.checks = strings.Join(digits, ",")
	return p
}

// number is SQL for the number of the account with an index, itself SQL.
func (p *preload) number(index string) string {
	return fmt.Sprintf("CONCAT('%s-', LPAD(%d + %s, 12, '0'), ELT(1 + (%d + %s) %% 97, %s))", p.system, preloadFirst, index,
		preloadFirst, index, p.checks)
}

// id is SQL for the id of the transfer with a place in the journal, itself SQL.
func id(place string) string {
	return fmt.Sprintf("CONCAT(LPAD(LOWER(HEX(%s)), 8, '0'), '-0000-7000-8000-', LPAD(%s, 12, '0'))", place, place)
}

// shift is SQL for how many places on the payee of a round stands; rounds, SQL too, count from 1.
func shift(round string) string { return "(1013 * " + round + " - 1006)" }

// write fills the tables of one server, each in the order of its key, several at once.
func (p *preload) write(ctx context.Context, db *sql.DB, progress func(table string, rows int64)) error {
	if _, err := db.ExecContext(ctx, p.stripeInsert()); err != nil {
		return fmt.Errorf("preload the stripe of cash: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, table := range []struct {
		name string
		rows int64
		fill func(from, to int64) string
	}{
		{"accounts", p.accounts, p.fillAccounts},
		{"deposits", p.accounts, p.fillDeposits},
		{"transfers", p.accounts * p.rounds, p.fillTransfers},
		{"entries of cash", p.accounts, p.fillCash},
		{"entries", p.accounts * (1 + 2*p.rounds), p.fillEntries},
		{"idempotency keys", p.accounts * p.rounds, p.fillClaims},
	} {
		group.Go(func() error {
			for from := int64(0); from < table.rows; from += preloadChunk {
				if _, err := db.ExecContext(ctx, table.fill(from, min(from+preloadChunk, table.rows)-1)); err != nil {
					return fmt.Errorf("preload %s: %w", table.name, err)
				}
			}
			progress(table.name, table.rows)
			return nil
		})
	}
	return group.Wait()
}

// places is SQL for the whole numbers from one to another, named x.
func places(from, to int64) string {
	return fmt.Sprintf("(SELECT CAST(seq AS SIGNED) AS x FROM seq_%d_to_%d) AS places", from, to)
}

func (p *preload) fillAccounts(from, to int64) string {
	return fmt.Sprintf(`INSERT INTO accounts (id, owner, currency, label, status, posted, pending_debit, pending_credit, overdraft_limit,
		version, created_at) SELECT %d + x, '%s', '%s', '', 'open', %d, 0, 0, 0, %d, %s FROM %s`,
		preloadFirst, preloadPrincipal, currency, preloadBalance, 1+2*p.rounds, p.at, places(from, to))
}

const preloadTransferInsert = `INSERT INTO transfers (id, payer_system, kind, state, from_number, to_number, payer_id, payee_id, amount,
	currency, description, reference, created_at, finished_at) `

func (p *preload) fillDeposits(from, to int64) string {
	return fmt.Sprintf(preloadTransferInsert+`SELECT %s, '%s', 'deposit', 'posted', 'cash', %s, %d, %d + x, %d, '%s', '', '', %s, %s FROM %s`,
		id("x"), p.system, p.number("x"), p.stripe, preloadFirst, preloadBalance, currency, p.at, p.at, places(from, to))
}

func (p *preload) fillTransfers(from, to int64) string {
	return fmt.Sprintf(preloadTransferInsert+`SELECT %s, '%s', 'transfer', 'posted', %s, %s, %d + payer, %d + payee, 1, '%s', '', '', %s, %s
		FROM (SELECT x, x %% %d AS payer, (x %% %d + %s) %% %d AS payee FROM %s) AS moves`,
		id(fmt.Sprintf("(%d + x)", p.accounts)), p.system, p.number("payer"), p.number("payee"), preloadFirst, preloadFirst, currency, p.at, p.at,
		p.accounts, p.accounts, shift(fmt.Sprintf("(x DIV %d + 1)", p.accounts)), p.accounts, places(from, to))
}

func (p *preload) fillCash(from, to int64) string {
	return fmt.Sprintf(preloadEntryInsert+`SELECT %d, x + 1, %s, 'deposit', -%d, '%s', -%d * (x + 1), %s, %s FROM %s`,
		p.stripe, id("x"), preloadBalance, currency, preloadBalance, p.number("x"), p.at, places(from, to))
}

const preloadEntryInsert = `INSERT INTO entries (account_id, sequence, transfer_id, kind, amount, currency, balance_after, counterparty,
	created_at) `

// fillEntries makes the lines of account i one after the other: line 0 is its deposit, the odd ones are its payments,
// the even ones what it was paid, each pair of one round.
func (p *preload) fillEntries(from, to int64) string {
	lines := 1 + 2*p.rounds
	return fmt.Sprintf(preloadEntryInsert+`SELECT %d + i, line + 1, %s, IF(line = 0, 'deposit', 'transfer'),
		CASE WHEN line = 0 THEN %d WHEN line %% 2 = 1 THEN -1 ELSE 1 END, '%s', %d - line %% 2, IF(line = 0, 'cash', %s), %s
		FROM (SELECT i, line, IF(line = 0, i, round * %d + IF(line %% 2 = 1, i, peer)) AS place, peer
			FROM (SELECT i, line, round, IF(line %% 2 = 1, i + step, i + %d - step) %% %d AS peer
				FROM (SELECT i, line, round, %s %% %d AS step
					FROM (SELECT x DIV %d AS i, x %% %d AS line, (x %% %d + 1) DIV 2 AS round FROM %s) AS a) AS b) AS c) AS d`,
		preloadFirst, id("place"), preloadBalance, currency, preloadBalance, p.number("peer"), p.at,
		p.accounts, p.accounts, p.accounts, shift("round"), p.accounts, lines, lines, lines, places(from, to))
}

func (p *preload) fillClaims(from, to int64) string {
	const route = "POST /v1/transfers"
	return fmt.Sprintf(`INSERT INTO idempotency (claim, principal, route, idem_key, fingerprint, command_id, transfer_id, renderer,
		language, request_id, created_at) SELECT SHA2(CONCAT('%s', CHAR(0), '%s', CHAR(0), id, CHAR(0)), 256), '%s', '%s', id,
		UNHEX(SHA2(id, 256)), id, id, 1, 'en', id, %s FROM (SELECT %s AS id FROM %s) AS ids ORDER BY 1`,
		preloadPrincipal, route, preloadPrincipal, route, p.at, id(fmt.Sprintf("(%d + x)", p.accounts)), places(from, to))
}

// stripeInsert makes the share of cash that paid the deposits.
func (p *preload) stripeInsert() string {
	return fmt.Sprintf(`INSERT INTO accounts (id, owner, currency, label, status, posted, pending_debit, pending_credit, overdraft_limit,
		version, system_account, node, lane, created_at) VALUES (%d, '', '%s', '', 'open', %d, 0, 0, 0, %d, %d, %d, 0, %s)`,
		p.stripe, currency, -preloadBalance*p.accounts, p.accounts, ledger.CashSerial, preloadNode, p.at)
}

// preload writes a large journal behind the back of the idle nodes.
func (s *stage) preload(ctx context.Context) error {
	p := newPreload(s.system.ID, preloadAccounts, preloadRounds)
	s.say("writing a journal on every server: %d accounts, %d transfers", p.accounts, p.accounts*p.rounds)
	group, writing := errgroup.WithContext(ctx)
	for i, dsn := range append([]string{s.system.MySQLSourceDSN}, s.system.MySQLReplicaDSNs...) {
		group.Go(func() error {
			db, err := sql.Open("mysql", dsn+preloadParams)
			if err != nil {
				return fmt.Errorf("open a server: %w", err)
			}
			defer db.Close()
			return p.write(writing, db, func(name string, rows int64) { s.say("server %d has %d %s", i+1, rows, name) })
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	s.say("waiting until the caches are written out")
	return s.flush(ctx)
}

// flush has every server write out its cache, so that no load pays for it.
func (s *stage) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	for _, db := range append([]*sql.DB{s.source}, s.replica...) {
		if err := writeOut(ctx, db); err != nil {
			return fmt.Errorf("flush the cache of a server: %w", err)
		}
	}
	return nil
}

func writeOut(ctx context.Context, db *sql.DB) error {
	const (
		cleanMax = 100 // pages; some are always dirty
		settings = "SET GLOBAL innodb_max_dirty_pages_pct = ?, innodb_io_capacity_max = ?, innodb_io_capacity = ?"
		fast     = 20_000 // pages a second; 200 is usual
	)
	var percent float64
	var most, usual int64
	row := db.QueryRowContext(ctx, "SELECT @@innodb_max_dirty_pages_pct, @@innodb_io_capacity_max, @@innodb_io_capacity")
	if err := row.Scan(&percent, &most, &usual); err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, settings, 0, fast, fast); err != nil {
		return err
	}
	clean := func() (bool, error) {
		dirty, err := globalStatus(ctx, db, "Innodb_buffer_pool_pages_dirty")
		return dirty < cleanMax, err
	}
	if err := await(ctx, clean); err != nil {
		return err
	}
	_, err := db.ExecContext(ctx, "SET GLOBAL innodb_max_dirty_pages_pct = ?, innodb_io_capacity = ?, innodb_io_capacity_max = ?",
		percent, usual, most)
	return err
}

// largeJournal runs uniform in turn on a fresh cluster and on one whose journal was long before, and compares.
func largeJournal(ctx context.Context, e *env) error {
	s, err := e.open(ctx, nil)
	if err != nil {
		return err
	}
	defer s.close()
	large, err := e.open(ctx, nil)
	if err != nil {
		return err
	}
	defer large.close()
	if err := large.preload(ctx); err != nil {
		return err
	}
	var without, with []result
	for round := range journalRounds {
		s.say("large journal, round %d of %d", round+1, journalRounds)
		for _, side := range []struct {
			stage *stage
			into  *[]result
			name  string
		}{{s, &without, "uniform, beside"}, {large, &with, "uniform, large journal"}} {
			r, err := side.stage.measure(ctx, load{name: side.name, conns: manyConns, request: uniform})
			if err != nil {
				return err
			}
			*side.into = append(*side.into, r)
		}
	}
	few, many := join(without...), join(with...)
	s.record(few.load())
	s.record(many.load())
	s.figure("uniform with 1,000,000 accounts and 2,000,000 transfers before / without", many.perSecond()/few.perSecond(), "", atLeast(0.85))
	s.figure("largest node with a large journal, peak of its resident memory", large.peak, "MiB", atMost(200))
	return nil
}
