package events

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	parallelDefault = 4
	parallelMax     = 64

	// One pull waits this long for a message, with a sign of life in between; two that are missing end it.
	pullMax        = 30 * time.Second
	pullHeartbeat  = 5 * time.Second
	readyPause     = 200 * time.Millisecond // between two looks whether fetching may go on
	pullRetryPause = 250 * time.Millisecond
	ackMax         = 5 * time.Second
)

// Handler takes one delivery. Its context ends when the delivery has been in its hands for the AckWait, or some time after
// Close began. It may be called several times for one message, also at the same time.
type Handler func(ctx context.Context, d Delivery) Verdict

// Options say how to consume. The zero value of a field means its default.
type Options struct {
	// Ready tells whether messages can be handled now; while it says no, nothing is fetched, so that an outage uses up no
	// deliveries. It is asked often and must answer at once. Default: always.
	Ready func() bool

	// Parallel is how many messages this node has in hand at most, 1 to 64; default 4. They are taken in the order of the
	// stream, and may end in another.
	Parallel int
}

// Consume has the handler called for what the system is sent, from now on until Close; it returns at once. All nodes of a
// system share the messages. It may be called once.
func (b *Bus) Consume(handler Handler, options Options) error {
	if options.Ready == nil {
		options.Ready = func() bool { return true }
	}
	if options.Parallel == 0 {
		options.Parallel = parallelDefault
	}
	if options.Parallel < 0 || options.Parallel > parallelMax {
		return fmt.Errorf("consume events: Parallel must be 1 to %d", parallelMax)
	}
	b.mu.Lock()
	again := b.consuming
	b.consuming = true
	b.mu.Unlock()
	if b.life.Err() != nil {
		return ErrClosed
	}
	if again {
		return errors.New("consume events: somebody does already")
	}
	for range options.Parallel {
		w := &worker{bus: b, handler: handler, ready: options.Ready}
		b.working.Go(w.run)
	}
	return nil
}

// worker has one message in hand at a time and asks for the next one only then, so that nothing waits in its buffer while
// AckWait runs or Ready has turned.
type worker struct {
	bus      *Bus
	handler  Handler
	ready    func() bool
	consumer jetstream.Consumer // nil until found
}

func (w *worker) run() {
	for w.bus.life.Err() == nil {
		if !w.bus.Connected() || !w.ready() {
			sleep(w.bus.life, readyPause)
			continue
		}
		message, err := w.next()
		if err != nil {
			w.consumer = nil
			w.bus.lookAfter()
			sleep(w.bus.life, vary(pullRetryPause))
			continue
		}
		if message != nil {
			w.handle(message)
		}
	}
}

// next returns nothing when nothing came for a while, or the connection ended.
func (w *worker) next() (jetstream.Msg, error) {
	ctx, cancel, err := w.bus.bound(w.bus.life, pullMax)
	if err != nil {
		return nil, err
	}
	defer cancel()
	if w.consumer == nil {
		if w.consumer, err = w.bus.js.Consumer(ctx, inbound(w.bus.config.System), consumerName); err != nil {
			return nil, err
		}
	}
	message, err := w.consumer.Next(jetstream.FetchContext(ctx), jetstream.FetchHeartbeat(pullHeartbeat))
	if ctx.Err() != nil || errors.Is(err, nats.ErrTimeout) {
		return message, nil
	}
	return message, err
}

func (w *worker) handle(message jetstream.Msg) {
	b := w.bus
	d, err := b.delivery(message)
	if err != nil { // not from a consumer: nothing can be said about it, and nobody waits for it
		b.log.Error("event message without metadata", "subject", message.Subject(), "error", err)
		return
	}
	b.counters.deliver(d)
	if !w.ready() || b.life.Err() != nil { // turned while the pull was waiting
		b.giveBack(message, b.config.BackOff[0])
		return
	}
	verdict := w.judge(d)
	switch {
	case verdict.kind == done:
		b.acknowledge(message, d)
	case verdict.kind == dead:
		b.bury(message, d, verdict.reason)
	case d.Delivered >= b.config.MaxDeliver:
		b.bury(message, d, fmt.Sprintf("gave up after %d deliveries: %s", d.Delivered, verdict.reason))
	default:
		b.counters.later.Add(1)
		b.giveBack(message, b.config.delay(d.Delivered))
	}
}

// judge calls the handler. One that panics must not take down node after node, as the message goes from one to the next.
func (w *worker) judge(d Delivery) (verdict Verdict) {
	ctx, cancel := context.WithTimeout(w.bus.hands, w.bus.config.AckWait)
	defer cancel()
	defer func() {
		if reason := recover(); reason != nil {
			w.bus.log.Error("handler of events panicked", "subject", d.Subject, "id", d.ID, "panic", reason)
			verdict = Later(fmt.Errorf("panic: %v", reason))
		}
	}()
	return w.handler(ctx, d)
}

// delay is the pause after so many deliveries.
func (c Config) delay(delivered int) time.Duration {
	return vary(c.BackOff[min(max(delivered, 1), len(c.BackOff))-1])
}

// vary changes a duration by up to a fifth either way.
func vary(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64())) //nolint:gosec // spreads load, protects nothing
}

// acknowledge waits for the broker's own word that it has heard. Without it the message comes again, which is harmless.
func (b *Bus) acknowledge(message jetstream.Msg, d Delivery) {
	if err := b.tryAcknowledge(message); err != nil {
		b.counters.unacked.Add(1)
		b.log.Warn("event handled but not acknowledged: it comes again", "subject", d.Subject, "id", d.ID, "error", err)
		return
	}
	b.counters.done.Add(1)
}

func (b *Bus) tryAcknowledge(message jetstream.Msg) error {
	if err := b.fault(FaultBeforeAck); err != nil {
		return err
	}
	ctx, cancel, err := b.bound(b.hands, ackMax)
	if err != nil {
		return err
	}
	defer cancel()
	if err := message.DoubleAck(ctx); err != nil {
		return fmt.Errorf("acknowledge: %w", err)
	}
	return b.fault(FaultAfterAck)
}

// giveBack may be lost, and then AckWait brings the message back.
func (b *Bus) giveBack(message jetstream.Msg, delay time.Duration) {
	if err := message.NakWithDelay(delay); err != nil {
		b.log.Warn("event not given back: it comes again", "subject", message.Subject(), "error", err)
	}
}

// delivery reads a message. Only the own system can publish a replay, so only there the headers name the origin.
func (b *Bus) delivery(message jetstream.Msg) (Delivery, error) {
	about, err := message.Metadata()
	if err != nil {
		return Delivery{}, fmt.Errorf("read the metadata of a message: %w", err)
	}
	header := message.Headers()
	d := Delivery{
		Subject: message.Subject(), ID: header.Get(nats.MsgIdHdr), Data: message.Data(), Headers: passed(header),
		Delivered: int(about.NumDelivered),
		Sequence:  about.Sequence.Stream, At: about.Timestamp,
	}
	if token(d.Subject, 1) == "replay" && token(d.Subject, 2) == b.config.System {
		d.Subject, d.ID, d.Replayed = header.Get(headerSubject), header.Get(headerID), true
	}
	return d, nil
}
