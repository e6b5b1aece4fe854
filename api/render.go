package api

import (
	"fmt"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
)

// rendererVersion is what new answers are rendered with. A new version ships one release before it is first written,
// so that every node can render what any other has promised.
const rendererVersion = 1

// renderer renders the answers to one request. A transfer's answer depends on the transfer alone, for it is rendered
// again for every repeat; refusals are stored as they are, in the language and with the id of the first request.
type renderer struct {
	system    string
	language  language
	requestID string
	zone      *time.Location
	now       func() time.Time
}

// NewRenderer renders answers for a request that is not being served: one whose transfer is found again.
func NewRenderer(system, spoken, requestID string) posting.Renderer {
	return renderer{system: system, language: language(spoken), requestID: requestID}
}

func (x *exchange) renderer() renderer {
	deps := &x.server.deps
	return renderer{system: deps.System, language: x.language, requestID: x.id, zone: deps.Zone, now: deps.Now}
}

// Version implements posting.Renderer.
func (r renderer) Version() int { return rendererVersion }

// Render implements posting.Renderer. A version that this release does not know was promised by a newer node, which
// can render it: the caller is told to ask again.
func (r renderer) Render(version int, result ledger.Result, refusal *ledger.Error) store.Answer {
	switch {
	case version != rendererVersion:
		return r.problem(&ledger.Error{Code: ledger.OutcomeUnknown}).answer()
	case refusal != nil:
		return r.problem(refusal).answer()
	case result.Batch != nil:
		return store.Answer{Status: 201, ContentType: jsonType, Body: encode(r.batch(result.Batch))}
	case result.Hold != nil:
		return r.hold(result)
	case result.Remittance != nil:
		return r.remittance(*result.Remittance)
	case result.Account != nil:
		return store.Answer{Status: 200, ContentType: jsonType, Body: encode(r.account(*result.Account))}
	case result.Transfer != nil:
		return store.Answer{
			Status: 201, Location: "/v1/transfers/" + string(result.Transfer.ID), ContentType: jsonType,
			Body: encode(transferOf(*result.Transfer)),
		}
	}
	panic("api: Render got an empty result")
}

// problem words a refusal that was decided under the claim.
func (r renderer) problem(refusal *ledger.Error) problem {
	return newProblem(refusal, r.language, r.requestID, false)
}

// hold answers 201 for a new hold and 200 for one that ended.
func (r renderer) hold(result ledger.Result) store.Answer {
	body := r.holdOf(*result.Hold)
	if result.Transfer != nil {
		body.TransferID = result.Transfer.ID
	}
	answer := store.Answer{Status: 200, ContentType: jsonType, Body: encode(body)}
	if result.Hold.State == ledger.Pending {
		answer.Status, answer.Location = 201, "/v1/holds/"+string(result.Hold.ID)
	}
	return answer
}

type batchBody struct {
	Results []any `json:"results"` // transfers and problems, in the order of the request
}

func (r renderer) batch(items []ledger.BatchItem) batchBody {
	body := batchBody{Results: make([]any, 0, len(items))}
	for _, item := range items {
		if item.Refusal != nil {
			body.Results = append(body.Results, r.problem(item.Refusal))
		} else {
			body.Results = append(body.Results, transferOf(*item.Transfer))
		}
	}
	return body
}

type balanceBody struct {
	Posted        string `json:"posted"`
	PendingDebit  string `json:"pending_debit"`
	PendingCredit string `json:"pending_credit"`
	Available     string `json:"available"`
}

type accountBody struct {
	Number         ledger.Number   `json:"number"`
	System         string          `json:"system"`
	Owner          string          `json:"owner"`
	Currency       ledger.Currency `json:"currency"`
	Label          string          `json:"label"`
	Status         ledger.Status   `json:"status"`
	Balance        balanceBody     `json:"balance"`
	OverdraftLimit string          `json:"overdraft_limit"`
	Version        int64           `json:"version"`
	CreatedAt      string          `json:"created_at"`
	Limits         *limitsBody     `json:"limits,omitempty"`
}

// limitsBody is what may leave the account in a day, and what of it is left today.
type limitsBody struct {
	DailyOut  string `json:"daily_out"`
	DailyLeft string `json:"daily_left"`
}

func (r renderer) account(a ledger.Account) accountBody {
	decimal := func(minor int64) string { return ledger.Money{Minor: minor, Currency: a.Currency}.Decimal() }
	body := accountBody{
		Number: ledger.NewNumber(r.system, a.ID), System: r.system, Owner: a.Owner, Currency: a.Currency,
		Label: a.Label, Status: a.Status, Version: a.Version, CreatedAt: stamp(a.CreatedAt),
		OverdraftLimit: decimal(a.OverdraftLimit),
		Balance: balanceBody{
			Posted: decimal(a.Posted), PendingDebit: decimal(a.PendingDebit), PendingCredit: decimal(a.PendingCredit),
			Available: decimal(a.Available()),
		},
	}
	if d := a.Daily; d.Capped {
		body.Limits = &limitsBody{decimal(d.Out), decimal(max(d.Left(ledger.DayBegan(r.now(), r.zone)), 0))}
	}
	return body
}

type stepBody struct {
	At     string `json:"at"`
	Step   string `json:"step"`
	Detail string `json:"detail"`
}

type transferBody struct {
	ID          ledger.TransferID `json:"id"`
	Kind        ledger.Kind       `json:"kind"`
	State       ledger.State      `json:"state"`
	From        ledger.Number     `json:"from"`
	To          ledger.Number     `json:"to"`
	Amount      string            `json:"amount"`
	Currency    ledger.Currency   `json:"currency"`
	Description string            `json:"description"`
	Reference   string            `json:"reference"`
	HoldID      ledger.HoldID     `json:"hold_id,omitempty"`
	Failure     *failureBody      `json:"failure,omitempty"`
	CreatedAt   string            `json:"created_at"`
	FinishedAt  string            `json:"finished_at,omitempty"`
	Timeline    []stepBody        `json:"timeline"`
}

// failureBody is why a transfer to another system was voided.
type failureBody struct {
	Code   ledger.Code `json:"code"`
	Detail string      `json:"detail"`
}

func transferOf(t ledger.Transfer) transferBody {
	return transferBody{
		ID: t.ID, Kind: t.Kind, State: t.State, From: t.From, To: t.To, Amount: t.Amount.Decimal(), Currency: t.Amount.Currency,
		Description: t.Description, Reference: t.Reference, HoldID: t.Hold,
		CreatedAt: stamp(t.CreatedAt), FinishedAt: stamp(t.FinishedAt), Timeline: timeline(t),
	}
}

// timeline tells what happened to a transfer: inside one system all of it in one step.
func timeline(t ledger.Transfer) []stepBody {
	detail := fmt.Sprintf("%s moved from %s to %s in one transaction", t.Amount, t.From, t.To)
	return []stepBody{{At: stamp(t.FinishedAt), Step: string(t.State), Detail: detail}}
}

type holdBody struct {
	ID         ledger.HoldID     `json:"id"`
	Account    ledger.Number     `json:"account"`
	To         ledger.Number     `json:"to,omitempty"`
	Amount     string            `json:"amount"`
	Currency   ledger.Currency   `json:"currency"`
	State      ledger.State      `json:"state"`
	Captured   string            `json:"captured"`
	TransferID ledger.TransferID `json:"transfer_id,omitempty"` // in the answer to the capture only
	ExpiresAt  string            `json:"expires_at"`
	CreatedAt  string            `json:"created_at"`
}

func (r renderer) holdOf(h ledger.Hold) holdBody {
	return holdBody{
		ID: h.ID, Account: ledger.NewNumber(r.system, h.Account), To: h.To, Amount: h.Amount.Decimal(), Currency: h.Amount.Currency,
		State: h.State, Captured: ledger.Money{Minor: h.Captured, Currency: h.Amount.Currency}.Decimal(),
		ExpiresAt: stamp(h.ExpiresAt), CreatedAt: stamp(h.CreatedAt),
	}
}

// stamp writes a time as the database keeps it, RFC 3339 in UTC with microseconds; "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000Z")
}
