// Package choreography runs the ticket office as services of their own, each with its schema and its process. None directs:
// each does one short local transaction for what it hears, and tells the next by an event that the same transaction wrote.
// DESIGN is in the README of the ticket office.
package choreography

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/events"
	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/saga"
)

// sweepAfter is how long the committing process has to publish by itself.
const sweepAfter = 3 * time.Second

// Part is one service's place in the dance.
type Part struct {
	name   string
	db     *store.Store
	bus    *events.Bus
	outbox *saga.Outbox
	faults *sale.Faults
	log    *slog.Logger
	hears  map[string]heard // by sender and event
}

// heard is what is done about an event, at least once for each.
type heard func(ctx context.Context, e sale.Event) error

// line is an event for another service.
type line struct{ to, what string }

func newPart(name string, db *store.Store, bus *events.Bus, faults *sale.Faults, log *slog.Logger) *Part {
	p := &Part{name: name, db: db, bus: bus, faults: faults, log: log, hears: map[string]heard{}}
	p.outbox = saga.DefaultOutbox(db, carrier{bus})
	p.outbox.Ready, p.outbox.Logger, p.outbox.AttemptsMax = bus.Connected, log, 1000
	p.outbox.Backoff = saga.Backoff{Min: 200 * time.Millisecond, Max: 10 * time.Second, Jitter: 0.5}
	return p
}

// on says what to do about an event of another service.
func (p *Part) on(from, what string, do heard) { p.hears[from+"."+what] = do }

// Open begins to listen and to tell.
func (p *Part) Open(ctx context.Context) error {
	if err := p.outbox.Open(ctx); err != nil {
		return err
	}
	return p.bus.Consume(p.handle, events.Options{Parallel: parallel, Ready: p.db.Ready})
}

// Close ends what is in hand.
func (p *Part) Close() error {
	p.bus.Close()
	return p.outbox.Close()
}

func (p *Part) handle(ctx context.Context, d events.Delivery) events.Verdict {
	list, errs := events.Unpack(d.Data)
	if len(list) != 1 || errs[0] != nil {
		return events.Dead(fmt.Sprintf("not one event: %v", errors.Join(errs...)))
	}
	var e sale.Event
	if err := json.Unmarshal(list[0].Data, &e); err != nil {
		return events.Dead(fmt.Sprintf("unreadable: %v", err))
	}
	do, known := p.hears[d.From()+"."+list[0].Type]
	if err := e.Sale.Validate(); err != nil || !known || !strings.HasSuffix(d.Subject, "."+list[0].Type) {
		return events.Dead(fmt.Sprintf("%s tells nothing that concerns %s: %v", d.Subject, p.name, err))
	}
	if err := do(ctx, e); err != nil {
		p.log.Warn("an event has to come again", "from", d.From(), "event", list[0].Type, "payment", e.Sale.Payment, "delivered", d.Delivered, "error", err)
		return events.Later(err)
	}
	return events.Done()
}

// do is one step: its work, its barrier and what comes next are one transaction. A repeat does nothing; after the step was
// undone, or refused, it does nothing either.
func (p *Part) do(ctx context.Context, s sale.Sale, step string, work func(tx saga.Tx) error, next ...line) error {
	return p.commit(ctx, s, step, saga.Do, "", work, next)
}

// undo takes a step back and tells the service whose step came before. It closes a step that was never done.
func (p *Part) undo(ctx context.Context, e sale.Event, step string, work func(tx saga.Tx) error, next ...line) error {
	return p.commit(ctx, e.Sale, step, saga.Undo, e.Reason, work, next)
}

// refuse closes a step that said no before it did anything, and turns the sale back. It fails when the step was done all the
// same, by another delivery of the event: that one's word counts.
func (p *Part) refuse(ctx context.Context, s sale.Sale, step string, because error, work func(tx saga.Tx) error, back ...line) error {
	return p.commit(ctx, s, step, refusal, because.Error(), work, back)
}

// refusal is an undo that demands that there is nothing to undo.
const refusal saga.Operation = "refuse"

var errDoneMeanwhile = errors.New("the step was done by another delivery meanwhile")

func (p *Part) commit(ctx context.Context, s sale.Sale, step string, what saga.Operation, reason string, work func(tx saga.Tx) error, next []line) error {
	messages, err := p.messages(sale.Event{Sale: s, Reason: reason}, next)
	if err != nil {
		return err
	}
	told := false
	err = p.db.Within(ctx, func(tx saga.Tx) error {
		told = false // it may be another try
		operation := what
		if what == refusal {
			operation = saga.Undo
		}
		entry, err := saga.Enter(ctx, tx, s.Payment, step, operation)
		switch {
		case err != nil:
			return err
		case entry == saga.Repeated || entry == saga.Closed:
			return nil
		case what == refusal && entry == saga.First:
			return errDoneMeanwhile
		}
		if err := work(tx); err != nil {
			return err
		}
		if told = len(messages) > 0; !told {
			return nil
		}
		return saga.Announce(messages...).Exec(ctx, tx)
	})
	if err != nil {
		return err
	}
	if told {
		if err := p.outbox.PublishNow(ctx, messages...); err != nil {
			p.log.Info("an event is left to the outbox", "payment", s.Payment, "error", err)
		}
	}
	return nil
}

func (p *Part) messages(e sale.Event, lines []line) ([]saga.Message, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write the event: %w", err)
	}
	messages := make([]saga.Message, 0, len(lines))
	for _, l := range lines {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		packed, err := events.Pack([]events.Event{{ID: id.String(), Source: "/ticketoffice/" + p.name, Type: l.what, Subject: e.Sale.Payment, Time: time.Now().UTC(), Data: data}})
		if err != nil {
			return nil, fmt.Errorf("write the event: %w", err)
		}
		messages = append(messages, saga.Message{ID: id.String(), Destination: events.Transfer(p.name, l.to, l.what), Events: packed, Delay: sweepAfter})
	}
	return messages, nil
}

// carrier publishes what the outbox has: its destinations are subjects.
type carrier struct{ bus *events.Bus }

func (c carrier) Publish(ctx context.Context, m saga.Message) error {
	err := c.bus.Publish(ctx, events.Message{
		Subject: m.Destination, ID: m.ID, Data: m.Events, Headers: map[string]string{"Content-Type": events.ContentType},
	})
	if errors.Is(err, events.ErrDisconnected) {
		return fmt.Errorf("%w: %w", saga.ErrAway, err)
	}
	return err
}
