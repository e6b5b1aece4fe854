package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// TransferID is a transfer's UUID in its textual form.
type TransferID string

// ReturnOf is the id of the transfer that brings the money of id back to the system that paid it. It follows from id alone,
// so that whoever begins the return a second time finds the first one. It is a UUID of version 8 (RFC 9562, section 5.8):
// all other transfers have version 7.
func ReturnOf(id TransferID) TransferID {
	sum := sha256.Sum256([]byte("lockstep return of " + string(id)))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	text := hex.EncodeToString(sum[:16])
	return TransferID(text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:])
}

// versionAt is where the text of a UUID has its version.
const versionAt = 14

// Returns tells whether the id is that of a return.
func (id TransferID) Returns() bool { return len(id) > versionAt && id[versionAt] == '8' }

// kindBetween is what a transfer between two systems is for.
func kindBetween(id TransferID) Kind {
	if id.Returns() {
		return Returned
	}
	return Payment
}

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
	Returned   Kind = "return" // of a payment from another system that no account here could take
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
func (t *Transfer) Remote() bool {
	return t.Kind == Returned || t.Kind == Payment && t.From.System() != t.To.System()
}

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
