package ledger_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"lockstep/node/ledger"
)

// Owners hear once of what concerns them, whatever part they have in it; stripes have none.
func TestNoticesAreForTheOwnersOfWhatChanged(t *testing.T) {
	t.Parallel()
	lane := ledger.Lane{Node: 1}
	account := func(id ledger.AccountID, owner string) ledger.Account {
		return ledger.Account{ID: id, Owner: owner, Currency: "KRW", Status: ledger.Open, Posted: 100}
	}
	number := func(id ledger.AccountID) ledger.Number { return ledger.NewNumber("alpha", id) }
	cash := ledger.Account{ID: lane.Stripe(ledger.CashSerial, "KRW"), Currency: "KRW", Status: ledger.Open}
	book := ledger.NewBook("alpha", lane, time.Unix(1, 0), []ledger.Account{account(1000, "a"), account(1001, "a"), account(1002, "b"), account(1003, "c"), cash}, nil)
	pay := func(id string, kind ledger.Kind, from, to ledger.Number) ledger.Pay {
		return ledger.Pay{ID: ledger.TransferID(id), Actor: ledger.Actor{Principal: "a", Depositor: true}, Kind: kind, From: from, To: to, Amount: ledger.Money{Minor: 1, Currency: "KRW"}}
	}
	label, same := "x", ""
	for _, operation := range []ledger.Operation{
		pay("own", ledger.Payment, number(1000), number(1001)), pay("both", ledger.Payment, number(1000), number(1002)),
		pay("in", ledger.Deposit, ledger.Cash, number(1002)),
		ledger.HoldFunds{ID: "held", Actor: ledger.Actor{Principal: "a"}, Account: number(1000), To: number(1002), Amount: ledger.Money{Minor: 1, Currency: "KRW"}, ExpiresIn: time.Hour},
		ledger.Amend{Actor: ledger.Actor{Principal: "b"}, Number: number(1002), Label: &label},
		ledger.Amend{Actor: ledger.Actor{Principal: "c"}, Number: number(1003), Label: &same}, // changes nothing
	} {
		if _, err := operation.Apply(book); err != nil {
			t.Fatalf("%T: %v", operation, err)
		}
	}
	if _, err := pay("refused", ledger.Payment, number(1000), number(1000)).Apply(book); err == nil {
		t.Fatal("a transfer to the same account is made")
	}
	var got []string
	for _, n := range book.Notices() {
		got = append(got, fmt.Sprint(n.Event(), " ", n.Object(), " ", n.Owners))
		if !n.At.Equal(time.Unix(1, 0)) {
			t.Errorf("%s is told as of %v", n.Object(), n.At)
		}
	}
	want := []string{
		"transfer.posted transfer:own [a]", "transfer.posted transfer:both [a b]", "transfer.posted transfer:in [b]", "hold.pending hold:held [a]",
		"account.changed account:" + string(number(1002)) + " [b]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
