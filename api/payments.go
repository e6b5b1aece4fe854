package api

import (
	"context"
	"crypto/sha256"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
)

const batchTransfersMax = 100

type cashRequest struct {
	Account     string `json:"account"`
	Amount      string `json:"amount"`
	Currency    string `json:"currency"`
	Description string `json:"description,omitempty"`
	Reference   string `json:"reference,omitempty"`
}

type transferRequest struct {
	From        string `json:"from"`
	To          string `json:"to"`
	Amount      string `json:"amount"`
	Currency    string `json:"currency"`
	Description string `json:"description,omitempty"`
	Reference   string `json:"reference,omitempty"`
}

type batchRequest struct {
	Atomic    *bool             `json:"atomic,omitempty"` // all or none when absent: the safe reading of a forgotten field
	Transfers []transferRequest `json:"transfers"`
}

func (x *exchange) postDeposit() error {
	request, err := decode[cashRequest](x)
	if err != nil {
		return err
	}
	pay, err := request.pay(x, ledger.Deposit)
	if err != nil {
		return err
	}
	pay.From, pay.To = ledger.Cash, pay.From
	return x.submitOnce(pay, request)
}

func (x *exchange) postWithdrawal() error {
	request, err := decode[cashRequest](x)
	if err != nil {
		return err
	}
	pay, err := request.pay(x, ledger.Withdrawal)
	if err != nil {
		return err
	}
	pay.To = ledger.Cash
	return x.submitOnce(pay, request)
}

func (x *exchange) postTransfer() error {
	request, err := decode[transferRequest](x)
	if err != nil {
		return err
	}
	pay, err := request.pay(x)
	if err != nil {
		return err
	}
	if peer, remote := x.remote(pay); remote {
		return x.remit(pay, peer, request)
	}
	return x.submitOnce(pay, request)
}

func (x *exchange) postBatch() error {
	request, err := decode[batchRequest](x)
	if err != nil {
		return err
	}
	if len(request.Transfers) < 1 || len(request.Transfers) > batchTransfersMax {
		return ledger.Refuse(ledger.InvalidRequest, "a batch has 1 to %d transfers", batchTransfersMax)
	}
	batch := ledger.Batch{Atomic: request.Atomic == nil || *request.Atomic}
	for i, transfer := range request.Transfers {
		pay, err := transfer.pay(x)
		if err != nil {
			return placed(i, err)
		}
		batch.Transfers = append(batch.Transfers, pay)
	}
	return x.submitOnce(batch, request)
}

// placed tells which transfer of a batch is refused.
func placed(i int, err error) error {
	refusal := *err.(*ledger.Error) //nolint:errorlint // parsing refuses unwrapped
	return ledger.Refuse(refusal.Code, "transfer %d of the batch: %s", i+1, refusal.Detail)
}

// pay is the payment with the account in From.
func (r cashRequest) pay(x *exchange, kind ledger.Kind) (ledger.Pay, error) {
	account, err := parseNumber("account", r.Account)
	if err != nil {
		return ledger.Pay{}, err
	}
	return x.pay(ledger.Pay{Kind: kind, From: account, Description: r.Description, Reference: r.Reference}, r.Amount, r.Currency)
}

func (r transferRequest) pay(x *exchange) (ledger.Pay, error) {
	from, err := parseNumber("from", r.From)
	if err != nil {
		return ledger.Pay{}, err
	}
	to, err := parseNumber("to", r.To)
	if err != nil {
		return ledger.Pay{}, err
	}
	return x.pay(ledger.Pay{Kind: ledger.Payment, From: from, To: to, Description: r.Description, Reference: r.Reference}, r.Amount, r.Currency)
}

// pay completes a payment by what all payments have.
func (x *exchange) pay(pay ledger.Pay, amount, currency string) (ledger.Pay, error) {
	var err error
	if pay.Amount, err = parseMoney(amount, currency); err != nil {
		return ledger.Pay{}, err
	}
	err = checkTexts(field{"description", pay.Description, descriptionMax}, field{"reference", pay.Reference, referenceMax})
	if err != nil {
		return ledger.Pay{}, err
	}
	pay.ID, pay.Actor = ledger.TransferID(x.server.deps.NewID()), x.actor()
	return pay, nil
}

// parseNumber names the field in its refusal.
func parseNumber(name, text string) (ledger.Number, error) {
	number, err := ledger.ParseNumber(text)
	if err != nil {
		return "", fieldRefusal(name, err)
	}
	return number, nil
}

func parseMoney(amount, currency string) (ledger.Money, error) {
	if amount == "" {
		return ledger.Money{}, ledger.Refuse(ledger.InvalidAmount, "the field amount is missing")
	}
	return ledger.ParseMoney(amount, currency)
}

func fieldRefusal(name string, err error) error {
	refusal := *err.(*ledger.Error) //nolint:errorlint // the ledger's parsers refuse unwrapped
	return ledger.Refuse(refusal.Code, "%s: %s", name, refusal.Detail)
}

// claim is what the request's Idempotency-Key stands for. meaning is the decoded body; together with the parts of the
// path it is the request's meaning, whatever its white space.
func (x *exchange) claim(meaning any) store.Claim {
	hash := sha256.New()
	hash.Write([]byte("lockstep fingerprint 1\x00"))
	for _, name := range x.fiber.Route().Params {
		hash.Write([]byte(x.param(name) + "\x00"))
	}
	hash.Write(encode(meaning))
	return store.Claim{
		Principal: x.principal.Caller, Route: x.route.name(), Key: x.key, Fingerprint: [sha256.Size]byte(hash.Sum(nil)),
		Language: string(x.language), RequestID: x.id,
	}
}

// submitOnce gives an operation to the engine under the request's Idempotency-Key.
func (x *exchange) submitOnce(operation ledger.Operation, meaning any) error {
	claim := x.claim(meaning)
	return x.submit(posting.Command{Operation: operation, Claim: &claim, Renderer: x.renderer()})
}

// submit waits for a command's outcome, for as long as the caller prefers, and answers with it.
func (x *exchange) submit(command posting.Command) error {
	ctx, cancel := context.WithTimeout(x.context(), preferredWait(x.header("Prefer")))
	defer cancel()
	x.submitted = true
	outcome, err := x.server.deps.Engine.Submit(ctx, command)
	if err != nil {
		return err
	}
	return x.writeChange(outcome.Answer, outcome.Replayed, outcome.Token)
}

// writeChange answers a request that changed something, or did earlier.
func (x *exchange) writeChange(answer store.Answer, replayed bool, token store.Token) error {
	if token != "" {
		x.set("Consistency-Token", string(token))
	}
	if answer.Status == 503 { // the one of them that is decided under a key: the payee's system gave no answer
		x.set("Retry-After", strconv.Itoa(rules[ledger.PeerUnavailable].after))
	}
	if x.replayed = replayed; replayed {
		x.set("Idempotency-Replayed", "true")
	}
	x.set(fiber.HeaderCacheControl, "no-store")
	return x.write(answer)
}
