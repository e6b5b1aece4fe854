package sim

import (
	"lockstep/node/ledger"
	"lockstep/saga"
)

// Mutant takes one guard away, so that a test can see that the auditor misses it.
type Mutant string

// The guards.
const (
	NoMutant     Mutant = ""
	NoBarrier    Mutant = "barrier"       // a step does not look at the state that it finds
	NoTombstone  Mutant = "tombstone"     // an end without a beginning leaves no trace
	EarlyEvents  Mutant = "early events"  // events are published before their COMMIT
	MemoryEvents Mutant = "memory events" // events are published after it, from memory
	PivotFirst   Mutant = "pivot first"   // the payer's system decides before the promise
	NoEpochs     Mutant = "epochs"        // statements of an epoch that is over count
	NoFence      Mutant = "fence"         // a system decides and closes before it has reconciled
)

// Mutants lists all of them.
func Mutants() []Mutant {
	return []Mutant{NoBarrier, NoTombstone, EarlyEvents, MemoryEvents, PivotFirst, NoEpochs, NoFence}
}

// OfFailover tells whether the guard is about what a failover has lost.
func (m Mutant) OfFailover() bool {
	return m == NoEpochs || m == NoFence
}

// apply breaks the systems of a world.
func (m Mutant) apply(w *world) {
	if m == NoMutant {
		return
	}
	for _, p := range w.parties {
		memory := p.system.(*Memory) //nolint:forcetypeassert // Options say so
		switch m {
		case NoBarrier:
			memory.Alter.Lock = reopened
		case NoTombstone:
			memory.Alter.Write = withoutTombstones
		case EarlyEvents, MemoryEvents:
			memory.Alter.Announce = p.announce
		case NoEpochs:
			memory.Alter.Lock = epochless
		}
	}
}

// reopened shows a step every remittance as pending.
func reopened(_ ledger.Operation, remittances []ledger.Remittance, _ []ledger.Exposure) {
	for i := range remittances {
		if r := &remittances[i]; r.Transfer != nil {
			r.State, r.Transfer.State = ledger.Pending, ledger.Pending
		}
	}
}

func withoutTombstones(_ ledger.Operation, made []ledger.Remittance) (kept []ledger.Remittance) {
	for _, r := range made {
		if r.State != ledger.Voided {
			kept = append(kept, r)
		}
	}
	return kept
}

func epochless(_ ledger.Operation, _ []ledger.Remittance, exposures []ledger.Exposure) {
	for i := range exposures {
		exposures[i].Epoch = 0
	}
}

// announce publishes without an outbox, by the rule of the mutant.
func (p *party) announce(message saga.Message, fate Fate) (kept bool) {
	if p.Mutant == EarlyEvents || fate == Commits {
		p.after(0, func() { p.any().publish(message) })
	}
	return p.Mutant == EarlyEvents
}
