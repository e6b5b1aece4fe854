package storetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// schema is what a migration leaves in an empty database. To write it down and to make it again takes a third of the time that
// migrating takes, and most tests have a database of their own.
type schema struct {
	mu     sync.Mutex // the first one who wants it makes it; the others wait
	tables []table    // empty until then
}

type table struct {
	name   string
	create string // the statement
	rows   [][]any
}

// in makes a database what migrate would make it.
func (s *schema) in(ctx context.Context, dsn string, migrate func() error) (err error) {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return fmt.Errorf("open the database of a test: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	known, err := s.known(ctx, db, migrate)
	if err != nil || known == nil {
		return err
	}
	for _, t := range known {
		if err := t.make(ctx, db); err != nil {
			return fmt.Errorf("make table %s: %w", t.name, err)
		}
	}
	return nil
}

// known is the schema once somebody has migrated; who does that needs none any more.
func (s *schema) known(ctx context.Context, db *sql.DB, migrate func() error) ([]table, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tables != nil {
		return s.tables, nil
	}
	if err := migrate(); err != nil {
		return nil, err
	}
	tables, err := tablesOf(ctx, db)
	if err == nil {
		s.tables = tables
	}
	return nil, err
}

// tablesOf reads all tables of a database, with their rows.
func tablesOf(ctx context.Context, db *sql.DB) (tables []table, err error) {
	names, err := read(ctx, db, "SHOW TABLES")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		t := table{name: text(name[0])}
		created, err := read(ctx, db, "SHOW CREATE TABLE `"+t.name+"`")
		if err != nil {
			return nil, err
		}
		t.create = text(created[0][1])
		if t.rows, err = read(ctx, db, "SELECT * FROM `"+t.name+"`"); err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

func text(value any) string { return fmt.Sprintf("%s", value) }

// read answers with all rows, their values as bytes or nil.
func read(ctx context.Context, db *sql.DB, query string) (all [][]any, err error) {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	for rows.Next() {
		values, targets := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return nil, fmt.Errorf("%s: %w", query, err)
		}
		all = append(all, values)
	}
	return all, rows.Err()
}

func (t table) make(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, t.create); err != nil {
		return err
	}
	if len(t.rows) == 0 {
		return nil
	}
	var places []string
	var values []any
	for _, row := range t.rows {
		places = append(places, "(?"+strings.Repeat(", ?", len(row)-1)+")")
		values = append(values, row...)
	}
	_, err := db.ExecContext(ctx, "INSERT INTO `"+t.name+"` VALUES "+strings.Join(places, ", "), values...)
	return err
}
