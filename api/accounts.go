package api

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
)

var principalForm = regexp.MustCompile(`^(client|user):[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)

type newAccountRequest struct {
	Currency       string  `json:"currency"`
	Label          string  `json:"label,omitempty"`
	Owner          *string `json:"owner,omitempty"`
	OverdraftLimit *string `json:"overdraft_limit,omitempty"`
}

type amendRequest struct {
	Status         *string `json:"status,omitempty"`
	Label          *string `json:"label,omitempty"`
	Owner          *string `json:"owner,omitempty"`
	OverdraftLimit *string `json:"overdraft_limit,omitempty"`

	Limits *limitsRequest `json:"limits,omitempty"`
}

type limitsRequest struct {
	DailyOut string `json:"daily_out"`
}

// noLimit is how a limit is taken away.
const noLimit = "none"

// postAccount opens an account. It is no engine command, for nobody can use the account yet.
func (x *exchange) postAccount() error {
	request, err := decode[newAccountRequest](x)
	if err != nil {
		return err
	}
	account, err := request.account(x)
	if err != nil {
		return err
	}
	return x.once(request, func(ctx context.Context, tx *store.Tx) (store.Answer, store.Answer, error) {
		opened, err := x.server.deps.Store.CreateAccount(ctx, tx, account)
		if err != nil {
			return store.Answer{}, store.Answer{}, err
		}
		if err := x.server.deps.Webhooks.Tell(ctx, tx, ledger.Opened(x.server.deps.System, opened)); err != nil {
			return store.Answer{}, store.Answer{}, err
		}
		body := x.renderer().account(opened)
		answer := store.Answer{Status: 201, Location: "/v1/accounts/" + string(body.Number), ContentType: jsonType, Body: encode(body)}
		return answer, answer, nil
	})
}

func (r newAccountRequest) account(x *exchange) (ledger.Account, error) {
	currency, err := x.currency(r.Currency)
	if err != nil {
		return ledger.Account{}, err
	}
	if err := checkText("label", r.Label, labelMax); err != nil {
		return ledger.Account{}, err
	}
	if (r.Owner != nil || r.OverdraftLimit != nil) && !x.principal.Operator() {
		return ledger.Account{}, ledger.Refuse(ledger.Forbidden, "only an operator sets the owner or the overdraft limit of an account")
	}
	account := ledger.Account{Owner: x.principal.Owner, Currency: currency, Label: r.Label, Status: ledger.Open}
	if r.Owner != nil {
		if account.Owner, err = checkOwner(*r.Owner); err != nil {
			return ledger.Account{}, err
		}
	}
	if r.OverdraftLimit != nil {
		account.OverdraftLimit, err = parseLimit("overdraft_limit", *r.OverdraftLimit, currency)
	}
	return account, err
}

// currency refuses a currency in which this system keeps no accounts.
func (x *exchange) currency(code string) (ledger.Currency, error) {
	currency, err := ledger.ParseCurrency(code)
	if err != nil {
		return "", err
	}
	names := make([]string, 0, len(x.server.deps.Currencies))
	for _, kept := range x.server.deps.Currencies {
		if kept == currency {
			return currency, nil
		}
		names = append(names, string(kept))
	}
	return "", ledger.Refuse(ledger.InvalidRequest, "this system keeps accounts in %s", strings.Join(names, ", "))
}

func checkOwner(owner string) (string, error) {
	if !principalForm.MatchString(owner) {
		return "", ledger.Refuse(ledger.InvalidRequest, "an owner is a principal such as client:shop or user:alice")
	}
	return owner, nil
}

func parseLimit(field, limit string, currency ledger.Currency) (int64, error) {
	money, err := ledger.ParseLimit(limit, currency)
	if err != nil {
		return 0, fieldRefusal(field, err)
	}
	return money.Minor, nil
}

// once runs work under the claim of the request's Idempotency-Key.
func (x *exchange) once(meaning any, work store.Work) error {
	ctx, cancel := context.WithTimeout(x.context(), preferredWait(x.header("Prefer")))
	defer cancel()
	x.submitted = true
	answer, replayed, token, err := x.server.deps.Store.Once(ctx, x.claim(meaning), work)
	if err != nil {
		return err
	}
	return x.writeChange(answer, replayed, token)
}

// patchAccount has no Idempotency-Key: it sets values, so doing it twice does it once.
func (x *exchange) patchAccount() error {
	number, err := x.numberParam()
	if err != nil {
		return err
	}
	request, err := decode[amendRequest](x)
	if err != nil {
		return err
	}
	amend, err := request.amend(x, number)
	if err != nil {
		return err
	}
	return x.submit(posting.Command{Operation: amend, Renderer: x.renderer()})
}

func (r amendRequest) amend(x *exchange, number ledger.Number) (ledger.Amend, error) {
	amend := ledger.Amend{Actor: x.actor(), Number: number, Label: r.Label, Owner: r.Owner}
	if r == (amendRequest{}) {
		return amend, ledger.Refuse(ledger.InvalidRequest, "say what to change: status, label, owner, overdraft_limit or limits")
	}
	if r.Label != nil {
		if err := checkText("label", *r.Label, labelMax); err != nil {
			return amend, err
		}
	}
	if r.Owner != nil {
		if _, err := checkOwner(*r.Owner); err != nil {
			return amend, err
		}
	}
	if r.Status != nil {
		status, err := parseStatus(*r.Status)
		if err != nil {
			return amend, err
		}
		amend.Status = &status
	}
	return r.withLimits(x, amend)
}

// withLimits reads the limits in the currency that the account keeps, which never changes.
func (r amendRequest) withLimits(x *exchange, amend ledger.Amend) (ledger.Amend, error) {
	if r.OverdraftLimit == nil && r.Limits == nil {
		return amend, nil
	}
	account, err := x.ownAccount(amend.Number)
	if err != nil {
		return amend, err
	}
	if r.OverdraftLimit != nil {
		limit, err := parseLimit("overdraft_limit", *r.OverdraftLimit, account.Currency)
		if err != nil {
			return amend, err
		}
		amend.OverdraftLimit = &limit
	}
	if r.Limits != nil {
		limit := int64(ledger.Unlimited)
		if r.Limits.DailyOut != noLimit {
			if limit, err = parseLimit("limits.daily_out", r.Limits.DailyOut, account.Currency); err != nil {
				return amend, err
			}
		}
		amend.DailyOut = &limit
	}
	return amend, nil
}

func parseStatus(text string) (ledger.Status, error) {
	switch status := ledger.Status(text); status {
	case ledger.Open, ledger.Frozen, ledger.Closed:
		return status, nil
	}
	return "", ledger.Refuse(ledger.InvalidRequest, "status is open, frozen or closed")
}

func (x *exchange) getAccount() error {
	number, err := x.numberParam()
	if err != nil {
		return err
	}
	account, err := x.ownAccount(number)
	if err != nil {
		return err
	}
	return x.answer(200, x.renderer().account(account))
}

// ownAccount reads an account that the caller may see; to all others it does not exist.
func (x *exchange) ownAccount(number ledger.Number) (account ledger.Account, err error) {
	err = x.read(noAccount(number), func(ctx context.Context, q Queries) error {
		account, err = x.visibleAccount(ctx, q, number)
		return err
	})
	return account, err
}

func (x *exchange) visibleAccount(ctx context.Context, q Queries, number ledger.Number) (ledger.Account, error) {
	account, err := x.findAccount(ctx, q, number)
	if err == nil && !x.sees(account) {
		return ledger.Account{}, noAccount(number)
	}
	return account, err
}

// findAccount reads any account of this system. The system's own accounts and their stripes have no such numbers.
func (x *exchange) findAccount(ctx context.Context, q Queries, number ledger.Number) (ledger.Account, error) {
	if number.System() != x.server.deps.System {
		return ledger.Account{}, noAccount(number)
	}
	account, err := q.Account(ctx, number.Serial())
	if err == nil && account.Owner == "" {
		return ledger.Account{}, noAccount(number)
	}
	return account, err
}

// sees tells whether the caller may look at the account.
func (x *exchange) sees(account ledger.Account) bool {
	actor := x.actor()
	return x.principal.SeesAll() || actor.Owns(&account)
}

func noAccount(number ledger.Number) *ledger.Error {
	return ledger.Refuse(ledger.AccountNotFound, "there is no account %s", number)
}

func (x *exchange) numberParam() (ledger.Number, error) {
	return parseNumber("number", x.param("number"))
}

type payeeBody struct {
	Number   ledger.Number   `json:"number"`
	Name     string          `json:"name"`
	Currency ledger.Currency `json:"currency"`
}

// getPayee lets a payer see that a number is the one that was meant, without telling a stranger the whole name.
func (x *exchange) getPayee() error {
	number, err := x.numberParam()
	if err != nil {
		return err
	}
	if system := number.System(); system != x.server.deps.System {
		return x.peersPayee(number)
	}
	payee, err := x.payee()
	if err != nil {
		return err
	}
	return x.answer(200, payee)
}

// payee finds the account of this system that the path names.
func (x *exchange) payee() (payeeBody, error) {
	number, err := x.numberParam()
	if err != nil {
		return payeeBody{}, err
	}
	var payee ledger.Account
	err = x.read(noAccount(number), func(ctx context.Context, q Queries) error {
		payee, err = x.findAccount(ctx, q, number)
		return err
	})
	return payeeBody{Number: number, Name: masked(payee.Label), Currency: payee.Currency}, err
}

// peersPayee asks the system that keeps the account.
func (x *exchange) peersPayee(number ledger.Number) error {
	unknown := ledger.Refuse(ledger.PeerUnknown, "this system knows no peer named %s", number.System())
	if x.server.deps.Peers == nil {
		return unknown
	}
	if _, known := x.server.deps.Peers.Peer(number.System()); !known {
		return unknown
	}
	answer, there, err := x.server.deps.Peers.Client.Payee(x.context(), number.System(), string(number))
	switch {
	case errors.Is(err, peers.ErrRefused):
		return noAccount(number)
	case err != nil || !there:
		return ledger.Refuse(ledger.PeerUnavailable, "the system that keeps the account did not answer")
	}
	return x.answer(200, payeeBody{Number: number, Name: answer.Name, Currency: ledger.Currency(answer.Currency)})
}

// masked keeps the first character of each word, and the last of words of three or more.
func masked(name string) string {
	words := strings.Fields(name)
	for i, word := range words {
		characters := []rune(word)
		for j := 1; j < len(characters); j++ {
			if j < len(characters)-1 || j == 1 {
				characters[j] = '*'
			}
		}
		words[i] = string(characters)
	}
	return strings.Join(words, " ")
}
