package store

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// rollbackMax bounds a ROLLBACK, which is run even when its caller's context has ended.
const rollbackMax = 3 * time.Second

// Tx is one READ COMMITTED transaction on one connection to the source, for one goroutine.
//
// Its connections run with autocommit off, so that the first statement opens the transaction without a round trip of
// its own, and no statement can commit by itself. After its first error of whatever kind a Tx is poisoned: an error
// may have rolled back the statement, the transaction or nothing, and only the caller's next attempt knows what is
// true. A poisoned Tx refuses everything but Rollback.
type Tx struct {
	store  *Store
	conn   *sql.Conn
	queued []statement
	asked  []question
	failed error // the first error
	began  bool  // a statement was sent
	done   bool
}

// statement waits to be sent together with others.
type statement struct {
	query string
	args  []any
}

// Begin takes a connection for a transaction, waiting for a free one until ctx ends. Every Tx must end with Commit or
// Rollback; Rollback after Commit does nothing, so it may be deferred.
func (s *Store) Begin(ctx context.Context) (*Tx, error) {
	conn, err := s.transactions.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	return &Tx{store: s, conn: conn}, nil
}

// Exec runs a statement. The end of ctx closes the connection, but does not stop the statement at the server, whose
// locks live on until its own limits end it.
func (tx *Tx) Exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if err := tx.idle(); err != nil {
		return nil, err
	}
	tx.began = true
	result, err := tx.conn.ExecContext(ctx, query, args...)
	if err != nil {
		return nil, tx.poison(err)
	}
	return result, nil
}

// queue keeps a statement for the next Flush.
func (tx *Tx) queue(query string, args ...any) {
	tx.queued = append(tx.queued, statement{query, args})
}

// Queue keeps a statement that another package has made for the next Flush.
func (tx *Tx) Queue(query string, args ...any) { tx.queue(query, args...) }

// Flush sends the queued statements in one round trip, in their order, and tells how many rows each of them found. The
// first one that fails is the last one that runs. Nothing else may be sent while statements are queued.
func (tx *Tx) Flush(ctx context.Context) ([]int64, error) {
	if err := tx.usable(); err != nil {
		return nil, err
	}
	if len(tx.queued) == 0 {
		return nil, nil
	}
	query, args := joined(tx.queued)
	tx.queued, tx.began = nil, true
	found, err := execAll(ctx, tx.conn, query, args)
	if err != nil {
		return nil, tx.poison(err)
	}
	return found, nil
}

// joined is the text of several statements, with their arguments written into it if all of them are plain. The driver would look
// for question marks, byte by byte, in all that leaves with a statement that has arguments: the rows of a batch, as a rule.
func joined(statements []statement) (string, []driver.NamedValue) {
	all := newText()
	for i, s := range statements {
		if i > 0 {
			all.text = append(all.text, ';')
		}
		if !all.statement(s) {
			_ = all.take()
			return unfilled(statements)
		}
	}
	return all.take(), nil
}

func unfilled(statements []statement) (string, []driver.NamedValue) {
	var queries []string
	var args []driver.NamedValue
	for _, s := range statements {
		queries = append(queries, s.query)
		for _, arg := range s.args {
			args = append(args, driver.NamedValue{Ordinal: len(args) + 1, Value: arg})
		}
	}
	return strings.Join(queries, ";"), args
}

// execAll runs several statements at once. database/sql shows the count of the last one only, so it asks the driver.
func execAll(ctx context.Context, conn *sql.Conn, query string, args []driver.NamedValue) (found []int64, err error) {
	err = conn.Raw(func(raw any) error {
		link := raw.(interface {
			driver.NamedValueChecker
			driver.ExecerContext
		})
		for i := range args {
			if err := link.CheckNamedValue(&args[i]); err != nil {
				return err
			}
		}
		result, err := link.ExecContext(ctx, query, args)
		if err != nil {
			return err
		}
		found = result.(mysql.Result).AllRowsAffected()
		return nil
	})
	return found, err
}

// Query runs a statement that answers rows, and calls scan for each of them. An error of scan poisons the transaction
// too.
func (tx *Tx) Query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	if err := tx.idle(); err != nil {
		return err
	}
	tx.began = true
	if err := each(ctx, tx.conn, scan, query, args...); err != nil {
		return tx.poison(err)
	}
	return nil
}

// question is a statement that answers rows, and what becomes of each row.
type question struct {
	statement
	scan func(*sql.Rows) error
}

// ask keeps a statement that answers rows for the next Answers.
func (tx *Tx) ask(query string, scan func(*sql.Rows) error, args ...any) {
	tx.asked = append(tx.asked, question{statement{query, args}, scan})
}

// Answers runs what was asked, in one round trip and in its order. An error of one scan poisons the transaction too.
func (tx *Tx) Answers(ctx context.Context) error {
	if err := tx.usable(); err != nil {
		return err
	}
	asked := tx.asked
	if tx.asked = nil; len(asked) == 0 {
		return nil
	}
	tx.began = true
	if err := answerAll(ctx, tx.conn, asked); err != nil {
		return tx.poison(err)
	}
	return nil
}

func answerAll(ctx context.Context, conn *sql.Conn, asked []question) error {
	var queries []string
	var args []any
	for _, q := range asked {
		queries, args = append(queries, q.query), append(args, q.args...)
	}
	rows, err := conn.QueryContext(ctx, strings.Join(queries, ";"), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for i, q := range asked {
		if i > 0 && !rows.NextResultSet() {
			return cmp.Or(rows.Err(), errUnanswered)
		}
		for rows.Next() {
			if err := q.scan(rows); err != nil {
				return err
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
	return nil
}

// errUnanswered says that the server has answered fewer questions than it was asked.
var errUnanswered = errors.New("a question was not answered")

func (tx *Tx) usable() error {
	switch {
	case tx.failed != nil:
		return fmt.Errorf("%w: %w", ErrPoisoned, tx.failed)
	case tx.done:
		return ErrDone
	}
	return nil
}

// idle refuses what would overtake the statements that are queued: our own bug.
func (tx *Tx) idle() error {
	if waiting := len(tx.queued) + len(tx.asked); waiting > 0 {
		return fmt.Errorf("%d statements are queued and were not flushed", waiting)
	}
	return tx.usable()
}

func (tx *Tx) poison(err error) error {
	if tx.failed == nil {
		tx.failed = err
	}
	return err
}

// Commit makes the changes last and answers with a token for them. A poisoned Tx, or one whose ctx has ended, is rolled
// back instead, and nothing is committed. An error of COMMIT itself wraps ErrCommitUnknown.
func (tx *Tx) Commit(ctx context.Context) (Token, error) {
	if tx.done {
		return "", ErrDone
	}
	if err := tx.mayCommit(ctx); err != nil {
		return "", errors.Join(err, tx.Rollback())
	}
	tx.done = true
	token, err := tx.commit(ctx)
	if err != nil {
		tx.discard()
		return "", fmt.Errorf("%w: %w", ErrCommitUnknown, err)
	}
	tx.release()
	return token, nil
}

// mayCommit tells why COMMIT must not be sent.
func (tx *Tx) mayCommit(ctx context.Context) error {
	if err := tx.idle(); err != nil {
		return tx.poison(err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("before COMMIT: %w", tx.poison(err))
	}
	if faults := tx.store.config.Faults; faults != nil {
		if err := faults.BeforeCommit(ctx); err != nil {
			return fmt.Errorf("before COMMIT: %w", tx.poison(err))
		}
	}
	return nil
}

// commit sends COMMIT and asks in the same round trip where in the log it went. When the answer to the question is
// missing, so is that to COMMIT.
func (tx *Tx) commit(ctx context.Context) (Token, error) {
	var gtid sql.NullString
	if err := tx.conn.QueryRowContext(ctx, "COMMIT;"+tx.store.dialect.lastGTID).Scan(&gtid); err != nil {
		return "", err
	}
	if faults := tx.store.config.Faults; faults != nil {
		if err := faults.AfterCommit(ctx); err != nil {
			return "", err
		}
	}
	return tx.store.newToken(gtid.String), nil
}

// Rollback takes everything back. The connection returns to the pool only when the server said so; otherwise it is
// closed, upon which the server rolls back. After Commit or Rollback it does nothing.
func (tx *Tx) Rollback() error {
	if tx.done {
		return nil
	}
	tx.done = true
	if tx.began {
		ctx, cancel := context.WithTimeout(context.Background(), rollbackMax)
		defer cancel()
		if _, err := tx.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
			tx.discard()
			return fmt.Errorf("roll back (the connection is closed instead): %w", err)
		}
	}
	tx.release()
	return nil
}

// release gives the connection back to the pool.
func (tx *Tx) release() { _ = tx.conn.Close() }

// discard closes the connection instead of giving it back.
func (tx *Tx) discard() {
	_ = tx.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = tx.conn.Close()
}

// querier is a connection or a pool.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// each calls scan for every row.
func each(ctx context.Context, q querier, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
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
