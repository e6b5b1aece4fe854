package saga_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"lockstep/saga"
)

// receive has the event's effect when it is the first time.
func (f *fixture) receive(consumer string, after error) (first bool) {
	f.Helper()
	err := f.tx(func(ctx context.Context, tx saga.Tx) (err error) {
		if first, err = saga.Receive(ctx, tx, consumer, "event"); err != nil || !first {
			return err
		}
		if err := leave("received")(ctx, tx, &saga.Saga{ID: consumer}); err != nil {
			return err
		}
		return after
	})
	if !errors.Is(err, after) {
		f.Fatal(err)
	}
	return first
}

func TestAnEventHasItsEffectOncePerConsumer(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.receive("a", errTest) // rolled back, so it does not count
	for i, wanted := range []bool{true, false, false} {
		if first := f.receive("a", nil); first != wanted {
			t.Errorf("receipt %d was first: %v", i, first)
		}
	}
	if !f.receive("b", nil) {
		t.Error("one consumer's receipt counted for another")
	}
	f.wantEffects("a", "received")
	f.wantEffects("b", "received")
}

func TestManyReceiversAtOnceHaveOneEffect(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const receivers = 8
	firsts := make(chan bool, receivers)
	for range receivers {
		go func() { firsts <- f.receive("a", nil) }()
	}
	n := 0
	for range receivers {
		if <-firsts {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d of %d receivers were first", n, receivers)
	}
	f.wantEffects("a", "received")
}

func TestOldReceiptsAreCleaned(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.receive("a", nil)
	f.receive("b", nil)
	f.change("UPDATE inbox SET created_at = created_at - INTERVAL 2 HOUR WHERE consumer = 'a'")
	n, err := saga.CleanInbox(testContext(t), f.db, time.Hour, 10)
	must(t, err)
	if n != 1 || f.count("SELECT COUNT(*) FROM inbox WHERE consumer = 'b'") != 1 {
		t.Errorf("%d receipts were cleaned", n)
	}
}
