package saga_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"lockstep/saga"
)

func TestASagaStartedAgainStaysAsItIs(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run(saga.Start(saga.New{ID: "b", Kind: "k", Data: []byte("first")}, saga.New{ID: "a", Kind: "k", Within: time.Hour}))
	f.run(saga.Finish("b"), saga.Start(saga.New{ID: "b", Kind: "k", Data: []byte("second")}))
	if s := f.wantState("b", saga.StateDone); string(s.Data) != "first" || !s.Deadline.IsZero() {
		t.Errorf("started again it became %+v", s)
	}
	if s := f.wantState("a", saga.StateRunning); s.Deadline.Sub(s.CreatedAt) != time.Hour || s.Overdue {
		t.Errorf("it runs until %s, from %s", s.Deadline, s.CreatedAt)
	}
}

func TestFinishEndsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for id, ends := range map[string]saga.State{
		"running": saga.StateDone, "compensating": saga.StateFailed, "parked": saga.StateDone,
		"done": saga.StateDone, "failed": saga.StateFailed,
	} {
		f.run(saga.Start(saga.New{ID: id, Kind: "k"}))
		f.change("UPDATE sagas SET state = ? WHERE id = ?", id, id)
		f.run(saga.Finish(id, "not there"))
		f.wantState(id, ends)
	}
}

// The record of some hosts is a row of their own. What they forget must not wait for sagas in others' hands.
func TestForgetDeletesWithoutWaitingForOthers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run(saga.Start(saga.New{ID: "a", Kind: "k"}, saga.New{ID: "b", Kind: "k"}, saga.New{ID: "c", Kind: "k"}))
	must(t, f.tx(func(ctx context.Context, tx saga.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE sagas SET reason = 'in hand' WHERE id = 'b'")
		must(t, err)
		f.run(saga.Forget("c", "a", "not there")) // waiting would end in an error: the row is kept until this has returned
		return nil
	}))
	if n := f.count("SELECT COUNT(*) FROM sagas"); n != 1 {
		t.Errorf("%d sagas are left, wanted 1", n)
	}
}

func TestOnlyTheOwnerPutsASagaOffOrEndsIt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run(saga.Start(saga.New{ID: "s", Kind: "k"}))
	late := f.claim("k", "late")
	f.change("UPDATE sagas SET lease_until = UTC_TIMESTAMP(6)")
	now := f.claim("k", "now")
	must(t, f.log.Retry(testContext(t), late, time.Hour, "late"))
	must(t, f.log.Release(testContext(t), late))
	must(t, f.log.Park(testContext(t), late, "late"))
	must(t, f.log.Finish(testContext(t), late))
	if s := f.get("s"); s.LeaseOwner != "now" || s.Attempt != 0 || s.LeaseUntil.IsZero() || s.State != saga.StateRunning {
		t.Errorf("a late owner changed the saga to %+v", s)
	}
	must(t, f.log.Retry(testContext(t), now, time.Hour, "now"))
	if s := f.get("s"); s.LeaseOwner != "" || s.Attempt != 1 || s.Reason != "now" || !s.LeaseUntil.IsZero() {
		t.Errorf("the owner changed the saga to %+v", s)
	}
	f.run(saga.Finish("s"))
	f.change("UPDATE sagas SET lease_owner = 'now'")
	must(t, f.log.Retry(testContext(t), now, time.Hour, "after the end"))
	f.wantState("s", saga.StateDone)
}

// What waits for its next attempt is still turned back in time.
func TestNoAttemptIsPutOffPastTheDeadline(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run(saga.Start(saga.New{ID: "s", Kind: "k", Within: time.Minute}))
	must(t, f.log.Retry(testContext(t), f.claim("k", "owner"), time.Hour, "again"))
	if s := f.get("s"); !s.NextAt.Equal(s.Deadline) {
		t.Errorf("due at %s, the deadline is %s", s.NextAt, s.Deadline)
	}
	f.change("UPDATE sagas SET deadline = UTC_TIMESTAMP(6), next_at = UTC_TIMESTAMP(6)")
	must(t, f.log.Retry(testContext(t), f.claim("k", "owner"), time.Hour, "again"))
	if s := f.get("s"); s.NextAt.Sub(s.UpdatedAt) != time.Hour || !s.Overdue {
		t.Errorf("after the deadline it is due in %s", s.NextAt.Sub(s.UpdatedAt))
	}
}

func TestAParkedSagaWaitsForAnOperator(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ctx := testContext(t)
	for _, from := range []saga.State{saga.StateRunning, saga.StateCompensating} {
		id := string(from)
		f.run(saga.Start(saga.New{ID: id, Kind: "k"}))
		f.change("UPDATE sagas SET state = ?, attempt = 9 WHERE id = ?", from, id)
		must(t, f.log.Park(ctx, f.get(id), "broken"))
		must(t, f.log.Park(ctx, f.get(id), "twice"))
		if s := f.wantState(id, saga.StateParked); s.ParkedFrom != from || s.Reason != "broken" {
			t.Errorf("parked as %+v", s)
		}
		if claimed, err := f.log.Claim(ctx, []string{"k"}, "o", 9, time.Minute); err != nil || len(claimed) != 0 {
			t.Errorf("claimed %v, %v", claimed, err)
		}
		must(t, f.log.Resume(ctx, id))
		if s := f.wantState(id, from); s.Attempt != 0 || s.ParkedFrom != "" {
			t.Errorf("resumed as %+v", s)
		}
		f.run(saga.Finish(id))
		must(t, f.log.Park(ctx, f.get(id), "too late"))
		if err := f.log.Resume(ctx, id); !errors.Is(err, saga.ErrFinal) {
			t.Errorf("what has ended was resumed: %v", err)
		}
	}
	if err := f.log.Resume(ctx, "none"); !errors.Is(err, saga.ErrNotFound) {
		t.Errorf("what is not there was resumed: %v", err)
	}
}

func TestListAndCountsShowWhatNeedsEyes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if c, err := f.log.Counts(testContext(t)); err != nil || c != (saga.Counts{}) {
		t.Errorf("an empty log counts %+v, %v", c, err)
	}
	for _, id := range []string{"new", "old", "back", "parked", "done", "failed"} {
		f.run(saga.Start(saga.New{ID: id, Kind: "k"}))
	}
	f.change("UPDATE sagas SET created_at = created_at - INTERVAL 2 HOUR, next_at = next_at - INTERVAL 1 MINUTE, attempt = 3 WHERE id IN ('old', 'parked', 'done')")
	f.change("UPDATE sagas SET state = 'compensating', attempt = 1 WHERE id = 'back'")
	f.change("UPDATE sagas SET state = id WHERE id IN ('parked', 'done', 'failed')")
	for filter, wanted := range map[saga.Filter][]string{
		saga.ListPending: {"old", "new", "back"}, saga.ListStuck: {"old"}, saga.ListParked: {"parked"}, saga.ListDone: {"failed", "done"},
	} {
		sagas, err := f.log.List(testContext(t), filter, 10)
		must(t, err)
		var ids []string
		for _, s := range sagas {
			ids = append(ids, s.ID)
		}
		if !slices.Equal(ids, wanted) {
			t.Errorf("%s lists %q, wanted %q", filter, ids, wanted)
		}
	}
	if sagas, err := f.log.List(testContext(t), saga.ListPending, 1); err != nil || len(sagas) != 1 {
		t.Errorf("the limit was passed: %d sagas, %v", len(sagas), err)
	}
	if _, err := f.log.List(testContext(t), "all", 1); err == nil {
		t.Error("an unknown filter was accepted")
	}
	c, err := f.log.Counts(testContext(t))
	must(t, err)
	if c.InFlight != 3 || c.Stuck != 1 || c.Retries != 4 || c.Parked != 1 || c.Oldest < 2*time.Hour || c.Oldest > 3*time.Hour {
		t.Errorf("counted %+v", c)
	}
}

func TestCleanDeletesWhatEndedLongAgoWithItsBarriers(t *testing.T) {
	t.Parallel()
	f := setup(t)
	d := define(t, trip())
	for i := range 6 {
		id := fmt.Sprint(i)
		f.run(d.Start(saga.New{ID: id}))
		if i > 0 {
			d.Handler(f.log)(testContext(t), f.get(id))
		}
	}
	f.change("UPDATE sagas SET state = 'failed' WHERE id = '1'")
	f.change("UPDATE sagas SET created_at = created_at - INTERVAL 2 HOUR, next_at = next_at - INTERVAL 2 HOUR WHERE id <> '5'")
	ctx := testContext(t)
	must(t, f.tx(func(ctx context.Context, tx saga.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE sagas SET reason = 'in hand' WHERE id = '4'")
		must(t, err)
		for _, wanted := range []int{2, 1, 0} {
			n, err := f.log.Clean(ctx, time.Hour, 2)
			must(t, err)
			if n != wanted {
				t.Errorf("%d sagas were cleaned, wanted %d", n, wanted)
			}
		}
		return nil
	}))
	n, err := f.log.Clean(ctx, time.Hour, 2)
	must(t, err)
	if n != 1 || f.count("SELECT COUNT(*) FROM sagas") != 2 {
		t.Errorf("%d sagas were cleaned at last", n)
	}
	if left := f.count("SELECT COUNT(*) FROM barriers WHERE saga <> '5'"); left != 0 || f.count("SELECT COUNT(*) FROM barriers") != 5 {
		t.Errorf("%d barriers of cleaned sagas are left", left)
	}
}

// What a saga waits for is said to have happened: it goes on at once, wherever it waited. While somebody has it in hand, it is
// due again after the grace, and that attempt's failure cannot put it off any more.
func TestAHastenedSagaIsDue(t *testing.T) {
	t.Parallel()
	const grace = 10 * time.Minute
	f := setup(t)
	hasten := func(id string) (broughtOn int64) {
		must(t, f.tx(func(ctx context.Context, tx saga.Tx) error {
			h := saga.Hasten(grace, id, "not there")
			result, err := tx.Exec(ctx, h.Query, h.Args...)
			must(t, err)
			broughtOn, err = result.RowsAffected()
			return err
		}))
		return broughtOn
	}
	f.run(saga.Start(saga.New{ID: "put off", Kind: "a"}, saga.New{ID: "parked", Kind: "b"}, saga.New{ID: "in hand", Kind: "c"}, saga.New{ID: "ended", Kind: "d"}))
	must(t, f.log.Retry(testContext(t), f.claim("a", "one"), time.Hour, "no answer"))
	must(t, f.log.Retry(testContext(t), f.claim("b", "one"), time.Hour, "no answer"))
	f.change("UPDATE sagas SET state = 'compensating' WHERE id = 'parked'")
	must(t, f.log.Park(testContext(t), f.get("parked"), "no answer"))
	late := f.claim("c", "one")
	f.run(saga.Finish("ended"))
	for id, wanted := range map[string]int64{"put off": 1, "parked": 1, "in hand": 1, "ended": 0} {
		if n := hasten(id); n != wanted {
			t.Errorf("%d sagas were brought on by %q, wanted %d", n, id, wanted)
		}
	}
	if s := f.claim("a", "two"); s.ID != "put off" || s.Attempt != 1 {
		t.Errorf("what was put off is %+v", s)
	}
	if s := f.claim("b", "two"); s.State != saga.StateCompensating || s.Attempt != 0 || s.ParkedFrom != "" {
		t.Errorf("what was parked is %+v", s)
	}
	must(t, f.log.Retry(testContext(t), late, time.Hour, "no answer"))
	if s := f.get("in hand"); s.Attempt != 0 || s.LeaseOwner != "" || s.NextAt.Sub(s.UpdatedAt) != grace {
		t.Errorf("what was in hand is %+v", s)
	}
	f.wantState("ended", saga.StateDone)
}
