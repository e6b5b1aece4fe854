// Package ledger is the domain: money, accounts, transfers, holds, and the rules by which operations change them. It uses
// the standard library only and knows neither HTTP nor SQL.
package ledger

import "time"

// Status says what may happen on an account.
type Status string

// The states of an account. Closed is final.
const (
	Open   Status = "open"
	Frozen Status = "frozen"
	Closed Status = "closed"
)

// Account is one balance in one currency. All amounts are minor units.
type Account struct {
	ID             AccountID
	Owner          string // the principal it belongs to; empty for a stripe
	Currency       Currency
	Label          string
	Status         Status
	Posted         int64 // booked money
	PendingDebit   int64 // held money
	PendingCredit  int64 // promised money
	OverdraftLimit int64
	Version        int64 // counts the entries; the next entry's sequence is Version + 1
	CreatedAt      time.Time
	Daily          DailyLimit
}

// Available is what the account can still pay or hold.
func (a *Account) Available() int64 { return a.Posted - a.PendingDebit + a.OverdraftLimit }

// Stripe tells whether the row is one lane's share of a system account, which is exempt from Available() >= 0.
func (a *Account) Stripe() bool { return a.ID >= stripeIDsMin }

// mayMove refuses when the account is not open or keeps another currency.
func (a *Account) mayMove(number Number, currency Currency) error {
	switch {
	case a.Status == Closed:
		return Refuse(AccountClosed, "account %s is closed", number)
	case a.Status == Frozen:
		return Refuse(AccountFrozen, "account %s is frozen", number)
	case a.Currency != currency:
		return Refuse(CurrencyMismatch, "account %s keeps %s, not %s", number, a.Currency, currency)
	}
	return nil
}

// canPay refuses when less than the amount is available.
func (a *Account) canPay(number Number, amount int64) error {
	if a.Stripe() {
		if a.Posted-amount < -BalanceMax {
			return Refuse(BalanceOutOfRange, "the system account behind this payment would leave its range")
		}
		return nil
	}
	if a.Available() < amount {
		return Refuse(InsufficientFunds, "account %s has less than the amount available", number)
	}
	return nil
}

// canReceive refuses when the credit would carry the account out of range.
func (a *Account) canReceive(number Number, amount int64) error {
	if a.Posted+a.PendingCredit > BalanceMax-amount {
		return Refuse(BalanceOutOfRange, "account %s cannot take the amount: its balance would leave the range", number)
	}
	return nil
}

// The system's own accounts, by serial.
const (
	CashSerial     AccountID = 1
	SuspenseSerial AccountID = 2

	// ReceivableSerial is what customers owe whose payment a peer has booked, while we have lost it and their account cannot
	// pay it any more.
	ReceivableSerial AccountID = 3
)

// Cash is what a deposit shows as its payer and a withdrawal as its payee.
const Cash Number = "cash"

// Lane is one lane of one node: the only writer of its stripes.
type Lane struct{ Node, Lane int }

// Bounds of a lane's parts; they fix the width of each part of a stripe's id.
const (
	nodesMax = 100_000
	lanesMax = 100
)

// Stripe computes the id of this lane's share of a system account in a currency. Ids are computed, not allocated, so
// that making a stripe again is harmless. It panics on parts out of range: our bug.
func (l Lane) Stripe(system AccountID, currency Currency) AccountID {
	if system < 1 || system >= systemSerialsMax || l.Node < 1 || l.Node >= nodesMax || l.Lane < 0 || l.Lane >= lanesMax {
		panic("ledger: Stripe: part out of range")
	}
	id := ((int64(system)*1000+currency.numeric())*nodesMax+int64(l.Node))*lanesMax + int64(l.Lane)
	return stripeIDsMin + AccountID(id)
}

// StripeOf tells which system account and currency a stripe belongs to; 0 and "" when id is no stripe.
func StripeOf(id AccountID) (system AccountID, currency Currency) {
	if id < stripeIDsMin {
		return 0, ""
	}
	parts := int64(id-stripeIDsMin) / (nodesMax * lanesMax)
	return AccountID(parts / 1000), numbered()[parts%1000]
}
