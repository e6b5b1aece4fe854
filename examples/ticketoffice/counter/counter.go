// Package counter is the ticket office in one process with one database, in two ways. The monolith does all of a payment in
// one long transaction under one lock. With events the payment's transaction publishes in process: listeners that run before
// the commit (token, points) roll back with it; those after it (push message, data platform) are told from the outbox and
// cannot touch it.
//
// Money at Lockstep does not roll back with a transaction here. So the charge and its keys are on disk before anything is
// asked for, the capture is the last thing before COMMIT, and after a failure it is Lockstep that says whether there is a way
// back: a hold that could be voided was not captured, and one that was captured makes the payment go on. A saga's row keeps
// hold of a payment whose process died.
package counter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"lockstep/examples/ticketoffice/concert"
	"lockstep/examples/ticketoffice/payment"
	"lockstep/examples/ticketoffice/points"
	"lockstep/examples/ticketoffice/push"
	"lockstep/examples/ticketoffice/queue"
	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/examples/ticketoffice/web"
	"lockstep/locks"
	"lockstep/saga"
)

const (
	kind = "payment"

	// LockTTL is longer than one attempt at a payment. For so long nobody pays for a concert after a process died with its lock.
	LockTTL = 6 * time.Second

	lockWaitMax   = 10 * time.Second // for the monolith's one lock; longer than its TTL
	lockPause     = 5 * time.Millisecond
	payMax        = 5 * time.Second // one attempt
	resumeAfter   = 3 * time.Second // the request goes on by itself until then
	listenerPause = 200 * time.Millisecond
)

// Counter sells in one process.
type Counter struct {
	DB            *store.Store
	Desk          *points.Desk
	Locks         *locks.Locker // of the monolith; nil is the way with events
	Faults        *sale.Faults
	Log           *slog.Logger
	TokenLifetime time.Duration

	sagas  *saga.Log
	runner *saga.Runner
	outbox *saga.Outbox
}

// Open begins to go on with what an earlier process left, and to tell listeners.
func (c *Counter) Open(ctx context.Context) error {
	c.sagas = saga.NewLog(c.DB, time.Minute)
	c.runner = saga.DefaultRunner(c.sagas, map[string]saga.Handler{kind: c.resume})
	c.runner.Logger = c.Log
	c.runner.Backoff = saga.Backoff{Min: listenerPause, Max: resumeAfter, Jitter: 0.5}
	c.outbox = saga.DefaultOutbox(c.DB, listeners{c})
	c.outbox.Logger, c.outbox.AttemptsMax, c.outbox.Poll = c.Log, 1000, listenerPause
	c.outbox.Backoff = saga.Backoff{Min: listenerPause, Max: resumeAfter, Jitter: 0.5}
	if err := c.outbox.Open(ctx); err != nil {
		return err
	}
	return c.runner.Open(ctx)
}

// Close ends what is in hand. It may be called without Open.
func (c *Counter) Close() error {
	if c.runner == nil {
		return nil
	}
	return errors.Join(c.runner.Close(), c.outbox.Close())
}

// Pay makes a payment, once for its id, and answers how it ended. An error that is no problem leaves that open: the payment
// goes on by itself, and the same request asks again.
func (c *Counter) Pay(ctx context.Context, s sale.Sale) (payment.Record, error) {
	err := c.DB.Within(ctx, func(tx saga.Tx) error { // short: what a later process has to know
		if err := queue.Note(ctx, tx, s); err != nil {
			return err
		}
		if err := payment.Open(ctx, tx, s); err != nil {
			return err
		}
		if _, err := points.Intend(ctx, tx, s); err != nil {
			return err
		}
		return saga.Start(saga.New{ID: s.Payment, Kind: kind, Data: s.JSON(), Delay: resumeAfter}).Exec(ctx, tx)
	})
	if err != nil {
		return payment.Record{}, err
	}
	if err := c.finish(context.WithoutCancel(ctx), s); err != nil {
		return payment.Record{}, err
	}
	return payment.Get(ctx, c.DB, s.Payment)
}

// resume goes on with a payment whose request has not finished it.
func (c *Counter) resume(ctx context.Context, g saga.Saga) saga.Outcome {
	record, err := payment.Get(ctx, c.DB, g.ID)
	if err == nil {
		err = c.finish(ctx, record.Sale)
	}
	if err != nil {
		return saga.Again(0, err)
	}
	return saga.Settled()
}

// finish brings a payment to one of its two ends.
func (c *Counter) finish(ctx context.Context, s sale.Sale) error {
	unlock, err := c.lock(ctx, s)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, payMax)
	defer cancel()
	charge, err := c.charge(ctx, s.Payment)
	if err != nil {
		return err
	}
	if c.Locks == nil && charge.State == points.Intended {
		charge, err = c.hold(ctx, charge)
	}
	if err == nil {
		err = c.DB.Within(ctx, func(tx saga.Tx) error { return c.sell(ctx, tx, s, charge) })
	}
	if err == nil {
		c.outbox.Wake()
		return nil
	}
	return c.takeBack(ctx, s, err)
}

// charge reads what is asked of Lockstep.
func (c *Counter) charge(ctx context.Context, id string) (charge points.Charge, err error) {
	err = c.DB.Within(ctx, func(tx saga.Tx) error {
		charge, err = points.Read(ctx, tx, id)
		return err
	})
	return charge, err
}

// hold sets the money aside before the payment's transaction, so that it is no part of its length.
func (c *Counter) hold(ctx context.Context, charge points.Charge) (points.Charge, error) {
	if err := c.Faults.Check(sale.StepHold, charge.Sale); err != nil {
		return charge, err
	}
	hold, err := c.Desk.Hold(ctx, charge)
	if err != nil {
		return charge, err
	}
	charge.Hold = hold
	return charge, c.DB.Within(ctx, func(tx saga.Tx) error { return points.Note(ctx, tx, charge.Sale.Payment, points.Held, hold) })
}

// sell is the payment's transaction. It begins with the record's lock: whoever finishes the same payment waits, and finds it done.
func (c *Counter) sell(ctx context.Context, tx saga.Tx, s sale.Sale, charge points.Charge) error {
	record, err := payment.Lock(ctx, tx, s.Payment)
	if err != nil || record.State != payment.Pending {
		return err
	}
	if err := payment.Pay(ctx, tx, s); err != nil {
		return err
	}
	if err := c.Faults.Check(sale.StepRecord, s); err != nil {
		return err
	}
	if err := concert.Confirm(ctx, tx, s); err != nil {
		return err
	}
	if err := concert.Sell(ctx, tx, s); err != nil {
		return err
	}
	if err := c.Faults.Check(sale.StepSeat, s); err != nil {
		return err
	}
	if err := saga.Finish(s.Payment).Exec(ctx, tx); err != nil {
		return err
	}
	return c.publish(ctx, tx, s, charge)
}

// publish tells all listeners of a payment that is about to commit. The points come last, for their capture is what nobody
// can take back.
func (c *Counter) publish(ctx context.Context, tx saga.Tx, s sale.Sale, charge points.Charge) error {
	before := []func() error{func() error { return c.useToken(ctx, tx, s) }}
	if c.Locks == nil {
		before = append(before, func() error { return announce(ctx, tx, s) })
	} else {
		before = append(before, func() error { return c.push(ctx, tx, s) }, func() error { return c.data(ctx, tx, s) })
	}
	before = append(before, func() error { return c.pay(ctx, tx, charge) })
	for _, listener := range before {
		if err := listener(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Counter) useToken(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	if err := queue.Use(ctx, tx, s); err != nil {
		return err
	}
	if err := queue.Expire(ctx, tx, s); err != nil {
		return err
	}
	return c.Faults.Check(sale.StepExpire, s)
}

// pay is the points' listener: a request to Lockstep inside the transaction.
func (c *Counter) pay(ctx context.Context, tx saga.Tx, charge points.Charge) error {
	if charge.Hold == "" {
		hold, err := c.Desk.Hold(ctx, charge)
		if err != nil {
			return err
		}
		charge.Hold = hold
		if err := c.Faults.Check(sale.StepHold, charge.Sale); err != nil {
			return err
		}
	}
	if err := c.Faults.Check(sale.StepCapture, charge.Sale); err != nil {
		return err
	}
	if err := points.Note(ctx, tx, charge.Sale.Payment, points.Captured, charge.Hold); err != nil {
		return err
	}
	return c.Desk.Capture(ctx, charge)
}

func (c *Counter) push(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	if err := push.Deliver(ctx, tx, s); err != nil {
		return err
	}
	return c.Faults.Check(sale.StepPush, s)
}

func (c *Counter) data(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	if err := push.Export(ctx, tx, s); err != nil {
		return err
	}
	return c.Faults.Check(sale.StepData, s)
}

// takeBack undoes a payment that failed, unless its money was captured: then it has to go on, and the error says so.
func (c *Counter) takeBack(ctx context.Context, s sale.Sale, because error) error {
	charge, err := c.charge(ctx, s.Payment)
	if err != nil {
		return errors.Join(because, err)
	}
	if paid, err := c.Desk.Void(ctx, &charge); err != nil {
		return errors.Join(because, err)
	} else if paid {
		return fmt.Errorf("the money was captured, so the payment goes on: %w", because)
	}
	return c.DB.Within(ctx, func(tx saga.Tx) error {
		record, err := payment.Lock(ctx, tx, s.Payment)
		if err != nil || record.State != payment.Pending {
			return err
		}
		if err := payment.Void(ctx, tx, s, because.Error()); err != nil {
			return err
		}
		if err := concert.Free(ctx, tx, s); err != nil {
			return err
		}
		if err := points.Note(ctx, tx, s.Payment, points.Voided, charge.Hold); err != nil {
			return err
		}
		return saga.Finish(s.Payment).Exec(ctx, tx)
	})
}

// lock takes the monolith's one lock for a concert. Without a quorum of Redis servers the rows' locks alone keep the order.
func (c *Counter) lock(ctx context.Context, s sale.Sale) (unlock func(), err error) {
	nothing := func() {}
	if c.Locks == nil {
		return nothing, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lockWaitMax)
	defer cancel()
	for {
		set, err := c.Locks.Acquire(ctx, []string{s.Concert})
		switch {
		case errors.Is(err, locks.ErrUnavailable):
			return nothing, nil
		case err != nil:
			return nothing, err
		case set.Grant(s.Concert) == locks.Held:
			return func() { c.release(set) }, nil
		}
		c.release(set)
		select {
		case <-ctx.Done():
			return nothing, web.Refuse(http.StatusServiceUnavailable, "busy", "others pay for this concert: send the same request again")
		case <-time.After(lockPause):
		}
	}
}

func (c *Counter) release(set *locks.Set) {
	if lost, err := set.Release(context.Background()); err != nil || lost > 0 {
		c.Log.Info("a lock ended before its work", "lost", lost, "error", err)
	}
}

// announce leaves word for the listeners after the commit, of which each hears by a message of its own.
func announce(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	var messages []saga.Message
	for _, listener := range []string{sale.StepPush, sale.StepData} {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		messages = append(messages, saga.Message{ID: id.String(), Destination: listener, Events: s.JSON()})
	}
	return saga.Announce(messages...).Exec(ctx, tx)
}
