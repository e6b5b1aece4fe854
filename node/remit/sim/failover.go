package sim

import (
	"context"
	"time"

	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/remit"
)

// tempt has the payer's system fail over soon after the payee's has heard of a decision: that is when most is lost.
func (p *party) tempt(operation ledger.Operation) {
	perMille := 0
	switch operation.(type) {
	case ledger.Release:
		perMille = 250
	case ledger.Credit:
		perMille = 30
	}
	if p.Failover && p.goesWrong(perMille) {
		p.after(p.between(0, time.Second), p.peer.failOver)
	}
}

// failOver promotes a replica that lacks the last commits. The system begins another epoch and reconciles with its peer;
// some of its nodes go on as if nothing had happened, with what they have in hand.
func (p *party) failOver() {
	memory, can := p.system.(*Memory)
	if !can || p.healed {
		return
	}
	before, err := p.system.Rows()
	p.fail(err)
	lost := memory.LoseTail(p.random.IntN(pastMax))
	for _, r := range before.Remittances {
		p.lost[r.ID] = p.lost[r.ID] || !r.Final() || p.differs(r)
	}
	clear(p.seen)
	p.epoch++
	p.reconciled = p.Mutant == NoFence
	memory.Epoch, memory.Unreconciled = p.epoch, !p.reconciled
	p.trace("%s fails over without its last %d commits and begins epoch %d", p.name, lost, p.epoch)
	for _, n := range p.nodes {
		if n.refresh(); p.chance(500) {
			n.crash("with its source")
		}
	}
	p.after(p.between(0, 3*time.Second), p.reconcile)
}

// differs tells whether a row is not what it was.
func (p *party) differs(before ledger.Remittance) bool {
	found, err := p.system.Remittances(before.ID)
	p.fail(err)
	now, there := found[before.ID]
	return !there || now.State != before.State
}

// reconcile runs the reconciliation, and again from its beginning until it has succeeded once.
func (p *party) reconcile() {
	n, epoch := p.any(), p.epoch
	p.spawn(n, func(ctx context.Context) {
		const few = 3 // so that there are ranges that agree
		reconciler := remit.Reconciler{Desk: n.desk, Informant: asker{n}, ReadOwn: (directory{n}).readOwn, Raise: n.raise, Span: few}
		done, err := reconciler.Peer(ctx, p.peer.name)
		p.trace("%s reconciles: %+v %v", n.name, done, err)
		if p.epoch != epoch {
			return // which has a reconciliation of its own
		}
		if err != nil {
			p.after(time.Second, p.reconcile)
			return
		}
		for _, conflict := range done.Conflicts {
			p.wrongs = append(p.wrongs, n.name+" reconciles with a conflict: "+conflict)
		}
		p.reconciled = true
		p.system.(*Memory).Unreconciled = false //nolint:forcetypeassert // only that one fails over
	})
}

// raise notes the peer's epoch, whatever this node remembers of it.
func (n *node) raise(ctx context.Context, _ string, epoch int64) error {
	return outside(ctx, func(answer func(func())) {
		n.world.fail(n.party.system.RaiseEpoch(n.party.peer.name, epoch))
		n.refresh()
		answer(func() {})
	})
}

// readOwn believes what this system has stated itself.
func (d directory) readOwn(statement string) (peers.Fact, error) {
	return directory{d.party.peer.nodes[0]}.Read(statement)
}

// TellEpoch implements remit.Informant.
func (a asker) TellEpoch(ctx context.Context, _ string) (theirs int64, err error) {
	epoch := a.party.epoch
	err = ask(ctx, a.node, func(ctx context.Context, at *node) (func(), error) {
		err := at.raise(ctx, "", epoch)
		current := at.party.epoch
		return func() { theirs = current }, err
	})
	return theirs, err
}

// List implements remit.Informant. A page has one transfer: a reconciliation works on all of a page at once, and here
// nothing happens at once.
func (a asker) List(ctx context.Context, _, payer, cursor string, _ int) (answer peers.ListAnswer, err error) {
	err = ask(ctx, a.node, func(ctx context.Context, at *node) (func(), error) {
		epoch := at.party.epoch
		page, next, err := at.desk.List(ctx, at.party.peer.name, payer, cursor, 1)
		found := peers.ListAnswer{Epoch: epoch, Transfers: page, NextCursor: next}
		return func() { answer = found }, err
	})
	return answer, err
}

// Digest implements remit.Informant.
func (a asker) Digest(ctx context.Context, _, payer, after, until string) (answer peers.DigestAnswer, err error) {
	err = ask(ctx, a.node, func(ctx context.Context, at *node) (func(), error) {
		epoch := at.party.epoch
		digest, err := at.desk.Digest(ctx, at.party.peer.name, payer, after, until)
		if err != nil {
			return func() {}, err
		}
		found := peers.DigestAnswer{Epoch: epoch, Count: digest.Count, Digest: digest.Sum()}
		return func() { answer = found }, nil
	})
	return answer, err
}
