package ledger

import "time"

// Peer is another payment system, as the books know it.
type Peer struct {
	System     string
	Settlement AccountID // serial of our system account for what the two systems owe one another
}

// The further states of a remittance: a refused one was never promised, and nobody applies one in conflict.
const (
	Refused  State = "refused"
	Conflict State = "conflict"
)

// Remittance is a transfer's way between two systems. In the payer's system it is the hold and the saga, in the payee's
// the promise, and in both the barrier: every step makes the row or locks it and then looks at the state, so that steps
// which come twice, too late or in the wrong order change nothing. It leaves Pending once and is never deleted.
type Remittance struct {
	ID           TransferID
	Payer, Payee string // the two systems; one of them is ours
	State        State
	PayerEpoch   int64     // of the payer's system, when it last spoke of the transfer
	PayeeEpoch   int64     // of the payee's system, when it promised; 0 while it has not
	ExpiresAt    time.Time // the payer's own deadline, by its database; for the payee, when it may ask
	Failure      Code      // why it was refused or voided
	Language     string    // of the client's first request, in the payer's system
	RequestID    string    // of that request
	Origin       string    // that request, sealed; in the payer's system
	CreatedAt    time.Time
	FinishedAt   time.Time // zero while pending
	CreditedAt   time.Time // when the payee's system said that it has booked the credit
	Statement    string    // in the payee's system: the payer's signed word that a credit rests on

	// Transfer is what is moved. A tombstone and a refusal have none.
	Transfer *Transfer
}

// Final tells whether the remittance has left Pending.
func (r *Remittance) Final() bool { return r.State != Pending }

// Account is the account in the system that the remittance is about; 0 when nothing is moved, or from suspense.
func (r *Remittance) Account(system string) AccountID {
	switch {
	case r.Transfer == nil, r.Payer == system && r.ID.Returns():
		return 0
	case r.Payer == system:
		return r.Transfer.From.Serial()
	}
	return r.Transfer.To.Serial()
}

// ExposureKey names what we are owed by, or owe to, one peer in one currency.
type ExposureKey struct {
	Peer     string
	Currency Currency
}

// Exposure is how far we trust a peer, in minor units. Its row is locked by every step of a transfer between the two
// systems, so that a cap holds whatever runs at the same time.
type Exposure struct {
	ExposureKey
	Epoch    int64 // the peer's; a statement of a lower one changes nothing any more
	Capped   bool
	Cap      int64
	Reserved int64 // promised to our accounts and not decided
	Credited int64 // booked to our accounts
	Posted   int64 // booked from our accounts to theirs
	Settled  int64 // paid to us outside of this protocol, net
}

// Open is what the peer owes us, promises included; negative when we owe.
func (e *Exposure) Open() int64 { return e.Reserved + e.Credited - e.Posted - e.Settled }

// admits tells whether the peer may be trusted with another amount.
func (e *Exposure) admits(amount int64) bool { return !e.Capped || e.Open() <= e.Cap-amount }

// PeerEvent is what a decision in the payer's system, or a credit in the payee's, has to tell the other one. A credit is about
// a transfer that the other one knows, so that its id says enough.
type PeerEvent struct {
	Peer        string // that hears it
	Type        string // EventCommitted, EventAborted or EventCredited
	Epoch       int64  // of this system, when it happened
	PayeeEpoch  int64  // from the promise, of a decision
	ID          TransferID
	From, To    Number
	Amount      Money
	Description string
	Origin      string // of a committed: for the payer's system, should it lose its own
	Trace       string // of the client's request, if it is known: a traceparent of W3C Trace Context
	At          time.Time
}

// DecisionOf is what the payer's system tells of its decision, in an epoch of its own.
func DecisionOf(r Remittance, epoch int64) PeerEvent {
	event := PeerEvent{Peer: r.Payee, Type: EventAborted, Epoch: epoch, PayeeEpoch: r.PayeeEpoch, ID: r.ID, At: r.FinishedAt}
	if r.State == Posted {
		event.Type, event.Origin = EventCommitted, r.Origin
	}
	if t := r.Transfer; t != nil {
		event.From, event.To, event.Amount, event.Description = t.From, t.To, t.Amount, t.Description
	}
	return event
}

// The events between two systems.
const (
	EventCommitted = "transfer.committed"
	EventAborted   = "transfer.aborted"
	EventCredited  = "transfer.credited"
)

// SagaKind says what a saga's row in the log is about.
type SagaKind string

// The kinds of sagas: the payer's system brings a transfer to its end; the payee's asks about a promise that grew old.
const (
	SagaRemit SagaKind = "remit"
	SagaAwait SagaKind = "await"
)

// SagaStart is a saga that begins with an operation; it ends with the remittance's state.
type SagaStart struct {
	ID    TransferID
	Kind  SagaKind
	After time.Duration // somebody looks at it then, unless it has ended
}

// RemoteOperation is an operation of a transfer between two systems: it locks more than accounts.
type RemoteOperation interface {
	Operation
	// Remittances lists the remittances to lock, if they are there.
	Remittances() []TransferID
	// Exposures lists the exposures to lock; they are made before.
	Exposures() []ExposureKey
}
