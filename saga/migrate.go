package saga

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed migrations/*.sql
var embedded embed.FS

// Migrations holds the tables as goose files, one DDL statement each, repeatable, for hosts that run them among their own.
func Migrations() fs.FS {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic("saga: its migrations are not embedded") // our bug: the path is a constant
	}
	return files
}

// Migrate makes the tables that are missing. It may be repeated, and run by several nodes at once. The account of db needs
// the right to CREATE.
func Migrate(ctx context.Context, db *sql.DB) error {
	names, err := fs.Glob(Migrations(), "*.sql") // sorted
	if err != nil {
		return fmt.Errorf("list the saga migrations: %w", err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(Migrations(), name)
		if err != nil {
			return fmt.Errorf("read saga migration: %w", err)
		}
		_, statement, _ := strings.Cut(string(text), "-- +goose Up\n")
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("saga migration %s: %w", name, err)
		}
	}
	return nil
}
