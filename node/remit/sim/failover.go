package sim

import (
	"context"
	"errors"
	"time"

	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/remit"
)

// errReconciling is the answer about what a system does not know before it has heard from its peer what it has lost.
var errReconciling = errors.New("sim: 503, the system is reconciling")

// failOver promotes a replica that lacks the last commits. The system begins another epoch, and neither aborts nor closes
// anything before it has reconciled.
func (p *party) failOver() {
	memory, can := p.system.(*Memory)
	if !can || !p.reconciled || !p.peer.reconciled || p.healed {
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
	memory.Epoch = p.epoch
	p.reconciled = false
	p.trace("%s fails over without its last %d commits and begins epoch %d", p.name, lost, p.epoch)
	for _, n := range p.nodes {
		n.refresh()
		if p.chance(500) {
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

// fences refuses what a system that has not reconciled may not decide.
func (p *party) fences(operation ledger.Operation) bool {
	if p.reconciled || p.Mutant == NoFence {
		return false
	}
	switch o := operation.(type) {
	case ledger.Conclude:
		return o.End == ledger.Voided
	case ledger.Close:
		return true
	}
	return false
}

// answerable refuses to speak of ids that are not known before the system has reconciled.
func (n *node) answerable(ids []string) error {
	if n.party.reconciled {
		return nil
	}
	for _, id := range ids {
		found, err := n.party.system.Remittances(ledger.TransferID(id))
		if _, there := found[ledger.TransferID(id)]; err != nil || !there {
			return errReconciling
		}
	}
	return nil
}

// listed is a transfer between the two systems as the peer knows it, with the word that says so.
type listed struct {
	remittance ledger.Remittance
	statement  string
}

// reconcile tells the peer the epoch, hears what it knows and does what follows from it, and again from the beginning
// until all of it has succeeded once.
func (p *party) reconcile() {
	n := p.any()
	p.spawn(n, func(ctx context.Context) {
		err := n.reconcile(ctx)
		p.trace("%s has reconciled: %v", n.name, err)
		if p.reconciled = err == nil; !p.reconciled {
			p.after(time.Second, p.reconcile)
		}
	})
}

func (n *node) reconcile(ctx context.Context) error {
	epoch := n.party.epoch
	var theirs int64
	err := ask(ctx, n, func(ctx context.Context, at *node) (func(), error) {
		err := at.noteEpoch(ctx, epoch)
		current := at.party.epoch
		return func() { theirs = current }, err
	})
	if err != nil {
		return err
	}
	// Our own knowledge of the peer's epoch may be among what was lost.
	if err := n.noteEpoch(ctx, theirs); err != nil {
		return err
	}
	var list []listed
	err = ask(ctx, n, func(_ context.Context, at *node) (func(), error) {
		all, err := at.list()
		return func() { list = all }, err
	})
	for _, l := range list {
		if err == nil {
			err = n.believe(ctx, l)
		}
	}
	return err
}

// list is what a system tells a peer that reconciles: the peer's own word where a credit rests on it, and its word on what
// it has decided.
func (n *node) list() (all []listed, err error) {
	rows, err := n.party.system.Rows()
	for _, r := range rows.Remittances {
		if r.State != ledger.Posted {
			continue
		}
		l := listed{r, r.Statement}
		if r.Payer == n.party.name {
			r.PayerEpoch = n.party.epoch
			fact := remit.FactOf(ledger.PeerEvent{Peer: r.Payee, Type: ledger.EventCommitted, Remittance: r})
			if l.statement, err = (directory{n}).State(fact); err != nil {
				return nil, err
			}
		}
		all = append(all, l)
	}
	return all, err
}

// believe does here what the peer shows to have been decided.
func (n *node) believe(ctx context.Context, l listed) error {
	if l.remittance.Payer == n.party.peer.name {
		fact, err := (directory{n}).Read(l.statement)
		if err != nil {
			return err
		}
		return n.desk.Apply(ctx, fact, l.statement)
	}
	own, err := (directory{n.party.peer.nodes[0]}).Read(l.statement) // our word, which we have lost
	if err != nil {
		return err
	}
	found, err := books{n}.Remittances(ctx, l.remittance.ID)
	if err != nil {
		return err
	}
	if _, there := found[l.remittance.ID]; !there {
		if err := n.holdAgain(ctx, l.remittance); err != nil {
			return err
		}
	}
	return n.postAgain(ctx, own)
}

// holdAgain holds what a credit at the peer rests on. The accounts of a simulation that loses holds have enough.
func (n *node) holdAgain(ctx context.Context, r ledger.Remittance) error {
	return n.run(ctx, ledger.Remit{
		ID: r.ID, Actor: ledger.Actor{Principal: owner}, Peer: ledger.Peer{System: r.Payee, Settlement: settlement},
		From: r.Transfer.From, To: r.Transfer.To, Amount: r.Transfer.Amount, Epoch: n.party.epoch, Language: "en",
	})
}

// postAgain decides as our own word says that we had decided.
func (n *node) postAgain(ctx context.Context, fact peers.Fact) error {
	return n.run(ctx, ledger.Conclude{
		ID: ledger.TransferID(fact.ID), Peer: ledger.Peer{System: fact.To, Settlement: settlement}, From: ledger.Number(fact.Payer),
		Currency: ledger.Currency(fact.Currency), End: ledger.Posted, PayeeEpoch: fact.PayeeEpoch, Epoch: n.party.epoch,
	})
}

func (n *node) run(ctx context.Context, operation ledger.Operation) error {
	outcome, err := engine{n}.Submit(ctx, posting.Command{Operation: operation})
	if err == nil && outcome.Refusal != nil {
		return outcome.Refusal
	}
	return err
}
