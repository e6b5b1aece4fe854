package ledger

import "cmp"

// Recover posts in the payer's system what that system has once committed and then lost: the peer has credited it, and has
// shown the signed word on which it did. A system believes its own signature, so this asks for no status, and it may not be
// refused for want of funds.
type Recover struct {
	ID          TransferID
	Peer        Peer // the payee's system
	From, To    Number
	Amount      Money
	Description string
	Reference   string
	Language    string // of the client's request; with its id and the origin unknown in older statements
	RequestID   string
	Origin      string
	PayeeEpoch  int64 // as our own word told it
	OwnEpoch    int64
}

// TransferID is the transfer's old id.
func (r Recover) TransferID() TransferID { return r.ID }

// Accounts is the payer, and the stripes of settlement and of what else may have to pay.
func (r Recover) Accounts(system string, lane Lane) []AccountID {
	other := ReceivableSerial
	if r.ID.Returns() {
		other = SuspenseSerial
	}
	return append(local(system, r.From), lane.Stripe(r.Peer.Settlement, r.Amount.Currency), lane.Stripe(other, r.Amount.Currency))
}

// Holds is empty.
func (r Recover) Holds() []HoldID { return nil }

// Remittances is the one that may be there.
func (r Recover) Remittances() []TransferID { return []TransferID{r.ID} }

// Exposures is the one to the payee's system.
func (r Recover) Exposures() []ExposureKey { return []ExposureKey{{r.Peer.System, r.Amount.Currency}} }

// Apply posts the transfer under its old id, once: from its hold if that is there, else from the payer's account, and from
// receivable when there is no such account or it has less. What contradicts it here is a conflict, which nobody applies.
func (r Recover) Apply(b *Book) (Result, error) {
	found, there := b.remittances[r.ID]
	switch {
	case there && found.State == Posted && r.same(found):
		return Result{Remittance: found, Transfer: found.Transfer}, nil
	case there && (found.State != Pending || !r.same(found)):
		return Result{}, Refuse(TransferConflict, "%s is %s here, and the peer has credited it on our own word", r.ID, found.State)
	case there:
		return r.fromHold(b, *found, *found.Transfer)
	}
	payer := r.payer(b)
	transfer := Transfer{
		ID: r.ID, Kind: kindBetween(r.ID), From: r.From, To: r.To, PayerID: payer.ID, Amount: r.Amount, Description: r.Description, Reference: r.Reference, CreatedAt: b.Now,
	}
	result, err := r.post(b, payer, Remittance{
		ID: r.ID, Payer: b.System, Payee: r.Peer.System, ExpiresAt: b.Now, Language: cmp.Or(r.Language, unknownLanguage), RequestID: r.RequestID,
		Origin: r.Origin, CreatedAt: b.Now,
	}, transfer)
	b.spend(payer, r.Amount.Minor) // it is counted, and refused by no limit
	return result, err
}

// unknownLanguage stands for that of a client's request that is lost, or that there never was.
const unknownLanguage = "en"

// same tells whether a remittance that is there moves what our own word says.
func (r Recover) same(m *Remittance) bool {
	t := m.Transfer
	return m.Payee == r.Peer.System && t != nil && t.From == r.From && t.To == r.To && t.Amount == r.Amount
}

func (r Recover) fromHold(b *Book, next Remittance, transfer Transfer) (Result, error) {
	if r.ID.Returns() { // which needs none
		return r.post(b, r.payer(b), next, transfer)
	}
	payer, locked := b.accounts[transfer.PayerID]
	if !locked {
		return Result{}, Refuse(RequestInProgress, "the transfer's account was not locked")
	}
	b.remember(payer)
	payer.PendingDebit -= transfer.Amount.Minor
	return r.post(b, payer, next, transfer)
}

// payer is the account, if it can still pay; else what is paid becomes a debt that somebody has to look after. What was
// returned was paid from suspense, to which the transfer that it returns will be credited again if that is lost as well.
func (r Recover) payer(b *Book) *Account {
	if r.ID.Returns() {
		return b.stripe(SuspenseSerial, r.Amount.Currency)
	}
	account, there := b.account(r.From)
	if !there || account.Currency != r.Amount.Currency || account.Status == Closed || account.Available() < r.Amount.Minor {
		return b.stripe(ReceivableSerial, r.Amount.Currency)
	}
	return account
}

// post books the debit, and tells the peer again: what it has shown may be among what it has lost since.
func (r Recover) post(b *Book, payer *Account, next Remittance, transfer Transfer) (Result, error) {
	settlement, amount := b.stripe(r.Peer.Settlement, r.Amount.Currency), r.Amount.Minor
	transfer.State, transfer.FinishedAt, transfer.PayerID, transfer.PayeeID = Posted, b.Now, payer.ID, settlement.ID
	b.enter(payer, transfer, -amount, transfer.To)
	b.enter(settlement, transfer, amount, transfer.From)
	b.expose(ExposureKey{r.Peer.System, r.Amount.Currency}, func(e *Exposure) { e.Posted += amount })
	next.State, next.PayerEpoch, next.PayeeEpoch = Posted, b.epoch(r.OwnEpoch), r.PayeeEpoch
	next.FinishedAt, next.CreditedAt, next.Transfer = b.Now, b.Now, &transfer
	b.putRemittance(next)
	b.finishSaga(r.ID)
	b.tell(DecisionOf(next, next.PayerEpoch))
	return Result{Transfer: &transfer, Remittance: &next}, nil
}
