package lab

import (
	"math"
	"slices"
	"time"
)

// Result is what a load came to.
type Result struct {
	Load    string `json:"load"`
	Way     string `json:"way"`
	Workers int    `json:"workers"`

	Done    int `json:"done"`    // moves that were answered with success
	Refused int `json:"refused"` // for want of money
	GaveUp  int `json:"gave_up"` // when the patience or the load ended
	Unknown int `json:"unknown"` // nobody could say whether it happened

	Deadlocks int `json:"deadlocks"` // that the servers counted
	Timeouts  int `json:"timeouts"`  // waits for a lock that were cut off
	Conflicts int `json:"conflicts"` // versions that had changed
	Retries   int `json:"retries"`   // tries after the first

	Lost      int64 `json:"lost"`      // changes of balances that the books lack, at least
	Made      int64 `json:"made"`      // money that nobody paid; negative: that vanished
	Overdrawn int   `json:"overdrawn"` // accounts below zero
	Unsaid    int   `json:"unsaid"`    // changes in the books that nobody was told of, or told of and not in the books
	Halves    int   `json:"halves"`    // moves of unknown outcome that happened on one side only

	Unfair int `json:"unfair"` // moves that one and the same worker passed twice
	Passed int `json:"passed"` // the most moves, requested later, that took effect before one

	Seconds   float64       `json:"seconds"`
	PerSecond float64       `json:"per_second"` // moves done or refused
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
}

// Correct tells whether the books say what the workers were told.
func (r Result) Correct() bool {
	return r.Lost == 0 && r.Made == 0 && r.Overdrawn == 0 && r.Unsaid == 0 && r.Halves == 0
}

// InOrder tells whether the moves of each account took effect in the order of their requests, as nearly as one can say:
// requests that are under way at the same time may change places, but nobody gets two turns while another waits for one.
func (r Result) InOrder() bool { return r.Unfair == 0 }

// result compares what the workers saw with the books.
func (l Load) result(seen counts, took time.Duration, books Books) Result {
	r := Result{
		Load: l.Name, Workers: l.Workers, Done: len(seen.done), Refused: seen.refused, GaveUp: seen.gaveUp, Unknown: len(seen.unknown),
		Timeouts: seen.setbacks[Timeout], Conflicts: seen.setbacks[Conflict],
		Retries: seen.setbacks[Deadlock] + seen.setbacks[Timeout] + seen.setbacks[Conflict] + seen.setbacks[Busy] - seen.gaveUp,
		Seconds: took.Seconds(),
	}
	l.audit(&r, seen, books)
	if took > 0 {
		r.PerSecond = float64(len(seen.latencies)) / took.Seconds()
	}
	slices.Sort(seen.latencies)
	r.P50, r.P99 = quantile(seen.latencies, 0.5), quantile(seen.latencies, 0.99)
	return r
}

// audit recomputes every balance from the moves that were answered with success, and from the sides of those with an
// unknown outcome that the books have.
func (l Load) audit(r *Result, seen counts, books Books) {
	said := newSaid(l)
	for _, move := range seen.done {
		said.tell(move, move.Payer, -move.Amount)
		if move.Payee != Nobody {
			said.tell(move, move.Payee, move.Amount)
		}
	}
	for _, move := range seen.unknown {
		paid := slices.Contains(books.Applied[move.Payer], move.Ticket)
		received := slices.Contains(books.Applied[move.Payee], move.Ticket)
		if paid {
			said.tell(move, move.Payer, -move.Amount)
		}
		if received {
			said.tell(move, move.Payee, move.Amount)
			r.Made += move.Amount
		}
		if paid && move.Payee != Nobody {
			r.Made -= move.Amount
		}
		if paid != received && move.Payee != Nobody {
			r.Halves++
		}
	}
	var apart int64
	for account, want := range said.balances {
		have := books.Balances[account]
		apart += max(have-want, want-have)
		r.Made += have - want
		if have < 0 {
			r.Overdrawn++
		}
	}
	r.Lost = (apart + l.Amount - 1) / l.Amount
	for _, tickets := range books.Applied {
		unfair, passed := overtaking(tickets, said.workers)
		r.Unfair += unfair
		r.Passed = max(r.Passed, passed)
	}
	r.Unsaid = said.differ(books.Applied)
}

// said is what the books should say.
type said struct {
	balances map[int]int64
	workers  map[int64]int          // who had a ticket
	tickets  map[int]map[int64]bool // by account
}

func newSaid(l Load) said {
	s := said{balances: make(map[int]int64, l.Accounts), workers: make(map[int64]int), tickets: make(map[int]map[int64]bool)}
	for i := range l.Accounts {
		s.balances[i+1] = l.Balance
	}
	return s
}

// tell is one side of a move.
func (s said) tell(move Move, account int, change int64) {
	s.workers[move.Ticket] = move.Worker
	s.balances[account] += change
	if s.tickets[account] == nil {
		s.tickets[account] = make(map[int64]bool)
	}
	s.tickets[account][move.Ticket] = true
}

// differ counts the tickets that are in the books and were not said, or the other way round; one that is in the books
// twice is there once too often.
func (s said) differ(applied map[int][]int64) (differences int) {
	missing := 0
	for _, tickets := range s.tickets {
		missing += len(tickets)
	}
	for account, tickets := range applied {
		seen := make(map[int64]bool, len(tickets))
		for _, ticket := range tickets {
			if s.tickets[account][ticket] && !seen[ticket] {
				missing--
			} else {
				differences++
			}
			seen[ticket] = true
		}
	}
	return differences + missing
}

// overtaking looks at the moves of one account in the order in which they took effect: how many were passed twice by the
// same worker, and by how many moves one was passed at most.
func overtaking(tickets []int64, workers map[int64]int) (unfair, most int) {
	before := make(map[int][]int64) // by worker: its tickets so far, which rise, for it asks one after another
	for _, ticket := range tickets {
		passed, twice := 0, false
		for _, earlier := range before {
			at, _ := slices.BinarySearch(earlier, ticket)
			later := len(earlier) - at
			passed += later
			twice = twice || later > 1
		}
		if twice {
			unfair++
		}
		most = max(most, passed)
		worker := workers[ticket]
		before[worker] = append(before[worker], ticket)
	}
	return unfair, most
}

// quantile is the duration that this share of all, which are sorted, stays within; 0 without any.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(share * float64(len(sorted)))) // from 1
	return sorted[max(rank, 1)-1]
}
