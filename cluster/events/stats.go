package events

import (
	"context"
	"fmt"
	"sync/atomic"
)

type counters struct {
	published, delivered, redelivered, done, later, dead, unacked atomic.Uint64
}

func (c *counters) deliver(d Delivery) {
	c.delivered.Add(1)
	if d.Delivered > 1 {
		c.redelivered.Add(1)
	}
}

// Stats count what this Bus has done since it was opened, and tell how it is.
type Stats struct {
	Connected bool
	Layout    error // why streams are not known to be there; nil when they are

	Published   uint64 // acknowledged to us
	Delivered   uint64 // to our handler
	Redelivered uint64 // of those, not for the first time
	Done        uint64 // acknowledged by us
	Later       uint64 // given back
	Dead        uint64 // letters written, parked events among them
	Unacked     uint64 // done, but the broker may not have heard it
}

// Stats answers from memory.
func (b *Bus) Stats() Stats {
	b.mu.Lock()
	layout := b.layout
	b.mu.Unlock()
	c := &b.counters
	return Stats{
		Connected: b.Connected(), Layout: layout, Published: c.published.Load(), Delivered: c.delivered.Load(),
		Redelivered: c.redelivered.Load(), Done: c.done.Load(), Later: c.later.Load(), Dead: c.dead.Load(), Unacked: c.unacked.Load(),
	}
}

// Backlog is what waits at the broker for the whole system.
type Backlog struct {
	Pending     uint64 // never delivered yet
	InHand      uint64 // delivered to some node, or given back until later
	DeadLetters uint64
}

// Backlog asks the broker: for metrics every few seconds, not for every request.
func (b *Bus) Backlog(ctx context.Context) (Backlog, error) {
	ctx, cancel, err := b.bound(ctx, askMax)
	if err != nil {
		return Backlog{}, err
	}
	defer cancel()
	consumer, err := b.js.Consumer(ctx, inbound(b.config.System), consumerName)
	if err != nil {
		return Backlog{}, fmt.Errorf("%w: ask for the backlog: %w", ErrUnavailable, err)
	}
	stream, err := b.graves(ctx)
	if err != nil {
		return Backlog{}, err
	}
	info := consumer.CachedInfo()
	return Backlog{
		Pending: info.NumPending, InHand: uint64(max(info.NumAckPending, 0)),
		DeadLetters: stream.CachedInfo().State.Msgs,
	}, nil
}
