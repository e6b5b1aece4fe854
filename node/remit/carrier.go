package remit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"lockstep/cluster/events"
	"lockstep/cluster/peers"
	"lockstep/cluster/traces"
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

// Publish implements saga.Publisher.
func (c *Carrier) Publish(ctx context.Context, m saga.Message) error {
	return c.PublishAll(ctx, []saga.Message{m})
}

// eventsMax is how many events one message carries: with their statements they stay below the broker's bound.
const eventsMax = 400

// PublishAll implements saga.Packer: it tells one destination all events of a kind in one message, or a few. A message's id
// follows from all that it tells and the epoch, so that the broker drops a plain repeat, and nothing that tells of anything more; other
// repeats are dropped by whoever hears them.
func (c *Carrier) PublishAll(ctx context.Context, messages []saga.Message) error {
	to, read := messages[0].Destination, c.decided
	if to == posting.OwnEvents {
		read = c.own
	}
	packed, err := read(ctx, messages)
	if err != nil {
		return fmt.Errorf("read what there is to tell %s: %w", to, err)
	}
	for kind, list := range packed {
		subject := events.Own(c.desk.books.System(), kind)
		if to != posting.OwnEvents {
			subject = events.Transfer(c.desk.books.System(), to, strings.TrimPrefix(kind, "transfer."))
		}
		for part := range slices.Chunk(list, eventsMax) {
			spans := c.trace(ctx, part)
			err := c.publish(ctx, subject, part)
			for _, span := range spans {
				if err != nil {
					span.Fail("not published")
				}
				span.End()
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// trace begins a span for each traced event, from which its trace goes on where it is heard.
func (c *Carrier) trace(ctx context.Context, list []events.Event) (spans []traces.Span) {
	for i := range list {
		if ctx, span := c.desk.config.Traces.Continue(ctx, "publish", traces.Producer, list[i].Trace); span.Traced() {
			span.Note("lockstep.event", list[i].Type)
			list[i].Trace = traces.Parent(ctx)
			spans = append(spans, span)
		}
	}
	return spans
}

// decided makes events, by kind, of rows about transfers between systems. A decision is stated by itself, for its receiver
// keeps what a credit rests on; credits are stated together.
func (c *Carrier) decided(ctx context.Context, rows []saga.Message) (map[string][]events.Event, error) {
	var facts []peers.Fact
	var traces []string // of the first facts
	var credits []ledger.PeerEvent
	for _, row := range rows {
		list, known := row.Known.([]ledger.PeerEvent)
		if !known {
			var err error
			if list, err = c.recall(ctx, row); err != nil {
				return nil, err
			}
		}
		for _, event := range list {
			if event.Type == ledger.EventCredited {
				credits = append(credits, event)
			} else {
				facts, traces = append(facts, FactOf(c.desk.books.System(), event)), append(traces, event.Trace)
			}
		}
	}
	facts = append(facts, c.credited(credits)...)
	stated, err := c.desk.directory.StateAll(facts)
	if err != nil {
		return nil, err
	}
	packed := map[string][]events.Event{}
	for i, fact := range facts {
		event := carried(fact, stated[i])
		if i < len(traces) {
			event.Trace = traces[i]
		}
		packed[fact.Type] = append(packed[fact.Type], event)
	}
	return packed, nil
}

// recall reads the events of a row that its node has left. Its decisions are told from their remittances, in the epoch in which
// they were made. A row and its remittances were written together, so that where they say otherwise nothing is told: it is damage, or
// a node holds a row that a failover has lost, and what it was about has ended anew, perhaps as a tombstone, which names nobody.
func (c *Carrier) recall(ctx context.Context, row saga.Message) (list []ledger.PeerEvent, err error) {
	outline, err := ledger.ReadOutline(row.Events)
	if err != nil {
		return nil, err
	}
	for _, told := range outline.Told {
		if told.Type == ledger.EventCredited {
			for _, id := range told.IDs {
				list = append(list, ledger.PeerEvent{
					Peer: row.Destination, Type: told.Type, Epoch: told.Epoch, ID: id, Amount: ledger.Money{Currency: told.Currency}, At: told.At,
				})
			}
			continue
		}
		found, err := c.desk.books.Remittances(ctx, told.IDs...)
		if err != nil {
			return nil, err
		}
		for _, id := range told.IDs {
			event := ledger.DecisionOf(found[id], told.Epoch)
			if r := found[id]; !r.Final() || r.Transfer == nil || event.Type != told.Type || event.Peer != row.Destination || r.Payer != c.desk.books.System() {
				return nil, fmt.Errorf("%s for %s is to be told of %s, which is %q in the books", told.Type, row.Destination, id, r.State)
			}
			event.Trace = told.Trace
			list = append(list, event)
		}
	}
	return list, nil
}

// credited states credits together that are of one epoch and currency.
func (c *Carrier) credited(credits []ledger.PeerEvent) (facts []peers.Fact) {
	alike := func(a, b ledger.PeerEvent) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Amount.Currency, b.Amount.Currency))
	}
	slices.SortStableFunc(credits, alike)
	for len(credits) > 0 {
		count := 1
		for count < min(len(credits), peers.BatchMax) && alike(credits[0], credits[count]) == 0 {
			count++
		}
		facts, credits = append(facts, creditsOf(c.desk.books.System(), credits[:count])), credits[count:]
	}
	return facts
}

// carried is an event as it travels: the statement in it is what its receiver believes, and all that it says.
func carried(fact peers.Fact, stated string) events.Event {
	subject, id := fact.ID, fact.ID
	if len(fact.IDs) > 0 {
		subject = strings.Join(fact.IDs, ",")
		of := sha256.Sum256([]byte(subject))
		id = hex.EncodeToString(of[:])
	}
	return events.Event{
		ID: id + "." + fact.Type, Source: "lockstep:" + fact.From, Type: "lockstep." + fact.Type, Subject: subject, Time: fact.At,
		Epoch: fact.Epoch, Statement: stated,
	}
}

// own are the events for the system's own listeners.
func (c *Carrier) own(_ context.Context, rows []saga.Message) (map[string][]events.Event, error) {
	packed, now := map[string][]events.Event{}, time.Now().UTC()
	for _, row := range rows {
		var told map[string][]string
		if err := json.Unmarshal(row.Events, &told); err != nil {
			return nil, err
		}
		for name, ids := range told {
			for _, id := range ids {
				packed[name] = append(packed[name], events.Event{
					ID: id + "." + name, Source: "lockstep:" + c.desk.books.System(), Type: "lockstep." + name, Subject: id, Time: now,
				})
			}
		}
	}
	return packed, nil
}

func (c *Carrier) publish(ctx context.Context, subject string, list []events.Event) error {
	data, err := events.Pack(list)
	if err != nil {
		return err
	}
	of := sha256.New()
	for _, event := range list {
		fmt.Fprintln(of, event.ID, event.Epoch)
	}
	id := hex.EncodeToString(of.Sum(nil))
	headers := map[string]string{"Content-Type": events.ContentType}
	if trace := traceOfAll(list); trace != "" {
		headers["traceparent"] = trace
	}
	err = c.bus.Publish(ctx, events.Message{Subject: subject, ID: id, Data: data, Headers: headers})
	if errors.Is(err, events.ErrDisconnected) || errors.Is(err, events.ErrClosed) {
		return fmt.Errorf("%w: %w", saga.ErrAway, err)
	}
	return err
}

// traceOfAll is the trace of a message: that of its events, if they have one in common.
func traceOfAll(list []events.Event) string {
	for _, event := range list[1:] {
		if event.Trace != list[0].Trace {
			return ""
		}
	}
	return list[0].Trace
}

// heard is an event of a message that a peer has stated.
type heard struct {
	event events.Event
	fact  peers.Fact
}

// Handle is the events.Handler: it applies each event of a message by itself. What contradicts our books, or is not the
// sender's to state, is parked alone; the message comes again as long as any event of it could not be applied.
func (c *Carrier) Handle(ctx context.Context, d events.Delivery) events.Verdict {
	list, failure := c.hear(ctx, d)
	failed := make([]error, len(list))
	var all sync.WaitGroup
	for i, h := range list {
		all.Go(func() { failed[i] = c.apply(ctx, d, h) }) // together, to be combined
	}
	all.Wait()
	var stale []heard
	for i, err := range failed {
		if Stale(err) {
			stale = append(stale, list[i])
			continue
		}
		failure = errors.Join(failure, err)
	}
	failure = errors.Join(failure, c.askAgain(ctx, d, stale))
	if failure != nil {
		return events.Later(failure)
	}
	if err := c.desk.fault("before_ack"); err != nil {
		return events.Later(err)
	}
	return events.Done()
}

// hear believes what the sender has signed, and parks the rest.
func (c *Carrier) hear(ctx context.Context, d events.Delivery) (list []heard, failure error) {
	found, problems := events.Unpack(d.Data)
	for i, event := range found {
		if problems[i] != nil {
			failure = errors.Join(failure, c.park(ctx, d, event, problems[i].Error()))
			continue
		}
		fact, err := c.desk.directory.Read(event.Statement)
		switch {
		case err != nil:
			c.desk.metrics.applied.WithLabelValues("unknown", "signature_invalid").Inc()
			failure = errors.Join(failure, c.park(ctx, d, event, err.Error()))
		case fact.From != d.From() || "lockstep."+fact.Type != event.Type:
			c.desk.metrics.applied.WithLabelValues("unknown", "foreign").Inc()
			failure = errors.Join(failure, c.park(ctx, d, event, "the statement is not what the message carries"))
		default:
			list = append(list, heard{event, fact})
		}
	}
	return list, failure
}

// askAgain asks the sender about what it has stated in an epoch that is over.
func (c *Carrier) askAgain(ctx context.Context, d events.Delivery, stale []heard) (failure error) {
	for part := range slices.Chunk(stale, peers.BatchMax) {
		facts := make([]peers.Fact, len(part))
		for i, h := range part {
			facts[i] = h.fact
			c.desk.log.Warn("a statement of an epoch that is over; the payer's system is asked", "transfers", h.fact.Transfers(), "from", h.fact.From)
		}
		for i, err := range c.desk.AskAgain(ctx, facts) {
			if Contradicts(err) {
				err = c.park(ctx, d, part[i].event, err.Error())
			}
			failure = errors.Join(failure, err)
		}
	}
	return failure
}

func (c *Carrier) apply(ctx context.Context, d events.Delivery, h heard) (failure error) {
	name := strings.TrimPrefix(h.fact.Type, "transfer.")
	ctx, span := c.desk.config.Traces.Continue(ctx, "apply", traces.Consumer, h.event.Trace)
	defer func() {
		if failure != nil {
			span.Fail("again later")
		}
		span.End()
	}()
	span.Note("lockstep.event", h.event.Type)
	span.Note("lockstep.transfer", h.fact.ID)
	if err := c.desk.fault("before_" + name); err != nil {
		return err
	}
	err := c.desk.Apply(ctx, h.fact, h.event.Statement)
	switch {
	case err == nil:
		return c.desk.fault("after_" + name)
	case Contradicts(err):
		return c.park(ctx, d, h.event, err.Error())
	}
	return err
}

func (c *Carrier) park(ctx context.Context, d events.Delivery, event events.Event, reason string) error {
	c.desk.log.Error("a statement is parked for an operator", "from", d.From(), "event", event.ID, "reason", reason, "traceparent", event.Trace)
	return c.bus.Park(ctx, d, event, reason)
}
