package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"lockstep/cluster/events"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
)

// directory knows the one peer. Its signature is the name of who has signed: what keys prove is proved elsewhere.
type directory struct{ *node }

// settlement is the serial of the account for what the two systems owe one another.
const settlement = 10

// Peer implements remit.Directory.
func (d directory) Peer(id string) (peers.Peer, bool) {
	return peers.Peer{ID: d.party.peer.name, Settlement: settlement, Epoch: d.known}, id == d.party.peer.name
}

// State implements remit.Directory.
func (d directory) State(fact peers.Fact) (string, error) {
	text, err := json.Marshal(fact)
	return string(text), err
}

// StateAll implements remit.Directory.
func (d directory) StateAll(facts []peers.Fact) (stated []string, err error) {
	for _, fact := range facts {
		one, failure := d.State(fact)
		stated, err = append(stated, one), errors.Join(err, failure)
	}
	return stated, err
}

// Read implements remit.Directory.
func (d directory) Read(statement string) (fact peers.Fact, err error) {
	if err := json.Unmarshal([]byte(statement), &fact); err != nil {
		return fact, err
	}
	if fact.From != d.party.peer.name || fact.To != d.party.name {
		return fact, peers.ErrForeign
	}
	return fact, nil
}

// asker asks the peer over a network that loses, delays and repeats what it carries.
type asker struct{ *node }

// askMax is how long an answer is waited for.
const askMax = 2 * time.Second

// ask sends a question, once or twice, to any node of the peer. serve works there; what it returns is what the asker makes
// of the answer.
func ask(ctx context.Context, n *node, serve func(ctx context.Context, at *node) (set func(), err error)) (failure error) {
	w := n.world
	died := outside(ctx, func(answer func(func())) {
		copies := 1
		if w.goesWrong(w.chances.Repeat) {
			copies++
		}
		for range copies {
			if w.goesWrong(w.chances.Drop) {
				continue
			}
			w.after(w.underway(), func() {
				at := n.party.peer.any()
				w.spawn(at, func(ctx context.Context) {
					set, err := serve(ctx, at)
					if err == nil && !w.goesWrong(w.chances.Drop) {
						w.after(w.underway(), func() { answer(set) })
					}
				})
			})
		}
		w.after(askMax, func() { answer(func() { failure = peers.ErrUnavailable }) })
	})
	return errors.Join(died, failure)
}

// underway is how long a request or an answer travels; a repeated request may arrive long after its asker has given up.
func (w *world) underway() time.Duration {
	switch {
	case w.healed:
		return time.Millisecond
	case w.chance(w.chances.Stop):
		return w.between(time.Second, 30*time.Second)
	}
	return w.between(time.Millisecond, 50*time.Millisecond)
}

// Prepare implements remit.Asker.
func (a asker) Prepare(ctx context.Context, _ string, transfer peers.Transfer) (result peers.PrepareResult, err error) {
	request := peers.PrepareRequest{Epoch: a.party.epoch, Transfers: []peers.Transfer{transfer}}
	if a.world.Mutant == PivotFirst {
		result = peers.PrepareResult{ID: transfer.ID, State: peers.Reserved, Epoch: a.party.peer.epoch}
		if !a.world.decided[ledger.TransferID(transfer.ID)] {
			a.world.decided[ledger.TransferID(transfer.ID)] = true
			return result, nil
		}
	}
	err = ask(ctx, a.node, func(ctx context.Context, at *node) (func(), error) {
		if err := at.noteEpoch(ctx, request.Epoch); err != nil {
			return nil, err
		}
		results := at.desk.Prepare(ctx, at.party.peer.name, request)
		at.world.trace("%s answers a prepare of %s: %s %s", at.name, results[0].ID, results[0].State, results[0].Code)
		return func() { result = results[0] }, nil
	})
	return result, err
}

// Inquire implements remit.Asker.
func (a asker) Inquire(ctx context.Context, _, payer, ifUnknown string, ids ...string) (answer peers.InquiryAnswer, err error) {
	request := peers.InquiryRequest{Epoch: a.party.epoch, Payer: payer, IDs: ids, IfUnknown: ifUnknown}
	err = ask(ctx, a.node, func(ctx context.Context, at *node) (func(), error) {
		if err := at.noteEpoch(ctx, request.Epoch); err != nil {
			return nil, err
		}
		epoch := at.party.epoch // as the edge does, before the rows are read
		found, err := at.desk.Inquire(ctx, at.party.peer.name, request)
		if err != nil {
			return nil, err
		}
		at.world.trace("%s answers an inquiry after %s: %s", at.name, found[0].ID, found[0].State)
		return func() { answer = peers.InquiryAnswer{Epoch: epoch, Results: found} }, nil
	})
	return answer, err
}

// noteEpoch raises the peer's epoch as the edge does when a request speaks of a later one.
func (n *node) noteEpoch(ctx context.Context, epoch int64) error {
	if epoch <= n.known {
		return nil
	}
	return n.raise(ctx, "", epoch)
}

// refresh reads the peer's epoch again.
func (n *node) refresh() {
	epoch, err := n.party.system.PeerEpoch(n.party.peer.name)
	n.world.fail(err)
	n.known = epoch
}

// letter is a message that the broker keeps for a system until it is acknowledged.
type letter struct {
	delivery events.Delivery
	acked    bool
}

// bus publishes from a node.
type bus struct{ *node }

// Publish implements remit.Bus. The broker may have the message although its publisher does not hear so.
func (b bus) Publish(ctx context.Context, message events.Message) (failure error) {
	w := b.world
	died := outside(ctx, func(answer func(func())) {
		switch {
		case w.goesWrong(w.chances.Crash):
			b.crash("before a publication")
		case w.goesWrong(w.chances.Drop):
			answer(func() { failure = events.ErrUnavailable })
		default:
			b.post(message)
			if w.goesWrong(w.chances.Crash) {
				b.crash("after a publication")
				return
			}
			lost := w.goesWrong(w.chances.Drop)
			answer(func() {
				if lost {
					failure = events.ErrUnavailable
				}
			})
		}
	})
	return errors.Join(died, failure)
}

// post leaves a message with the broker.
func (n *node) post(message events.Message) {
	w, to := n.world, n.party.peer
	if w.goesWrong(w.chances.Forget) {
		w.forgotten = true
		return
	}
	l := &letter{delivery: events.Delivery{Subject: message.Subject, ID: message.ID, Data: message.Data}}
	to.inbox = append(to.inbox, l)
	w.after(w.underway(), func() { to.deliver(l) })
	if w.goesWrong(w.chances.Repeat) {
		w.after(w.between(0, 30*time.Second), func() { l.acked = false; to.deliver(l) })
	}
}

// redeliverAfter is how long the broker waits for an acknowledgement.
const redeliverAfter = 3 * time.Second

// deliver hands a message to any node, and again until it is acknowledged. None is fetched before the system is reconciled.
func (p *party) deliver(l *letter) {
	if l.acked {
		return
	}
	p.after(redeliverAfter, func() { p.deliver(l) })
	if !p.reconciled {
		return
	}
	n := p.any()
	p.spawn(n, func(ctx context.Context) {
		if n.hands.Handle(ctx, l.delivery) != events.Done() {
			return
		}
		_ = outside(ctx, func(answer func(func())) {
			switch {
			case p.goesWrong(p.chances.Crash):
				n.crash("before an acknowledgement")
			case !p.goesWrong(p.chances.Drop):
				l.acked = true
				answer(func() {})
			default:
				answer(func() {})
			}
		})
	})
}

// Park implements remit.Bus.
func (b bus) Park(_ context.Context, d events.Delivery, event events.Event, reason string) error {
	b.world.wrongs = append(b.world.wrongs, fmt.Sprintf("%s parks %s of %s: %s", b.name, event.ID, d.ID, reason))
	return nil
}
