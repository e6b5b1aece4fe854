package ledger

import "time"

// Promise is what a peer's system says of a transfer to one of our accounts: the contents of every step on the payee's
// side.
type Promise struct {
	ID          TransferID
	Peer        Peer // the payer's system, which has signed it
	Epoch       int64
	From, To    Number
	Amount      Money
	Description string
	Reconciling int64 // our epoch, if it was said in answer to its reconciliation, after the peer's epoch was noted
}

// accounts is the payee, and our stripe of the peer's settlement account.
func (p Promise) accounts(system string, lane Lane) []AccountID {
	return append(local(system, p.To), lane.Stripe(p.Peer.Settlement, p.Amount.Currency))
}

func (p Promise) exposure() ExposureKey { return ExposureKey{p.Peer.System, p.Amount.Currency} }

// same tells whether a remittance that is there moves what the promise says.
func (p Promise) same(r *Remittance) bool {
	t := r.Transfer
	return r.Payer == p.Peer.System && (t == nil || t.From == p.From && t.To == p.To && t.Amount == p.Amount)
}

// stale tells whether the peer has since begun another epoch: what it said before counts no more.
func (p Promise) stale(b *Book) bool { return p.Epoch < b.exposures[p.exposure()].Epoch }

// counts refuses what the peer has decided and what may be over: while the books are not reconciled its epoch may be among what
// they have forgotten.
func (p Promise) counts(b *Book) error {
	if err := b.mayDecide(p.Reconciling); err != nil {
		return err
	}
	if p.stale(b) {
		return errStale(p.ID)
	}
	return nil
}

func errStale(id TransferID) *Error {
	return Refuse(StaleEpoch, "%s was said in an epoch of the peer that is over", id)
}

// Prepare promises an amount to an account: the payee's system reserves it until the payer's has decided. Its refusals
// are remembered as refused remittances.
type Prepare struct {
	Promise
	TransferExists bool          // read before: the id is that of a transfer of our own
	OwnEpoch       int64         // of this system
	AskAfter       time.Duration // a promise that is older is asked about
}

// Accounts is the payee; no money moves yet.
func (p Prepare) Accounts(system string, _ Lane) []AccountID { return local(system, p.To) }

// Holds is empty.
func (p Prepare) Holds() []HoldID { return nil }

// Remittances is the promise, if it was made before.
func (p Prepare) Remittances() []TransferID { return []TransferID{p.ID} }

// Exposures is the one to the payer's system.
func (p Prepare) Exposures() []ExposureKey { return []ExposureKey{p.exposure()} }

// Apply reserves the amount. The result's remittance says what became of it; the error is for what is not remembered.
func (p Prepare) Apply(b *Book) (Result, error) {
	if p.stale(b) {
		return Result{}, errStale(p.ID)
	}
	if found, there := b.remittances[p.ID]; there {
		if !p.same(found) {
			return Result{}, Refuse(IdempotencyKeyReused, "the id %s belongs to another transfer", p.ID)
		}
		return Result{Remittance: found}, nil
	}
	if p.TransferExists {
		return Result{}, Refuse(IdempotencyKeyReused, "the id %s belongs to another transfer", p.ID)
	}
	if err := b.mayDecide(0); err != nil {
		return Result{}, err
	}
	next := Remittance{
		ID: p.ID, Payer: p.Peer.System, Payee: b.System, State: Pending, PayerEpoch: p.Epoch, PayeeEpoch: b.epoch(p.OwnEpoch),
		ExpiresAt: b.Now.Add(p.AskAfter), CreatedAt: b.Now,
	}
	if refusal := p.reserve(b, &next); refusal != nil {
		if p.ID.Returns() && (refusal.Code == PeerCapExceeded || refusal.Code == BalanceOutOfRange) {
			return Result{}, refusal // it passes, and the return is tried for weeks
		}
		next.State, next.Failure, next.FinishedAt = Refused, refusal.Code, b.Now
	}
	b.putRemittance(next)
	return Result{Remittance: &next}, nil
}

func (p Prepare) reserve(b *Book, next *Remittance) *Error {
	payee, there := b.account(p.To)
	if !there {
		return Refuse(PayeeNotFound, "there is no account %s to pay to", p.To)
	}
	if err := payee.mayMove(p.To, p.Amount.Currency); err != nil && !(p.ID.Returns() && CodeOf(err) == AccountFrozen) {
		return err.(*Error) //nolint:errorlint // rules refuse unwrapped
	}
	if err := payee.canReceive(p.To, p.Amount.Minor); err != nil {
		return err.(*Error) //nolint:errorlint // rules refuse unwrapped
	}
	if exposure := b.exposures[p.exposure()]; !exposure.admits(p.Amount.Minor) {
		return Refuse(PeerCapExceeded, "this system takes no more from %s before it has settled", p.Peer.System)
	}
	b.remember(payee)
	payee.PendingCredit += p.Amount.Minor
	b.expose(p.exposure(), func(e *Exposure) { e.Reserved += p.Amount.Minor })
	next.Transfer = &Transfer{
		ID: p.ID, Kind: kindBetween(p.ID), State: Pending, From: p.From, To: p.To, PayeeID: payee.ID, Amount: p.Amount,
		Description: p.Description, CreatedAt: b.Now,
	}
	b.startSaga(SagaStart{ID: p.ID, Kind: SagaAwait, After: p.AskAfter})
	return nil
}

// Credit books what the payer's system has decided to pay. It may not be refused: where no account can take it, the money
// goes to suspense, and its return begins in the same transaction. A decision that contradicts what is here is a conflict,
// which nobody applies.
type Credit struct {
	Promise
	PayeeEpoch   int64         // ours, as the payer's system heard it with the promise
	OwnEpoch     int64         // ours now
	Statement    string        // the payer's signed word
	ReturnWithin time.Duration // a return that the payer's system has not promised by then stays in suspense
}

// Accounts is the payee and the stripes of settlement and suspense.
func (c Credit) Accounts(system string, lane Lane) []AccountID {
	return append(c.accounts(system, lane), lane.Stripe(SuspenseSerial, c.Amount.Currency))
}

// Holds is empty.
func (c Credit) Holds() []HoldID { return nil }

// Remittances is the promise, and the return that may become necessary. What is promised finds its account: it cannot be
// closed meanwhile. So only what was promised before this system lost some of its books may have to be returned.
func (c Credit) Remittances() []TransferID {
	if c.mayReturn() {
		return []TransferID{c.ID, ReturnOf(c.ID)}
	}
	return []TransferID{c.ID}
}

// mayReturn tells whether the return was locked. A return is returned by nobody.
func (c Credit) mayReturn() bool { return c.PayeeEpoch < c.OwnEpoch && !c.ID.Returns() }

// Exposures is the one to the payer's system.
func (c Credit) Exposures() []ExposureKey { return []ExposureKey{c.exposure()} }

// Apply books the credit, once.
func (c Credit) Apply(b *Book) (Result, error) {
	found, there := b.remittances[c.ID]
	counts := c.counts(b)
	switch {
	case there && found.State == Posted && c.same(found):
		return Result{Remittance: found, Transfer: found.Transfer}, nil
	case counts != nil:
		return Result{}, counts
	case there && (found.State != Pending || !c.same(found)):
		return Result{}, Refuse(TransferConflict, "%s is %s here, and the peer says that it is committed", c.ID, found.State)
	case there:
		return c.book(b, *found, *found.Transfer, true)
	case c.OwnEpoch < b.ownEpoch: // it may have to be returned, and was not locked for that
		return Result{}, Refuse(RequestInProgress, "this system has begun another epoch since %s was heard", c.ID)
	case c.PayeeEpoch >= c.OwnEpoch:
		return Result{}, Refuse(TransferConflict, "the peer committed %s, which was never promised in this epoch", c.ID)
	case !b.exposures[c.exposure()].admits(c.Amount.Minor):
		return Result{}, Refuse(PeerCapExceeded, "%s was promised before this system was restored, and is above the peer's cap", c.ID)
	}
	return c.book(b, Remittance{
		ID: c.ID, Payer: c.Peer.System, Payee: b.System, PayeeEpoch: c.PayeeEpoch, ExpiresAt: b.Now, CreatedAt: b.Now,
	}, Transfer{
		ID: c.ID, Kind: kindBetween(c.ID), From: c.From, To: c.To, Amount: c.Amount, Description: c.Description, CreatedAt: b.Now,
	}, false)
}

// book moves the amount from settlement to the payee, or to suspense where there is no account that can take it.
func (c Credit) book(b *Book, next Remittance, transfer Transfer, promised bool) (Result, error) {
	payee, there := b.account(transfer.To)
	if promised && !there {
		return Result{}, Refuse(RequestInProgress, "the transfer's account was not locked")
	}
	amount := transfer.Amount.Minor
	if promised {
		b.remember(payee)
		payee.PendingCredit -= amount
		b.expose(c.exposure(), func(e *Exposure) { e.Reserved -= amount })
	}
	stray := !there || payee.Status == Closed || payee.Currency != transfer.Amount.Currency || payee.canReceive(transfer.To, amount) != nil ||
		c.sentBack(b)
	if stray {
		payee = b.stripe(SuspenseSerial, transfer.Amount.Currency)
	}
	settlement := b.stripe(c.Peer.Settlement, transfer.Amount.Currency)
	transfer.State, transfer.FinishedAt = Posted, b.Now
	transfer.PayerID, transfer.PayeeID = settlement.ID, payee.ID
	b.enter(settlement, transfer, -amount, transfer.To)
	b.enter(payee, transfer, amount, transfer.From)
	b.expose(c.exposure(), func(e *Exposure) { e.Credited += amount })
	next.State, next.PayerEpoch, next.FinishedAt, next.Statement, next.Transfer = Posted, c.Epoch, b.Now, c.Statement, &transfer
	b.putRemittance(next)
	b.finishSaga(c.ID)
	b.tell(PeerEvent{
		Peer: c.Peer.System, Type: EventCredited, Epoch: max(b.epoch(c.OwnEpoch), next.PayeeEpoch), ID: c.ID, Amount: transfer.Amount, At: b.Now,
	})
	if stray && c.mayReturn() {
		c.sendBack(b, transfer)
	}
	return Result{Transfer: &transfer, Remittance: &next}, nil
}

// sentBack tells whether the return is there already, since a restored system has heard of it first: it takes from suspense what this
// credit brings there, whether the account could take it by now or not.
func (c Credit) sentBack(b *Book) bool {
	returned, begun := b.remittances[ReturnOf(c.ID)]
	return begun && c.mayReturn() && returned.Payer == b.System && (returned.State == Pending || returned.State == Posted)
}

// sendBack begins the return of what went to suspense, unless it was begun before. Nobody else takes from there, so that the
// return needs no hold; its saga asks the payer's system as that of any other transfer does.
func (c Credit) sendBack(b *Book, stray Transfer) {
	id := ReturnOf(c.ID)
	if _, begun := b.remittances[id]; begun {
		return
	}
	b.putRemittance(Remittance{
		ID: id, Payer: b.System, Payee: c.Peer.System, State: Pending, PayerEpoch: b.epoch(c.OwnEpoch), ExpiresAt: b.Now.Add(c.ReturnWithin),
		Language: unknownLanguage, CreatedAt: b.Now, Transfer: &Transfer{
			ID: id, Kind: Returned, State: Pending, From: stray.To, To: stray.From, Amount: stray.Amount,
			Description: "return of " + string(c.ID), Reference: string(c.ID), CreatedAt: b.Now,
		},
	})
	b.startSaga(SagaStart{ID: id, Kind: SagaRemit})
}

// Release is the compensation: the payer's system has given the transfer up, and the promise ends. It also writes the
// tombstone for a promise that was not asked for yet, so that none can be made later.
type Release struct {
	Promise
}

// Accounts is the payee.
func (r Release) Accounts(system string, _ Lane) []AccountID { return local(system, r.To) }

// Holds is empty.
func (r Release) Holds() []HoldID { return nil }

// Remittances is the promise.
func (r Release) Remittances() []TransferID { return []TransferID{r.ID} }

// Exposures is the one to the payer's system.
func (r Release) Exposures() []ExposureKey { return []ExposureKey{r.exposure()} }

// Apply ends the promise, once.
func (r Release) Apply(b *Book) (Result, error) {
	found, there := b.remittances[r.ID]
	counts := r.counts(b)
	switch {
	case there && (found.State == Voided || found.State == Refused) && found.Payer == r.Peer.System:
		return Result{Remittance: found}, nil
	case counts != nil:
		return Result{}, counts
	case there && (found.State != Pending || !r.same(found)):
		return Result{}, Refuse(TransferConflict, "%s is %s here, and the peer says that it is aborted", r.ID, found.State)
	case !there:
		return Close{ID: r.ID, Payer: r.Peer.System, Payee: b.System, Reconciling: b.ownEpoch}.Apply(b) // the payer has decided it
	}
	next, transfer := *found, *found.Transfer
	payee, locked := b.accounts[transfer.PayeeID]
	if !locked {
		return Result{}, Refuse(RequestInProgress, "the transfer's account was not locked")
	}
	b.remember(payee)
	payee.PendingCredit -= transfer.Amount.Minor
	b.expose(ExposureKey{r.Peer.System, transfer.Amount.Currency}, func(e *Exposure) { e.Reserved -= transfer.Amount.Minor })
	transfer.State, transfer.FinishedAt = Voided, b.Now
	next.State, next.Failure, next.PayerEpoch, next.FinishedAt, next.Transfer = Voided, TransferAborted, r.Epoch, b.Now, &transfer
	b.putRemittance(next)
	b.finishSaga(r.ID)
	return Result{Transfer: &transfer, Remittance: &next}, nil
}
