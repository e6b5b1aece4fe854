package saga

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Statement is SQL that a host may send in a transaction of its own, together with others in one round trip.
type Statement struct {
	Query string
	Args  []any
}

// Exec runs the statement by itself.
func (s Statement) Exec(ctx context.Context, tx Tx) error {
	_, err := tx.Exec(ctx, s.Query, s.Args...)
	return err
}

// New is a saga to start.
type New struct {
	ID     string        // at most 64 ASCII characters, unique among all kinds
	Kind   string        // at most 32 ASCII characters
	Data   []byte        // for its steps
	Within time.Duration // the deadline, from now on; zero is none
	Delay  time.Duration // runners leave it alone for so long, while the node that starts it goes on by itself
	Age    time.Duration // of one that began before, in a record of the host's own
}

// Start inserts sagas, one or more; one that is there already stays as it is, so the transaction may be repeated.
func Start(sagas ...New) Statement {
	sagas = slices.Clone(sagas)
	slices.SortFunc(sagas, func(a, b New) int { return strings.Compare(a.ID, b.ID) })
	var args []any
	for _, s := range sagas {
		var deadline any
		if s.Within > 0 {
			deadline = s.Within.Microseconds()
		}
		args = append(args, s.ID, s.Kind, s.Delay.Microseconds(), deadline, blob(s.Data), s.Age.Microseconds())
	}
	const row = `(?, ?, 'running', UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, ?,
		UTC_TIMESTAMP(6) - INTERVAL ? MICROSECOND, UTC_TIMESTAMP(6))`
	return Statement{`INSERT INTO sagas (id, kind, state, next_at, deadline, data, created_at, updated_at) VALUES ` +
		repeat(row, len(sagas), ", ") + ` ON DUPLICATE KEY UPDATE id = VALUES(id)`, args}
}

// Finish marks sagas as done, or failed when they were compensating, for hosts that take the steps themselves. Clean deletes
// them later. At least one id; ids that are not there are ignored.
func Finish(ids ...string) Statement {
	return Statement{`UPDATE sagas FORCE INDEX (PRIMARY) SET state = IF(state = 'compensating', 'failed', 'done'), next_at = UTC_TIMESTAMP(6),
		lease_owner = '', lease_until = NULL, updated_at = UTC_TIMESTAMP(6)
		WHERE id IN (` + marks(len(ids)) + `) AND state IN ('running', 'compensating', 'parked')`, sorted(ids)}
}

// Hasten makes sagas due, because something that they wait for is said to have happened; it counts in its rows affected those
// that it brought on. A parked one goes on where it stood, with all its attempts before it. One that somebody has in hand is due
// after the grace, whatever becomes of that attempt: its answer may come, or it may have been sent too early to know. At least
// one id; ids that have ended or are not there are ignored.
func Hasten(grace time.Duration, ids ...string) Statement {
	return Statement{`UPDATE sagas FORCE INDEX (PRIMARY) SET attempt = IF(state = 'parked', 0, attempt), state = IF(state = 'parked', parked_from, state),
		parked_from = '', next_at = IF(lease_until > UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND, UTC_TIMESTAMP(6)),
		lease_owner = '', lease_until = NULL, updated_at = UTC_TIMESTAMP(6)
		WHERE id IN (` + marks(len(ids)) + `) AND state IN ('running', 'compensating', 'parked')`, append([]any{grace.Microseconds()}, sorted(ids)...)}
}

// Forget deletes sagas at once, for hosts whose own row is the record of what happened. Barriers stay: they refuse what
// comes late. At least one id; ids that are not there are ignored.
func Forget(ids ...string) Statement { return deleteBy("sagas", "id", ids) }

// deleteBy looks each row up by the first column of its primary key. In a small table an IN list would be looked for by
// reading all rows, and that waits for those in others' hands; a join from the list does not.
func deleteBy(table, column string, ids []string) Statement {
	const one = "SELECT CAST(? AS CHAR(64) CHARACTER SET ascii) COLLATE ascii_bin AS id"
	return Statement{"DELETE " + table + " FROM (" + repeat(one, len(ids), " UNION ALL ") + ") AS old STRAIGHT_JOIN " + table +
		" FORCE INDEX (PRIMARY) ON " + table + "." + column + " = old.id", sorted(ids)}
}

// sorted puts keys in the order in which everybody locks them.
func sorted(ids []string) []any {
	args := make([]any, 0, len(ids))
	for _, id := range slices.Sorted(slices.Values(ids)) {
		args = append(args, id)
	}
	return args
}

func marks(n int) string { return repeat("?", n, ", ") }

func repeat(part string, n int, between string) string {
	return strings.Repeat(part+between, max(n-1, 0)) + part
}

// blob is never NULL.
func blob(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

// brief fits a reason into its column.
func brief(reason string) string {
	const charactersMax = 500
	reason = strings.ToValidUTF8(reason, "?")
	if utf8.RuneCountInString(reason) <= charactersMax {
		return reason
	}
	return string([]rune(reason)[:charactersMax-1]) + "…"
}
