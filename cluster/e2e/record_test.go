package e2e_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
)

// record keeps what clients were told of their payments, by the reference that each carries, so that an auditor can
// hold the books against it: what was acknowledged is there exactly once with its amounts, what was refused is not
// there at all, and the balances are those that the acknowledged payments make.
type record struct {
	currency string

	mu       sync.Mutex
	balances map[string]int64 // by what clients were told, in minor units
	posted   map[string]told  // by reference
	refused  map[string]bool
}

// told is a payment as its answer states it.
type told struct{ id, from, to, amount string }

func newRecord(currency string) *record {
	return &record{currency: currency, balances: map[string]int64{}, posted: map[string]told{}, refused: map[string]bool{}}
}

// open opens an account with money on it, of which the record knows.
func (r *record) open(c caller, amount string) string {
	c.Helper()
	number := c.account(r.currency, "0")
	r.mu.Lock()
	r.balances[number] = 0
	r.mu.Unlock()
	if amount != "0" {
		r.pay(c, "/v1/deposits", "cash", number, amount).expect(c, http.StatusCreated, "")
	}
	return number
}

// transfer moves money between two accounts of the record.
func (r *record) transfer(c caller, from, to, amount string, headers ...string) answer {
	return r.pay(c, "/v1/transfers", from, to, amount, headers...)
}

// withdraw takes money out of an account of the record.
func (r *record) withdraw(c caller, from, amount string, headers ...string) answer {
	return r.pay(c, "/v1/withdrawals", from, "cash", amount, headers...)
}

func (r *record) pay(c caller, path, from, to, amount string, headers ...string) answer {
	reference := uuid.NewString()
	got := c.post(path, r.body(reference, from, to, amount), headers...)
	r.note(c, reference, from, to, amount, got)
	return got
}

func (r *record) body(reference, from, to, amount string) object {
	body := payment(from, to, amount, r.currency)
	switch {
	case from == "cash":
		body = cash(to, amount, r.currency)
	case to == "cash":
		body = cash(from, amount, r.currency)
	}
	body["reference"] = reference
	return body
}

// note writes an answer down. One that neither acknowledges nor refuses is the caller's to settle.
func (r *record) note(tb testing.TB, reference, from, to, amount string, got answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case got.status == http.StatusCreated:
		if got.field("from") != from || got.field("to") != to || got.field("amount") != amount || got.field("state") != "posted" {
			tb.Errorf("a payment of %s from %s to %s was answered with %v", amount, from, to, got)
		}
		if earlier, twice := r.posted[reference]; twice && earlier.id != got.field("id") {
			tb.Errorf("payment %s was acknowledged as %s and as %s", reference, earlier.id, got.field("id"))
			return
		} else if twice {
			return
		}
		delete(r.refused, reference) // of an earlier try, which was early
		r.posted[reference] = told{id: got.field("id"), from: from, to: to, amount: amount}
		r.move(from, -minor(tb, amount))
		r.move(to, minor(tb, amount))
	case got.field("outcome") == "not_applied":
		r.refused[reference] = true
	}
}

func (r *record) move(number string, amount int64) {
	if number != "cash" {
		r.balances[number] += amount
	}
}

// minor reads an amount that has all decimals of its currency.
func minor(tb testing.TB, amount string) int64 {
	tb.Helper()
	units, err := strconv.ParseInt(strings.Replace(amount, ".", "", 1), 10, 64)
	if err != nil {
		tb.Fatalf("read the amount %q: %v", amount, err)
	}
	return units
}

// audit holds the books, as the API shows them, against the record.
func (r *record) audit(c caller) {
	c.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, sides := map[string]told{}, 0
	for number, balance := range r.balances {
		if posted := c.posted(number); minor(c, posted) != balance {
			c.Errorf("audit: %s has %s, by what clients were told it has %d", number, posted, balance)
		}
		for _, t := range c.transfersOf(number) {
			sides++
			if other, twice := seen[t.Reference]; twice && other.id != t.ID {
				c.Errorf("audit: payment %s was posted twice, as %s and %s", t.Reference, other.id, t.ID)
			}
			seen[t.Reference] = told{id: t.ID, from: t.From, to: t.To, amount: t.Amount}
		}
	}
	for reference, want := range r.posted {
		if seen[reference] != want {
			c.Errorf("audit: payment %s was acknowledged as %v, the books have %v", reference, want, seen[reference])
		}
	}
	for reference, found := range seen {
		if _, acknowledged := r.posted[reference]; !acknowledged {
			c.Errorf("audit: %v is in the books and was never acknowledged (refused: %t)", found, r.refused[reference])
		}
	}
	c.Logf("audit: %d acknowledged payments are in the books of %d accounts (seen from %d sides), %d refused ones are not",
		len(r.posted), len(r.balances), sides, len(r.refused))
}

// transferLine is a transfer in a list.
type transferLine struct{ ID, From, To, Amount, Reference string }

// transfersOf reads all transfers of an account.
func (c caller) transfersOf(number string) []transferLine {
	c.Helper()
	var all []transferLine
	c.pages("/v1/transfers?limit=200&account="+number, func(page []byte) {
		var read struct{ Transfers []transferLine }
		if err := json.Unmarshal(page, &read); err != nil {
			c.Fatalf("read transfers: %v", err)
		}
		all = append(all, read.Transfers...)
	})
	return all
}

// entryLine is a line of a statement.
type entryLine struct {
	ID           string
	Sequence     int64
	TransferID   string `json:"transfer_id"`
	Kind         string
	Direction    string
	Amount       string
	BalanceAfter string `json:"balance_after"`
	Counterparty string
	Reference    string
}

// statement reads all entries of an account, newest first.
func (c caller) statement(number string, limit int, headers ...string) []entryLine {
	c.Helper()
	var all []entryLine
	c.pages("/v1/accounts/"+number+"/entries?limit="+strconv.Itoa(limit), func(page []byte) {
		var read struct{ Entries []entryLine }
		if err := json.Unmarshal(page, &read); err != nil {
			c.Fatalf("read entries: %v", err)
		}
		all = append(all, read.Entries...)
	}, headers...)
	return all
}

// pages reads a list from its first page to its last, from the source unless headers say otherwise.
func (c caller) pages(list string, read func(page []byte), headers ...string) (count int) {
	c.Helper()
	if len(headers) == 0 {
		headers = []string{"Cache-Control", "no-cache"}
	}
	for cursor := ""; ; count++ {
		path := list
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		got := c.get(path, headers...).expect(c, http.StatusOK, "")
		read(got.body)
		if cursor = got.field("next_cursor"); cursor == "" {
			return count + 1
		}
	}
}
