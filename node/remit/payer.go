package remit

import (
	"context"
	"errors"
	"time"

	"lockstep/cluster/peers"
	"lockstep/cluster/traces"
	"lockstep/node/ledger"
	"lockstep/saga"
)

// Begin goes on with a transfer that was just held, in the background: the client may leave, the transfer goes on. The trace
// of the client's request, a traceparent or "", travels with what is decided.
func (d *Desk) Begin(remittance ledger.Remittance, trace string) {
	d.metrics.begun.Inc()
	d.driving.Go(func() {
		if err := d.fault("after_hold"); err != nil {
			return
		}
		ctx, span := d.config.Traces.Continue(context.WithValue(d.life, traced{}, trace), "remit", traces.Inside, trace)
		defer span.End()
		span.Note("lockstep.transfer", string(remittance.ID))
		if err := d.goOn(ctx, remittance); err != nil {
			span.Fail("left to its saga")
			d.log.Debug("a transfer to a peer is left to its saga", "transfer", remittance.ID, "error", err)
		}
	})
}

// traced is under which a context has the trace of the client's request.
type traced struct{}

func traceOf(ctx context.Context) string {
	if parent := traces.Parent(ctx); parent != "" {
		return parent
	}
	trace, _ := ctx.Value(traced{}).(string)
	return trace
}

// pollPause is how often a node looks for the end of a transfer that another one may have decided.
const pollPause = time.Second

// Await waits for a transfer's end, for as long as ctx lasts; false when that comes first.
func (d *Desk) Await(ctx context.Context, id ledger.TransferID) (Final, bool) {
	told := make(chan Final, 1)
	d.mu.Lock()
	d.waiting[id] = append(d.waiting[id], told)
	d.mu.Unlock()
	defer d.forget(id, told)
	ticker := time.NewTicker(pollPause)
	defer ticker.Stop()
	for {
		select {
		case final := <-told:
			return final, true
		case <-ctx.Done():
			return Final{}, false
		case <-ticker.C:
			if found, err := d.books.Remittances(ctx, id); err == nil {
				if remittance, there := found[id]; there && remittance.Final() {
					return Final{Remittance: remittance, Token: d.books.Position(ctx)}, true
				}
			}
		}
	}
}

func (d *Desk) forget(id ledger.TransferID, told chan Final) {
	d.mu.Lock()
	defer d.mu.Unlock()
	kept := d.waiting[id][:0]
	for _, other := range d.waiting[id] {
		if other != told {
			kept = append(kept, other)
		}
	}
	if d.waiting[id] = kept; len(kept) == 0 {
		delete(d.waiting, id)
	}
}

func (d *Desk) tell(final Final) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, told := range d.waiting[final.Remittance.ID] {
		select {
		case told <- final:
		default: // it knows already
		}
	}
}

// errUndecided says that the peer gave no answer that decides.
var errUndecided = errors.New("remit: the peer has neither promised nor refused")

// goOn asks the peer for its promise and decides. Any error leaves the transfer as it is: it is asked again, by whatever
// node comes to it.
func (d *Desk) goOn(ctx context.Context, r ledger.Remittance) error {
	t, epoch := r.Transfer, d.books.Epoch() // read before the question: the answer is worth nothing in a later one
	result, err := d.asker.Prepare(ctx, r.Payee, peers.Transfer{
		ID: string(r.ID), Payer: peers.Account{Account: string(t.From)}, Payee: peers.Account{Account: string(t.To)},
		Amount: t.Amount.Decimal(), Currency: string(t.Amount.Currency), ExpiresInMS: d.config.AskAfter.Milliseconds(), Description: t.Description,
	})
	if err != nil {
		return err
	}
	if err := d.fault("after_prepare"); err != nil {
		return err
	}
	switch result.State {
	case peers.Reserved:
		return d.decide(ctx, r, ledger.Conclude{End: ledger.Posted, PayeeEpoch: result.Epoch, Epoch: epoch})
	case peers.Refused:
		return d.decide(ctx, r, ledger.Conclude{End: ledger.Voided, Failure: refusalOf(result.Code), Epoch: epoch})
	}
	return errUndecided
}

// refusalOf is a peer's code as our client hears it: what it does not name itself is the peer's refusal.
func refusalOf(code string) ledger.Code {
	switch known := ledger.Code(code); known {
	case ledger.PayeeNotFound, ledger.AccountFrozen, ledger.AccountClosed, ledger.CurrencyMismatch, ledger.BalanceOutOfRange, ledger.PeerCapExceeded:
		return known
	}
	return ledger.PeerRefused
}

// giveUp aborts what the peer has not decided about in time, or what an operator does not want any more.
func (d *Desk) giveUp(ctx context.Context, r ledger.Remittance) error {
	return d.decide(ctx, r, ledger.Conclude{End: ledger.Voided, Failure: ledger.PeerUnavailable, Epoch: d.books.Epoch()})
}

// decide is the pivot or the abort. Whoever comes second finds what the first one decided.
func (d *Desk) decide(ctx context.Context, r ledger.Remittance, decision ledger.Conclude) error {
	name := map[ledger.State]string{ledger.Posted: "pivot", ledger.Voided: "abort"}[decision.End]
	peer, known := d.Peer(r.Payee)
	if !known {
		return peers.ErrUnknownPeer
	}
	if err := d.fault("before_" + name); err != nil {
		return err
	}
	decision.ID, decision.Peer, decision.From, decision.Currency = r.ID, peer, r.Transfer.From, r.Transfer.Amount.Currency
	decision.Held, decision.Trace = &r, traceOf(ctx)
	final, err := d.submit(ctx, decision)
	if err != nil {
		return err
	}
	if err := d.fault("after_" + name); err != nil {
		return err
	}
	d.metrics.ended.WithLabelValues(string(final.Remittance.State)).Inc()
	d.tell(final)
	return nil
}

// Remitting is the saga of a transfer in the payer's system: before its deadline the peer is asked again, after it the
// transfer is given up. After the pivot nothing is left to do here: the events go on by themselves.
//
// While the system is unreconciled nothing is decided: what is pending here may be credited there.
func (d *Desk) Remitting(ctx context.Context, s saga.Saga) saga.Outcome {
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
		return saga.Settled() // with the decision; to end it now could end one that is open again after a failover
	case !d.books.Now().Before(r.ExpiresAt):
		err = d.giveUp(ctx, r)
	default:
		d.metrics.retried.Inc()
		err = d.goOn(ctx, r)
	}
	switch {
	case err == nil, errors.Is(err, errAbandoned): // as if this node had died: its lease runs on
		return saga.Settled()
	}
	return saga.Again(0, err)
}

// Abort gives a transfer up that the payer's system has not decided; afterwards it shows what was decided.
func (d *Desk) Abort(ctx context.Context, id ledger.TransferID) (ledger.Remittance, error) {
	found, err := d.books.Remittances(ctx, id)
	if err != nil {
		return ledger.Remittance{}, err
	}
	r, there := found[id]
	switch {
	case !there || r.Payer != d.books.System():
		return ledger.Remittance{}, ledger.Refuse(ledger.TransferNotFound, "this system pays no transfer %s to another", id)
	case r.State == ledger.Posted:
		return r, ledger.Refuse(ledger.InvalidState, "the transfer is posted: after its pivot it only goes forward")
	case r.Final():
		return r, nil
	}
	if err := d.giveUp(ctx, r); err != nil {
		return r, err
	}
	found, err = d.books.Remittances(ctx, id)
	return found[id], err
}
