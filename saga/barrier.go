package saga

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
)

// Operation is one direction of a step.
type Operation string

// The operations of a step.
const (
	Do   Operation = "do"
	Undo Operation = "undo"
)

// Entry is what the barrier says to an operation that wants to run.
type Entry int

// The answers of the barrier. Only First and, to an undo, only First may have an effect.
const (
	First    Entry = iota // run it
	Repeated              // it ran: do nothing and report success
	Empty                 // to an undo: its do never ran, and never will; there is nothing to undo
	Closed                // to a do: its undo came first; it must not run
)

// Enter claims one operation of a saga's step in the transaction that has its effect, and says whether to have it. An undo
// claims its do as well, so that a do that comes late is Closed. The insert comes first: it waits for another transaction
// that has claimed the same, where a read would see nothing. Participants in sagas that run elsewhere may use it alone.
func Enter(ctx context.Context, tx Tx, saga, step string, operation Operation) (Entry, error) {
	claim := rand.Text()
	rows := 1
	args := []any{saga, step, Do, claim}
	if operation == Undo {
		rows, args = 2, append(args, saga, step, Undo, claim)
	}
	const row = "(?, ?, ?, ?, UTC_TIMESTAMP(6))"
	_, err := tx.Exec(ctx, `INSERT INTO barriers (saga, step, operation, claim, created_at) VALUES `+repeat(row, rows, ", ")+
		` ON DUPLICATE KEY UPDATE saga = VALUES(saga)`, args...)
	if err != nil {
		return 0, fmt.Errorf("claim %s of step %s: %w", operation, step, err)
	}
	claims := map[Operation]string{}
	err = tx.Query(ctx, func(rows *sql.Rows) error {
		var of Operation
		var by string
		err := rows.Scan(&of, &by)
		claims[of] = by
		return err
	}, `SELECT operation, claim FROM barriers WHERE saga = ? AND step = ? FOR UPDATE`, saga, step)
	if err != nil {
		return 0, fmt.Errorf("read the claims of step %s: %w", step, err)
	}
	return judge(operation, claim, claims), nil
}

// judge tells from whose claims are there what an operation may do. The number of affected rows could not tell: with
// clientFoundRows a new row and a duplicate count alike.
func judge(operation Operation, claim string, claims map[Operation]string) Entry {
	_, undone := claims[Undo]
	switch {
	case operation == Do && undone:
		return Closed
	case claims[operation] != claim:
		return Repeated
	case operation == Undo && claims[Do] == claim:
		return Empty
	}
	return First
}
