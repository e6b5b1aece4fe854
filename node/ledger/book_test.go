package ledger_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lockstep/node/ledger"
)

var (
	lane  = ledger.Lane{Node: 1}
	start = time.Date(2026, 1, 31, 9, 0, 0, 0, time.UTC)
)

// rows is a database of a few accounts, as the engine keeps it between batches.
type rows struct {
	accounts map[ledger.AccountID]ledger.Account
	holds    map[ledger.HoldID]ledger.Hold
	entries  []ledger.Entry
	now      time.Time
	ids      int
}

func newRows() *rows {
	r := &rows{accounts: map[ledger.AccountID]ledger.Account{}, holds: map[ledger.HoldID]ledger.Hold{}, now: start}
	for i, currency := range []ledger.Currency{"KRW", "KRW", "KRW", "USD"} {
		r.put(ledger.Account{ID: ledger.AccountID(1000 + i), Owner: fmt.Sprintf("client:%d", i%2), Currency: currency, Status: ledger.Open})
	}
	for _, currency := range []ledger.Currency{"KRW", "USD"} {
		r.put(ledger.Account{ID: lane.Stripe(ledger.CashSerial, currency), Currency: currency, Status: ledger.Open})
	}
	return r
}

func (r *rows) put(account ledger.Account) { r.accounts[account.ID] = account }

func (r *rows) id(prefix string) string {
	r.ids++
	return fmt.Sprintf("%s-%04d", prefix, r.ids)
}

// apply runs an operation on just the rows that it asked for.
func (r *rows) apply(operation ledger.Operation) (*ledger.Book, ledger.Result, error) {
	var accounts []ledger.Account
	var holds []ledger.Hold
	for _, id := range slices.Compact(slices.Sorted(slices.Values(operation.Accounts("alpha", lane)))) {
		if account, there := r.accounts[id]; there {
			accounts = append(accounts, account)
		}
	}
	for _, id := range operation.Holds() {
		if hold, there := r.holds[id]; there {
			holds = append(holds, hold)
		}
	}
	book := ledger.NewBook("alpha", lane, r.now, accounts, holds)
	result, err := operation.Apply(book)
	return book, result, err
}

func (r *rows) commit(book *ledger.Book) {
	for _, account := range book.Changed() {
		r.put(account)
	}
	for _, hold := range book.ChangedHolds() {
		r.holds[hold.ID] = hold
	}
	r.entries = append(r.entries, book.Entries...)
}

// operations draws what clients may ask for, sensible or not.
func (r *rows) operation(t *rapid.T) ledger.Operation {
	number := func(name string) ledger.Number {
		return ledger.NewNumber("alpha", ledger.AccountID(rapid.IntRange(1000, 1004).Draw(t, name))) // 1004 is not there
	}
	actor := ledger.Actor{
		Principal: fmt.Sprintf("client:%d", rapid.IntRange(0, 1).Draw(t, "actor")),
		Operator:  rapid.Bool().Draw(t, "operator"), Depositor: rapid.Bool().Draw(t, "depositor"),
	}
	money := ledger.Money{Minor: rapid.Int64Range(1, 500).Draw(t, "minor"), Currency: rapid.SampledFrom([]ledger.Currency{"KRW", "KRW", "KRW", "USD"}).Draw(t, "currency")}
	pay := func() ledger.Pay {
		pay := ledger.Pay{
			ID: ledger.TransferID(r.id("t")), Actor: actor, Amount: money, From: number("from"), To: number("to"),
			Kind: rapid.SampledFrom([]ledger.Kind{ledger.Deposit, ledger.Deposit, ledger.Withdrawal, ledger.Payment}).Draw(t, "kind"),
		}
		switch pay.Kind {
		case ledger.Deposit:
			pay.From = ledger.Cash
		case ledger.Withdrawal:
			pay.To = ledger.Cash
		}
		return pay
	}
	switch rapid.IntRange(0, 5).Draw(t, "operation") {
	case 0, 1:
		return pay()
	case 2:
		batch := ledger.Batch{Atomic: rapid.Bool().Draw(t, "atomic")}
		for range rapid.IntRange(1, 5).Draw(t, "transfers") {
			next := pay()
			next.Kind, next.From, next.To = ledger.Payment, number("from"), number("to")
			batch.Transfers = append(batch.Transfers, next)
		}
		return batch
	case 3:
		hold := ledger.HoldFunds{ID: ledger.HoldID(r.id("h")), Actor: actor, Account: number("held"), Amount: money, ExpiresIn: time.Duration(rapid.IntRange(1, 60).Draw(t, "life")) * time.Second}
		if rapid.Bool().Draw(t, "named") {
			hold.To = number("to")
		}
		return hold
	case 4:
		return r.settle(t, actor, number)
	default:
		return r.amend(t, actor, number)
	}
}

func (r *rows) settle(t *rapid.T, actor ledger.Actor, number func(string) ledger.Number) ledger.Operation {
	settle := ledger.Settle{Hold: "h-none", Actor: actor, Transfer: ledger.TransferID(r.id("t")), To: number("to"), End: rapid.SampledFrom([]ledger.State{ledger.Posted, ledger.Voided, ledger.Expired}).Draw(t, "end")}
	if ids := slices.Sorted(maps.Keys(r.holds)); len(ids) > 0 {
		settle.Hold = rapid.SampledFrom(ids).Draw(t, "hold")
		settle.Account = ledger.NewNumber("alpha", r.holds[settle.Hold].Account)
	}
	if rapid.Bool().Draw(t, "part") {
		settle.Minor = rapid.Int64Range(1, 600).Draw(t, "captured")
	}
	return settle
}

func (r *rows) amend(t *rapid.T, actor ledger.Actor, number func(string) ledger.Number) ledger.Operation {
	amend := ledger.Amend{Actor: actor, Number: number("amended")}
	if rapid.Bool().Draw(t, "limited") {
		limit := rapid.Int64Range(0, 300).Draw(t, "limit")
		amend.OverdraftLimit = &limit
	}
	if rapid.IntRange(0, 4).Draw(t, "status?") == 0 {
		status := rapid.SampledFrom([]ledger.Status{ledger.Open, ledger.Frozen, ledger.Closed}).Draw(t, "status")
		amend.Status = &status
	}
	return amend
}

// check recomputes every invariant from the journal and the holds.
func (r *rows) check(t *rapid.T) {
	posted, versions, held := map[ledger.AccountID]int64{}, map[ledger.AccountID]int64{}, map[ledger.AccountID]int64{}
	transfers := map[ledger.TransferID]int64{}
	for _, entry := range r.entries {
		posted[entry.Account] += entry.Amount
		versions[entry.Account]++
		transfers[entry.Transfer] += entry.Amount
		if entry.Sequence != versions[entry.Account] || entry.BalanceAfter != posted[entry.Account] || entry.Amount == 0 {
			t.Fatalf("the chain of %d breaks at %+v", entry.Account, entry)
		}
	}
	for id, sum := range transfers {
		if sum != 0 {
			t.Fatalf("transfer %s sums to %d", id, sum)
		}
	}
	for _, hold := range r.holds {
		if hold.State == ledger.Pending {
			held[hold.Account] += hold.Amount.Minor
		}
		if (hold.State == ledger.Posted) != (hold.Captured > 0) || hold.Captured > hold.Amount.Minor {
			t.Fatalf("hold %+v", hold)
		}
	}
	for id, account := range r.accounts {
		if account.Posted != posted[id] || account.Version != versions[id] || account.PendingDebit != held[id] || account.PendingCredit != 0 {
			t.Fatalf("account %+v, its journal says %d in %d entries, its holds %d", account, posted[id], versions[id], held[id])
		}
		if !account.Stripe() && account.Available() < 0 {
			t.Fatalf("account %+v owes more than it may", account)
		}
	}
}

// Whatever is asked for in whatever order: all invariants hold, and a refusal changes nothing at all.
func TestEveryOperationKeepsTheInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := newRows()
		for range rapid.IntRange(1, 40).Draw(t, "operations") {
			r.now = r.now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "seconds")) * time.Second)
			book, _, err := r.apply(r.operation(t))
			if err != nil {
				var refusal *ledger.Error
				if !errors.As(err, &refusal) {
					t.Fatalf("%v is no refusal", err)
				}
				if len(book.Changed())+len(book.ChangedHolds())+len(book.Transfers)+len(book.Entries) > 0 {
					t.Fatalf("refused with %v, and changed %+v %+v", err, book.Changed(), book.ChangedHolds())
				}
				continue
			}
			r.commit(book)
			r.check(t)
		}
	})
}

// Commands of one batch see what those before them did, and give the same rows as when each runs alone.
func TestCombinedIsTheSameAsOneByOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		alone, together := newRows(), newRows()
		book := ledger.NewBook("alpha", lane, start, slices.Collect(maps.Values(together.accounts)), nil)
		for range rapid.IntRange(1, 20).Draw(t, "operations") {
			operation := alone.operation(t)
			one, _, aloneErr := alone.apply(operation)
			if aloneErr == nil {
				alone.commit(one)
			}
			err := book.Atomically(func() error { _, err := operation.Apply(book); return err })
			if ledger.CodeOf(err) != ledger.CodeOf(aloneErr) {
				t.Fatalf("%+v: alone %v, together %v", operation, aloneErr, err)
			}
		}
		together.commit(book)
		if !maps.Equal(alone.accounts, together.accounts) || !maps.Equal(alone.holds, together.holds) || !slices.Equal(alone.entries, together.entries) {
			t.Fatalf("alone %+v\ntogether %+v", alone, together)
		}
	})
}

func TestAtomicallyTakesEverythingBack(t *testing.T) {
	t.Parallel()
	r, owner, a := newRows(), ledger.Actor{Principal: "client:0", Operator: true, Depositor: true}, ledger.NewNumber("alpha", 1000)
	r.fund(t, 1000, 100)
	ten := ledger.Money{Minor: 10, Currency: "KRW"}
	r.must(t, ledger.HoldFunds{ID: "old", Actor: owner, Account: a, Amount: ten, ExpiresIn: time.Minute}, "")
	book := ledger.NewBook("alpha", lane, r.now, slices.Collect(maps.Values(r.accounts)), slices.Collect(maps.Values(r.holds)))
	frozen, enough := ledger.Frozen, errors.New("enough")
	err := book.Atomically(func() error {
		for _, operation := range []ledger.Operation{
			ledger.Pay{ID: "t", Actor: owner, Kind: ledger.Withdrawal, From: a, To: ledger.Cash, Amount: ten},
			ledger.HoldFunds{ID: "new", Actor: owner, Account: a, Amount: ten, ExpiresIn: time.Minute},
			ledger.Settle{Hold: "old", Actor: owner, Account: a, End: ledger.Voided},
			ledger.Settle{Hold: "new", Actor: owner, Account: a, End: ledger.Voided},
			ledger.Amend{Actor: owner, Number: ledger.NewNumber("alpha", 1002), Status: &frozen},
		} {
			if _, err := operation.Apply(book); err != nil {
				return err
			}
		}
		return enough
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
	if len(book.Changed())+len(book.ChangedHolds())+len(book.Transfers)+len(book.Entries) > 0 {
		t.Errorf("what stayed: %+v %+v %+v %+v", book.Changed(), book.ChangedHolds(), book.Transfers, book.Entries)
	}
	if _, err := (ledger.Settle{Hold: "new", Actor: owner, Account: a, End: ledger.Voided}).Apply(book); ledger.CodeOf(err) != ledger.HoldNotFound {
		t.Errorf("a hold that was taken back is still there: %v", err)
	}
}

func TestBatchIsAllOrNoneOrEachForItself(t *testing.T) {
	t.Parallel()
	batch := func(atomic bool) ledger.Batch {
		b := ledger.Batch{Atomic: atomic}
		for i, minor := range []int64{60, 70, 40} {
			b.Transfers = append(b.Transfers, ledger.Pay{
				ID: ledger.TransferID(fmt.Sprint("t", i)), Actor: ledger.Actor{Principal: "client:0"}, Kind: ledger.Payment,
				From: ledger.NewNumber("alpha", 1000), To: ledger.NewNumber("alpha", 1001), Amount: ledger.Money{Minor: minor, Currency: "KRW"},
			})
		}
		return b
	}
	r := newRows()
	r.fund(t, 1000, 100)
	r.must(t, batch(true), ledger.InsufficientFunds)
	if got := r.accounts[1000].Posted; got != 100 {
		t.Errorf("a refused batch left %d", got)
	}
	result := r.must(t, batch(false), "")
	if len(result.Batch) != 3 || result.Batch[0].Transfer == nil || result.Batch[1].Refusal == nil || result.Batch[2].Transfer == nil || r.accounts[1001].Posted != 100 {
		t.Errorf("got %+v", result.Batch)
	}
}

// fund pays in as a teller does.
func (r *rows) fund(t *testing.T, account ledger.AccountID, minor int64) {
	t.Helper()
	r.must(t, ledger.Pay{
		ID: ledger.TransferID(r.id("t")), Actor: ledger.Actor{Depositor: true}, Kind: ledger.Deposit, From: ledger.Cash,
		To: ledger.NewNumber("alpha", account), Amount: ledger.Money{Minor: minor, Currency: r.accounts[account].Currency},
	}, "")
}

// must applies an operation and expects a refusal, or none for "".
func (r *rows) must(t *testing.T, operation ledger.Operation, code ledger.Code) ledger.Result {
	t.Helper()
	book, result, err := r.apply(operation)
	if ledger.CodeOf(err) != code {
		t.Fatalf("%+v: got %v, want %q", operation, err, code)
	}
	if err == nil {
		r.commit(book)
	}
	return result
}

func TestRefusalsNameTheirReason(t *testing.T) {
	t.Parallel()
	owner := ledger.Actor{Principal: "client:0"}
	a, b, dollars := ledger.NewNumber("alpha", 1000), ledger.NewNumber("alpha", 1001), ledger.NewNumber("alpha", 1003)
	pay := func(from, to ledger.Number, minor int64) ledger.Pay {
		return ledger.Pay{ID: "t", Actor: owner, Kind: ledger.Payment, From: from, To: to, Amount: ledger.Money{Minor: minor, Currency: "KRW"}}
	}
	r := newRows()
	r.fund(t, 1000, 100)
	r.must(t, pay(a, b, 101), ledger.InsufficientFunds)
	r.must(t, pay(a, a, 1), ledger.SameAccount)
	r.must(t, pay(a, dollars, 1), ledger.CurrencyMismatch)
	r.must(t, pay(a, ledger.NewNumber("alpha", 5000), 1), ledger.PayeeNotFound)
	r.must(t, pay(a, ledger.NewNumber("beta", 1000), 1), ledger.PeerUnknown)
	r.must(t, pay(a, ledger.NewNumber("alpha", 1), 1), ledger.PayeeNotFound) // the system's own cash
	r.must(t, pay(b, a, 1), ledger.AccountNotFound)                          // a stranger's
	r.must(t, pay(ledger.NewNumber("beta", 1000), a, 1), ledger.AccountNotFound)
	for status, code := range map[ledger.Status]ledger.Code{ledger.Frozen: ledger.AccountFrozen, ledger.Closed: ledger.AccountClosed} {
		account := r.accounts[1001]
		account.Status = status
		r.put(account)
		r.must(t, pay(a, b, 1), code)
	}
	full := r.accounts[1002]
	full.Posted = ledger.BalanceMax
	r.put(full)
	r.must(t, pay(a, ledger.NewNumber("alpha", 1002), 1), ledger.BalanceOutOfRange)
}

func TestHoldEndsOnceAndInTime(t *testing.T) {
	t.Parallel()
	r, owner := newRows(), ledger.Actor{Principal: "client:0"}
	r.fund(t, 1000, 100)
	a, b := ledger.NewNumber("alpha", 1000), ledger.NewNumber("alpha", 1001)
	hold := func(life time.Duration) ledger.HoldID {
		id := ledger.HoldID(r.id("h"))
		r.must(t, ledger.HoldFunds{ID: id, Actor: owner, Account: a, To: b, Amount: ledger.Money{Minor: 30, Currency: "KRW"}, ExpiresIn: life}, "")
		return id
	}
	settle := func(id ledger.HoldID, end ledger.State, minor int64) ledger.Settle {
		return ledger.Settle{Hold: id, Actor: owner, Account: a, End: end, Transfer: ledger.TransferID(r.id("t")), To: b, Minor: minor}
	}
	captured, late := hold(time.Minute), hold(time.Second)
	r.must(t, settle(captured, ledger.Expired, 0), ledger.InvalidState) // its time has not come
	r.must(t, settle(captured, ledger.Posted, 31), ledger.HoldExceeded)
	if got := r.must(t, settle(captured, ledger.Posted, 20), ""); got.Hold.Captured != 20 || got.Transfer.Amount.Minor != 20 {
		t.Errorf("got %+v", got)
	}
	r.must(t, settle(captured, ledger.Voided, 0), ledger.InvalidState)
	stranger := settle(late, ledger.Voided, 0)
	stranger.Actor.Principal = "client:1"
	r.must(t, stranger, ledger.HoldNotFound)
	r.now = r.now.Add(time.Second)
	r.must(t, settle(late, ledger.Posted, 0), ledger.InvalidState) // too late, whether the sweeper came or not
	r.must(t, settle(late, ledger.Expired, 0), "")
	if account := r.accounts[1000]; account.Posted != 80 || account.PendingDebit != 0 {
		t.Errorf("the account is %+v", account)
	}
}

func TestAmendKeepsRanksAndClosesEmptyAccountsOnly(t *testing.T) {
	t.Parallel()
	r := newRows()
	r.fund(t, 1000, 10)
	a, closed, label, limit := ledger.NewNumber("alpha", 1000), ledger.Closed, "rent", int64(5)
	owner, operator, stranger := ledger.Actor{Principal: "client:0"}, ledger.Actor{Operator: true}, ledger.Actor{Principal: "client:1"}
	r.must(t, ledger.Amend{Actor: owner, Number: a, Label: &label}, "")
	r.must(t, ledger.Amend{Actor: stranger, Number: a, Label: &label}, ledger.AccountNotFound)
	r.must(t, ledger.Amend{Actor: owner, Number: a, OverdraftLimit: &limit}, ledger.Forbidden)
	r.must(t, ledger.Amend{Actor: operator, Number: a, OverdraftLimit: &limit}, "")
	r.must(t, ledger.Amend{Actor: operator, Number: a, Status: &closed}, ledger.InvalidState)
	r.must(t, ledger.Pay{ID: "out", Actor: owner, Kind: ledger.Withdrawal, From: a, To: ledger.Cash, Amount: ledger.Money{Minor: 15, Currency: "KRW"}}, "")
	none := int64(0)
	r.must(t, ledger.Amend{Actor: operator, Number: a, OverdraftLimit: &none}, ledger.InvalidState) // five are in use
	r.fund(t, 1000, 5)
	r.must(t, ledger.Amend{Actor: operator, Number: a, Status: &closed}, "")
	open := ledger.Open
	r.must(t, ledger.Amend{Actor: operator, Number: a, Status: &open}, ledger.InvalidState)
}
