package api

import (
	"context"
	"math/big"
	"strings"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

type currencyProof struct {
	Currency      ledger.Currency `json:"currency"`
	Entries       string          `json:"entries"`
	Posted        string          `json:"posted"`
	PendingDebit  string          `json:"pending_debit"`
	PendingCredit string          `json:"pending_credit"`
	Balanced      bool            `json:"balanced"`
}

type trialBalanceBody struct {
	System     string          `json:"system"`
	Currencies []currencyProof `json:"currencies"`
	Balanced   bool            `json:"balanced"`
}

// getTrialBalance sums the whole system: in double entry every currency sums to zero.
func (x *exchange) getTrialBalance() error {
	var balances []store.CurrencyBalance
	err := x.read(nil, func(ctx context.Context, q Queries) (err error) {
		balances, err = q.TrialBalance(ctx)
		return err
	})
	if err != nil {
		return err
	}
	body := trialBalanceBody{System: x.server.deps.System, Currencies: []currencyProof{}, Balanced: true}
	for _, b := range balances {
		body.Balanced = body.Balanced && b.Balanced()
		body.Currencies = append(body.Currencies, currencyProof{
			Currency: b.Currency, Balanced: b.Balanced(),
			Entries: decimal(b.Entries, b.Currency), Posted: decimal(b.Posted, b.Currency),
			PendingDebit: decimal(b.PendingDebit, b.Currency), PendingCredit: decimal(b.PendingCredit, b.Currency),
		})
	}
	return x.answer(200, body)
}

// decimal writes a sum, which may be larger than any one balance, in the currency's major unit.
func decimal(minor *big.Int, currency ledger.Currency) string {
	decimals := currency.Decimals()
	digits := new(big.Int).Abs(minor).String()
	if short := decimals + 1 - len(digits); short > 0 {
		digits = strings.Repeat("0", short) + digits
	}
	text := digits
	if decimals > 0 {
		text = digits[:len(digits)-decimals] + "." + digits[len(digits)-decimals:]
	}
	if minor.Sign() < 0 {
		return "-" + text
	}
	return text
}
