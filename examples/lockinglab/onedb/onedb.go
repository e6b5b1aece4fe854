// Package onedb moves money inside one database in six ways of writing the same transaction by hand.
package onedb

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"lockstep/examples/lockinglab/lab"
	"lockstep/examples/lockinglab/tables"
)

// Kind is one way to write the transaction.
type Kind struct {
	Name     string
	Patience lab.Patience
	work     func(*ledger, context.Context, lab.Move) error
}

// The patience of the optimistic way, which is the historic one, and of who waits for a lock without a queue.
var (
	optimistic = lab.Fixed(20, 100*time.Millisecond)
	polling    = lab.Patience{Tries: 1000, PauseMin: 5 * time.Millisecond, PauseMax: 25 * time.Millisecond}
)

// The names that others ask for.
const (
	NoLock     = "no lock"
	ForeignKey = "foreign key + plain update"
	Unordered  = "pessimistic, unordered"
)

// Kinds are all of them, from the most careless to the most careful.
func Kinds() []Kind {
	return []Kind{
		{NoLock, lab.Soon, by(noLock)},
		{ForeignKey, lab.Soon, by(boundUpdate)},
		{"optimistic version", optimistic, by(versioned)},
		{Unordered, lab.Soon, by(unordered)},
		{"pessimistic, ordered", lab.Soon, by(ordered)},
		{"redsync + pessimistic", polling, (*ledger).locked},
	}
}

// ledger is a way over one connection for each worker.
type ledger struct {
	*tables.Tables
	kind  Kind
	conns []*sql.Conn // by worker
	locks *locks
}

// Bank is the server that the ways share.
type Bank struct {
	tables *tables.Tables
	conns  []*sql.Conn
	locks  *locks
}

// Open opens a warm connection for each worker, and the Redis servers of the locks. The bank uses the tables until it is
// closed; they stay open.
func Open(ctx context.Context, t *tables.Tables, workers int, redis []string) (_ *Bank, err error) {
	b := &Bank{tables: t, locks: openLocks(redis, workers)}
	for range workers {
		conn, err := t.Connect(ctx)
		if err != nil {
			b.Close()
			return nil, err
		}
		b.conns = append(b.conns, conn)
	}
	if err := b.locks.ping(ctx); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Close gives the connections back.
func (b *Bank) Close() {
	for _, conn := range b.conns {
		_ = conn.Close()
	}
	b.locks.close()
}

// Way is one of the ways over this bank.
func (b *Bank) Way(kind Kind) lab.Way {
	return &ledger{Tables: b.tables, kind: kind, conns: b.conns, locks: b.locks}
}

// Try runs the transaction once.
func (l *ledger) Try(ctx context.Context, move lab.Move) error { return l.kind.work(l, ctx, move) }

// by is a way that is one transaction and nothing else.
func by(statements func(context.Context, *sql.Tx, lab.Move) error) func(*ledger, context.Context, lab.Move) error {
	return func(l *ledger, ctx context.Context, move lab.Move) error {
		return tables.Do(ctx, l.conns[move.Worker], func(ctx context.Context, tx *sql.Tx) error { return statements(ctx, tx, move) })
	}
}

// locked takes the locks of all accounts in Redis before it begins. They spare the database the queue; the row locks
// inside stay the proof, for a lock in Redis can end while its holder still works.
func (l *ledger) locked(ctx context.Context, move lab.Move) error {
	held, err := l.locks.take(ctx, sides(move))
	if err != nil {
		return err
	}
	defer held.release(ctx)
	return by(ordered)(l, ctx, move)
}

// side is what a move does to one account.
type side struct {
	account int
	change  int64
}

// sides are those of a move: the payer's, and the payee's unless it is nobody.
func sides(move lab.Move) []side {
	both := []side{{move.Payer, -move.Amount}}
	if move.Payee != lab.Nobody {
		both = append(both, side{move.Payee, move.Amount})
	}
	return both
}

// inOrder are the sides in the one order that all transactions keep to.
func inOrder(move lab.Move) []side {
	both := sides(move)
	if len(both) == 2 && both[0].account > both[1].account {
		both[0], both[1] = both[1], both[0]
	}
	return both
}

// row is an account as it was read.
type row struct{ balance, version int64 }

// read reads the accounts one after another, with what the SELECT ends in, and refuses a payer that has too little.
func read(ctx context.Context, tx *sql.Tx, order []side, locking string) (map[int]row, error) {
	rows := make(map[int]row, len(order))
	for _, s := range order {
		var r row
		err := tx.QueryRowContext(ctx, "SELECT balance, version FROM accounts WHERE id = ?"+locking, s.account).Scan(&r.balance, &r.version)
		if err != nil {
			return nil, fmt.Errorf("read account %d: %w", s.account, err)
		}
		if r.balance+s.change < 0 {
			return nil, lab.ErrRefused
		}
		rows[s.account] = r
	}
	return rows, nil
}

// write stores what was computed from the rows.
func write(ctx context.Context, tx *sql.Tx, order []side, rows map[int]row) error {
	for _, s := range order {
		r := rows[s.account]
		_, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = ?, version = ? WHERE id = ?", r.balance+s.change, r.version+1, s.account)
		if err != nil {
			return fmt.Errorf("write account %d: %w", s.account, err)
		}
	}
	return nil
}

// note inserts the move itself.
func note(ctx context.Context, tx *sql.Tx, table string, move lab.Move) error {
	payee := sql.NullInt64{Int64: int64(move.Payee), Valid: move.Payee != lab.Nobody}
	_, err := tx.ExecContext(ctx, "INSERT INTO "+table+" (ticket, payer, payee, amount) VALUES (?, ?, ?, ?)",
		move.Ticket, move.Payer, payee, move.Amount)
	if err != nil {
		return fmt.Errorf("note the move: %w", err)
	}
	return nil
}

// noLock reads, computes and writes. Two that read the same balance both write theirs, and one update is lost. The order
// is kept so that this is all that goes wrong.
func noLock(ctx context.Context, tx *sql.Tx, move lab.Move) error {
	rows, err := read(ctx, tx, inOrder(move), "")
	if err != nil {
		return err
	}
	if err := write(ctx, tx, inOrder(move), rows); err != nil {
		return err
	}
	return note(ctx, tx, "moves", move)
}

// boundUpdate inserts the move first, as an ORM does: its foreign keys take shared locks on the accounts, which others can
// share, and then each waits for the others' before it can update. The update itself is right.
func boundUpdate(ctx context.Context, tx *sql.Tx, move lab.Move) error {
	if err := note(ctx, tx, "bound_moves", move); err != nil {
		return err
	}
	for _, s := range inOrder(move) {
		result, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = balance + ? WHERE id = ? AND balance + ? >= 0", s.change, s.account, s.change)
		if err != nil {
			return fmt.Errorf("update account %d: %w", s.account, err)
		}
		if changed, err := result.RowsAffected(); err != nil || changed == 0 {
			return refusedUnless(err)
		}
	}
	return nil
}

func refusedUnless(err error) error {
	if err != nil {
		return err
	}
	return lab.ErrRefused
}

// versioned writes only what nobody has written since it was read.
func versioned(ctx context.Context, tx *sql.Tx, move lab.Move) error {
	rows, err := read(ctx, tx, inOrder(move), "")
	if err != nil {
		return err
	}
	for _, s := range inOrder(move) {
		r := rows[s.account]
		result, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = ?, version = version + 1 WHERE id = ? AND version = ?",
			r.balance+s.change, s.account, r.version)
		if err != nil {
			return fmt.Errorf("write account %d: %w", s.account, err)
		}
		changed, err := result.RowsAffected()
		if err != nil {
			return fmt.Errorf("write account %d: %w", s.account, err)
		}
		if changed == 0 {
			return lab.Conflict
		}
	}
	return note(ctx, tx, "moves", move)
}

// unordered locks the payer and then the payee: two opposite moves wait for one another.
func unordered(ctx context.Context, tx *sql.Tx, move lab.Move) error {
	return locking(ctx, tx, sides(move), move)
}

// ordered locks the accounts in the order of their ids, whoever pays.
func ordered(ctx context.Context, tx *sql.Tx, move lab.Move) error {
	return locking(ctx, tx, inOrder(move), move)
}

func locking(ctx context.Context, tx *sql.Tx, order []side, move lab.Move) error {
	rows, err := read(ctx, tx, order, " FOR UPDATE")
	if err != nil {
		return err
	}
	if err := write(ctx, tx, order, rows); err != nil {
		return err
	}
	return note(ctx, tx, "moves", move)
}
