package remit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"lockstep/cluster/peers"
	"lockstep/cluster/traces"
	"lockstep/node/ledger"
	"lockstep/saga"
)

// Prepare promises what a peer asks for, each transfer by itself: one that cannot be promised, or read, is no trouble for
// the others. The results are in order.
func (d *Desk) Prepare(ctx context.Context, from string, request peers.PrepareRequest) []peers.PrepareResult {
	results := make([]peers.PrepareResult, len(request.Transfers))
	ids := make([]ledger.TransferID, len(request.Transfers))
	for i, transfer := range request.Transfers {
		ids[i] = ledger.TransferID(transfer.ID)
	}
	taken, err := d.books.InsideIDs(ctx, ids...) // a peer may use no id of ours
	var all sync.WaitGroup
	for i, transfer := range request.Transfers {
		if err != nil {
			results[i] = peers.PrepareResult{ID: transfer.ID, State: peers.Later, Code: string(ledger.CodeOf(err))}
			continue
		}
		all.Go(func() {
			results[i] = d.promise(ctx, from, request.Epoch, transfer, taken[ledger.TransferID(transfer.ID)])
			d.metrics.prepares.WithLabelValues(results[i].State).Inc()
		})
	}
	all.Wait()
	return results
}

func (d *Desk) promise(ctx context.Context, from string, epoch int64, transfer peers.Transfer, taken bool) (result peers.PrepareResult) {
	ctx, span := d.config.Traces.Continue(ctx, "promise", traces.Inside, transfer.Trace)
	defer func() {
		span.Note("lockstep.state", result.State)
		span.Note("lockstep.code", result.Code)
		span.End()
	}()
	result = peers.PrepareResult{ID: transfer.ID, State: peers.Refused}
	promise, err := d.promiseOf(from, epoch, transfer.ID, transfer.Payer.Account, transfer.Payee.Account, transfer.Amount, transfer.Currency, transfer.Description)
	if err != nil {
		result.Code = string(ledger.CodeOf(err))
		return result
	}
	span.Note("lockstep.transfer", transfer.ID) // which has the form of an id
	askAfter := min(max(time.Duration(transfer.ExpiresInMS)*time.Millisecond, d.config.LookAfter), d.config.AskAfter)
	ours := d.books.Epoch() // read before the row: a promise that is there after it has not been lost with an earlier one
	final, err := d.submit(ctx, ledger.Prepare{Promise: promise, TransferExists: taken, OwnEpoch: ours, AskAfter: askAfter})
	if err != nil {
		result.Code = string(ledger.CodeOf(err))
		if ledger.CodeOf(err) != ledger.IdempotencyKeyReused {
			result.State = peers.Later // nothing was decided
		}
		return result
	}
	switch r := final.Remittance; r.State {
	case ledger.Pending, ledger.Posted:
		result.State, result.Epoch = peers.Reserved, max(r.PayeeEpoch, ours)
	case ledger.Refused:
		result.Code = string(r.Failure)
	default:
		result.Code = string(ledger.TransferAborted)
	}
	return result
}

// errUnread marks a word that cannot be believed as long as its key is not known.
var errUnread = errors.New("remit: a peer's word cannot be read")

// errNever marks what no repeat can change.
var errNever = errors.New("remit: never")

// promiseOf reads what a peer says of a transfer; it refuses what cannot be one.
func (d *Desk) promiseOf(from string, epoch int64, id, payer, payee, amount, currency, description string) (ledger.Promise, error) {
	peer, known := d.Peer(from)
	if !known {
		return ledger.Promise{}, ledger.Refuse(ledger.PeerUnknown, "this system knows no peer named %s", from)
	}
	payerNumber, err := ledger.ParseNumber(payer)
	if err != nil {
		return ledger.Promise{}, err
	}
	payeeNumber, err := ledger.ParseNumber(payee)
	if err != nil {
		return ledger.Promise{}, err
	}
	money, err := ledger.ParseMoney(amount, currency)
	if err != nil {
		return ledger.Promise{}, err
	}
	const descriptionMax = 800 // bytes of 200 characters
	if !peers.IsID(id) || len(description) > descriptionMax || payerNumber.System() != from || payeeNumber.System() != d.books.System() {
		return ledger.Promise{}, ledger.Refuse(ledger.InvalidRequest, "a transfer is from an account of the sender to an account of the receiver")
	}
	return ledger.Promise{ID: ledger.TransferID(id), Peer: peer, Epoch: epoch, From: payerNumber, To: payeeNumber, Amount: money, Description: description}, nil
}

// Inquire tells a peer how transfers between the two stand, and closes ids that nobody knows if it wants so. While this
// system is unreconciled it tells of no unknown id: it may have forgotten it.
func (d *Desk) Inquire(ctx context.Context, from string, request peers.InquiryRequest) ([]peers.InquiryResult, error) {
	ids := make([]ledger.TransferID, len(request.IDs))
	for i, id := range request.IDs {
		ids[i] = ledger.TransferID(id)
	}
	epoch := d.books.Epoch() // read before the rows: a word about an older row must not carry a newer epoch
	inside, err := d.books.InsideIDs(ctx, ids...)
	if err != nil {
		return nil, err
	}
	found, err := d.books.Remittances(ctx, ids...)
	if err != nil {
		return nil, err
	}
	results := make([]peers.InquiryResult, len(ids))
	for i, id := range ids {
		results[i] = peers.InquiryResult{ID: request.IDs[i], State: peers.Unknown}
		if inside[id] { // no concern of a peer, whatever it says of it
			continue
		}
		r, there := found[id]
		if !there && !d.books.Reconciled() {
			return nil, errUnreconciled()
		}
		if !there && request.IfUnknown == peers.Close {
			if r, err = d.close(ctx, id, from, request.Payer); err != nil {
				return nil, err
			}
			there = true
		}
		if there && r.Payer == request.Payer && (r.Payer == from || r.Payee == from) {
			if results[i], err = d.standing(r, epoch); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// refuseForeign refuses a statement about a transfer inside this system. It is asked before what would make a row for an id
// that has none.
func (d *Desk) refuseForeign(ctx context.Context, id ledger.TransferID) error {
	inside, err := d.books.InsideIDs(ctx, id)
	if err == nil && inside[id] {
		err = errors.Join(errNever, ledger.Refuse(ledger.TransferConflict, "%s is a transfer inside this system", id))
	}
	return err
}

// payee is the one of this system and a peer that the other pays.
func (d *Desk) payee(payer, peer string) string {
	if payer == peer {
		return d.books.System()
	}
	return peer
}

// close sees to it that nobody prepares or decides an id later.
func (d *Desk) close(ctx context.Context, id ledger.TransferID, from, payer string) (ledger.Remittance, error) {
	final, err := d.submit(ctx, ledger.Close{ID: id, Payer: payer, Payee: d.payee(payer, from)})
	return final.Remittance, err
}

// standing is how a transfer stands; of one that we have posted it carries our signed word.
func (d *Desk) standing(r ledger.Remittance, epoch int64) (result peers.InquiryResult, err error) {
	result = peers.InquiryResult{ID: string(r.ID), State: stateOf(r)}
	if r.Payer == d.books.System() && r.State == ledger.Posted {
		result.Statement, err = d.restate(r, epoch)
	}
	return result, err
}

// stateOf is how an inquiry calls a remittance's state.
func stateOf(r ledger.Remittance) string {
	switch r.State {
	case ledger.Pending:
		return peers.Pending
	case ledger.Posted:
		return peers.Committed
	}
	return peers.Aborted
}

// restate says our decision again, under our present epoch: a word of an earlier one counts no more at a peer that was told
// of this one.
func (d *Desk) restate(r ledger.Remittance, epoch int64) (string, error) {
	return d.directory.State(FactOf(r.Payer, ledger.DecisionOf(r, max(r.PayerEpoch, epoch))))
}

// List shows a peer a page of the transfers that one of the two systems pays to the other, each with the signed word that
// it rests on: the payer's own, said anew, or the one that a credit was booked on.
func (d *Desk) List(ctx context.Context, from, payer, cursor string, limit int) (page []peers.Listed, next string, err error) {
	epoch := d.books.Epoch()
	list, err := d.books.RemittancesBetween(ctx, payer, d.payee(payer, from), ledger.TransferID(cursor), limit)
	if err != nil {
		return nil, "", err
	}
	for _, r := range list {
		listed, err := d.listed(r, epoch)
		if err != nil {
			return nil, "", err
		}
		page = append(page, listed)
	}
	if len(list) == limit {
		next = string(list[len(list)-1].ID)
	}
	return page, next, nil
}

// DigestMax is how many transfers one digest stands for at most: their system reads them all for it.
const DigestMax = 8192

// Digest stands for the transfers above one id, up to another, that one of the two systems pays to the other and has not given
// up, so that a peer need not list what both know. A range of more than DigestMax is like none that the peer knows.
func (d *Desk) Digest(ctx context.Context, from, payer, after, until string) (*ledger.Digest, error) {
	return d.books.RemittancesDigest(ctx, payer, d.payee(payer, from), ledger.TransferID(after), ledger.TransferID(until), DigestMax+1)
}

func (d *Desk) listed(r ledger.Remittance, epoch int64) (listed peers.Listed, err error) {
	listed = peers.Listed{ID: string(r.ID), State: stateOf(r), FinishedAt: r.FinishedAt, Statement: r.Statement}
	t := r.Transfer
	if t == nil {
		return listed, nil // a tombstone moves nothing, and rests on no word
	}
	listed.Payer, listed.Payee = peers.Account{Account: string(t.From)}, peers.Account{Account: string(t.To)}
	listed.Amount, listed.Currency = t.Amount.Decimal(), string(t.Amount.Currency)
	if r.Payer == d.books.System() && r.Final() {
		listed.Statement, err = d.restate(r, epoch)
	}
	return listed, err
}

// FactOf is what an event of a decision states.
func FactOf(system string, event ledger.PeerEvent) peers.Fact {
	fact := peers.Fact{
		ID: string(event.ID), Type: event.Type, From: system, To: event.Peer, Epoch: event.Epoch, PayeeEpoch: event.PayeeEpoch, At: event.At,
		Payer: string(event.From), Payee: string(event.To), Description: event.Description, Origin: event.Origin,
	}
	if event.From != "" { // a tombstone moves nothing
		fact.Amount, fact.Currency = event.Amount.Decimal(), string(event.Amount.Currency)
	}
	return fact
}

// creditsOf is what the events of credits state together: the payer's system only notes them, and knows what they moved. The
// events are of one epoch and currency, at least one.
func creditsOf(system string, credits []ledger.PeerEvent) peers.Fact {
	first := credits[0]
	fact := peers.Fact{Type: first.Type, From: system, To: first.Peer, Epoch: first.Epoch, Currency: string(first.Amount.Currency)}
	for _, credit := range credits {
		fact.IDs = append(fact.IDs, string(credit.ID))
		if credit.At.After(fact.At) {
			fact.At = credit.At
		}
	}
	return fact
}

// Apply does what a peer's statement asks for, once, however often it is heard. Of its errors, Contradicts tells those that
// no repeat will mend.
func (d *Desk) Apply(ctx context.Context, fact peers.Fact, jws string) error {
	return d.apply(ctx, fact, jws, 0)
}

// apply is Apply, for the reconciliation of an epoch of ours if it is not 0.
func (d *Desk) apply(ctx context.Context, fact peers.Fact, jws string, reconciling int64) error {
	var operation ledger.Operation
	switch fact.Type {
	case ledger.EventCredited:
		return d.noteCredits(ctx, fact)
	case ledger.EventCommitted, ledger.EventAborted:
		promise, err := d.promiseOf(fact.From, fact.Epoch, fact.ID, fact.Payer, fact.Payee, fact.Amount, fact.Currency, fact.Description)
		if err != nil {
			return errors.Join(errNever, err)
		}
		promise.Reconciling = reconciling
		if fact.Type == ledger.EventAborted || fact.PayeeEpoch < d.books.Epoch() {
			if err := d.refuseForeign(ctx, promise.ID); err != nil {
				return err
			}
		}
		operation = ledger.Release{Promise: promise}
		if fact.Type == ledger.EventCommitted {
			operation = ledger.Credit{Promise: promise, PayeeEpoch: fact.PayeeEpoch, OwnEpoch: d.books.Epoch(), Statement: jws, ReturnWithin: returnWithin}
		}
	default:
		return errors.Join(errNever, errors.New("a statement of an unknown kind: "+fact.Type))
	}
	_, err := d.submit(ctx, operation)
	d.metrics.applied.WithLabelValues(fact.Type, string(ledger.CodeOf(err))).Inc()
	return err
}

// noteCredits notes what a peer says that it has credited. One that our books contradict keeps none of the others from being
// noted: then each is tried by itself.
func (d *Desk) noteCredits(ctx context.Context, fact peers.Fact) error {
	peer, known := d.Peer(fact.From)
	currency, err := ledger.ParseCurrency(fact.Currency)
	listed := fact.Transfers()
	if err != nil || !known || len(listed) == 0 || len(listed) > peers.BatchMax {
		return errors.Join(errNever, peers.ErrForeign, err)
	}
	var ids []ledger.TransferID
	var wrong error
	for _, id := range listed {
		if peers.IsID(id) {
			ids = append(ids, ledger.TransferID(id))
		} else {
			wrong = errors.Join(errNever, fmt.Errorf("a transfer has no id as %q", id))
		}
	}
	note := func(ids ...ledger.TransferID) error {
		_, err := d.submit(ctx, ledger.NoteCredit{IDs: ids, Peer: peer, Epoch: fact.Epoch, Currency: currency})
		d.metrics.applied.WithLabelValues(fact.Type, string(ledger.CodeOf(err))).Inc()
		return err
	}
	if len(ids) == 0 {
		return wrong
	}
	if err = note(ids...); err == nil || len(ids) == 1 || !Contradicts(err) && !Stale(err) {
		return cmp.Or(err, wrong)
	}
	var stale, failed error
	for _, id := range ids {
		switch err := note(id); {
		case err == nil:
		case Contradicts(err):
			wrong = errors.Join(wrong, err)
		case Stale(err):
			stale = err
		default:
			failed = err
		}
	}
	return cmp.Or(failed, wrong, stale) // the first has to be told again, and the second to be looked at
}

// returnWithin is how long a return is tried: nobody waits for it, but an operator has to look at it in the end.
const returnWithin = 30 * 24 * time.Hour

// Contradicts tells whether an error of Apply is a conflict, which an operator has to see, and not a passing trouble.
func Contradicts(err error) bool {
	code := ledger.CodeOf(err)
	return errors.Is(err, errNever) || code == ledger.TransferConflict || code == ledger.PeerCapExceeded
}

// Stale tells whether an error of Apply says that the statement counts no more: the payer's system is asked instead.
func Stale(err error) bool { return ledger.CodeOf(err) == ledger.StaleEpoch }

// Awaiting is the saga of a promise in the payee's system: when it has grown old, the payer's system is asked what it has
// decided. It never decides alone.
func (d *Desk) Awaiting(ctx context.Context, s saga.Saga) saga.Outcome {
	if !d.books.Reconciled() {
		return saga.Again(unreconciledPause, errUnreconciled())
	}
	id := ledger.TransferID(s.ID)
	found, err := d.books.Remittances(ctx, id)
	if err != nil {
		return saga.Again(0, err)
	}
	r, there := found[id]
	switch {
	case !there:
		return saga.ParkedFor("there is no remittance with this saga's id")
	case r.Final():
		return saga.Settled() // as in Remitting
	}
	switch err = d.ask(ctx, r.Payer, r)[0]; {
	case err == nil:
		return saga.Settled()
	case Contradicts(err):
		return saga.ParkedFor(err.Error())
	}
	return saga.Again(0, err)
}

// ask does what the payer's system answers about transfers that it pays, in one request, and tells of each how that went.
func (d *Desk) ask(ctx context.Context, payer string, open ...ledger.Remittance) []error {
	d.metrics.inquiries.Add(float64(len(open)))
	failed, ids := make([]error, len(open)), make([]string, len(open))
	for i, r := range open {
		ids[i] = string(r.ID)
	}
	answer, err := d.asker.Inquire(ctx, payer, payer, peers.Close, ids...)
	if err != nil {
		for i := range failed {
			failed[i] = err
		}
		return failed
	}
	var all sync.WaitGroup
	for i, r := range open {
		all.Go(func() { failed[i] = d.answered(ctx, r, answer.Results[i], answer.Epoch) })
	}
	all.Wait()
	return failed
}

// answered does what one result says. It ends a promise by itself, for its signature binds it to our question; a credit rests on a
// word that can be shown.
func (d *Desk) answered(ctx context.Context, r ledger.Remittance, result peers.InquiryResult, epoch int64) error {
	switch {
	case result.State == peers.Committed:
		return d.believe(ctx, r.ID, result.Statement, 0)
	case result.State == peers.Aborted && r.Transfer != nil:
		return d.release(ctx, r, epoch)
	case result.State == peers.Aborted:
		return nil // nothing was promised
	}
	return errUndecided
}

// believe applies the word that a peer shows for a transfer, which has to be about it.
func (d *Desk) believe(ctx context.Context, id ledger.TransferID, stated string, reconciling int64) error {
	fact, err := d.directory.Read(stated)
	if err != nil {
		return errors.Join(errUnread, err)
	}
	if fact.ID != string(id) {
		return errors.Join(errNever, fmt.Errorf("the word that the peer shows for %s is about %s", id, fact.ID))
	}
	return d.apply(ctx, fact, stated, reconciling)
}

// AskAgain asks the payer's system about decisions that it has stated in an epoch that is over, at most peers.BatchMax, and tells of
// each how that went. Where the promise is lost with an earlier epoch of ours nobody else would ask: the credit would be forgotten.
func (d *Desk) AskAgain(ctx context.Context, stale []peers.Fact) []error {
	failed, ids := make([]error, len(stale)), make([]ledger.TransferID, len(stale))
	for i, fact := range stale {
		ids[i] = ledger.TransferID(fact.ID)
	}
	found, err := d.books.Remittances(ctx, ids...)
	var open []ledger.Remittance
	var places []int
	for i, fact := range stale {
		r, there := found[ids[i]]
		switch {
		case fact.Type != ledger.EventCommitted:
			continue // a promise has a saga that asks, and without one nothing is to be undone
		case err != nil:
			failed[i] = err
			continue
		case there && r.Final():
			continue
		case !there:
			r = ledger.Remittance{ID: ids[i]}
		}
		open, places = append(open, r), append(places, i)
	}
	if len(open) > 0 {
		for i, err := range d.ask(ctx, stale[0].From, open...) {
			failed[places[i]] = err
		}
	}
	return failed
}

// release ends a promise on the payer's answer to our question, which its signature binds to it. It counts in the epoch only
// in which it was given: the payer's system may have forgotten since that it gave the transfer up.
func (d *Desk) release(ctx context.Context, r ledger.Remittance, epoch int64) error {
	peer, known := d.Peer(r.Payer)
	if !known {
		return peers.ErrUnknownPeer
	}
	t := r.Transfer
	_, err := d.submit(ctx, ledger.Release{Promise: ledger.Promise{
		ID: r.ID, Peer: peer, Epoch: epoch, From: t.From, To: t.To, Amount: t.Amount, Description: t.Description,
	}})
	return err
}
