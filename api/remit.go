package api

import (
	"context"
	"time"

	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/remit"
	"lockstep/node/store"
)

// Remitter does the system's part of transfers to and from other systems; *remit.Desk is one.
type Remitter interface {
	Peer(id string) (ledger.Peer, bool)
	Terms() (epoch int64, expiresIn, lookAfter time.Duration)
	Origin(id ledger.TransferID, claim store.Claim, reference string) string
	Begin(remittance ledger.Remittance, trace string)
	Await(ctx context.Context, id ledger.TransferID) (remit.Final, bool)
	Abort(ctx context.Context, id ledger.TransferID) (ledger.Remittance, error)
	Prepare(ctx context.Context, from string, request peers.PrepareRequest) []peers.PrepareResult
	List(ctx context.Context, from, payer, cursor string, limit int) (page []peers.Listed, next string, err error)
	Digest(ctx context.Context, from, payer, after, until string) (*ledger.Digest, error)
	Inquire(ctx context.Context, from string, request peers.InquiryRequest) ([]peers.InquiryResult, error)
}

// remote tells whether a payment leaves the system, and to which peer.
func (x *exchange) remote(pay ledger.Pay) (ledger.Peer, bool) {
	if x.server.deps.Peers == nil || pay.To.System() == x.server.deps.System {
		return ledger.Peer{}, false
	}
	return x.server.deps.Peers.Remitter.Peer(pay.To.System())
}

// remit holds the amount under the request's key, and waits for the end of what follows outside of the engine. A repeat
// waits for the same end: the claim, made with the hold, stands for the transfer and not for an answer.
func (x *exchange) remit(pay ledger.Pay, peer ledger.Peer, meaning any) error {
	desk := x.server.deps.Peers.Remitter
	ctx, cancel := context.WithTimeout(x.context(), preferredWait(x.header("Prefer")))
	defer cancel()
	epoch, expiresIn, lookAfter := desk.Terms()
	claim := x.claim(meaning)
	command := posting.Command{
		Operation: ledger.Remit{
			ID: pay.ID, Actor: pay.Actor, Peer: peer, From: pay.From, To: pay.To, Amount: pay.Amount, Description: pay.Description,
			Reference: pay.Reference, Epoch: epoch, ExpiresIn: expiresIn, LookAfter: lookAfter, Language: claim.Language, RequestID: claim.RequestID,
			Origin: desk.Origin(pay.ID, claim, pay.Reference),
		},
		Claim: &claim, Renderer: held{x.renderer()},
	}
	x.submitted = true
	outcome, err := x.server.deps.Engine.Submit(ctx, command)
	if err != nil {
		return err
	}
	remittance := outcome.Result.Remittance
	if remittance == nil || remittance.Final() {
		return x.writeChange(outcome.Answer, outcome.Replayed, outcome.Token)
	}
	if !outcome.Replayed {
		desk.Begin(*remittance, x.parent())
	}
	final, ended := x.await(ctx, remittance.ID)
	switch {
	case ended && outcome.Replayed: // the claim may be older than this release: what renders the answer is written there
		if again, err := x.server.deps.Engine.Submit(ctx, command); err == nil {
			outcome = again
		}
	case ended:
		result := ledger.Result{Transfer: final.Remittance.Transfer, Remittance: &final.Remittance}
		outcome.Answer, outcome.Token = x.renderer().Render(rendererVersion, result, nil), final.Token
	}
	if outcome.Answer.Body == nil { // it is held, and no more is known
		outcome.Answer = x.renderer().Render(rendererVersion, outcome.Result, nil)
	}
	return x.writeChange(outcome.Answer, outcome.Replayed, outcome.Token)
}

// held renders what is pending without a body: nearly every caller hears of its end instead.
type held struct{ renderer }

// Render implements posting.Renderer.
func (r held) Render(version int, result ledger.Result, refusal *ledger.Error) store.Answer {
	if refusal == nil && version == rendererVersion && result.Remittance != nil && !result.Remittance.Final() {
		return store.Answer{Status: 202}
	}
	return r.renderer.Render(version, result, refusal)
}

// await waits for a transfer's end, in a place among those who wait and not among the changes. When there is none the caller
// hears at once that nobody knows yet.
func (x *exchange) await(ctx context.Context, id ledger.TransferID) (remit.Final, bool) {
	x.leaveGate()
	waits := x.server.gates.waits
	if !waits.tryEnter() {
		return remit.Final{}, false
	}
	defer waits.leave()
	return x.server.deps.Peers.Await(ctx, id)
}

// remittance answers how a transfer to another system stands: 202 while nobody knows, and then for ever what was decided,
// in the language and with the id of the first request.
func (r renderer) remittance(m ledger.Remittance) store.Answer {
	if m.State == ledger.Voided {
		first := renderer{system: r.system, language: language(m.Language), requestID: m.RequestID}
		return first.problem(&ledger.Error{Code: m.Failure}).answer()
	}
	answer := store.Answer{Status: 201, Location: "/v1/transfers/" + string(m.ID), ContentType: jsonType, Body: encode(remittanceOf(m, false))}
	if m.State == ledger.Pending {
		answer.Status = 202
	}
	return answer
}

// remittanceOf is the transfer with what happened on its way. The steps after the decision show on GET only, for an answer
// that is given again may not change.
func remittanceOf(m ledger.Remittance, all bool) transferBody {
	body := transferOf(*m.Transfer)
	body.Timeline = []stepBody{{At: stamp(m.CreatedAt), Step: first(m), Detail: m.Transfer.Amount.String() + " for " + string(m.Transfer.To)}}
	if m.Failure != "" {
		body.Failure = &failureBody{Code: m.Failure, Detail: failureDetail(m.Failure)}
	}
	if m.Final() {
		step := stepBody{At: stamp(m.FinishedAt), Step: string(m.State), Detail: "decided by " + m.Payer}
		if m.State == ledger.Posted && m.Transfer.From.System() == m.Payer && m.PayeeEpoch > 0 {
			step.Detail = "promised by " + m.Payee + ", decided by " + m.Payer
		}
		body.Timeline = append(body.Timeline, step)
	}
	if all && !m.CreditedAt.IsZero() {
		body.Timeline = append(body.Timeline, stepBody{At: stamp(m.CreditedAt), Step: "credited", Detail: m.Payee + " has booked the credit"})
	}
	return body
}

// failureDetail words why a transfer was voided. What the payee's system keeps of it is no problem of a request of its own.
func failureDetail(code ledger.Code) string {
	if code == ledger.TransferAborted {
		return "The payer's system has given the transfer up; nothing moved."
	}
	return words[code].in(english).meaning
}

// first is what a transfer between systems begins with.
func first(m ledger.Remittance) string {
	if m.Language != "" { // a client's request: this is the payer's system
		return "held"
	}
	return "reserved"
}
