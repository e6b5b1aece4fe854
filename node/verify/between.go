package verify

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// The rules between systems.
const (
	creditsRestOnADecision  = "credits_rest_on_a_decision"
	decisionsRestOnAPromise = "decisions_rest_on_a_promise"
	promisesHaveTheirPayer  = "promises_have_their_payer"
	bothSidesMoveTheSame    = "both_sides_move_the_same"
	decisionsAreFinal       = "decisions_are_final"
	exposuresAreMirrored    = "exposures_are_mirrored"
	moneyIsConstant         = "money_is_constant"
	transfersSettle         = "transfers_settle"
)

// betweenRules are all that must hold between systems, with their meanings.
func betweenRules() []Finding {
	return []Finding{
		{Invariant: creditsRestOnADecision, Meaning: "what the payee's system has posted, the payer's has posted"},
		{Invariant: decisionsRestOnAPromise, Meaning: "what the payer's system has posted, the payee's has promised or posted, or promised in an earlier epoch and forgot"},
		{Invariant: promisesHaveTheirPayer, Meaning: "what the payee's system has promised, the payer's knows"},
		{Invariant: bothSidesMoveTheSame, Meaning: "both systems have one amount, currency, description and pair of numbers"},
		{Invariant: decisionsAreFinal, Meaning: "what was posted, voided or refused in one snapshot still is in the next"},
		{Invariant: exposuresAreMirrored, Meaning: "what one system has posted to another less what that one has credited is in flight"},
		{Invariant: moneyIsConstant, Meaning: "all balances and the money in flight are what was deposited less what was withdrawn"},
		{Invariant: transfersSettle, Meaning: "nothing stands between the systems for longer than was asked for"},
	}
}

// Joint is what a run over several systems found between them. At most breachesMax breaches are listed for each rule.
type Joint struct {
	Systems   []string  `json:"systems"`
	Strangers []string  `json:"strangers"` // their peers that were not among them
	Pairs     []Pair    `json:"pairs"`     // each system as payer with each other as payee
	Money     []Money   `json:"money"`
	Findings  []Finding `json:"findings"`
	Breaches  []Breach  `json:"breaches"`
}

// OK tells whether every rule holds.
func (j Joint) OK() bool { return len(j.Breaches) == 0 }

// Between checks what must hold between systems, which dsns name: one for each, and its source, for a replica that is
// behind shows what looks like a breach. It takes a snapshot of each system in turn and then of each but the last again,
// so that each payee is judged by a later snapshot of its payer, and each payer by a later one of its payee. Systems
// may go on meanwhile. What is unsettled for longer than within is a breach as well, unless within is 0.
func Between(ctx context.Context, dsns []string, within time.Duration) (Joint, error) {
	return look(ctx, dsns, within, func(int) {})
}

// String is for people: what went between the systems, what is unsettled, where the money is, and what breaks a rule.
func (j Joint) String() string {
	var out strings.Builder
	for _, finding := range j.Findings {
		fmt.Fprintln(&out, finding)
	}
	for _, pair := range j.Pairs {
		fmt.Fprintln(&out, pair)
		for _, open := range pair.Unsettled {
			fmt.Fprintln(&out, " ", open)
		}
	}
	for _, money := range j.Money {
		fmt.Fprintln(&out, money)
	}
	if len(j.Strangers) > 0 {
		fmt.Fprintln(&out, "not looked at:", strings.Join(j.Strangers, ", "))
	}
	for _, breach := range j.Breaches {
		fmt.Fprintln(&out, " ", breach)
	}
	fmt.Fprintf(&out, "between %s: %d rules, %d breaches\n", strings.Join(j.Systems, ", "), len(j.Findings), len(j.Breaches))
	return out.String()
}

// String is a line for people.
func (p Pair) String() string {
	return fmt.Sprintf("%s to %s: %d posted, %d in flight, %d pending, %d aborting, %d conflicts",
		p.Payer, p.Payee, p.Posted, p.InFlight, p.Pending, p.Aborting, p.Conflicts)
}

// String is a line for people.
func (u Unsettled) String() string {
	return fmt.Sprintf("%s %s for %s, %d %s", u.ID, u.Standing, u.Age.Round(time.Millisecond), u.Amount, u.Currency)
}
