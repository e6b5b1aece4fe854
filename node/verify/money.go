package verify

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
)

// Money is where the money of one currency is, over all systems, in minor units: Customers + Suspense + InFlight =
// Outside + Strangers, even though the systems were not looked at in one moment. InFlight is then less than nothing
// where a system was seen to take what the one before it was not yet seen to send.
type Money struct {
	Currency  string   `json:"currency"`
	Customers *big.Int `json:"customers"`
	Suspense  *big.Int `json:"suspense"`
	InFlight  *big.Int `json:"in_flight"`
	Outside   *big.Int `json:"outside"`   // deposits less withdrawals
	Strangers *big.Int `json:"strangers"` // credited from strangers less posted to them
}

// sums adds amounts up by currency. They may leave the range of an int64, as sums in the database may.
type sums map[string]*big.Int

func (s sums) add(currency string, amount *big.Int) {
	s[currency] = new(big.Int).Add(s.of(currency), amount)
}

func (s sums) of(currency string) *big.Int {
	if sum, there := s[currency]; there {
		return sum
	}
	return new(big.Int)
}

// addTo adds the rows of a query, a currency and an amount each, to sums.
func (s *snapshot) addTo(ctx context.Context, into sums, query string, args ...any) error {
	rows, err := s.tx.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("sum up amounts of %s: %w", s.system, err)
	}
	defer rows.Close()
	for rows.Next() {
		var currency, text string
		if err := rows.Scan(&currency, &text); err != nil {
			return err
		}
		amount, ok := new(big.Int).SetString(text, 10)
		if !ok {
			return fmt.Errorf("sum up amounts of %s: %q is no number", s.system, text)
		}
		into.add(currency, amount)
	}
	return rows.Err()
}

// fly adds up what is in flight between two early snapshots.
func (s *survey) fly(c *comparison) {
	for currency, amount := range c.ahead {
		s.flying.add(currency, amount)
	}
	for currency, amount := range c.behind {
		s.flying.add(currency, new(big.Int).Neg(amount))
	}
}

// findStrangers lists the peers that were not looked at.
func (s *survey) findStrangers(ctx context.Context) error {
	for _, each := range s.early {
		known, err := each.peers(ctx)
		if err != nil {
			return err
		}
		for _, peer := range known {
			if !slices.Contains(s.joint.Systems, peer) && !slices.Contains(s.joint.Strangers, peer) {
				s.joint.Strangers = append(s.joint.Strangers, peer)
			}
		}
	}
	slices.Sort(s.joint.Strangers)
	return nil
}

// countMoney adds up where the money is, and where it came from.
func (s *survey) countMoney(ctx context.Context) error {
	customers, suspense, outside, strangers := sums{}, sums{}, sums{}, sums{}
	for _, each := range s.early {
		err := errors.Join(
			each.addTo(ctx, customers, `SELECT currency, SUM(posted) FROM accounts WHERE system_account IS NULL GROUP BY currency`),
			each.addTo(ctx, suspense, `SELECT currency, SUM(posted) FROM accounts WHERE system_account = 2 GROUP BY currency`),
			each.addTo(ctx, outside, `SELECT currency, SUM(IF(kind = 'deposit', amount, -CAST(amount AS DECIMAL(20)))) FROM transfers
				WHERE kind IN ('deposit', 'withdrawal') AND state = 'posted' GROUP BY currency`),
		)
		if err != nil {
			return err
		}
		for _, peer := range s.joint.Strangers {
			err := each.addTo(ctx, strangers, `SELECT currency, CAST(credited AS DECIMAL(20)) - posted FROM exposures WHERE peer = ?`, peer)
			if err != nil {
				return err
			}
		}
	}
	all := sums{}
	for _, part := range []sums{customers, suspense, s.flying, outside, strangers} {
		maps.Copy(all, part)
	}
	for _, currency := range slices.Sorted(maps.Keys(all)) {
		s.weigh(Money{
			currency, customers.of(currency), suspense.of(currency), s.flying.of(currency), outside.of(currency), strangers.of(currency),
		})
	}
	return nil
}

// weigh holds the two sides of the money of a currency against one another.
func (s *survey) weigh(m Money) {
	s.joint.Money = append(s.joint.Money, m)
	here := new(big.Int).Add(m.Customers, m.Suspense)
	here.Add(here, m.InFlight)
	if came := new(big.Int).Add(m.Outside, m.Strangers); here.Cmp(came) != 0 {
		s.breach(moneyIsConstant, m.Currency, m.String())
	}
}

// String is a line for people.
func (m Money) String() string {
	return fmt.Sprintf("%s: customers %v, suspense %v, in flight %v; from outside %v, from other systems %v",
		m.Currency, m.Customers, m.Suspense, m.InFlight, m.Outside, m.Strangers)
}
