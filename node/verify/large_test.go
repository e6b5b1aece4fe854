package verify_test

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"

	"lockstep/node/verify"
)

// largeBooks writes 20,000 transfers over 2,000 accounts, a tenth of them on one hot account, by the server itself: every
// fifth is a deposit, a withdrawal and a capture. Half of the plain transfers go to beta or come from there.
var largeBooks = []string{
	`INSERT INTO accounts SELECT 999 + seq, 'client:large', 'KRW', '', 'open', 0, 0, 0, 1000000000000, 0, NULL, NULL, NULL, NOW(6), 1
		FROM seq_1_to_2000`,
	`INSERT INTO daily_limits SELECT id, 1000, NOW(6) - INTERVAL 1 HOUR, 9000000000000000000, NOW(6) - INTERVAL 2 HOUR FROM accounts`,
	`INSERT INTO accounts SELECT 10014100000000 + seq * 100, '', 'KRW', '', 'open', 0, 0, 0, 0, 0, 1, seq, 0, NOW(6), 0 FROM seq_1_to_2`,
	`INSERT INTO transfers SELECT CONCAT(LPAD(LOWER(HEX(seq)), 8, '0'), '-0000-7000-8000-', LPAD(seq, 12, '0')), 'alpha',
		ELT(1 + seq % 5, 'deposit', 'withdrawal', 'transfer', 'transfer', 'capture'), 'posted',
		IF(seq % 5 = 0, 'cash', CONCAT('alpha-', LPAD(1000 + IF(seq % 10 = 3, 0, seq % 2000), 12, '0'), '00')),
		IF(seq % 5 = 1, 'cash', CONCAT('alpha-', LPAD(1000 + (seq * 7 + 1) % 2000, 12, '0'), '00')),
		IF(seq % 5 = 0, 10014100000100 + seq % 2 * 100, 1000 + IF(seq % 10 = 3, 0, seq % 2000)),
		IF(seq % 5 = 1, 10014100000100 + seq % 2 * 100, 1000 + (seq * 7 + 1) % 2000),
		1 + seq % 1000, 'KRW', 'large', '', IF(seq % 5 = 4, CONCAT(LPAD(LOWER(HEX(seq)), 8, '0'), '-0000-7000-9000-', LPAD(seq, 12, '0')), NULL),
		NOW(6), NOW(6), NULL FROM seq_1_to_20000`,
	`INSERT INTO peers VALUES ('beta', 10, 'http://127.0.0.1:1', '{}', 1, NOW(6), NOW(6))`,
	`INSERT INTO accounts SELECT 10104100000000 + seq * 100, '', 'KRW', '', 'open', 0, 0, 0, 0, 0, 10, seq, 0, NOW(6), 0 FROM seq_1_to_2`,
	`UPDATE transfers SET to_number = CONCAT('beta-', RIGHT(to_number, 14)), payee_id = 10104100000100 + amount % 2 * 100
		WHERE kind = 'transfer' AND amount % 4 = 0`,
	`UPDATE transfers SET payer_system = 'beta', from_number = CONCAT('beta-', RIGHT(from_number, 14)),
		payer_id = 10104100000100 + amount % 2 * 100 WHERE kind = 'transfer' AND amount % 4 = 1`,
	`INSERT INTO remittances SELECT id, payer_system, IF(payer_system = 'beta', 'alpha', 'beta'), state, 1, 1, NOW(6), '', '', '',
		created_at, finished_at, NULL, NULL, NULL, NULL, NULL, NULL FROM transfers WHERE payer_system = 'beta' OR to_number LIKE 'beta-%'`,
	`INSERT INTO remittance_statements SELECT id, 'signed' FROM remittances WHERE payer_system = 'beta'`,
	`INSERT INTO sagas (id, kind, state, next_at, data, created_at, updated_at) SELECT id, 'remit', 'done', NOW(6), '', NOW(6), NOW(6) FROM remittances`,
	`INSERT INTO exposures SELECT 'beta', 'KRW', 1, NULL, 0, SUM(IF(payer_system = 'beta', amount, 0)),
		SUM(IF(to_number LIKE 'beta-%', amount, 0)), 0 FROM transfers`,
	`INSERT INTO holds SELECT hold_id, payer_id, to_number, amount, currency, 'posted', amount, NOW(6), NOW(6) FROM transfers
		WHERE hold_id IS NOT NULL`,
	`INSERT INTO idempotency SELECT SHA2(CONCAT('client:large', CHAR(0), kind, CHAR(0), id, CHAR(0)), 256), 'client:large', kind, id,
		UNHEX(SHA2(id, 256)), id, id, 1, NULL, NULL, NULL, NULL, 'en', id, created_at FROM transfers
		WHERE payer_system = 'alpha'`,
	`INSERT INTO entries SELECT account_id, ROW_NUMBER() OVER (PARTITION BY account_id ORDER BY id), id, kind, amount, currency,
		SUM(amount) OVER (PARTITION BY account_id ORDER BY id), counterparty, created_at FROM
		(SELECT payer_id AS account_id, id, kind, -amount AS amount, currency, to_number AS counterparty, created_at FROM transfers
		UNION ALL SELECT payee_id, id, kind, amount, currency, from_number, created_at FROM transfers) AS legs`,
	`UPDATE accounts a JOIN (SELECT account_id, COUNT(*) AS entries, SUM(amount) AS total FROM entries GROUP BY account_id) AS e
		ON e.account_id = a.id SET a.version = e.entries, a.posted = e.total`,
	"ANALYZE TABLE accounts, transfers, entries, holds, idempotency, remittances, remittance_statements, sagas, exposures, peers",
}

// A join that finds its rows by no key compares all with all: quadratic, a night for a large journal. The optimiser's
// plan for each query shows such a join as a join buffer.
func TestNoQueryComparesAllWithAll(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	db, err := sql.Open("mysql", b.database.Admin)
	b.must(err)
	defer db.Close()
	for _, statement := range largeBooks {
		_, err := db.ExecContext(t.Context(), statement)
		b.must(err)
	}
	for name, query := range verify.Queries() {
		for _, step := range explain(t, db, query) {
			if strings.Contains(step.extra, "join buffer") {
				t.Errorf("%s joins %s by %s: %s", name, step.table, step.access, step.extra)
			}
		}
	}
	report, err := verify.Run(t.Context(), b.database.Source, func(f verify.Finding) { t.Log(f) })
	b.must(err)
	if !report.OK() {
		t.Errorf("the generated books have breaches: %v", report.Breaches)
	}
}

// step is one line of a plan.
type step struct{ table, access, extra string }

func explain(t *testing.T, db *sql.DB, query string) (steps []step) {
	t.Helper()
	rows, err := db.QueryContext(context.WithoutCancel(t.Context()), "EXPLAIN "+query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		value := func(column string) string { return values[slices.Index(columns, column)].String }
		steps = append(steps, step{value("table"), value("type"), value("Extra")})
	}
	if err := rows.Err(); err != nil || len(steps) == 0 {
		t.Fatalf("no plan (%v) for %s", err, query)
	}
	return steps
}
