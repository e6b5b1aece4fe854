package ledger

import "time"

// Remit holds an amount for an account of another system: the first step of a transfer between two systems. The transfer
// is pending until Conclude.
type Remit struct {
	ID          TransferID
	Actor       Actor
	Peer        Peer
	From, To    Number
	Amount      Money
	Description string
	Reference   string
	Epoch       int64 // of this system
	ExpiresIn   time.Duration
	LookAfter   time.Duration // somebody looks at the saga after this long unless it has ended
	Language    string
	RequestID   string
	Origin      string // sealed: the client's request, for this system's own eyes
}

// TransferID is the id that the transfer will have.
func (r Remit) TransferID() TransferID { return r.ID }

// Accounts is the payer.
func (r Remit) Accounts(system string, _ Lane) []AccountID { return local(system, r.From) }

// Holds is empty: the remittance is the hold.
func (r Remit) Holds() []HoldID { return nil }

// Remittances is empty: it is new.
func (r Remit) Remittances() []TransferID { return nil }

// Exposures is empty: what we send lowers what we are owed, and only once it is decided.
func (r Remit) Exposures() []ExposureKey { return nil }

// Apply holds the amount, or refuses.
func (r Remit) Apply(b *Book) (Result, error) {
	if err := b.mayDecide(0); err != nil {
		return Result{}, err
	}
	payer, err := b.owned(r.From, r.Actor)
	if err != nil {
		return Result{}, err
	}
	if err := payer.mayMove(r.From, r.Amount.Currency); err != nil {
		return Result{}, err
	}
	if err := b.canSpend(payer, r.From, r.Amount.Minor); err != nil {
		return Result{}, err
	}
	b.remember(payer)
	payer.PendingDebit += r.Amount.Minor
	b.spend(payer, r.Amount.Minor)
	transfer := Transfer{
		ID: r.ID, Kind: Payment, State: Pending, From: r.From, To: r.To, PayerID: payer.ID, Amount: r.Amount,
		Description: r.Description, Reference: r.Reference, CreatedAt: b.Now,
	}
	remittance := Remittance{
		ID: r.ID, Payer: b.System, Payee: r.Peer.System, State: Pending, PayerEpoch: b.epoch(r.Epoch), ExpiresAt: b.Now.Add(r.ExpiresIn),
		Language: r.Language, RequestID: r.RequestID, Origin: r.Origin, CreatedAt: b.Now, Transfer: &transfer,
	}
	b.putRemittance(remittance)
	b.startSaga(SagaStart{ID: r.ID, Kind: SagaRemit, After: r.LookAfter})
	return Result{Transfer: &transfer, Remittance: &remittance}, nil
}

// Conclude decides a remittance in the payer's system, once: Posted is the pivot, Voided the abort. Whoever comes second
// finds what was decided. It asks for neither status nor funds: the hold is the right.
type Conclude struct {
	ID         TransferID
	Peer       Peer
	From       Number // the payer, read before
	Currency   Currency
	End        State  // Posted or Voided
	Failure    Code   // of Voided
	PayeeEpoch int64  // of Posted: from the peer's promise
	Epoch      int64  // of this system, when it asked for the promise
	Trace      string // of the request that began the transfer; a node that goes on with another's transfer does not know it

	// Held is the remittance as it was read before, if it was: what of it never changes needs no second reading.
	Held *Remittance
}

// Accounts is the payer, or our stripe of suspense that a return is paid from, and our stripe of the peer's settlement account.
func (c Conclude) Accounts(system string, lane Lane) []AccountID {
	payer := local(system, c.From)
	if c.ID.Returns() {
		payer = []AccountID{lane.Stripe(SuspenseSerial, c.Currency)}
	}
	return append(payer, lane.Stripe(c.Peer.Settlement, c.Currency))
}

// Holds is empty.
func (c Conclude) Holds() []HoldID { return nil }

// Remittances is the one that is decided.
func (c Conclude) Remittances() []TransferID { return []TransferID{c.ID} }

// Exposures is the one to the peer.
func (c Conclude) Exposures() []ExposureKey { return []ExposureKey{{c.Peer.System, c.Currency}} }

// Apply decides, or shows what was decided. A promise counts in the epoch only in which it was asked for: in the one before,
// this system may have given the transfer up, and have told so, and have lost that. So does one of an earlier epoch of the peer,
// which may have lost it.
func (c Conclude) Apply(b *Book) (Result, error) {
	found, there := b.remittances[c.ID]
	if !there || found.Payer != b.System {
		return Result{}, Refuse(TransferNotFound, "there is no transfer %s to another system", c.ID)
	}
	if found.Final() {
		return Result{Remittance: found, Transfer: found.Transfer}, nil
	}
	if err := b.mayDecide(0); err != nil {
		return Result{}, err
	}
	if c.End == Posted && c.Epoch < b.ownEpoch {
		return Result{}, Refuse(StaleEpoch, "%s was promised in an epoch of this system that is over; the peer is asked again", c.ID)
	}
	if c.End == Posted && c.PayeeEpoch < b.exposures[c.Exposures()[0]].Epoch {
		return Result{}, Refuse(StaleEpoch, "%s was promised in an epoch of the peer that is over; it is asked again", c.ID)
	}
	next, transfer := *found, *found.Transfer
	payer, there := b.accounts[transfer.PayerID]
	switch {
	case c.ID.Returns(): // which holds nothing, and may be decided by another lane than the one that began it
		payer = b.stripe(SuspenseSerial, c.Currency)
	case !there:
		return Result{}, Refuse(RequestInProgress, "the transfer's account was not locked")
	default:
		b.remember(payer)
		payer.PendingDebit -= transfer.Amount.Minor
	}
	next.State, next.PayerEpoch, next.FinishedAt = c.End, b.epoch(c.Epoch), b.Now
	transfer.State, transfer.FinishedAt = c.End, b.Now
	if c.End == Posted {
		next.PayeeEpoch = c.PayeeEpoch
		settlement := b.stripe(c.Peer.Settlement, c.Currency)
		transfer.PayerID, transfer.PayeeID = payer.ID, settlement.ID
		b.enter(payer, transfer, -transfer.Amount.Minor, transfer.To)
		b.enter(settlement, transfer, transfer.Amount.Minor, transfer.From)
		b.expose(ExposureKey{c.Peer.System, c.Currency}, func(e *Exposure) { e.Posted += transfer.Amount.Minor })
	} else {
		next.Failure = c.Failure
		b.unspend(payer, transfer.Amount.Minor, transfer.CreatedAt)
	}
	next.Transfer = &transfer
	b.putRemittance(next)
	b.finishSaga(c.ID)
	event := DecisionOf(next, next.PayerEpoch)
	event.Trace = c.Trace
	b.tell(event)
	return Result{Transfer: &transfer, Remittance: &next}, nil
}

// NoteCredit remembers in the payer's system that the payee's has booked credits. It changes no money. Many travel
// together, for nobody waits for one of them.
type NoteCredit struct {
	IDs      []TransferID
	Peer     Peer // that says so
	Epoch    int64
	Currency Currency // of all of them
}

// Accounts is empty.
func (n NoteCredit) Accounts(string, Lane) []AccountID { return nil }

// Holds is empty.
func (n NoteCredit) Holds() []HoldID { return nil }

// Remittances are those that were credited.
func (n NoteCredit) Remittances() []TransferID { return n.IDs }

// Exposures is the one to the peer, for its epoch.
func (n NoteCredit) Exposures() []ExposureKey { return []ExposureKey{{n.Peer.System, n.Currency}} }

// Apply notes the time, once for each, of all or, when it refuses one, of none.
func (n NoteCredit) Apply(b *Book) (result Result, err error) {
	for _, id := range n.IDs {
		if err := n.check(b, id); err != nil {
			return Result{}, err
		}
	}
	for _, id := range n.IDs {
		found := b.remittances[id]
		if found.CreditedAt.IsZero() {
			next := *found
			next.CreditedAt = b.Now
			if next.CreditedAt.Before(found.FinishedAt) { // without an account to lock, the time is the node's estimate
				next.CreditedAt = found.FinishedAt
			}
			b.noteCredit(next)
		}
		result.Remittance = b.remittances[id]
	}
	return result, nil
}

// check refuses a credit that we never posted, or that another peer is to book: a conflict. But what we have posted may be
// among what we have lost, until the books are reconciled; and what both systems have lost, so that the peer has begun
// another epoch since it said so, never happened.
func (n NoteCredit) check(b *Book, id TransferID) error {
	found, there := b.remittances[id]
	if there && found.Payer == b.System && found.Payee == n.Peer.System && found.State == Posted {
		return nil
	}
	if err := b.mayDecide(0); err != nil {
		return err
	}
	if n.Epoch < b.exposures[ExposureKey{n.Peer.System, n.Currency}].Epoch {
		return errStale(id)
	}
	return Refuse(TransferConflict, "the peer credited %s, which this system has not posted", id)
}

// Close ends a remittance that is not there: from then on it is voided, and nothing that speaks of it later changes
// anything. One that is there stays as it is. An open promise is not closed: only the payer's system decides.
type Close struct {
	ID           TransferID
	Payer, Payee string
	Reconciling  int64 // our epoch, if its reconciliation asks: the other system has noted it, so that nothing we said before counts
}

// Accounts is empty.
func (c Close) Accounts(string, Lane) []AccountID { return nil }

// Holds is empty.
func (c Close) Holds() []HoldID { return nil }

// Remittances is the one that is asked about.
func (c Close) Remittances() []TransferID { return []TransferID{c.ID} }

// Exposures is empty: nothing was promised.
func (c Close) Exposures() []ExposureKey { return nil }

// Apply writes the tombstone, unless there is a row.
func (c Close) Apply(b *Book) (Result, error) {
	if _, there := b.remittances[c.ID]; !there {
		if err := b.mayDecide(c.Reconciling); err != nil {
			return Result{}, err
		}
		b.putRemittance(Remittance{
			ID: c.ID, Payer: c.Payer, Payee: c.Payee, State: Voided, Failure: TransferAborted, ExpiresAt: b.Now,
			CreatedAt: b.Now, FinishedAt: b.Now,
		})
	}
	return Result{Remittance: b.remittances[c.ID]}, nil
}
