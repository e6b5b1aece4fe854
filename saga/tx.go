package saga

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Tx is what a step needs of its host's transaction, for one goroutine. It must be READ COMMITTED and end with its first
// error: after one nothing of it may commit, for no error tells how much of a transaction the server has kept. A step gets
// the very value that its host's Database began, so that the host may assert its own type and use what that can do.
type Tx interface {
	// Exec runs a statement.
	Exec(ctx context.Context, query string, args ...any) (sql.Result, error)
	// Query calls scan for every row that the statement answers.
	Query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error
}

// Transaction is a Tx that its holder ends. Rollback after Commit does nothing. Any error of Commit means that the outcome
// is unknown, unless the host knows better; nothing here treats it as a failure.
type Transaction interface {
	Tx
	Commit(ctx context.Context) error
	Rollback() error
}

// Database begins transactions.
type Database interface {
	Begin(ctx context.Context) (Transaction, error)
}

var (
	// ErrPoisoned refuses the use of a transaction after its first error. It wraps that error.
	ErrPoisoned = errors.New("the transaction has failed and can only be rolled back")
	// ErrCommitUnknown is any error from COMMIT itself: the changes may be there or not, now or a moment later.
	ErrCommitUnknown = errors.New("the outcome of COMMIT is unknown")
)

// SQL makes a Database of a pool, for programs without a transaction type of their own. Its DSN needs parseTime=true, and
// timeouts: readTimeout above the server's innodb_lock_wait_timeout.
func SQL(db *sql.DB) Database { return sqlDatabase{db} }

type sqlDatabase struct{ db *sql.DB }

// Begin implements Database. The end of ctx rolls the transaction back.
func (d sqlDatabase) Begin(ctx context.Context) (Transaction, error) {
	tx, err := d.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return &sqlTransaction{tx: tx}, nil
}

// sqlTransaction remembers its first error, since database/sql goes on after it: a statement that follows a deadlock would
// commit by itself, one that follows a lock wait would commit half of what was meant.
type sqlTransaction struct {
	tx     *sql.Tx
	failed error
	done   bool
}

// Exec implements Tx.
func (t *sqlTransaction) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := t.usable(); err != nil {
		return nil, err
	}
	result, err := t.tx.ExecContext(ctx, query, args...)
	return result, t.poison(err)
}

// Query implements Tx. An error of scan poisons the transaction too.
func (t *sqlTransaction) Query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	if err := t.usable(); err != nil {
		return err
	}
	return t.poison(t.each(ctx, scan, query, args...))
}

func (t *sqlTransaction) each(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := t.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *sqlTransaction) usable() error {
	if t.failed != nil {
		return fmt.Errorf("%w: %w", ErrPoisoned, t.failed)
	}
	return nil
}

func (t *sqlTransaction) poison(err error) error {
	if t.failed == nil {
		t.failed = err
	}
	return err
}

// Commit implements Transaction. A poisoned transaction is rolled back instead; an error of COMMIT wraps ErrCommitUnknown.
func (t *sqlTransaction) Commit(ctx context.Context) error {
	_ = t.poison(ctx.Err())
	if err := t.usable(); err != nil {
		return errors.Join(err, t.Rollback())
	}
	t.done = true
	if err := t.tx.Commit(); err != nil {
		return fmt.Errorf("%w: %w", ErrCommitUnknown, t.poison(err))
	}
	return nil
}

// Rollback implements Transaction.
func (t *sqlTransaction) Rollback() error {
	if t.done {
		return nil
	}
	t.done = true
	if err := t.tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("roll back: %w", err)
	}
	return nil
}

// within runs work in a transaction of its own.
func within(ctx context.Context, db Database, work func(tx Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
