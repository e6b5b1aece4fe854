package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"
)

// unsettledMax is how many transfers of a pair are listed; the numbers count all.
const unsettledMax = 100

// Pair is what went from one system to another, judged by the payer's later snapshot. The numbers count transfers.
type Pair struct {
	Payer     string      `json:"payer"`
	Payee     string      `json:"payee"`
	Posted    int64       `json:"posted"`    // at the payer
	InFlight  int64       `json:"in_flight"` // posted at the payer and not yet at the payee
	Pending   int64       `json:"pending"`   // at the payer
	Aborting  int64       `json:"aborting"`  // voided at the payer and still promised at the payee
	Conflicts int64       `json:"conflicts"` // said to have ended in two ways; for an operator
	Flows     []Flow      `json:"flows"`
	Unsettled []Unsettled `json:"unsettled"` // at most 100, the oldest ids first
}

// Flow is the money of a pair in one currency, in minor units.
type Flow struct {
	Currency string   `json:"currency"`
	Posted   *big.Int `json:"posted"`   // at the payer
	Credited *big.Int `json:"credited"` // at the payee
	InFlight *big.Int `json:"in_flight"`
}

// Unsettled is a transfer that the two systems have not brought to one end.
type Unsettled struct {
	ID       string        `json:"id"`
	Standing string        `json:"standing"` // in_flight, pending, aborting or conflict
	Amount   int64         `json:"amount"`   // in minor units; 0 without a transfer
	Currency string        `json:"currency"`
	Age      time.Duration `json:"age_ns"` // since the payer's system last changed it, by its database
}

// comparison holds one system's snapshot against that of another. What one side says allows less or more of the other,
// depending on which of the two snapshots is the later one.
type comparison struct {
	payer, payee *snapshot
	payerLater   bool
	ahead        sums // posted at the payer and not at the payee
	behind       sums // posted at the payee and not at the payer
}

// run reads both sides of each transfer from the payer's system to the payee's.
func (c *comparison) run(ctx context.Context, show func(payer, payee *side)) (err error) {
	c.ahead, c.behind = sums{}, sums{}
	payers, err := c.payer.movements(ctx, fromTo, c.payer.system, c.payee.system)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, payers.rows.Close()) }()
	payees, err := c.payee.movements(ctx, fromTo, c.payer.system, c.payee.system)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, payees.rows.Close()) }()
	return merge(payers, payees, func(payer, payee *side) {
		switch {
		case is(payer, "posted") && !is(payee, "posted"):
			c.ahead.add(payer.currency, big.NewInt(payer.amount))
		case is(payee, "posted") && !is(payer, "posted"):
			c.behind.add(payee.currency, big.NewInt(payee.amount))
		}
		show(payer, payee)
	})
}

// is tells whether a side is there and in one of the states.
func is(s *side, states ...string) bool { return s != nil && slices.Contains(states, s.state) }

// stateOf is for people.
func stateOf(s *side) string {
	if s == nil {
		return "unknown"
	}
	return s.state
}

// contradiction names the rule that the two sides of a transfer break; empty when they agree.
func (c *comparison) contradiction(payer, payee *side) string {
	switch {
	case c.payerLater && is(payee, "posted") && !is(payer, "posted"):
		return creditsRestOnADecision
	case is(payer, "posted") && (is(payee, "voided", "refused") || payee == nil && !c.payerLater && !c.forgotten(payer)):
		return decisionsRestOnAPromise
	case is(payee, "pending") && payer == nil && c.payerLater:
		return promisesHaveTheirPayer
	case payer != nil && payee != nil && payer.system != "" && payee.system != "" && payer.contents != payee.contents:
		return bothSidesMoveTheSame
	}
	return ""
}

// forgotten tells whether the payee's system has begun another epoch since it promised: it may have lost the promise with
// the tail of its journal, and the payer's word will bring it back. What was never promised has no epoch.
func (c *comparison) forgotten(payer *side) bool {
	return payer.payeeEpoch > 0 && payer.payeeEpoch < c.payee.epoch
}

// standing tells where an unsettled transfer stands; empty for a settled one.
func standing(payer, payee *side) string {
	switch {
	case is(payer, "conflict") || is(payee, "conflict"):
		return "conflict"
	case is(payer, "posted") && !is(payee, "posted"):
		return "in_flight"
	case is(payer, "pending"):
		return "pending"
	case is(payer, "voided") && is(payee, "pending"):
		return "aborting"
	}
	return ""
}

// note counts a transfer as the payer's later snapshot shows it, and answers what is unsettled about it.
func (p *Pair) note(payer, payee *side, now time.Time) (open Unsettled) {
	if is(payer, "posted") {
		p.Posted++
	}
	open.Standing = standing(payer, payee)
	switch open.Standing {
	case "":
		return open
	case "conflict":
		p.Conflicts++
	case "in_flight":
		p.InFlight++
	case "pending":
		p.Pending++
	case "aborting":
		p.Aborting++
	}
	shown := payer
	if shown == nil {
		shown = payee // a conflict that the payer's system knows nothing of
	}
	since := shown.created
	if !shown.finished.IsZero() {
		since = shown.finished
	}
	open.ID, open.Amount, open.Currency, open.Age = shown.id, shown.amount, shown.currency, now.Sub(since)
	if len(p.Unsettled) < unsettledMax {
		p.Unsettled = append(p.Unsettled, open)
	}
	return open
}

// mirror holds the exposures of both sides, which are kept row by row, against what the transfers say is in flight.
func (c *comparison) mirror(ctx context.Context, breach func(place, detail string)) ([]Flow, error) {
	posted, credited := sums{}, sums{}
	if err := c.payer.addTo(ctx, posted, `SELECT currency, posted FROM exposures WHERE peer = ?`, c.payee.system); err != nil {
		return nil, err
	}
	if err := c.payee.addTo(ctx, credited, `SELECT currency, credited FROM exposures WHERE peer = ?`, c.payer.system); err != nil {
		return nil, err
	}
	all := maps.Clone(posted)
	maps.Copy(all, credited)
	maps.Copy(all, c.ahead)
	flows := []Flow{}
	for _, currency := range slices.Sorted(maps.Keys(all)) {
		flow := Flow{currency, posted.of(currency), credited.of(currency), c.ahead.of(currency)}
		flows = append(flows, flow)
		if rest := new(big.Int).Sub(flow.Posted, flow.Credited); rest.Cmp(flow.InFlight) != 0 {
			breach(fmt.Sprintf("%s to %s %s", c.payer.system, c.payee.system, currency),
				fmt.Sprintf("posted %v, credited %v, in flight %v", flow.Posted, flow.Credited, flow.InFlight))
		}
	}
	return flows, nil
}
