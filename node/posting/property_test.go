package posting_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lockstep/node/ledger"
	"lockstep/node/posting"
)

// book is what a person would note down: one line after the other, no batches, no locks.
type book struct {
	posted, held map[ledger.Number]int64
	frozen       map[ledger.Number]bool
	open         map[ledger.HoldID]int64 // amounts of pending holds
}

// move notes a payment, if it may be; "" is cash.
func (b *book) move(from, to ledger.Number, amount int64) bool {
	if b.frozen[from] || b.frozen[to] || from == to || from != "" && b.posted[from]-b.held[from] < amount {
		return false
	}
	b.posted[from] -= amount
	b.posted[to] += amount
	return true
}

func (b *book) hold(id ledger.HoldID, account ledger.Number, amount int64) bool {
	if b.frozen[account] || b.posted[account]-b.held[account] < amount {
		return false
	}
	b.held[account] += amount
	b.open[id] = amount
	return true
}

func (b *book) capture(id ledger.HoldID, from, to ledger.Number, amount int64) bool {
	whole, pending := b.open[id]
	if !pending || amount > whole || b.frozen[from] || b.frozen[to] || from == to {
		return false
	}
	b.void(id, from)
	b.posted[from] -= amount
	b.posted[to] += amount
	return true
}

func (b *book) void(id ledger.HoldID, account ledger.Number) bool {
	whole, pending := b.open[id]
	if pending {
		delete(b.open, id)
		b.held[account] -= whole
	}
	return pending
}

// copied is for what may have to be taken back.
func (b *book) copied() *book {
	return &book{maps.Clone(b.posted), maps.Clone(b.held), maps.Clone(b.frozen), maps.Clone(b.open)}
}

func newBook() *book {
	return &book{map[ledger.Number]int64{}, map[ledger.Number]int64{}, map[ledger.Number]bool{}, map[ledger.HoldID]int64{}}
}

// scene draws operations over a few accounts, and notes what each should do.
type scene struct {
	*rapid.T
	book     *book
	accounts []ledger.Number
	holds    []ledger.HoldFunds
}

func (s *scene) account(name string) ledger.Number {
	return rapid.SampledFrom(s.accounts).Draw(s.T, name)
}

// next draws an operation and says whether it should be accepted.
func (s *scene) next() (ledger.Operation, bool) {
	amount := rapid.Int64Range(1, 60).Draw(s.T, "amount")
	a, b := s.account("a"), s.account("b")
	switch kind := rapid.IntRange(0, 8).Draw(s.T, "operation"); {
	case kind == 0:
		return deposit(a, 4*amount), s.book.move("", a, 4*amount)
	case kind == 1:
		return pay(ledger.Withdrawal, a, ledger.Cash, amount), s.book.move(a, "", amount)
	case kind <= 3:
		return transfer(a, b, amount), s.book.move(a, b, amount)
	case kind == 4:
		o := hold(a, amount, time.Hour)
		s.holds = append(s.holds, o)
		return o, s.book.hold(o.ID, a, amount)
	case kind <= 6 && len(s.holds) > 0:
		return s.settle(amount, b)
	case kind == 7:
		return s.batch()
	}
	status := rapid.SampledFrom([]ledger.Status{ledger.Frozen, ledger.Open, ledger.Open}).Draw(s.T, "status")
	s.book.frozen[a] = status == ledger.Frozen
	return ledger.Amend{Actor: ledger.Actor{Operator: true}, Number: a, Status: &status}, true
}

func (s *scene) settle(amount int64, to ledger.Number) (ledger.Operation, bool) {
	h := rapid.SampledFrom(s.holds).Draw(s.T, "hold")
	o := ledger.Settle{
		Hold: h.ID, Actor: ledger.Actor{Principal: alice}, Account: h.Account, End: ledger.Voided,
		Transfer: ledger.TransferID(newID()),
	}
	if rapid.Bool().Draw(s.T, "void") {
		return o, s.book.void(h.ID, h.Account)
	}
	o.End, o.To, o.Minor = ledger.Posted, to, amount
	return o, s.book.capture(h.ID, h.Account, to, amount)
}

func (s *scene) batch() (ledger.Operation, bool) {
	o := ledger.Batch{Atomic: rapid.Bool().Draw(s.T, "atomic")}
	before := s.book.copied()
	for range rapid.IntRange(1, 4).Draw(s.T, "transfers") {
		from, to, amount := s.account("from"), s.account("to"), rapid.Int64Range(1, 40).Draw(s.T, "part")
		o.Transfers = append(o.Transfers, transfer(from, to, amount))
		if !s.book.move(from, to, amount) && o.Atomic {
			s.book = before
			return o, false
		}
	}
	return o, true
}

// However the commands are combined, the balances are those of one command after the other, and so are the refusals.
func TestCombinedCommandsDoWhatSingleOnesWould(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open()
	accepted, refused := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		s := &scene{T: rt, book: newBook(), accounts: w.accounts(alice, 3)}
		for batch := range rapid.IntRange(1, 3).Draw(rt, "batches") {
			var commands []posting.Command
			var want []bool
			for range rapid.IntRange(1, 8).Draw(rt, "commands") {
				operation, ok := s.next()
				commands, want = append(commands, fresh(operation)), append(want, ok)
			}
			for i, r := range n.combine(commands...) {
				if r.ok() != want[i] || r.err != nil {
					rt.Fatalf("batch %d, command %d, %T: accepted %t, by itself it would be %t (%v)",
						batch, i, commands[i].Operation, r.ok(), want[i], r.code())
				}
				if want[i] {
					accepted++
				} else {
					refused++
				}
			}
		}
		for _, number := range s.accounts {
			got := fmt.Sprint(w.posted(number), w.pendingDebit(number))
			if want := fmt.Sprint(s.book.posted[number], s.book.held[number]); got != want {
				rt.Fatalf("account %s has posted and held %s, one by one it would be %s", number, got, want)
			}
		}
	})
	t.Logf("%d accepted, %d refused", accepted, refused)
	if failed := n.metric("failures_total"); accepted == 0 || refused == 0 || failed != 0 {
		t.Errorf("%d accepted, %d refused, %v transactions failed", accepted, refused, failed)
	}
	w.verify()
}
