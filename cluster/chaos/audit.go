package chaos

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Evidence is all that the auditor judges: what clients asked and were told, and what the databases have afterwards.
type Evidence struct {
	Opening int64       // of each account
	Pairs   [][2]string // accounts whose money stays in the pair
	Travel  []string    // accounts that pay between the systems
	Ops     []Op
	Books   []Books // one for each system, read after all has settled
}

// Breach is one thing that must not be.
type Breach struct {
	Check  string `json:"check"`
	Detail string `json:"detail"`
}

func (b Breach) String() string { return b.Check + ": " + b.Detail }

// Check is one rule, with what it was held against.
type Check struct {
	Name     string   `json:"name"`
	Meaning  string   `json:"meaning"`
	Judged   int      `json:"judged"` // things that could have broken it
	Breaches []string `json:"breaches,omitempty"`
}

// breach notes what breaks the rule.
func (c *Check) breach(format string, args ...any) {
	c.Breaches = append(c.Breaches, fmt.Sprintf(format, args...))
}

// Audit holds the record against the books and returns every rule with its breaches. It changes nothing.
func Audit(e Evidence) []Check {
	rules := []struct {
		name, meaning string
		run           func(Evidence, *Check)
	}{
		{"totals", "at every read of all balances each pair of accounts has its total, and afterwards all accounts together", totals},
		{"not_negative", "no read, and no account afterwards, has less than nothing available", notNegative},
		{"acknowledged_once", "every acknowledged transfer is in the books of its systems exactly once, with its amounts", acknowledgedOnce},
		{"refused_without_effect", "what was refused, or said to be not applied, moved nothing, and nothing moved that nobody asked for", refusedWithoutEffect},
		{"holds_end_once", "every acknowledged hold is there and ended as its client was told; there is no other", holdsEndOnce},
		{"balances", "every account has what the acknowledged operations make", balances},
		{"both_sides_alike", "every transfer between the systems is posted in both or in neither, and none is under way", bothSidesAlike},
		{"definite", "every change has a definite end, if need be after repeats under its key", definite},
		{"contract", "every answer is one that the contract has for such a request", contract},
		{"linearizable", "the operations on each pair of accounts can be put into one order that explains every answer", linearizable},
	}
	checks := make([]Check, len(rules))
	for i, rule := range rules {
		checks[i] = Check{Name: rule.name, Meaning: rule.meaning}
		rule.run(e, &checks[i])
	}
	return checks
}

// totals holds each survey against the pairs of its system: their money never leaves them.
func totals(e Evidence, c *Check) {
	for _, op := range e.Ops {
		if op.Kind != Survey || op.End != Applied {
			continue
		}
		for _, pair := range e.Pairs {
			one, known := op.Balances[pair[0]]
			other, both := op.Balances[pair[1]]
			if !strings.HasPrefix(pair[0], op.System+"-") {
				continue
			}
			c.Judged++
			if !known || !both || one.Posted+other.Posted != 2*e.Opening {
				c.breach("at %v a read of %s shows %d and %d in %v, together not %d", op.Call, op.System, one.Posted, other.Posted, pair, 2*e.Opening)
			}
		}
	}
	var sum int64
	for _, number := range e.accounts() {
		sum += e.balance(number).Posted
	}
	c.Judged++
	if want := e.Opening * int64(len(e.accounts())); sum != want {
		c.breach("all accounts have %d together, not %d", sum, want)
	}
}

func notNegative(e Evidence, c *Check) {
	look := func(where, number string, b Balance) {
		c.Judged++
		if b.Posted < b.Held || b.Held < 0 {
			c.breach("%s: %s has %d and holds %d", where, number, b.Posted, b.Held)
		}
	}
	for _, op := range e.Ops {
		for number, balance := range op.Balances {
			look(fmt.Sprintf("at %v", op.Call), number, balance)
		}
	}
	for _, books := range e.Books {
		for number, balance := range books.Accounts {
			look("the books of "+books.System, number, balance)
		}
	}
}

// acknowledgedOnce looks a transfer up by its reference, and the capture of a hold by the hold.
func acknowledgedOnce(e Evidence, c *Check) {
	rows := e.postings()
	for _, op := range e.Ops {
		if !op.Kind.moves() || op.End != Applied {
			continue
		}
		c.Judged++
		found := rows[op.System][op.mark()]
		if len(found) != 1 {
			c.breach("%v was acknowledged and is in the books of %s %d times", op, op.System, len(found))
			continue
		}
		if p := found[0]; p.State != "posted" || p.From != op.From || p.To != op.To || p.Amount != op.Amount || op.Kind != Capture && p.ID != op.ID {
			c.breach("%v was acknowledged, and the books of %s have %+v", op, op.System, p)
		}
		if op.Kind != Remit {
			continue
		}
		for _, books := range e.Books {
			if books.System == op.System {
				continue
			}
			matches := func(p Posting) bool {
				return p.ID == op.ID && p.State == "posted" && p.To == op.To && p.From == op.From && p.Amount == op.Amount
			}
			if n := count(books.Transfers, matches); n != 1 {
				c.breach("%v was acknowledged and is in the books of %s %d times", op, books.System, n)
			}
		}
	}
}

func count[T any](all []T, matches func(T) bool) (n int) {
	for _, one := range all {
		if matches(one) {
			n++
		}
	}
	return n
}

// refusedWithoutEffect looks for postings that no acknowledged operation explains.
func refusedWithoutEffect(e Evidence, c *Check) {
	ends := map[string]End{}
	for _, op := range e.Ops {
		switch {
		case op.Kind == Transfer || op.Kind == Remit:
			ends[op.mark()] = op.End
		case op.Kind == Capture && ends[op.mark()] != Applied: // a later try of the same client counts
			ends[op.mark()] = op.End
		}
	}
	for _, end := range ends {
		if end == Refused || end == NotApplied {
			c.Judged++
		}
	}
	for system, rows := range e.postings() {
		for mark, found := range rows {
			end, asked := ends[mark]
			if asked && (end == Applied || end == Open) {
				continue
			}
			for _, p := range found {
				if p.State == "posted" {
					c.breach("%+v is in the books of %s; its client was told %q", p, system, end)
				}
			}
		}
	}
}

func holdsEndOnce(e Evidence, c *Check) {
	want := map[string]string{}
	for _, op := range e.Ops {
		if op.End != Applied {
			continue
		}
		switch op.Kind {
		case Hold:
			if want[op.Hold] == "" {
				want[op.Hold] = "pending"
			}
		case Capture:
			want[op.Hold] = "posted"
		case Void:
			want[op.Hold] = "voided"
		}
	}
	found := map[string]HoldRow{}
	for _, books := range e.Books {
		for id, row := range books.Holds {
			found[id] = row
		}
	}
	c.Judged = len(want)
	for id, state := range want {
		if found[id].State != state {
			c.breach("hold %s is %q, its client was told %s", id, found[id].State, state)
		}
	}
	for id, row := range found {
		if want[id] == "" {
			c.breach("hold %s of %d on %s was never acknowledged", id, row.Amount, row.Account)
		}
	}
}

// balances adds up what clients were told.
func balances(e Evidence, c *Check) {
	want := map[string]Balance{}
	for _, number := range e.accounts() {
		want[number] = Balance{Posted: e.Opening}
	}
	move := func(number string, posted, held int64) {
		b := want[number]
		want[number] = Balance{b.Posted + posted, b.Held + held}
	}
	for _, op := range e.Ops {
		if op.End != Applied {
			continue
		}
		switch op.Kind {
		case Transfer, Remit:
			move(op.From, -op.Amount, 0)
			move(op.To, op.Amount, 0)
		case Hold:
			move(op.From, 0, op.Amount)
		case Void:
			move(op.From, 0, -op.Amount)
		case Capture:
			move(op.From, -op.Amount, -op.Amount)
			move(op.To, op.Amount, 0)
		}
	}
	for _, number := range e.accounts() {
		c.Judged++
		if found := e.balance(number); found != want[number] {
			c.breach("%s has %d and holds %d; by what clients were told it has %d and holds %d",
				number, found.Posted, found.Held, want[number].Posted, want[number].Held)
		}
	}
}

func bothSidesAlike(e Evidence, c *Check) {
	for _, books := range e.Books {
		c.Judged += len(books.Remittances)
	}
	c.Breaches = unlike(e.Books)
}

// unlike tells what the systems do not have alike. The payer's side and the payee's are rows of the same id.
func unlike(all []Books) (breaches []string) {
	for _, books := range all {
		for id, ours := range books.Remittances {
			if ours.State != "posted" && ours.State != "voided" && ours.State != "refused" {
				breaches = append(breaches, fmt.Sprintf("transfer %s is %s in %s", id, ours.State, books.System))
				continue
			}
			for _, other := range all {
				if other.System == books.System {
					continue
				}
				if theirs := other.Remittances[id].State; (ours.State == "posted") != (theirs == "posted") {
					breaches = append(breaches, fmt.Sprintf("transfer %s is %s in %s and %q in %s", id, ours.State, books.System, theirs, other.System))
				}
			}
		}
	}
	slices.Sort(breaches)
	return breaches
}

func definite(e Evidence, c *Check) {
	for _, op := range e.Ops {
		if op.Kind.reads() {
			continue
		}
		c.Judged++
		if op.End == Open {
			c.breach("%v has no definite end after %d requests; the last answer was %+v", op, len(op.Tries), op.Tries[len(op.Tries)-1])
		}
	}
}

// contract knows what the bank's requests may be answered: each is well formed, allowed, and about what is there.
func contract(e Evidence, c *Check) {
	for _, op := range e.Ops {
		for _, t := range op.Tries {
			c.Judged++
			if !t.fits(op.Kind) {
				c.breach("%v was answered %d %s %s", op, t.Status, t.Code, t.Error)
			}
		}
	}
}

func (t Try) fits(kind Kind) bool {
	switch t.Status {
	case 0, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return true
	case http.StatusOK:
		return t.Error == "" // of a read that was decoded, or of a hold that was ended
	case http.StatusCreated:
		return !kind.reads()
	case http.StatusAccepted:
		return kind == Remit
	case http.StatusConflict:
		return !kind.reads() && t.Code == "request_in_progress"
	case http.StatusUnprocessableEntity:
		return (kind == Transfer || kind == Remit || kind == Hold) && t.Code == "insufficient_funds"
	case http.StatusTooManyRequests:
		return true
	}
	return false
}

// mark is what the books know an operation by: the hold that it ended, or its reference.
func (op Op) mark() string {
	if op.Kind == Capture {
		return op.Hold
	}
	return op.Reference
}

// String is for breaches.
func (op Op) String() string {
	return fmt.Sprintf("%s of %d from %s to %s (%s, reference %s, client %d, from %v to %v)",
		op.Kind, op.Amount, op.From, op.To, op.System, op.Reference, op.Client, op.Call, op.Return)
}

// postings are the transfers that each system pays, but for deposits, by their mark.
func (e Evidence) postings() map[string]map[string][]Posting {
	all := map[string]map[string][]Posting{}
	for _, books := range e.Books {
		marks := map[string][]Posting{}
		all[books.System] = marks
		for _, p := range books.Transfers {
			switch {
			case p.Payer != books.System || p.Kind == "deposit":
			case p.Hold != "":
				marks[p.Hold] = append(marks[p.Hold], p)
			default:
				marks[p.Reference] = append(marks[p.Reference], p)
			}
		}
	}
	return all
}

func (e Evidence) accounts() []string {
	numbers := slices.Clone(e.Travel)
	for _, pair := range e.Pairs {
		numbers = append(numbers, pair[:]...)
	}
	return numbers
}

// balance is what the books have of an account.
func (e Evidence) balance(number string) Balance {
	for _, books := range e.Books {
		if b, found := books.Accounts[number]; found {
			return b
		}
	}
	return Balance{}
}
