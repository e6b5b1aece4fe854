package saga_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"lockstep/saga"
)

// attempt runs an operation behind the barrier and counts its effect.
func (f *fixture) attempt(operation saga.Operation) (entry saga.Entry) {
	f.Helper()
	must(f, f.tx(func(ctx context.Context, tx saga.Tx) (err error) {
		entry, err = saga.Enter(ctx, tx, "s", "step", operation)
		if err != nil || entry != saga.First {
			return err
		}
		return leave(string(operation))(ctx, tx, &saga.Saga{ID: "s"})
	}))
	return entry
}

// Whatever order the operations of a step come in, each has its effect at most once, and an undo only after a do.
func TestTheBarrierSettlesEveryOrder(t *testing.T) {
	t.Parallel()
	const do, undo = saga.Do, saga.Undo
	for _, order := range []struct {
		operations []saga.Operation
		entries    []saga.Entry
		effects    []string
	}{
		{[]saga.Operation{do, do}, []saga.Entry{saga.First, saga.Repeated}, []string{"do"}},
		{[]saga.Operation{do, undo}, []saga.Entry{saga.First, saga.First}, []string{"do", "undo"}},
		{[]saga.Operation{do, undo, undo}, []saga.Entry{saga.First, saga.First, saga.Repeated}, []string{"do", "undo"}},
		{[]saga.Operation{undo, do}, []saga.Entry{saga.Empty, saga.Closed}, nil},
		{[]saga.Operation{undo, undo, do}, []saga.Entry{saga.Empty, saga.Repeated, saga.Closed}, nil},
		{[]saga.Operation{do, undo, do}, []saga.Entry{saga.First, saga.First, saga.Closed}, []string{"do", "undo"}},
	} {
		t.Run(fmt.Sprint(order.operations), func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			var entries []saga.Entry
			for _, operation := range order.operations {
				entries = append(entries, f.attempt(operation))
			}
			if !slices.Equal(entries, order.entries) {
				t.Errorf("the barrier said %v, wanted %v", entries, order.entries)
			}
			f.wantEffects("s", order.effects...)
		})
	}
}

// The second claimant waits for the first, and takes over only when that one has rolled back.
func TestAClaimInHandIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]struct {
		end   func(context.Context, saga.Transaction) error
		entry saga.Entry
	}{
		"commit":   {func(ctx context.Context, tx saga.Transaction) error { return tx.Commit(ctx) }, saga.Closed},
		"rollback": {func(_ context.Context, tx saga.Transaction) error { return tx.Rollback() }, saga.First},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			ctx := testContext(t)
			tx, err := f.db.Begin(ctx)
			must(t, err)
			_, err = saga.Enter(ctx, tx, "s", "step", saga.Undo)
			must(t, err)
			said := make(chan saga.Entry)
			go func() { said <- f.attempt(saga.Do) }()
			within(t, "the second claimant waits", func() bool {
				var n int
				must(t, f.admin.QueryRowContext(ctx, `SELECT COUNT(*) FROM information_schema.PROCESSLIST
					WHERE DB = DATABASE() AND INFO LIKE 'INSERT INTO barriers%'`).Scan(&n))
				return n == 1
			})
			select {
			case entry := <-said:
				t.Fatalf("an open claim was passed: %v", entry)
			default:
			}
			must(t, end.end(ctx, tx))
			if entry := <-said; entry != end.entry {
				t.Errorf("after %s the barrier said %v, wanted %v", name, entry, end.entry)
			}
		})
	}
}
