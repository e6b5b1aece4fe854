package remit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
)

// Informant asks peers what a reconciliation needs to know; *peers.Client is one.
type Informant interface {
	TellEpoch(ctx context.Context, peer string) (theirs int64, err error)
	List(ctx context.Context, peer, payer, cursor string, limit int) (peers.ListAnswer, error)
	Digest(ctx context.Context, peer, payer, after, until string) (peers.DigestAnswer, error)
}

// Reconciler compares this system's books with those of its peers after a restore, or after a failover that has lost
// commits. It may run beside nodes, while peers are unreconciled themselves, and again after it died anywhere.
type Reconciler struct {
	Desk      *Desk
	Informant Informant
	ReadOwn   func(jws string) (peers.Fact, error) // believes what this system has signed itself
	// Raise notes a peer's epoch: what the peer said in an earlier one counts no more.
	Raise func(ctx context.Context, peer string, epoch int64) error
	// Renderer makes the answer to the client's request that a transfer came from, which is kept under its key again.
	Renderer func(language, requestID string) posting.Renderer
	Span     int // how many transfers the first digest stands for; 0 is DigestMax
}

// Reconciled counts what the books of one peer have shown.
type Reconciled struct {
	Peer       string
	Agreed     int // the same on both sides, or still open on both
	Posted     int // credited there on our word, pending here: posted from the hold
	Recovered  int // credited there on our word, forgotten here: posted from the account
	Receivable int // of these, those that the account could not pay: somebody owes them to this system
	Credited   int // posted there, not credited here: credited
	Released   int // given up there, promised here: released
	Closed     int // promised there, forgotten here: given up

	OverCap   []string // posted there and forgotten here, above the peer's cap: raise it and reconcile again
	Conflicts []string // what one side says against the other: nobody applies it
}

// ErrOverCap says that a peer's credits are missing here, because they are above its cap. The peer is not reconciled.
var ErrOverCap = errors.New("remit: forgotten credits are above the peer's cap")

// Peer reconciles with one peer. Both sides raise the other's epoch first: from then on nothing that was said before can
// change anything, so what the peer lists afterwards is all that there is. What we have paid comes before what we were
// paid, since it lowers what the peer owes against its cap.
func (r *Reconciler) Peer(ctx context.Context, peer string) (Reconciled, error) {
	done := Reconciled{Peer: peer}
	epoch := r.Desk.books.Epoch() // before the peer's is noted: in a later one that may be forgotten
	theirs, err := r.Informant.TellEpoch(ctx, peer)
	if err != nil {
		return done, fmt.Errorf("tell %s our epoch: %w", peer, err)
	}
	if err := r.Raise(ctx, peer, theirs); err != nil {
		return done, err
	}
	ours := r.Desk.books.System()
	for _, side := range []struct {
		payer string
		judge judge
	}{{ours, r.paid}, {peer, r.received}} {
		if err := r.ranges(ctx, &talk{&tally{done: &done, ours: epoch}, theirs, side.payer, side.judge}); err != nil {
			return done, err
		}
	}
	if len(done.OverCap) > 0 {
		return done, fmt.Errorf("%w: %d of %s", ErrOverCap, len(done.OverCap), peer)
	}
	return done, nil
}

// tally is what the goroutines of a page count into.
type tally struct {
	mu   sync.Mutex
	done *Reconciled
	ours int64 // our epoch, in which the peer's was noted
}

func (t *tally) count(what *int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*what++
}

func (t *tally) list(what *[]string, id string, reason any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*what = append(*what, fmt.Sprintf("%s: %v", id, reason))
}

// judge compares a transfer that the peer lists with what is known of it here, if anything.
type judge func(context.Context, *tally, peers.Listed, *ledger.Remittance) error

// talk is with one peer, in one epoch of its, about what one of the two systems pays.
type talk struct {
	*tally
	epoch int64
	payer string
	judge judge
}

// inEpoch refuses what the peer says in another epoch: it may have lost what it had shown, and its word of before must be raised
// away first.
func (t *talk) inEpoch(epoch int64) error {
	if epoch != t.epoch {
		return fmt.Errorf("%s has begun epoch %d meanwhile: reconcile again", t.done.Peer, epoch)
	}
	return nil
}

// listMax is how many transfers one page of a peer's list has; they are applied together.
const listMax = 200

// ranges goes through all that there ever was between the two systems, and has the peer list only where its digest differs from
// ours: that are the last few seconds, as a rule. Where it does, the range shrinks until it is worth a page; from there it grows
// again. Ids are not in order of commits, which is harmless here: what commits at the peer behind our back is either refused
// there, for our epoch was raised, or told by an event later.
func (r *Reconciler) ranges(ctx context.Context, t *talk) error {
	most := cmp.Or(r.Span, DigestMax)
	least := min(listMax, most)
	payee := r.Desk.payee(t.payer, t.done.Peer)
	for after, size := ledger.TransferID(""), most; ; {
		ours, err := r.Desk.books.RemittancesDigest(ctx, t.payer, payee, after, "", size)
		if err != nil {
			return err
		}
		if ours.Count == 0 { // what the peer has behind all that is known here
			return r.pages(ctx, t, after, "")
		}
		theirs, err := r.Informant.Digest(ctx, t.done.Peer, t.payer, string(after), string(ours.Last))
		if err != nil && size == least { // a peer of before there were digests
			return r.pages(ctx, t, after, "")
		}
		if err != nil { // perhaps it took too long
			size = max(size/8, least)
			most = size
			continue
		}
		if err := t.inEpoch(theirs.Epoch); err != nil {
			return err
		}
		alike := theirs.Count == ours.Count && theirs.Digest == ours.Sum()
		if !alike && size > least {
			size = max(size/8, least)
			continue
		}
		if alike {
			t.done.Agreed += ours.Count
		} else if err := r.pages(ctx, t, after, ours.Last); err != nil {
			return err
		}
		after, size = ours.Last, min(2*size, most)
	}
}

// pages judges what the peer lists above one id, up to another if that is given.
func (r *Reconciler) pages(ctx context.Context, t *talk, after, until ledger.TransferID) error {
	for cursor := string(after); ; {
		page, err := r.Informant.List(ctx, t.done.Peer, t.payer, cursor, listMax)
		if err != nil {
			return fmt.Errorf("list what %s knows of transfers paid by %s: %w", t.done.Peer, t.payer, err)
		}
		if err := t.inEpoch(page.Epoch); err != nil {
			return err
		}
		inside := page.Transfers
		if behind := slices.IndexFunc(inside, func(l peers.Listed) bool { return until != "" && l.ID > string(until) }); behind >= 0 {
			inside, page.NextCursor = inside[:behind], ""
		}
		if err := r.page(ctx, t.tally, inside, t.judge); err != nil {
			return err
		}
		switch {
		case page.NextCursor == "":
			return nil
		case page.NextCursor <= cursor:
			return fmt.Errorf("%s lists in no order: %s after %s", t.done.Peer, page.NextCursor, cursor)
		}
		cursor = page.NextCursor
	}
}

func (r *Reconciler) page(ctx context.Context, t *tally, page []peers.Listed, judge judge) error {
	page = slices.DeleteFunc(slices.Clone(page), func(listed peers.Listed) bool {
		odd := !peers.IsID(listed.ID)
		if odd {
			t.list(&t.done.Conflicts, listed.ID, "what the peer lists has no id")
		}
		return odd
	})
	ids := make([]ledger.TransferID, len(page))
	for i, listed := range page {
		ids[i] = ledger.TransferID(listed.ID)
	}
	known, err := r.Desk.books.Remittances(ctx, ids...)
	if err != nil {
		return err
	}
	failed := make(chan error, len(page))
	for i, listed := range page {
		go func() {
			var own *ledger.Remittance
			if found, there := known[ids[i]]; there {
				own = &found
			}
			failed <- judge(ctx, t, listed, own)
		}()
	}
	var failure error
	for range page {
		failure = errors.Join(failure, <-failed)
	}
	return failure
}

// paid judges a transfer that this system pays. What the peer has credited on our own word is posted, and what it holds and
// we do not know is given up: no word of ours on it can count any more.
func (r *Reconciler) paid(ctx context.Context, t *tally, listed peers.Listed, own *ledger.Remittance) error {
	posted := own != nil && own.State == ledger.Posted
	switch {
	case listed.State == peers.Committed && !posted:
		return r.credited(ctx, t, listed, own)
	case listed.State == peers.Committed && !alike(listed, own):
		t.list(&t.done.Conflicts, listed.ID, "posted here with other contents than the peer lists")
		return nil
	case listed.State == peers.Aborted && posted:
		t.list(&t.done.Conflicts, listed.ID, "posted here, and the peer will not credit it")
		return nil
	case listed.State == peers.Pending && own == nil:
		if _, err := r.Desk.submit(ctx, ledger.Close{
			ID: ledger.TransferID(listed.ID), Payer: r.Desk.books.System(), Payee: t.done.Peer, Reconciling: t.ours,
		}); err != nil {
			return err
		}
		t.count(&t.done.Closed)
		return nil
	}
	t.count(&t.done.Agreed) // also what is posted alike, whatever word it rests on there, which may be of a key that is gone
	return nil
}

// credited posts what the peer has booked on our word, if it is ours.
func (r *Reconciler) credited(ctx context.Context, t *tally, listed peers.Listed, own *ledger.Remittance) error {
	recovery, err := r.recovery(t.done.Peer, listed)
	if err != nil {
		t.list(&t.done.Conflicts, listed.ID, err)
		return nil
	}
	final, err := r.recover(ctx, recovery, own == nil)
	switch {
	case ledger.CodeOf(err) == ledger.TransferConflict:
		t.list(&t.done.Conflicts, listed.ID, err)
		return nil
	case err != nil:
		return err
	case own != nil:
		t.count(&t.done.Posted)
	default:
		t.count(&t.done.Recovered)
		r.owed(t, final.Remittance)
	}
	return nil
}

// recovery reads our own word.
func (r *Reconciler) recovery(peer string, listed peers.Listed) (ledger.Recover, error) {
	fact, err := r.ReadOwn(listed.Statement)
	switch {
	case err != nil:
		return ledger.Recover{}, fmt.Errorf("the peer shows no word of ours that it was credited on: %w", err)
	case fact.ID != listed.ID || fact.Type != ledger.EventCommitted || fact.To != peer:
		return ledger.Recover{}, fmt.Errorf("the word that the peer shows is about another transfer: %s of %s to %s", fact.Type, fact.ID, fact.To)
	}
	if listed.Payer.Account != fact.Payer || listed.Payee.Account != fact.Payee || listed.Amount != fact.Amount || listed.Currency != fact.Currency {
		return ledger.Recover{}, errors.New("the word that the peer shows says other contents than it lists")
	}
	known, there := r.Desk.Peer(peer)
	if !there {
		return ledger.Recover{}, peers.ErrUnknownPeer
	}
	from, errFrom := ledger.ParseNumber(fact.Payer)
	to, errTo := ledger.ParseNumber(fact.Payee)
	amount, errAmount := ledger.ParseMoney(fact.Amount, fact.Currency)
	return ledger.Recover{
		ID: ledger.TransferID(fact.ID), Peer: known, From: from, To: to, Amount: amount, Description: fact.Description, Origin: fact.Origin,
		PayeeEpoch: fact.PayeeEpoch, OwnEpoch: r.Desk.books.Epoch(),
	}, errors.Join(errFrom, errTo, errAmount)
}

// recover posts the transfer. With one that is not known here, the client's key is lost as well: it is claimed again in the same
// transaction, so that a repeat finds the transfer and makes no second one. A key that stands for something else by now stays.
func (r *Reconciler) recover(ctx context.Context, recovery ledger.Recover, lost bool) (Final, error) {
	asked, there := r.Desk.originOf(recovery.ID, recovery.Origin)
	if there {
		recovery.Reference, recovery.Language, recovery.RequestID = asked.Reference, asked.Language, asked.RequestID
	}
	if lost && there && r.Renderer != nil {
		final, err := r.Desk.submitFor(ctx, posting.Command{
			Operation: recovery, Claim: asked.claim(), Renderer: r.Renderer(asked.Language, asked.RequestID),
		})
		if err == nil && final.Remittance.ID == recovery.ID {
			return final, nil
		}
		if err != nil && ledger.CodeOf(err) != ledger.IdempotencyKeyReused {
			return final, err
		}
		r.Desk.log.Error("the key of a transfer that was found again stands for another request by now; was it paid twice?",
			"transfer", recovery.ID, "request_id", asked.RequestID)
	}
	return r.Desk.submit(ctx, recovery)
}

// owed raises the alarm about a payment that no account could bear.
func (r *Reconciler) owed(t *tally, m ledger.Remittance) {
	if system, _ := ledger.StripeOf(m.Transfer.PayerID); system != ledger.ReceivableSerial {
		return
	}
	t.count(&t.done.Receivable)
	r.Desk.metrics.receivable.Inc()
	r.Desk.log.Error("a forgotten payment was posted from receivable: its account is gone or has spent the money",
		"transfer", m.ID, "account", m.Transfer.From, "amount", m.Transfer.Amount.String())
}

// alike tells whether the peer lists what is posted here.
func alike(listed peers.Listed, own *ledger.Remittance) bool {
	t := own.Transfer
	return listed.Payer.Account == string(t.From) && listed.Payee.Account == string(t.To) &&
		listed.Amount == t.Amount.Decimal() && listed.Currency == string(t.Amount.Currency)
}

// received judges a transfer that the peer pays, by its word of now.
func (r *Reconciler) received(ctx context.Context, t *tally, listed peers.Listed, own *ledger.Remittance) error {
	posted, pending := own != nil && own.State == ledger.Posted, own != nil && own.State == ledger.Pending
	counted := &t.done.Agreed
	switch {
	case listed.State == peers.Committed && posted && !alike(listed, own):
		t.list(&t.done.Conflicts, listed.ID, "credited here with other contents than the peer lists")
		return nil
	case listed.State == peers.Committed && !posted:
		counted = &t.done.Credited
	case listed.State == peers.Aborted && posted:
		t.list(&t.done.Conflicts, listed.ID, "credited here, and the peer says that it gave the transfer up")
		return nil
	case listed.State == peers.Aborted && pending && listed.Statement != "":
		counted = &t.done.Released
	default:
		t.count(counted)
		return nil
	}
	err := r.Desk.believe(ctx, ledger.TransferID(listed.ID), listed.Statement, t.ours)
	switch {
	case ledger.CodeOf(err) == ledger.PeerCapExceeded:
		t.list(&t.done.OverCap, listed.ID, err)
		return nil
	case Contradicts(err) || errors.Is(err, errUnread):
		t.list(&t.done.Conflicts, listed.ID, err)
		return nil
	case err != nil:
		return err
	}
	t.count(counted)
	return nil
}
