package remit

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"lockstep/cluster/events"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/saga"
)

// Bus carries events; *events.Bus is one.
type Bus interface {
	Publish(ctx context.Context, message events.Message) error
	Park(ctx context.Context, delivery events.Delivery, event events.Event, reason string) error
}

// Carrier publishes what the engine has announced, and hears what peers have stated.
type Carrier struct {
	desk *Desk
	bus  Bus
}

// NewCarrier joins a desk and a bus.
func NewCarrier(desk *Desk, bus Bus) *Carrier { return &Carrier{desk, bus} }

// Publish implements saga.Publisher. A message's id follows from the row's, so that the broker drops a repeat.
func (c *Carrier) Publish(ctx context.Context, m saga.Message) error {
	if m.Destination == posting.OwnEvents {
		return c.publishOwn(ctx, m)
	}
	var list []ledger.PeerEvent
	if err := json.Unmarshal(m.Events, &list); err != nil {
		return fmt.Errorf("read what there is to tell %s: %w", m.Destination, err)
	}
	packed := map[string][]events.Event{}
	for _, event := range list {
		carried, err := c.carried(event)
		if err != nil {
			return err
		}
		packed[event.Type] = append(packed[event.Type], carried)
	}
	for kind, list := range packed {
		what := strings.TrimPrefix(kind, "transfer.")
		subject := events.Transfer(c.desk.books.System(), m.Destination, what)
		if err := c.publish(ctx, subject, m.ID+"."+what, list); err != nil {
			return err
		}
	}
	return nil
}

// carried is an event as it travels: the statement in it is what its receiver believes.
func (c *Carrier) carried(event ledger.PeerEvent) (events.Event, error) {
	fact := FactOf(event)
	signed, err := c.desk.directory.State(fact)
	if err != nil {
		return events.Event{}, err
	}
	data, err := json.Marshal(fact)
	return events.Event{
		ID: fact.ID + "." + fact.Type, Source: "lockstep:" + fact.From, Type: "lockstep." + fact.Type, Subject: fact.ID, Time: fact.At,
		DataContentType: "application/json", Data: data, Epoch: fact.Epoch, Statement: signed,
	}, err
}

// publishOwn tells the system's own listeners: a message for each kind of event, with an event for each id.
func (c *Carrier) publishOwn(ctx context.Context, m saga.Message) error {
	var told map[string][]string
	if err := json.Unmarshal(m.Events, &told); err != nil {
		return fmt.Errorf("read what there is to tell: %w", err)
	}
	system, now := c.desk.books.System(), time.Now().UTC()
	for name, ids := range told {
		list := make([]events.Event, len(ids))
		for i, id := range ids {
			list[i] = events.Event{ID: id + "." + name, Source: "lockstep:" + system, Type: "lockstep." + name, Subject: id, Time: now}
		}
		if err := c.publish(ctx, events.Own(system, name), m.ID+"."+name, list); err != nil {
			return err
		}
	}
	return nil
}

func (c *Carrier) publish(ctx context.Context, subject, id string, list []events.Event) error {
	data, err := events.Pack(list)
	if err != nil {
		return err
	}
	return c.bus.Publish(ctx, events.Message{Subject: subject, ID: id, Data: data, Headers: map[string]string{"Content-Type": events.ContentType}})
}

// Handle is the events.Handler: it applies each event of a message by itself. What contradicts our books, or is not the
// sender's to state, is parked alone; the message comes again as long as any event of it could not be applied.
func (c *Carrier) Handle(ctx context.Context, d events.Delivery) events.Verdict {
	list, problems := events.Unpack(d.Data)
	failed := make(chan error, len(list))
	for i, event := range list {
		go func() { failed <- c.handle(ctx, d, event, problems[i]) }() // together, to be combined
	}
	var failure error
	for range list {
		if err := <-failed; err != nil {
			failure = err
		}
	}
	if failure != nil {
		return events.Later(failure)
	}
	if err := c.desk.fault("before_ack"); err != nil {
		return events.Later(err)
	}
	return events.Done()
}

func (c *Carrier) handle(ctx context.Context, d events.Delivery, event events.Event, problem error) error {
	if problem != nil {
		return c.park(ctx, d, event, problem.Error())
	}
	fact, err := c.desk.directory.Read(event.Statement)
	switch {
	case err != nil:
		c.desk.metrics.applied.WithLabelValues("unknown", "signature_invalid").Inc()
		return c.park(ctx, d, event, err.Error())
	case fact.From != d.From() || "lockstep."+fact.Type != event.Type:
		c.desk.metrics.applied.WithLabelValues("unknown", "foreign").Inc()
		return c.park(ctx, d, event, "the statement is not what the message carries")
	}
	if err := c.desk.fault("before_" + strings.TrimPrefix(fact.Type, "transfer.")); err != nil {
		return err
	}
	err = c.desk.Apply(ctx, fact, event.Statement)
	switch {
	case err == nil:
		return c.desk.fault("after_" + strings.TrimPrefix(fact.Type, "transfer."))
	case Stale(err):
		c.desk.log.Warn("a statement of an epoch that is over; the payer's system will be asked", "transfer", fact.ID, "from", fact.From)
		return nil
	case Contradicts(err):
		return c.park(ctx, d, event, err.Error())
	}
	return err
}

func (c *Carrier) park(ctx context.Context, d events.Delivery, event events.Event, reason string) error {
	c.desk.log.Error("a statement is parked for an operator", "from", d.From(), "event", event.ID, "reason", reason)
	return c.bus.Park(ctx, d, event, reason)
}
