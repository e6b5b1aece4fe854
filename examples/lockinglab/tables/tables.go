// Package tables holds the lab's own tables: accounts with a balance, and the moves that changed them.
package tables

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/pressly/goose/v3"

	"lockstep/examples/lockinglab/lab"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Schema is the lab's own on any server, if the data source name has no other.
const Schema = "lockinglab"

// Tables are the lab's tables on one server.
type Tables struct {
	DB *sql.DB
}

// params are those that money needs: bounded waits, and affected rows that count those which were found.
const params = "timeout=2s&readTimeout=30s&writeTimeout=10s&interpolateParams=true&clientFoundRows=true&rejectReadOnly=true"

// Open makes the schema and its tables where they are missing. The account of the data source name, user:password@tcp(host:port)/,
// may make schemas; the server's settings stay as they are. Settings are added to each session, as name=value pairs.
func Open(ctx context.Context, dsn string, connections int, settings ...string) (_ *Tables, err error) {
	config, err := mysql.ParseDSN(WithSchema(dsn, "") + "?" + strings.Join(append(settings, params), "&"))
	if err != nil {
		return nil, fmt.Errorf("read the data source name: %w", err)
	}
	server, err := connect(config)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	if _, err := server.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS `"+Schema+"`"); err != nil {
		return nil, fmt.Errorf("make the schema %s: %w", Schema, err)
	}
	config.DBName = Schema
	db, err := connect(config)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return &Tables{DB: db}, nil
}

// WithSchema names another schema in a data source name, and leaves its parameters out.
func WithSchema(dsn, schema string) string {
	address, _, _ := strings.Cut(dsn, "?")
	if slash := strings.LastIndexByte(address, '/'); slash >= 0 {
		address = address[:slash]
	}
	return address + "/" + schema
}

func connect(config *mysql.Config) (*sql.DB, error) {
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", config.Addr, err)
	}
	return sql.OpenDB(connector), nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("find the migrations: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectMySQL, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := provider.Up(ctx); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	return nil
}

// Close closes all connections.
func (t *Tables) Close() { _ = t.DB.Close() }

// Reset replaces everything by accounts from 1 on with the same balance.
func (t *Tables) Reset(ctx context.Context, accounts int, balance int64) error {
	for _, statement := range []string{"DELETE FROM bound_moves", "DELETE FROM moves", "DELETE FROM accounts"} {
		if _, err := t.DB.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("empty the tables: %w", err)
		}
	}
	rows := make([]string, accounts)
	for i := range rows {
		rows[i] = fmt.Sprintf("(%d,%d)", i+1, balance)
	}
	if _, err := t.DB.ExecContext(ctx, "INSERT INTO accounts (id, balance) VALUES "+strings.Join(rows, ",")); err != nil {
		return fmt.Errorf("fill the tables: %w", err)
	}
	return nil
}

// Books reads all balances and moves. Moves took effect in the order of their ids where each was inserted under the row
// locks of its accounts, or just before it asked for them.
func (t *Tables) Books(ctx context.Context) (lab.Books, error) {
	books := lab.Books{Balances: make(map[int]int64), Applied: make(map[int][]int64)}
	err := t.each(ctx, "SELECT id, balance, 0 FROM accounts", func(account int, balance, _ int64) {
		books.Balances[account] = balance
	})
	if err != nil {
		return books, err
	}
	err = t.each(ctx, `SELECT account, ticket, id FROM (
		SELECT payer AS account, ticket, id FROM moves WHERE payer IS NOT NULL
		UNION ALL SELECT payee, ticket, id FROM moves WHERE payee IS NOT NULL
		UNION ALL SELECT payer, ticket, id FROM bound_moves WHERE payer IS NOT NULL
		UNION ALL SELECT payee, ticket, id FROM bound_moves WHERE payee IS NOT NULL) AS sides ORDER BY id`,
		func(account int, ticket, _ int64) {
			books.Applied[account] = append(books.Applied[account], ticket)
		})
	return books, err
}

func (t *Tables) each(ctx context.Context, query string, row func(account int, one, two int64)) error {
	rows, err := t.DB.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("read the books: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var account int
		var one, two int64
		if err := rows.Scan(&account, &one, &two); err != nil {
			return fmt.Errorf("read the books: %w", err)
		}
		row(account, one, two)
	}
	return rows.Err()
}

// Deadlocks is how many the server has resolved since it started.
func (t *Tables) Deadlocks(ctx context.Context) (count int64, err error) {
	var name string
	if err := t.DB.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").Scan(&name, &count); err != nil {
		return 0, fmt.Errorf("ask for the number of deadlocks: %w", err)
	}
	return count, nil
}

// Connect takes a connection for one worker, whose transactions read what is committed.
func (t *Tables) Connect(ctx context.Context) (*sql.Conn, error) {
	conn, err := t.DB.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a connection: %w", err)
	}
	if _, err := conn.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"); err != nil {
		return nil, errors.Join(fmt.Errorf("choose the isolation level: %w", err), conn.Close())
	}
	return conn, nil
}

// What the server says when a transaction may be tried again.
const (
	errorDeadlock    = 1213
	errorLockTimeout = 1205
)

// Do runs work in a transaction. Its first error ends the transaction, and whatever it wrote goes back: after a deadlock
// the connection would take statements that commit by themselves.
func Do(ctx context.Context, conn *sql.Conn, work func(context.Context, *sql.Tx) error) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := work(ctx, tx); err != nil {
		if back := tx.Rollback(); back != nil {
			return errors.Join(err, fmt.Errorf("roll back: %w", back))
		}
		return setback(err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err) // whether it happened is unknown
	}
	return nil
}

// setback translates the errors that a transaction may be tried again after.
func setback(err error) error {
	var said *mysql.MySQLError
	if !errors.As(err, &said) {
		return err
	}
	switch said.Number {
	case errorDeadlock:
		return lab.Deadlock
	case errorLockTimeout:
		return lab.Timeout
	}
	return err
}
