package e2e_test

import (
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/node/ledger"
)

// alikeMaxWait is how long after the last fault everything may take to be decided, on both sides alike.
const alikeMaxWait = 60 * time.Second

// remitted is a transfer between systems as one of them has it.
type remitted struct {
	id, payer, state, failure string
	transfer                  string // the state of its transfer; empty for a tombstone
	reference, description    string // the second one is told to the other system
	from, to                  string
	amount                    int64
	promised                  bool // in the payee's system: money was reserved for it
	credited                  bool // in the payer's system: the payee's has told
}

// ownBalance is what one account has.
type ownBalance struct{ posted, debit, credit int64 }

// exposed is what one system is owed by the other in a currency.
type exposed struct{ reserved, credited, posted int64 }

// standing is what the database of one system tells.
type standing struct {
	remitted  map[string]remitted
	accounts  map[ledger.AccountID]ownBalance
	exposures map[string]exposed // by currency
	sums      map[string]int64   // of customers' posted balances, by currency
	brought   map[string]int64   // deposits less withdrawals, by currency
}

// standings reads both databases, the payee's side of nobody first.
func (x *crossing) standings(tb testing.TB) (both [2]standing) {
	tb.Helper()
	for i, s := range x.sides {
		db, err := sql.Open("mysql", s.source)
		if err != nil {
			tb.Fatal(err)
		}
		both[i] = standingIn(tb, db)
		_ = db.Close()
	}
	return both
}

func standingIn(tb testing.TB, db *sql.DB) standing {
	tb.Helper()
	s := standing{map[string]remitted{}, map[ledger.AccountID]ownBalance{}, map[string]exposed{}, map[string]int64{}, map[string]int64{}}
	each(tb, db, func(rows *sql.Rows) error {
		var r remitted
		err := rows.Scan(&r.id, &r.payer, &r.state, &r.failure, &r.transfer, &r.reference, &r.description, &r.from, &r.to, &r.amount, &r.promised, &r.credited)
		s.remitted[r.id] = r
		return err
	}, `SELECT r.id, r.payer_system, r.state, r.failure, COALESCE(t.state, ''), COALESCE(t.reference, ''), COALESCE(t.description, ''),
		COALESCE(t.from_number, ''), COALESCE(t.to_number, ''), COALESCE(t.amount, 0), t.id IS NOT NULL, r.credited_at IS NOT NULL
		FROM remittances r LEFT JOIN transfers t ON t.id = r.id`)
	each(tb, db, func(rows *sql.Rows) error {
		var id ledger.AccountID
		var currency string
		var b ownBalance
		err := rows.Scan(&id, &currency, &b.posted, &b.debit, &b.credit)
		s.accounts[id] = b
		s.sums[currency] += b.posted
		return err
	}, "SELECT id, currency, posted, pending_debit, pending_credit FROM accounts WHERE system_account IS NULL")
	each(tb, db, func(rows *sql.Rows) error {
		var currency string
		var e exposed
		err := rows.Scan(&currency, &e.reserved, &e.credited, &e.posted)
		s.exposures[currency] = e
		return err
	}, "SELECT currency, reserved, credited, posted FROM exposures")
	each(tb, db, func(rows *sql.Rows) error {
		var currency string
		var net int64
		err := rows.Scan(&currency, &net)
		s.brought[currency] = net
		return err
	}, `SELECT currency, CAST(SUM(IF(kind = 'deposit', amount, -amount)) AS SIGNED) FROM transfers
		WHERE kind IN ('deposit', 'withdrawal') AND state = 'posted' GROUP BY currency`)
	return s
}

func each(tb testing.TB, db *sql.DB, scan func(*sql.Rows) error, query string) {
	tb.Helper()
	rows, err := db.Query(query)
	if err != nil {
		tb.Fatalf("read the books: %v", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			tb.Fatalf("read the books: %v", err)
		}
	}
	if err := rows.Err(); err != nil {
		tb.Fatalf("read the books: %v", err)
	}
}

// alike waits until every transfer between the two systems has ended on both sides alike, nothing is held or promised any
// more, and what has left one side has come to the other.
func (x *crossing) alike(tb testing.TB, within time.Duration) (both [2]standing) {
	tb.Helper()
	began := time.Now()
	for {
		both = x.standings(tb)
		wrong := slices.Concat(unlike(both[0], both[1], "alpha"), unlike(both[1], both[0], "beta"), unbalanced(both))
		switch {
		case len(wrong) == 0:
			posted, voided, compensated := 0, 0, 0
			for i := range both {
				for id, r := range both[i].remitted {
					switch there := both[1-i].remitted[id]; {
					case r.payer != x.systemOf(i):
					case r.state == "posted":
						posted++
					case there.state == "voided" && there.promised:
						compensated++
						fallthrough
					default:
						voided++
					}
				}
			}
			tb.Logf("alike after %.1f s: %d posted, %d voided, of which %d after a promise", time.Since(began).Seconds(), posted, voided, compensated)
			return both
		case time.Since(began) > within:
			tb.Fatalf("after %v the systems are not alike in %d places:\n%s", within, len(wrong), strings.Join(wrong[:min(len(wrong), 20)], "\n"))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (x *crossing) systemOf(side int) string { return x.options.Systems[side] }

// unlike lists what one system pays and has not ended, or ended in another way than the other system has it.
func unlike(payer, payee standing, system string) (wrong []string) {
	for id, r := range payer.remitted {
		if r.payer != system {
			continue
		}
		there := payee.remitted[id]
		switch {
		case r.state == "posted" && r.transfer == "posted" && there.state == "posted" && there.transfer == "posted" && there.amount == r.amount && there.to == r.to:
		case r.state == "voided" && (there.state == "" || there.state == "refused" || there.state == "voided" && there.transfer != "posted"):
		default:
			wrong = append(wrong, fmt.Sprintf("%s is %s (transfer %s) in %s, and %q (transfer %q) in the other system", id, r.state, r.transfer, system, there.state, there.transfer))
		}
	}
	for id, there := range payee.remitted {
		if _, known := payer.remitted[id]; there.payer == system && !known {
			wrong = append(wrong, fmt.Sprintf("%s is %s in the payee's system, and %s does not know it", id, there.state, system))
		}
	}
	return wrong
}

// unbalanced lists what is still held or promised, and currencies of which there is more or less than was brought in.
func unbalanced(both [2]standing) (wrong []string) {
	sums, brought := map[string]int64{}, map[string]int64{}
	for i, s := range both {
		for id, balance := range s.accounts {
			if balance.debit != 0 || balance.credit != 0 {
				wrong = append(wrong, fmt.Sprintf("account %d of side %d still has %d held and %d promised", id, i, balance.debit, balance.credit))
			}
		}
		for currency, e := range s.exposures {
			if e.reserved != 0 || e.credited != both[1-i].exposures[currency].posted {
				wrong = append(wrong, fmt.Sprintf("side %d has %d %s promised, and credited %d of the %d that the other one posted",
					i, e.reserved, currency, e.credited, both[1-i].exposures[currency].posted))
			}
		}
		for currency := range s.sums {
			sums[currency] += s.sums[currency]
		}
		for currency := range s.brought {
			brought[currency] += s.brought[currency]
		}
	}
	for currency := range sums {
		if sums[currency] != brought[currency] {
			wrong = append(wrong, fmt.Sprintf("%d %s are on both systems' accounts, and %d were brought in", sums[currency], currency, brought[currency]))
		}
	}
	return wrong
}

// settled requires that both systems come to an end alike, and that each one's books hold by themselves.
func (x *crossing) settled(tb testing.TB, within time.Duration) [2]standing {
	tb.Helper()
	both := x.alike(tb, within)
	for _, s := range x.sides {
		s.verify(tb)
	}
	return both
}

// auditAcross holds the books of both systems against what clients were told. Nothing may be under way.
func (r *record) auditAcross(tb testing.TB, x *crossing) {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	both := x.standings(tb)
	for number, balance := range r.balances {
		side := slices.Index(x.options.Systems, ledger.Number(number).System())
		if found := both[side].accounts[ledger.Number(number).Serial()]; found != (ownBalance{posted: balance}) {
			tb.Errorf("audit: %s has %+v, by what clients were told it has %d", number, found, balance)
		}
	}
	seen, acknowledged := map[string]bool{}, 0
	for side := range both {
		for id, found := range both[side].remitted {
			if _, ours := r.balances[found.from]; !ours || found.payer != x.systemOf(side) {
				continue
			}
			if seen[found.reference] {
				tb.Errorf("audit: payment %s was made twice, the second time as %s", found.reference, id)
			}
			seen[found.reference] = true
			told, posted := r.posted[found.reference]
			switch {
			case posted && found.state == "posted" && told.id == id && told.from == found.from && told.to == found.to && minor(tb, told.amount) == found.amount:
				acknowledged++
			case !posted && found.state == "voided" && r.refused[found.reference]:
			default:
				tb.Errorf("audit: the books have %+v; told was %+v (refused: %t)", found, told, r.refused[found.reference])
			}
		}
	}
	for reference, told := range r.posted {
		if told.from != "cash" && !seen[reference] {
			tb.Errorf("audit: payment %s was acknowledged as %v and is in no books", reference, told)
		}
	}
	tb.Logf("audit: %d acknowledged payments are in the books of both systems, %d refused ones are not", acknowledged, len(r.refused))
}
