package choreography

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lockstep/cluster/events"
	"lockstep/examples/ticketoffice/concert"
	"lockstep/examples/ticketoffice/payment"
	"lockstep/examples/ticketoffice/points"
	"lockstep/examples/ticketoffice/push"
	"lockstep/examples/ticketoffice/queue"
	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/saga"
)

// The services, by their names at the broker. The data platform listens with the push service.
const (
	Queue   = "queue"
	Payment = "payment"
	Points  = "points"
	Concert = "concert"
	Push    = "push"
)

// errPaid is our bug: nothing turns a sale back before its hold is void.
var errPaid = errors.New("the sale is to be undone, and its money was captured")

// Services are all of them, in the order of a sale.
var Services = []string{Queue, Payment, Points, Concert, Push}

// What the services tell each other, in the order in which a sale goes on, and then back.
const (
	tokenInUse     = "token-in-use"
	paymentPending = "payment-pending"
	moneyHeld      = "money-held"
	seatConfirmed  = "seat-confirmed"
	captured       = "captured" // the pivot: from here on the sale only goes on

	captureRefused = "capture-refused"
	seatRefused    = "seat-refused"
	seatFreed      = "seat-freed"
	moneyReleased  = "money-released"
	paymentVoided  = "payment-voided"
)

const parallel = 16 // events in the hands of a service

// Bus says how a service talks to the broker: a message is in hand for as long as a change at Lockstep may take to be known.
func Bus() events.Config {
	config := events.Default()
	config.AckWait, config.MaxDeliver = 5*time.Second, 1000
	config.BackOff = []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second}
	return config
}

// QueueService takes orders: the token's use is the first step of a sale.
type QueueService struct {
	*Part
	lifetime time.Duration
}

// NewQueue makes the service of the tokens; one that is given back is active for the lifetime.
func NewQueue(db *store.Store, bus *events.Bus, lifetime time.Duration, faults *sale.Faults, log *slog.Logger) *QueueService {
	q := &QueueService{newPart(Queue, db, bus, faults, log), lifetime}
	q.on(Payment, paymentVoided, func(ctx context.Context, e sale.Event) error {
		return q.undo(ctx, e, sale.StepToken, func(tx saga.Tx) error { return queue.Restore(ctx, tx, e.Sale, q.lifetime) })
	})
	q.on(Points, captured, func(ctx context.Context, e sale.Event) error {
		return q.do(ctx, e.Sale, sale.StepExpire, func(tx saga.Tx) error {
			if err := queue.Expire(ctx, tx, e.Sale); err != nil {
				return err
			}
			return q.faults.Check(sale.StepExpire, e.Sale)
		})
	})
	return q
}

// Order begins a sale, once for its id: it is refused, or goes on by itself.
func (q *QueueService) Order(ctx context.Context, s sale.Sale) error {
	begun := false
	err := q.do(ctx, s, sale.StepToken, func(tx saga.Tx) error {
		begun = true
		if err := queue.Note(ctx, tx, s); err != nil {
			return err
		}
		if err := queue.Use(ctx, tx, s); err != nil {
			return err
		}
		return injected(q.faults, sale.StepToken, s)
	}, line{Payment, tokenInUse})
	if err != nil || begun {
		return err
	}
	return q.db.Within(ctx, func(tx saga.Tx) error { return queue.Note(ctx, tx, s) }) // a repeat, if it is the same sale
}

// NewPayment makes the service of the records.
func NewPayment(db *store.Store, bus *events.Bus, faults *sale.Faults, log *slog.Logger) *Part {
	p := newPart(Payment, db, bus, faults, log)
	back := []line{{Concert, paymentVoided}, {Queue, paymentVoided}}
	p.on(Queue, tokenInUse, func(ctx context.Context, e sale.Event) error {
		err := p.do(ctx, e.Sale, sale.StepRecord, func(tx saga.Tx) error {
			if err := payment.Open(ctx, tx, e.Sale); err != nil {
				return err
			}
			return injected(p.faults, sale.StepRecord, e.Sale)
		}, line{Points, paymentPending})
		if !saga.IsRefused(err) {
			return err
		}
		return p.refuse(ctx, e.Sale, sale.StepRecord, err, func(tx saga.Tx) error { return payment.Void(ctx, tx, e.Sale, err.Error()) }, back...)
	})
	p.on(Points, moneyReleased, func(ctx context.Context, e sale.Event) error {
		return p.undo(ctx, e, sale.StepRecord, func(tx saga.Tx) error { return payment.Void(ctx, tx, e.Sale, e.Reason) }, back...)
	})
	p.on(Points, captured, func(ctx context.Context, e sale.Event) error {
		return p.do(ctx, e.Sale, sale.StepPaid, func(tx saga.Tx) error {
			if err := payment.Pay(ctx, tx, e.Sale); err != nil {
				return err
			}
			return p.faults.Check(sale.StepPaid, e.Sale)
		})
	})
	return p
}

// NewConcert makes the service of the seats.
func NewConcert(db *store.Store, bus *events.Bus, faults *sale.Faults, log *slog.Logger) *Part {
	c := newPart(Concert, db, bus, faults, log)
	c.on(Points, moneyHeld, func(ctx context.Context, e sale.Event) error {
		err := c.do(ctx, e.Sale, sale.StepSeat, func(tx saga.Tx) error {
			if err := concert.Confirm(ctx, tx, e.Sale); err != nil {
				return err
			}
			return injected(c.faults, sale.StepSeat, e.Sale)
		}, line{Points, seatConfirmed})
		if !saga.IsRefused(err) {
			return err
		}
		return c.refuse(ctx, e.Sale, sale.StepSeat, err, func(tx saga.Tx) error { return concert.Free(ctx, tx, e.Sale) }, line{Points, seatRefused})
	})
	c.on(Points, captureRefused, func(ctx context.Context, e sale.Event) error {
		return c.undo(ctx, e, sale.StepSeat, func(tx saga.Tx) error { return concert.Free(ctx, tx, e.Sale) }, line{Points, seatFreed})
	})
	c.on(Payment, paymentVoided, func(ctx context.Context, e sale.Event) error { // the sale may have ended before it came to the seat
		return c.undo(ctx, e, sale.StepSeat, func(tx saga.Tx) error { return concert.Free(ctx, tx, e.Sale) })
	})
	c.on(Points, captured, func(ctx context.Context, e sale.Event) error {
		return c.do(ctx, e.Sale, sale.StepSold, func(tx saga.Tx) error {
			if err := concert.Sell(ctx, tx, e.Sale); err != nil {
				return err
			}
			return c.faults.Check(sale.StepSold, e.Sale)
		})
	})
	return c
}

// NewPush makes the service of the messages, and of what the data platform is told.
func NewPush(db *store.Store, bus *events.Bus, faults *sale.Faults, log *slog.Logger) *Part {
	p := newPart(Push, db, bus, faults, log)
	p.on(Points, captured, func(ctx context.Context, e sale.Event) error {
		return p.do(ctx, e.Sale, sale.StepPush, func(tx saga.Tx) error {
			if err := push.Deliver(ctx, tx, e.Sale); err != nil {
				return err
			}
			if err := push.Export(ctx, tx, e.Sale); err != nil {
				return err
			}
			return p.faults.Check(sale.StepPush, e.Sale)
		})
	})
	return p
}

// PointsService asks Lockstep for the money.
type PointsService struct {
	*Part
	desk *points.Desk
}

// NewPoints makes the service of the money. Requests to Lockstep are made between transactions, never in one.
func NewPoints(db *store.Store, bus *events.Bus, desk *points.Desk, faults *sale.Faults, log *slog.Logger) *PointsService {
	p := &PointsService{newPart(Points, db, bus, faults, log), desk}
	p.on(Payment, paymentPending, p.hold)
	p.on(Concert, seatConfirmed, p.capture)
	p.on(Concert, seatRefused, p.release)
	p.on(Concert, seatFreed, p.release)
	return p
}

func (p *PointsService) hold(ctx context.Context, e sale.Event) error {
	charge, err := p.intend(ctx, e.Sale)
	if err != nil || charge.State != points.Intended {
		return err
	}
	hold, err := p.desk.Hold(ctx, charge)
	if err == nil {
		err = p.do(ctx, e.Sale, sale.StepHold, func(tx saga.Tx) error {
			if err := points.Note(ctx, tx, e.Sale.Payment, points.Held, hold); err != nil {
				return err
			}
			return injected(p.faults, sale.StepHold, e.Sale)
		}, line{Concert, moneyHeld})
	}
	if !saga.IsRefused(err) {
		return err
	}
	if charge.Hold = hold; hold != "" { // our own no, after Lockstep's yes
		if _, voidErr := p.desk.Void(ctx, &charge); voidErr != nil {
			return voidErr
		}
	}
	return p.refuse(ctx, e.Sale, sale.StepHold, err, func(tx saga.Tx) error {
		return points.Note(ctx, tx, e.Sale.Payment, points.Voided, hold)
	}, line{Payment, moneyReleased})
}

// capture is the pivot. Its transaction comes after Lockstep's commit: until it is done the event comes again, and Lockstep
// says again, under the same key, what it said.
func (p *PointsService) capture(ctx context.Context, e sale.Event) error {
	charge, err := p.intend(ctx, e.Sale)
	if err != nil || charge.State != points.Held {
		return err
	}
	if err = injected(p.faults, sale.StepCapture, e.Sale); err == nil {
		err = p.desk.Capture(ctx, charge)
	}
	if saga.IsRefused(err) {
		paid, voidErr := p.desk.Void(ctx, &charge) // Lockstep alone says whether there is a way back
		if voidErr != nil {
			return voidErr
		}
		if !paid {
			return p.refuse(ctx, e.Sale, sale.StepCapture, err, nothing, line{Concert, captureRefused})
		}
	} else if err != nil {
		return err
	}
	return p.captured(ctx, charge, func(tx saga.Tx) error {
		return points.Note(ctx, tx, e.Sale.Payment, points.Captured, charge.Hold)
	})
}

// captured is the step of a sale that is paid at Lockstep: from now on it only goes on.
func (p *PointsService) captured(ctx context.Context, charge points.Charge, work func(tx saga.Tx) error) error {
	return p.do(ctx, charge.Sale, sale.StepCapture, work,
		line{Payment, captured}, line{Concert, captured}, line{Queue, captured}, line{Push, captured})
}

func (p *PointsService) release(ctx context.Context, e sale.Event) error {
	charge, err := p.intend(ctx, e.Sale)
	if err != nil {
		return err
	}
	if paid, err := p.desk.Void(ctx, &charge); err != nil {
		return err
	} else if paid {
		return errPaid
	}
	return p.undo(ctx, e, sale.StepHold, func(tx saga.Tx) error {
		return points.Note(ctx, tx, e.Sale.Payment, points.Voided, charge.Hold)
	}, line{Payment, moneyReleased})
}

// Hint hears that something has happened to the hold of a charge, and asks Lockstep what. It tells whether the sale went on
// because of it, on the way on or back: a hold that was captured without our hearing of it is the pivot, one that has expired, or
// that somebody else has voided, can never be captured.
func (p *PointsService) Hint(ctx context.Context, delivery string, charge points.Charge) (broughtOn bool, err error) {
	if charge.State != points.Held {
		return false, nil
	}
	state, err := p.desk.State(ctx, charge)
	if err != nil {
		return false, err
	}
	received := func(tx saga.Tx, then func(tx saga.Tx) error) (err error) {
		broughtOn, err = saga.Receive(ctx, tx, "webhooks", delivery)
		switch {
		case err != nil:
			return err
		case !broughtOn:
			return errReceived
		}
		return then(tx)
	}
	switch state {
	case "posted":
		err = p.captured(ctx, charge, func(tx saga.Tx) error {
			return received(tx, func(tx saga.Tx) error { return points.Note(ctx, tx, charge.Sale.Payment, points.Captured, charge.Hold) })
		})
	case "expired", "voided":
		err = p.refuse(ctx, charge.Sale, sale.StepCapture, fmt.Errorf("the hold at Lockstep is %s", state), func(tx saga.Tx) error {
			return received(tx, nothing)
		}, line{Concert, captureRefused})
	}
	if errors.Is(err, errReceived) {
		err = nil
	}
	return broughtOn && err == nil, err
}

// errReceived rolls back what a delivery would do once more.
var errReceived = errors.New("the delivery was received before")

func (p *PointsService) intend(ctx context.Context, s sale.Sale) (charge points.Charge, err error) {
	err = p.db.Within(ctx, func(tx saga.Tx) error {
		charge, err = points.Intend(ctx, tx, s)
		return err
	})
	return charge, err
}

// nothing is the work of an undo that only has to be told on.
func nothing(saga.Tx) error { return nil }

// injected is a failure for tests, as a definite no.
func injected(faults *sale.Faults, step string, s sale.Sale) error {
	if err := faults.Check(step, s); err != nil {
		return saga.Refused(err)
	}
	return nil
}
