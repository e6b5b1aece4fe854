// Package verify recomputes from the journal what must always hold of a system's books, and names what does not.
package verify

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	breachesMax = 20 // named per invariant; more say the same
	openTimeout = 5 * time.Second
	readTimeout = 30 * time.Minute // a large journal takes its time

	// writeSeconds is how long the server waits for a reader that is busy with another system's rows.
	writeSeconds = "1800"

	sortBytes  = "33554432"  // for each sort
	tableBytes = "134217728" // for each table in between
)

// Breach is a place where an invariant does not hold.
type Breach struct {
	Invariant string `json:"invariant"`
	Place     string `json:"place"`  // the id of the row or the group of rows concerned; account/sequence for an entry
	Detail    string `json:"detail"` // what stands there, for people
}

// Finding is the result of one invariant.
type Finding struct {
	Invariant string        `json:"invariant"`
	Meaning   string        `json:"meaning"`
	Holds     bool          `json:"holds"`
	Took      time.Duration `json:"took_ns"` // 0 when it was looked for together with others
}

// Report is what one run found. At most breachesMax breaches are listed for each invariant.
type Report struct {
	System    string    `json:"system"` // empty when the schema does not name one
	Accounts  int64     `json:"accounts"`
	Transfers int64     `json:"transfers"`
	Entries   int64     `json:"entries"`
	Findings  []Finding `json:"findings"`
	Breaches  []Breach  `json:"breaches"`
}

// OK tells whether every invariant holds.
func (r Report) OK() bool { return len(r.Breaches) == 0 }

// Run checks all invariants in one snapshot of the database that dsn names: REPEATABLE READ and read only, so that it
// neither waits for writers nor sees them half done. Progress, if not nil, hears of each finding as it comes.
func Run(ctx context.Context, dsn string, progress func(Finding)) (Report, error) {
	db, err := open(dsn)
	if err != nil {
		return Report{}, err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return Report{}, fmt.Errorf("open snapshot: %w", err)
	}
	defer tx.Rollback()
	return inspect(ctx, tx, progress)
}

// inspect checks all invariants as the transaction sees the books.
func inspect(ctx context.Context, tx *sql.Tx, progress func(Finding)) (Report, error) {
	report, err := count(ctx, tx)
	if err != nil {
		return Report{}, err
	}
	for _, rule := range invariants() {
		began := time.Now()
		breaches, err := rule.check(ctx, tx)
		if err != nil {
			return Report{}, fmt.Errorf("check %s: %w", rule.name, err)
		}
		finding := Finding{Invariant: rule.name, Meaning: rule.meaning, Holds: len(breaches) == 0, Took: time.Since(began)}
		report.Findings = append(report.Findings, finding)
		report.Breaches = append(report.Breaches, breaches...)
		if progress != nil {
			progress(finding)
		}
	}
	return report, nil
}

// open connects without the store's statement limits: recomputing a journal may take longer than serving a request.
func open(dsn string) (*sql.DB, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("data source name: %w", err)
	}
	config.Timeout, config.ReadTimeout, config.WriteTimeout = openTimeout, readTimeout, openTimeout
	config.ParseTime, config.Loc, config.InterpolateParams = true, time.UTC, true
	// Sorting in fewer pieces and joining without a table on disk; both servers know these by one name.
	if config.Params == nil {
		config.Params = map[string]string{}
	}
	config.Params["net_write_timeout"] = writeSeconds
	config.Params["sort_buffer_size"] = sortBytes
	config.Params["tmp_table_size"], config.Params["max_heap_table_size"] = tableBytes, tableBytes
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("data source name: %w", err)
	}
	return sql.OpenDB(connector), nil
}

// count also opens the snapshot, with the first read. A schema without a system's row is a breach, not an error.
func count(ctx context.Context, tx *sql.Tx) (Report, error) {
	report := Report{Findings: []Finding{}, Breaches: []Breach{}}
	var system sql.NullString
	row := tx.QueryRowContext(ctx, "SELECT (SELECT MIN(id) FROM `system`), (SELECT COUNT(*) FROM accounts), "+
		"(SELECT COUNT(*) FROM transfers), (SELECT COUNT(*) FROM entries)")
	if err := row.Scan(&system, &report.Accounts, &report.Transfers, &report.Entries); err != nil {
		return Report{}, fmt.Errorf("count accounts, transfers and entries (was the schema made by `lockstep migrate`?): %w", err)
	}
	report.System = system.String
	return report, nil
}

func (rule invariant) check(ctx context.Context, tx *sql.Tx) ([]Breach, error) {
	rows, err := tx.QueryContext(ctx, rule.query+fmt.Sprintf(" LIMIT %d", breachesMax))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var breaches []Breach
	for rows.Next() {
		breach := Breach{Invariant: rule.name}
		if err := rows.Scan(&breach.Place, &breach.Detail); err != nil {
			return nil, err
		}
		breaches = append(breaches, breach)
	}
	return breaches, rows.Err()
}
