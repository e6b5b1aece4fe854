package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lockstep/node/ledger"
)

var seoul = time.FixedZone("KST", 9*3600)

// limited is an account with 10,000 and a limit, and what may be done with it.
type limited struct {
	*rows
	zone *time.Location
}

var (
	purse, other = ledger.NewNumber("alpha", 1000), ledger.NewNumber("alpha", 1001)
	owner        = ledger.Actor{Principal: "client:0"}
	staff        = ledger.Actor{Principal: "client:staff", Operator: true}
)

func newLimited(out int64) *limited {
	l := &limited{newRows(), seoul}
	account := l.accounts[1000]
	account.Posted = 10_000
	l.put(account)
	l.mustDo(ledger.Amend{Actor: staff, Number: purse, DailyOut: &out})
	l.now = l.now.Add(2 * time.Minute) // amounts from about the time of the first limit do not come back to it
	return l
}

// do applies an operation in the time zone and keeps what it did.
func (l *limited) do(operation ledger.Operation) (ledger.Result, error) {
	book := l.book(operation)
	book.Zone = l.zone
	result, err := operation.Apply(book)
	if err == nil {
		l.commit(book)
	}
	return result, err
}

func (l *limited) book(operation ledger.Operation) *ledger.Book {
	var accounts []ledger.Account
	for _, id := range operation.Accounts("alpha", lane) {
		accounts = append(accounts, l.accounts[id])
	}
	var holds []ledger.Hold
	for _, id := range operation.Holds() {
		holds = append(holds, l.holds[id])
	}
	return ledger.NewBook("alpha", lane, l.now, accounts, holds)
}

func (l *limited) mustDo(operation ledger.Operation) ledger.Result {
	result, err := l.do(operation)
	if err != nil {
		panic(err)
	}
	return result
}

func (l *limited) pay(amount int64) ledger.Pay {
	return ledger.Pay{ID: ledger.TransferID(l.id("t")), Actor: owner, Kind: ledger.Payment, From: purse, To: other, Amount: ledger.Money{Minor: amount, Currency: "KRW"}}
}

func (l *limited) withdraw(amount int64) ledger.Pay {
	pay := l.pay(amount)
	pay.Kind, pay.To = ledger.Withdrawal, ledger.Cash
	return pay
}

func (l *limited) hold(amount int64) ledger.HoldFunds {
	return ledger.HoldFunds{ID: ledger.HoldID(l.id("h")), Actor: owner, Account: purse, Amount: ledger.Money{Minor: amount, Currency: "KRW"}, ExpiresIn: 72_000 * time.Hour}
}

func (l *limited) settle(hold ledger.HoldID, end ledger.State, minor int64) ledger.Settle {
	s := ledger.Settle{Hold: hold, Actor: owner, Account: purse, End: end}
	if end == ledger.Posted {
		s.Transfer, s.To, s.Minor = ledger.TransferID(l.id("t")), other, minor
	}
	return s
}

func (l *limited) left() int64 {
	account := l.accounts[1000]
	return account.Daily.Left(ledger.DayBegan(l.now, l.zone))
}

func (l *limited) expect(t *testing.T, what string, err error, refused bool, left int64) {
	t.Helper()
	if code := ledger.CodeOf(err); refused != (code == ledger.LimitExceeded) || !refused && err != nil {
		t.Errorf("%s: got %v", what, err)
	}
	if l.left() != left {
		t.Errorf("%s: %d is left, want %d", what, l.left(), left)
	}
}

// All that leaves counts once, whatever way it takes; what is refused or comes in does not.
func TestWhatLeavesCountsOnce(t *testing.T) {
	t.Parallel()
	l := newLimited(1000)
	_, err := l.do(l.withdraw(300))
	l.expect(t, "withdrawal", err, false, 700)
	_, err = l.do(l.pay(200))
	l.expect(t, "transfer", err, false, 500)
	_, err = l.do(l.pay(501))
	l.expect(t, "too much", err, true, 500)
	_, err = l.do(ledger.Pay{ID: "d", Actor: ledger.Actor{Depositor: true}, Kind: ledger.Deposit, From: ledger.Cash, To: purse, Amount: ledger.Money{Minor: 900, Currency: "KRW"}})
	l.expect(t, "deposit", err, false, 500)
	held, err := l.do(l.hold(400))
	l.expect(t, "hold", err, false, 100)
	_, err = l.do(l.hold(101))
	l.expect(t, "hold of too much", err, true, 100)
	_, err = l.do(l.settle(held.Hold.ID, ledger.Posted, 150))
	l.expect(t, "capture of a part", err, false, 350)
	held = l.mustDo(l.hold(350))
	_, err = l.do(l.settle(held.Hold.ID, ledger.Voided, 0))
	l.expect(t, "voided hold", err, false, 350)
	_, err = l.do(ledger.Batch{Atomic: true, Transfers: []ledger.Pay{l.pay(300), l.pay(51)}})
	l.expect(t, "a batch that fails in its second", err, true, 350)
	_, err = l.do(ledger.Batch{Transfers: []ledger.Pay{l.pay(300), l.pay(51), l.pay(50)}})
	l.expect(t, "a batch of which one fails", err, false, 0)
	_, err = l.do(l.pay(1))
	l.expect(t, "at the limit", err, true, 0)
}

// The day is that of the time zone; what was held on a day that is over comes back to no other.
func TestDayIsThatOfTheTimeZone(t *testing.T) {
	t.Parallel()
	l := newLimited(1000)
	l.now = time.Date(2026, 2, 1, 14, 59, 59, 0, time.UTC) // 23:59:59 in Seoul
	held := l.mustDo(l.hold(600))
	l.mustDo(l.pay(400))
	_, err := l.do(l.pay(1))
	l.expect(t, "in the last second", err, true, 0)
	l.now = l.now.Add(time.Second)
	_, err = l.do(l.pay(900))
	l.expect(t, "on the next day", err, false, 100)
	_, err = l.do(l.settle(held.Hold.ID, ledger.Voided, 0))
	l.expect(t, "yesterday's hold voided", err, false, 100)
	l.now = l.now.Add(-2 * time.Second) // another node's clock, which the database had read before it waited
	_, err = l.do(l.pay(101))
	l.expect(t, "a clock that is behind", err, true, 100)
	l.now = l.now.Add(48 * time.Hour)
	_, err = l.do(l.settle(held.Hold.ID, ledger.Voided, 0))
	if ledger.CodeOf(err) != ledger.InvalidState || l.left() != 1000 {
		t.Errorf("voided twice: %v, %d is left", err, l.left())
	}
}

// A hold from before the limit was never counted, so that its release must not make room.
func TestHoldFromBeforeTheLimitMakesNoRoom(t *testing.T) {
	t.Parallel()
	l := &limited{newRows(), nil}
	account := l.accounts[1000]
	account.Posted = 10_000
	l.put(account)
	held := l.mustDo(l.hold(500))
	out := int64(500)
	l.mustDo(ledger.Amend{Actor: staff, Number: purse, DailyOut: &out})
	l.mustDo(l.pay(500))
	_, err := l.do(l.settle(held.Hold.ID, ledger.Voided, 0))
	l.expect(t, "void", err, false, 0)
}

// Only operators set a limit; without one nothing is counted, and a lower one makes what is left less than nothing.
func TestLimitIsAnOperatorsToSet(t *testing.T) {
	t.Parallel()
	l := newLimited(1000)
	l.mustDo(l.pay(700))
	for _, step := range []struct {
		out    int64
		left   int64
		capped bool
	}{{500, -200, true}, {ledger.Unlimited, -700, false}, {800, 100, true}, {0, -700, true}} {
		l.mustDo(ledger.Amend{Actor: staff, Number: purse, DailyOut: &step.out})
		_, err := l.do(l.pay(101))
		l.expect(t, fmt.Sprint("limit ", step.out), err, step.capped, step.left-map[bool]int64{false: 101}[step.capped])
		if !step.capped {
			account := l.accounts[1000]
			account.Daily.Used -= 101 // as if it had not been, for the steps that follow
			l.put(account)
		}
	}
	out := int64(9000)
	if _, err := l.do(ledger.Amend{Actor: owner, Number: purse, DailyOut: &out}); ledger.CodeOf(err) != ledger.Forbidden {
		t.Errorf("its owner sets a limit: %v", err)
	}
	none := int64(ledger.Unlimited)
	if l.mustDo(ledger.Amend{Actor: staff, Number: other, DailyOut: &none}); l.accounts[1001].Daily.Kept {
		t.Error("an account without a limit keeps one after none was taken away")
	}
}

// A transfer to another system counts when it is set aside, and comes back when it is given up.
func TestTransferToAnotherSystemComesBackWhenGivenUp(t *testing.T) {
	t.Parallel()
	l := newLimited(1000)
	peer := ledger.Peer{System: "beta", Settlement: 10}
	remit := func(amount int64) (ledger.Remittance, error) {
		operation := ledger.Remit{
			ID: ledger.TransferID(l.id("r")), Actor: owner, Peer: peer, From: purse, To: ledger.NewNumber("beta", 1000),
			Amount: ledger.Money{Minor: amount, Currency: "KRW"}, Epoch: 1, ExpiresIn: time.Minute,
		}
		book := l.book(operation)
		book.Zone = l.zone
		book.WithPeers(nil, nil)
		book.Stand(1, true)
		result, err := operation.Apply(book)
		if err != nil {
			return ledger.Remittance{}, err
		}
		l.commit(book)
		return *result.Remittance, nil
	}
	conclude := func(r ledger.Remittance, end ledger.State) {
		l.put(ledger.Account{ID: lane.Stripe(10, "KRW"), Currency: "KRW", Status: ledger.Open})
		operation := ledger.Conclude{ID: r.ID, Peer: peer, From: purse, Currency: "KRW", End: end, Epoch: 1, PayeeEpoch: 1}
		book := l.book(operation)
		book.Zone = l.zone
		book.WithPeers([]ledger.Remittance{r}, []ledger.Exposure{{ExposureKey: ledger.ExposureKey{Peer: "beta", Currency: "KRW"}}})
		book.Stand(1, true)
		if _, err := operation.Apply(book); err != nil {
			t.Fatal(err)
		}
		l.commit(book)
	}
	first, err := remit(600)
	l.expect(t, "set aside", err, false, 400)
	_, err = remit(401)
	l.expect(t, "too much", err, true, 400)
	conclude(first, ledger.Voided)
	l.expect(t, "given up", nil, false, 1000)
	second, err := remit(1000)
	l.expect(t, "again", err, false, 0)
	conclude(second, ledger.Posted)
	l.expect(t, "posted", nil, false, 0)
}

// Whatever comes in whichever order over some days, what was decided on one day and not released on it stays within the
// limit, by a count of the test's own.
func TestNoDayExceedsItsLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const out = 100
		l := newLimited(out)
		day := func(at time.Time) string { return at.In(l.zone).Format(time.DateOnly) }
		counted, open := map[string]int64{}, []ledger.Hold(nil)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			amount := rapid.Int64Range(1, 70).Draw(t, "amount")
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				if _, err := l.do(l.pay(amount)); err == nil {
					counted[day(l.now)] += amount
				}
			case 1:
				if _, err := l.do(ledger.Batch{Atomic: true, Transfers: []ledger.Pay{l.pay(amount), l.withdraw(amount)}}); err == nil {
					counted[day(l.now)] += 2 * amount
				}
			case 2:
				if made, err := l.do(l.hold(amount)); err == nil {
					counted[day(l.now)] += amount
					open = append(open, *made.Hold)
				}
			case 3, 4:
				if len(open) == 0 {
					continue
				}
				hold, end, taken := open[0], ledger.Voided, int64(0)
				open = open[1:]
				if amount%2 == 0 {
					end, taken = ledger.Posted, min(amount, hold.Amount.Minor)
				}
				l.mustDo(l.settle(hold.ID, end, taken))
				if day(hold.CreatedAt) == day(l.now) {
					counted[day(l.now)] -= hold.Amount.Minor - taken
				}
			default:
				l.now = l.now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "hours")) * time.Hour)
			}
			if counted[day(l.now)] > out || out-counted[day(l.now)] != l.left() {
				t.Fatalf("on %s %d left of %d, and %d more may", day(l.now), counted[day(l.now)], out, l.left())
			}
		}
	})
}
