// Package audit compares what the parts of the ticket office and Lockstep say: tickets, money and records agree, or each
// disagreement is a line. It holds only when nothing is under way any more.
package audit

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sync/errgroup"

	"lockstep/api/client"
	"lockstep/examples/ticketoffice/concert"
	"lockstep/examples/ticketoffice/payment"
	"lockstep/examples/ticketoffice/points"
	"lockstep/examples/ticketoffice/queue"
	"lockstep/examples/ticketoffice/sale"
)

const questionsAtOnce = 8

// Books are where everything is written.
type Books struct {
	Admin    *sql.DB           // may read all schemas
	Schemas  map[string]string // by service
	Lockstep *client.Client    // the owner of all accounts
	Shop     string
	Buyers   map[string]int64 // what each account began with, in minor units
}

// Result is what was found.
type Result struct {
	Paid     int      `json:"paid"`
	Voided   int      `json:"voided"`
	Breaches []string `json:"breaches"`
}

// facts are all rows, by payment unless said otherwise.
type facts struct {
	records  map[string]record
	charges  map[string]charge
	sold     map[string]seat
	tokens   map[string]token // by id
	messages map[string]bool
	exports  map[string]bool
	holds    map[string]string // the state at Lockstep
	posted   map[string]int64  // by account
	pending  map[string]int64
}

type (
	record struct {
		state string
		sale  sale.Sale
	}
	charge struct{ state, hold string }
	seat   struct {
		concert, state string
		seat           int
	}
	token struct{ state, payment string }
)

// Run reads everything and compares it.
func (b Books) Run(ctx context.Context) (Result, error) {
	f := facts{
		records: map[string]record{}, charges: map[string]charge{}, sold: map[string]seat{}, tokens: map[string]token{},
		messages: map[string]bool{}, exports: map[string]bool{}, holds: map[string]string{}, posted: map[string]int64{}, pending: map[string]int64{},
	}
	if err := b.rows(ctx, &f); err != nil {
		return Result{}, fmt.Errorf("read the office's books: %w", err)
	}
	if err := b.money(ctx, &f); err != nil {
		return Result{}, fmt.Errorf("read Lockstep's books: %w", err)
	}
	var r Result
	income := int64(0)
	spent := map[string]int64{}
	for id, record := range f.records {
		switch record.state {
		case payment.Paid:
			r.Paid++
			income += record.sale.Amount
			spent[record.sale.Account] += record.sale.Amount
			r.Breaches = append(r.Breaches, f.paid(id, record)...)
		case payment.Voided:
			r.Voided++
			r.Breaches = append(r.Breaches, f.voided(id)...)
		default:
			r.Breaches = append(r.Breaches, fmt.Sprintf("payment %s is %s", id, record.state))
		}
	}
	r.Breaches = append(r.Breaches, f.strays()...)
	r.Breaches = append(r.Breaches, b.balances(f, income, spent)...)
	slices.Sort(r.Breaches)
	return r, nil
}

// paid is what must be so when a record says paid.
func (f facts) paid(id string, r record) (breaches []string) {
	say := func(holds bool, what string, args ...any) {
		if !holds {
			breaches = append(breaches, fmt.Sprintf("payment %s is paid, but ", id)+fmt.Sprintf(what, args...))
		}
	}
	say(f.charges[id].state == points.Captured, "its charge is %q", f.charges[id].state)
	say(f.holds[id] == "posted", "Lockstep's hold is %q", f.holds[id])
	s := f.sold[id]
	say(s.state == concert.Sold && s.concert == r.sale.Concert && s.seat == r.sale.Seat, "its seat is %+v", s)
	t := f.tokens[r.sale.Token]
	say(t.state == queue.Expired, "its token is %q", t.state)
	say(f.messages[id], "nobody was told")
	say(f.exports[id], "the data platform was not told")
	return breaches
}

// voided is what must be so when a record says voided.
func (f facts) voided(id string) (breaches []string) {
	say := func(holds bool, what string, args ...any) {
		if !holds {
			breaches = append(breaches, fmt.Sprintf("payment %s is voided, but ", id)+fmt.Sprintf(what, args...))
		}
	}
	c, charged := f.charges[id]
	say(!charged || c.state == points.Voided, "its charge is %q", c.state)
	say(f.holds[id] != "pending" && f.holds[id] != "posted", "Lockstep's hold is %q", f.holds[id])
	s, seated := f.sold[id]
	say(!seated, "it has a seat: %+v", s)
	say(!f.messages[id] && !f.exports[id], "somebody was told of it")
	return breaches
}

// strays are rows that no record speaks of, and what is under way for ever.
func (f facts) strays() (breaches []string) {
	for id := range f.charges {
		if _, known := f.records[id]; !known {
			breaches = append(breaches, fmt.Sprintf("the charge of %s has no record", id))
		}
	}
	for id, s := range f.sold {
		if _, known := f.records[id]; !known || s.state != concert.Sold {
			breaches = append(breaches, fmt.Sprintf("seat %+v of payment %s is not sold, or has no record", s, id))
		}
	}
	for id, t := range f.tokens {
		if t.state == queue.InUse {
			breaches = append(breaches, fmt.Sprintf("token %s is in use by payment %s", id, t.payment))
		}
	}
	return breaches
}

// balances are the buyers' and the shop's, recomputed from the records.
func (b Books) balances(f facts, income int64, spent map[string]int64) (breaches []string) {
	if f.posted[b.Shop] != income {
		breaches = append(breaches, fmt.Sprintf("the shop has %d, the records say %d", f.posted[b.Shop], income))
	}
	for account, began := range b.Buyers {
		if want := began - spent[account]; f.posted[account] != want || f.pending[account] != 0 {
			breaches = append(breaches, fmt.Sprintf("account %s has %d with %d held, the records say %d with none", account, f.posted[account], f.pending[account], want))
		}
		delete(spent, account)
	}
	for account, amount := range spent {
		breaches = append(breaches, fmt.Sprintf("nobody knows account %s, which paid %d", account, amount))
	}
	return breaches
}

// rows reads the office's own tables.
func (b Books) rows(ctx context.Context, f *facts) error {
	var id, x, y, z string
	var n int
	var about []byte
	return b.each(ctx, []question{
		{"payment", "SELECT id, state, sale FROM %s.payments", []any{&id, &x, &about}, func() error {
			r := record{state: x}
			err := json.Unmarshal(about, &r.sale)
			f.records[id] = r
			return err
		}},
		{"points", "SELECT payment, state, hold FROM %s.charges", []any{&id, &x, &y}, func() error { f.charges[id] = charge{x, y}; return nil }},
		{"concert", "SELECT payment, concert, state, seat FROM %s.seats WHERE payment <> ''", []any{&id, &y, &z, &n}, func() error {
			if other, twice := f.sold[id]; twice {
				return fmt.Errorf("payment %s has two seats, %d and %d", id, other.seat, n)
			}
			f.sold[id] = seat{y, z, n}
			return nil
		}},
		{"queue", "SELECT id, state, payment FROM %s.tokens", []any{&id, &x, &y}, func() error { f.tokens[id] = token{x, y}; return nil }},
		{"push", "SELECT payment FROM %s.messages", []any{&id}, func() error { f.messages[id] = true; return nil }},
		{"push", "SELECT payment FROM %s.exports", []any{&id}, func() error { f.exports[id] = true; return nil }},
	})
}

type question struct {
	service, query string
	into           []any
	take           func() error
}

func (b Books) each(ctx context.Context, questions []question) error {
	for _, q := range questions {
		if err := b.ask(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q.service, err)
		}
	}
	return nil
}

func (b Books) ask(ctx context.Context, q question) error {
	rows, err := b.Admin.QueryContext(ctx, fmt.Sprintf(q.query, b.Schemas[q.service]))
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(q.into...); err != nil {
			return err
		}
		if err := q.take(); err != nil {
			return err
		}
	}
	return rows.Err()
}

// money asks Lockstep about each hold and each account.
func (b Books) money(ctx context.Context, f *facts) error {
	var mu sync.Mutex
	asking, ctx := errgroup.WithContext(ctx)
	asking.SetLimit(questionsAtOnce)
	for id, c := range f.charges {
		if c.hold == "" {
			continue
		}
		asking.Go(func() error {
			hold, err := b.Lockstep.HoldByID(ctx, c.hold, client.Fresh())
			mu.Lock()
			defer mu.Unlock()
			f.holds[id] = hold.State
			return err
		})
	}
	accounts := []string{b.Shop}
	for account := range b.Buyers {
		accounts = append(accounts, account)
	}
	for _, number := range accounts {
		asking.Go(func() error {
			account, err := b.Lockstep.Account(ctx, number, client.Fresh())
			if err != nil {
				return err
			}
			posted, err := strconv.ParseInt(account.Balance.Posted, 10, 64)
			if err != nil {
				return err
			}
			pending, err := strconv.ParseInt(account.Balance.PendingDebit, 10, 64)
			mu.Lock()
			defer mu.Unlock()
			f.posted[number], f.pending[number] = posted, pending
			return err
		})
	}
	return asking.Wait()
}
