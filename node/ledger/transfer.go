package ledger

import "time"

// TransferID is a transfer's UUID in its textual form.
type TransferID string

// HoldID is a hold's UUID in its textual form.
type HoldID string

// Kind says what a transfer is for.
type Kind string

// The kinds of transfers.
const (
	Deposit    Kind = "deposit"
	Withdrawal Kind = "withdrawal"
	Payment    Kind = "transfer"
	Captured   Kind = "capture"
)

// State is where a transfer or a hold stands.
type State string

// Transfers are pending, posted or voided; holds may also be expired.
const (
	Pending State = "pending"
	Posted  State = "posted"
	Voided  State = "voided"
	Expired State = "expired"
)

// Transfer moves an amount between two accounts. From and To are numbers or Cash; PayerID and PayeeID are the rows that
// the entries stand on.
type Transfer struct {
	ID          TransferID
	Kind        Kind
	State       State
	From, To    Number
	PayerID     AccountID
	PayeeID     AccountID
	Amount      Money
	Description string
	Reference   string
	Hold        HoldID // of a capture
	CreatedAt   time.Time
	FinishedAt  time.Time // zero while pending
}

// Remote tells whether the transfer is between two systems.
func (t *Transfer) Remote() bool { return t.Kind == Payment && t.From.System() != t.To.System() }

// Entry is one immutable line of the journal.
type Entry struct {
	Account      AccountID
	Sequence     int64 // counts from 1 without a gap on each account
	Transfer     TransferID
	Kind         Kind
	Amount       int64 // minor units; negative is a debit
	Currency     Currency
	BalanceAfter int64
	Counterparty Number
	CreatedAt    time.Time
}

// Hold is a pending debit; it leaves Pending once.
type Hold struct {
	ID        HoldID
	Account   AccountID
	To        Number // optional payee
	Amount    Money
	State     State
	Captured  int64 // minor units
	ExpiresAt time.Time
	CreatedAt time.Time
}
