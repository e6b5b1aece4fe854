package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// survey is one run over several systems. Snapshots are opened in the order of their fields.
type survey struct {
	early  []*snapshot // of each system
	late   []*snapshot // of each system; the last one's is its early one
	within time.Duration
	flying sums // posted less credited, as the early snapshots show it
	joint  Joint
	named  map[string]int // breaches of a rule
	seen   map[Breach]bool
}

// look is Between; opening hears of each snapshot before it is opened, by its number from 0.
func look(ctx context.Context, dsns []string, within time.Duration, opening func(snapshot int)) (Joint, error) {
	s := &survey{within: within, flying: sums{}, named: map[string]int{}, seen: map[Breach]bool{}}
	s.joint = Joint{Systems: []string{}, Strangers: []string{}, Pairs: []Pair{}, Money: []Money{}, Breaches: []Breach{}}
	defer s.close()
	if err := s.open(ctx, dsns, opening); err != nil {
		return Joint{}, err
	}
	for _, check := range []func(context.Context) error{s.compareAll, s.holdFinal, s.findStrangers, s.countMoney} {
		if err := check(ctx); err != nil {
			return Joint{}, err
		}
	}
	for _, rule := range betweenRules() {
		if rule.Invariant == transfersSettle && within == 0 {
			continue // was not looked at
		}
		rule.Holds = s.named[rule.Invariant] == 0
		s.joint.Findings = append(s.joint.Findings, rule)
	}
	return s.joint, nil
}

func (s *survey) open(ctx context.Context, dsns []string, opening func(snapshot int)) error {
	for i, dsn := range dsns {
		opening(i)
		opened, err := openSnapshot(ctx, dsn)
		if err != nil {
			return err
		}
		s.early = append(s.early, opened)
		if slices.Contains(s.joint.Systems, opened.system) {
			return fmt.Errorf("two of the databases are of system %s", opened.system)
		}
		s.joint.Systems = append(s.joint.Systems, opened.system)
	}
	last := len(dsns) - 1
	for i, dsn := range dsns[:max(last, 0)] {
		opening(len(dsns) + i)
		opened, err := openSnapshot(ctx, dsn)
		if err != nil {
			return err
		}
		s.late = append(s.late, opened)
	}
	s.late = append(s.late, s.early[max(last, 0):]...)
	return nil
}

func (s *survey) close() {
	for _, opened := range slices.Concat(s.early, s.late) {
		opened.close() // the last one twice, which does nothing
	}
}

// breach names a place once for each rule.
func (s *survey) breach(rule, place, detail string) {
	found := Breach{rule, place, detail}
	key := Breach{Invariant: rule, Place: place}
	if s.seen[key] {
		return
	}
	s.named[rule]++
	if s.named[rule] <= breachesMax {
		s.seen[key] = true
		s.joint.Breaches = append(s.joint.Breaches, found)
	}
}

// after is a snapshot of one system that is later than the early one of another.
func (s *survey) after(system, other int) *snapshot {
	if system > other {
		return s.early[system]
	}
	return s.late[system]
}

// compareAll looks at each pair twice: with a later snapshot of the payer's system, and with one of the payee's.
func (s *survey) compareAll(ctx context.Context) error {
	for payer := range s.early {
		for payee := range s.early {
			if payer == payee {
				continue
			}
			promises := comparison{payer: s.early[payer], payee: s.after(payee, payer)}
			if err := s.compare(ctx, &promises, func(_, _ *side) {}); err != nil {
				return err
			}
			credits := comparison{payer: s.after(payer, payee), payee: s.early[payee], payerLater: true}
			if err := s.count(ctx, &credits); err != nil {
				return err
			}
			both := &promises
			if payer > payee {
				both = &credits
			}
			s.fly(both)
		}
	}
	return nil
}

// compare looks for contradictions.
func (s *survey) compare(ctx context.Context, c *comparison, also func(payer, payee *side)) error {
	return c.run(ctx, func(payer, payee *side) {
		if rule := c.contradiction(payer, payee); rule != "" {
			s.breach(rule, idOf(payer, payee), fmt.Sprintf("%s in %s%s, %s in %s%s",
				stateOf(payer), c.payer.system, said(payer), stateOf(payee), c.payee.system, said(payee)))
		}
		also(payer, payee)
	})
}

// idOf is that of a transfer of which one side may be missing.
func idOf(a, b *side) string {
	if a != nil {
		return a.id
	}
	return b.id
}

// said is what a side moves, for people.
func said(s *side) string {
	if s == nil || s.system == "" {
		return ""
	}
	return fmt.Sprintf(" (%d %s from %s to %s)", s.amount, s.currency, s.from, s.to)
}

// count also sums a pair up, by the payer's later snapshot.
func (s *survey) count(ctx context.Context, c *comparison) error {
	pair := Pair{Payer: c.payer.system, Payee: c.payee.system, Unsettled: []Unsettled{}}
	err := s.compare(ctx, c, func(payer, payee *side) {
		open := pair.note(payer, payee, c.payer.at)
		if s.within > 0 && open.Standing != "" && open.Age > s.within {
			s.breach(transfersSettle, open.ID, fmt.Sprintf("%s for %s, %d %s from %s to %s",
				open.Standing, open.Age.Round(time.Millisecond), open.Amount, open.Currency, pair.Payer, pair.Payee))
		}
	})
	if err != nil {
		return err
	}
	pair.Flows, err = c.mirror(ctx, func(place, detail string) { s.breach(exposuresAreMirrored, place, detail) })
	s.joint.Pairs = append(s.joint.Pairs, pair)
	return err
}

// holdFinal holds the two snapshots of a system against one another.
func (s *survey) holdFinal(ctx context.Context) error {
	for i := range s.early[:max(len(s.early)-1, 0)] {
		if err := s.holdFinalOf(ctx, s.early[i], s.late[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *survey) holdFinalOf(ctx context.Context, early, late *snapshot) (err error) {
	before, err := early.movements(ctx, anybody)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, before.rows.Close()) }()
	after, err := late.movements(ctx, anybody)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, after.rows.Close()) }()
	return merge(before, after, func(before, after *side) {
		if before == nil || after != nil && (before.state == "pending" || before.state == after.state && before.contents == after.contents) {
			return
		}
		s.breach(decisionsAreFinal, before.id, fmt.Sprintf("%s in %s%s, then %s%s",
			before.state, early.system, said(before), stateOf(after), said(after)))
	})
}
