package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"
)

// Transfer is money that moved, or is about to, between two accounts.
type Transfer struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind"`  // deposit, withdrawal, transfer, capture or return
	State       string    `json:"state"` // pending, posted or voided
	From        string    `json:"from"`
	To          string    `json:"to"`
	Amount      string    `json:"amount"`
	Currency    string    `json:"currency"`
	Description string    `json:"description"`
	Reference   string    `json:"reference"`
	HoldID      string    `json:"hold_id"` // of a capture
	Failure     *Failure  `json:"failure"` // of a voided one
	CreatedAt   time.Time `json:"created_at"`
	FinishedAt  time.Time `json:"finished_at"` // zero while pending
	Timeline    []Step    `json:"timeline"`
}

// Failure says why a transfer was voided.
type Failure struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Step is one thing that happened to a transfer.
type Step struct {
	At     time.Time `json:"at"`
	Step   string    `json:"step"`
	Detail string    `json:"detail"`
}

// Transfers is a page of transfers, newest first.
type Transfers struct {
	Transfers  []Transfer `json:"transfers"`
	NextCursor string     `json:"next_cursor"`
}

// Cash is a deposit or a withdrawal.
type Cash struct {
	Account     string `json:"account"`
	Amount      string `json:"amount"`
	Currency    string `json:"currency"`
	Description string `json:"description,omitempty"`
	Reference   string `json:"reference,omitempty"`
}

// Payment is a transfer between two accounts.
type Payment struct {
	From        string `json:"from"`
	To          string `json:"to"`
	Amount      string `json:"amount"`
	Currency    string `json:"currency"`
	Description string `json:"description,omitempty"`
	Reference   string `json:"reference,omitempty"`
}

// Deposit brings money into an account.
func (c *Client) Deposit(ctx context.Context, deposit Cash, options ...Option) (Transfer, error) {
	return post[Transfer](ctx, c, "/v1/deposits", deposit, options)
}

// Withdraw takes money out of an account.
func (c *Client) Withdraw(ctx context.Context, withdrawal Cash, options ...Option) (Transfer, error) {
	return post[Transfer](ctx, c, "/v1/withdrawals", withdrawal, options)
}

// Transfer moves money. A transfer to another system may come back pending; TransferByID tells how it went on.
func (c *Client) Transfer(ctx context.Context, payment Payment, options ...Option) (Transfer, error) {
	return post[Transfer](ctx, c, "/v1/transfers", payment, options)
}

// TransferByID reads a transfer. That there is none proves nothing about a change with an unknown outcome.
func (c *Client) TransferByID(ctx context.Context, id string, options ...Option) (Transfer, error) {
	return get[Transfer](ctx, c, "/v1/transfers/"+url.PathEscape(id), nil, options)
}

// Transfers lists transfers that the caller may see, newest first.
func (c *Client) Transfers(ctx context.Context, filter Filter, options ...Option) (Transfers, error) {
	return get[Transfers](ctx, c, "/v1/transfers", filter.query(), options)
}

// Batch is up to 100 transfers inside one system: all or none when Atomic, else each for itself.
type Batch struct {
	Atomic    bool      `json:"atomic"`
	Transfers []Payment `json:"transfers"`
}

// BatchResult is what became of one transfer of a batch: one of its fields is set.
type BatchResult struct {
	Transfer *Transfer
	Problem  *Problem
}

// UnmarshalJSON tells problems, which have a code, from transfers.
func (r *BatchResult) UnmarshalJSON(text []byte) error {
	var kind struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return fmt.Errorf("read a result of a batch: %w", err)
	}
	if kind.Code != "" {
		return json.Unmarshal(text, &r.Problem)
	}
	return json.Unmarshal(text, &r.Transfer)
}

// Batch makes many transfers at once; the results are in the order of the request.
func (c *Client) Batch(ctx context.Context, batch Batch, options ...Option) ([]BatchResult, error) {
	answer, err := post[struct {
		Results []BatchResult `json:"results"`
	}](ctx, c, "/v1/batches", batch, options)
	return answer.Results, err
}

// Hold is money set aside for a payment to come.
type Hold struct {
	ID         string    `json:"id"`
	Account    string    `json:"account"`
	To         string    `json:"to"`
	Amount     string    `json:"amount"`
	Currency   string    `json:"currency"`
	State      string    `json:"state"` // pending, posted, voided or expired
	Captured   string    `json:"captured"`
	TransferID string    `json:"transfer_id"` // in the answer to Capture
	ExpiresAt  time.Time `json:"expires_at"`
	CreatedAt  time.Time `json:"created_at"`
}

// NewHold asks for a hold. Without To each capture names the payee.
type NewHold struct {
	Account          string `json:"account"`
	Amount           string `json:"amount"`
	Currency         string `json:"currency"`
	To               string `json:"to,omitempty"`
	ExpiresInSeconds int64  `json:"expires_in_seconds,omitempty"`
}

// Capture pays from a hold. An empty Amount is the whole hold; of less, the rest is released.
type Capture struct {
	Amount string `json:"amount,omitempty"`
	To     string `json:"to,omitempty"`
}

// Hold sets money aside.
func (c *Client) Hold(ctx context.Context, hold NewHold, options ...Option) (Hold, error) {
	return post[Hold](ctx, c, "/v1/holds", hold, options)
}

// HoldByID reads a hold.
func (c *Client) HoldByID(ctx context.Context, id string, options ...Option) (Hold, error) {
	return get[Hold](ctx, c, "/v1/holds/"+url.PathEscape(id), nil, options)
}

// Capture pays from a hold and ends it.
func (c *Client) Capture(ctx context.Context, id string, capture Capture, options ...Option) (Hold, error) {
	return post[Hold](ctx, c, "/v1/holds/"+url.PathEscape(id)+"/capture", capture, options)
}

// Void ends a hold and releases its money.
func (c *Client) Void(ctx context.Context, id string, options ...Option) (Hold, error) {
	return post[Hold](ctx, c, "/v1/holds/"+url.PathEscape(id)+"/void", struct{}{}, options)
}

// TrialBalance is the proof that no money was made or lost.
type TrialBalance struct {
	System     string          `json:"system"`
	Currencies []CurrencyProof `json:"currencies"`
	Balanced   bool            `json:"balanced"`
}

// CurrencyProof sums one currency over the whole system; every sum of entries is zero in double entry.
type CurrencyProof struct {
	Currency      string `json:"currency"`
	Entries       string `json:"entries"`
	Posted        string `json:"posted"`
	PendingDebit  string `json:"pending_debit"`
	PendingCredit string `json:"pending_credit"`
	Balanced      bool   `json:"balanced"`
}

// TrialBalance sums the system.
func (c *Client) TrialBalance(ctx context.Context, options ...Option) (TrialBalance, error) {
	return get[TrialBalance](ctx, c, "/v1/proofs/trial-balance", nil, options)
}
