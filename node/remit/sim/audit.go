package sim

import (
	"fmt"
	"time"

	"lockstep/node/ledger"
)

// Report is what came out of a simulation.
type Report struct {
	Breaches []string
	Posted   int // transfers between the two systems
	Voided   int
	Took     time.Duration // of simulated time
	Rows     [2]Rows
}

// heal ends all faults and goes on until nothing is left to do.
func (w *world) heal() {
	w.healed = true
	w.trace("all is well again")
	for range roundsMax {
		if w.quiet() {
			return
		}
		w.runUntil(w.now.Add(round))
		for _, p := range w.parties {
			for range 20 {
				p.nodes[0].sweep()
				p.nodes[1].goOnWithAny()
			}
		}
	}
}

// quiet tells whether nobody has anything to do.
func (w *world) quiet() bool {
	for _, c := range w.clients {
		if c.heard == nothing {
			return false
		}
	}
	for _, p := range w.parties {
		sagas, err := p.system.Sagas()
		w.fail(err)
		outbox, err := p.system.Outbox()
		w.fail(err)
		if len(sagas) > 0 || len(outbox) > 0 || !p.reconciled {
			return false
		}
		for _, l := range p.inbox {
			if !l.acked {
				return false
			}
		}
		for _, n := range p.nodes {
			if len(n.actors) > 0 {
				return false
			}
		}
	}
	return true
}

// auditor collects what is wrong.
type auditor struct {
	*world
	rows   [2]Rows
	report Report
}

func (a *auditor) breach(format string, args ...any) {
	a.report.Breaches = append(a.report.Breaches, fmt.Sprintf(format, args...))
}

// audit reads both systems and checks all that must hold when nothing is under way.
func (w *world) audit() (Report, error) {
	a := &auditor{world: w}
	for i, p := range w.parties {
		rows, err := p.system.Rows()
		if err != nil {
			return Report{}, err
		}
		a.rows[i] = rows
	}
	if !w.quiet() {
		a.breach("after %v nothing has come to rest", w.now.Sub(begin))
	}
	for _, wrong := range w.wrongs {
		a.breach("%s", wrong)
	}
	for i, p := range w.parties {
		a.journal(p, &a.rows[i])
		a.balances(p, &a.rows[i])
		a.exposures(p, &a.rows[i])
		a.pairs(p, &a.rows[i], &a.rows[1-i])
	}
	a.totals()
	for _, c := range w.clients {
		a.told(c)
	}
	a.report.Rows, a.report.Took = a.rows, w.now.Sub(begin)
	return a.report, nil
}

// journal checks the entries: two for each transfer that moved money, which sum to zero, without a gap on any account.
func (a *auditor) journal(p *party, rows *Rows) {
	sums, counts := map[ledger.TransferID]int64{}, map[ledger.TransferID]int{}
	sequence, balance := map[ledger.AccountID]int64{}, map[ledger.AccountID]int64{}
	for _, entry := range rows.Entries {
		sums[entry.Transfer] += entry.Amount
		counts[entry.Transfer]++
		sequence[entry.Account]++
		balance[entry.Account] += entry.Amount
		if entry.Sequence != sequence[entry.Account] || entry.BalanceAfter != balance[entry.Account] {
			a.breach("%s: entry %d of account %d stands at balance %d, its place is %d at %d", p.name, entry.Sequence, entry.Account,
				entry.BalanceAfter, sequence[entry.Account], balance[entry.Account])
		}
	}
	for id, sum := range sums {
		if sum != 0 {
			a.breach("%s: the entries of %s sum to %d", p.name, id, sum)
		}
	}
	moved := map[ledger.TransferID]bool{}
	for _, transfer := range rows.Transfers {
		moved[transfer.ID] = true
	}
	for _, r := range rows.Remittances {
		moved[r.ID] = r.State == ledger.Posted
	}
	for id, posted := range moved {
		if posted && counts[id] != 2 || !posted && counts[id] != 0 {
			a.breach("%s: %s has %d entries, posted %v", p.name, id, counts[id], posted)
		}
	}
	for _, account := range rows.Accounts {
		if account.Posted != balance[account.ID] || account.Version != sequence[account.ID] {
			a.breach("%s: account %d has %d at version %d, its %d entries sum to %d", p.name, account.ID, account.Posted, account.Version,
				sequence[account.ID], balance[account.ID])
		}
	}
}

// balances checks that nobody has less than nothing, and that nothing is held or promised any more.
func (a *auditor) balances(p *party, rows *Rows) {
	for _, account := range rows.Accounts {
		if account.PendingDebit != 0 || account.PendingCredit != 0 {
			a.breach("%s: account %d has %d held and %d promised at rest", p.name, account.ID, account.PendingDebit, account.PendingCredit)
		}
		if !account.Stripe() && account.Available() < 0 {
			a.breach("%s: account %d has %d available", p.name, account.ID, account.Available())
		}
	}
}

// exposures checks them against the transfers that they sum up.
func (a *auditor) exposures(p *party, rows *Rows) {
	credited, posted := map[ledger.Currency]int64{}, map[ledger.Currency]int64{}
	for _, r := range rows.Remittances {
		switch {
		case r.State != ledger.Posted:
		case r.Payer == p.name:
			posted[r.Transfer.Amount.Currency] += r.Transfer.Amount.Minor
		default:
			credited[r.Transfer.Amount.Currency] += r.Transfer.Amount.Minor
		}
	}
	for _, e := range rows.Exposures {
		if e.Reserved != 0 || e.Credited != credited[e.Currency] || e.Posted != posted[e.Currency] {
			a.breach("%s: the exposure %+v is not what its transfers sum to: credited %d, posted %d", p.name, e, credited[e.Currency], posted[e.Currency])
		}
	}
}

// pairs checks that each transfer ended alike on both sides, as the payer's system decided.
func (a *auditor) pairs(p *party, ours, theirs *Rows) {
	for _, payer := range ours.Remittances {
		payee, there := theirs.remittance(payer.ID)
		switch {
		case payer.Payer != p.name:
			if other, known := theirs.remittance(payer.ID); payer.State == ledger.Posted && (!known || other.State != ledger.Posted) {
				a.breach("%s was credited by %s and not debited by %s: %s", payer.ID, p.name, p.peer.name, other.State)
			}
			continue
		case payer.State == ledger.Pending:
			a.breach("%s is pending at rest", payer.ID)
		case payer.State == ledger.Posted && (!there || payee.State != ledger.Posted):
			a.breach("%s was debited by %s and not credited by %s: %s", payer.ID, p.name, p.peer.name, payee.State)
		case payer.State == ledger.Posted && payee.Transfer.Amount != payer.Transfer.Amount:
			a.breach("%s moves %s at one end and %s at the other", payer.ID, payer.Transfer.Amount, payee.Transfer.Amount)
		case payer.State == ledger.Posted && payer.CreditedAt.IsZero() && !a.forgotten && !a.anyLost():
			a.breach("%s never heard that %s was credited, and no message was lost", p.name, payer.ID)
		case payer.State == ledger.Voided && there && payee.State == ledger.Pending:
			a.breach("%s is voided by %s and pending at %s", payer.ID, p.name, p.peer.name)
		}
		if payer.State == ledger.Posted {
			a.report.Posted++
		} else {
			a.report.Voided++
		}
	}
}

// anyLost tells whether a system failed over: what it had told may be among what it lost.
func (a *auditor) anyLost() bool { return a.parties[0].epoch+a.parties[1].epoch > 2*firstEpoch }

// totals checks that both systems together have what was deposited.
func (a *auditor) totals() {
	sum, between := int64(0), int64(0)
	for _, rows := range a.rows {
		for _, account := range rows.Accounts {
			switch system, _ := ledger.StripeOf(account.ID); system {
			case settlement:
				between += account.Posted
			default: // cash is what was deposited, below zero
				sum += account.Posted
			}
		}
	}
	if sum != 0 || between != 0 {
		a.breach("both systems together have %d more than was deposited, and owe each other %d", sum, between)
	}
}

// told checks that what the client heard is so. What it heard from commits that a failover has lost is lost with them.
func (a *auditor) told(c *client) {
	i := 0
	if c.party == a.parties[1] {
		i = 1
	}
	r, there := a.rows[i].remittance(c.remit.ID)
	switch {
	case c.party.lost[c.remit.ID]:
	case c.heard == nothing:
		a.breach("the client of %s never heard anything", c.remit.ID)
	case c.heard == refused && there:
		a.breach("%s was refused with %s, and is %s", c.remit.ID, c.code, r.State)
	case c.heard == accepted && (!there || !r.Final()):
		a.breach("%s was accepted and never came to an end", c.remit.ID)
	case c.heard == ended && (r.State != c.final.State || r.Failure != c.final.Failure):
		a.breach("%s was told to be %s %s, and is %s %s", c.remit.ID, c.final.State, c.final.Failure, r.State, r.Failure)
	}
}
