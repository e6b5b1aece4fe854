package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Account is one balance in one currency. Amounts are decimals in the currency's major unit.
type Account struct {
	Number         string    `json:"number"`
	System         string    `json:"system"`
	Owner          string    `json:"owner"`
	Currency       string    `json:"currency"`
	Label          string    `json:"label"`
	Status         string    `json:"status"` // open, frozen or closed
	Balance        Balance   `json:"balance"`
	OverdraftLimit string    `json:"overdraft_limit"`
	Version        int64     `json:"version"`
	CreatedAt      time.Time `json:"created_at"`
}

// Balance is what an account has: Available = Posted - PendingDebit + overdraft limit.
type Balance struct {
	Posted        string `json:"posted"`
	PendingDebit  string `json:"pending_debit"`
	PendingCredit string `json:"pending_credit"`
	Available     string `json:"available"`
}

// NewAccount asks for an account. Owner and OverdraftLimit are for operators.
type NewAccount struct {
	Currency       string `json:"currency"`
	Label          string `json:"label,omitempty"`
	Owner          string `json:"owner,omitempty"`
	OverdraftLimit string `json:"overdraft_limit,omitempty"`
}

// AccountChange changes what is not nil. All but the label is for operators.
type AccountChange struct {
	Status         *string `json:"status,omitempty"`
	Label          *string `json:"label,omitempty"`
	Owner          *string `json:"owner,omitempty"`
	OverdraftLimit *string `json:"overdraft_limit,omitempty"`
}

// Accounts is a page of accounts.
type Accounts struct {
	Accounts   []Account `json:"accounts"`
	NextCursor string    `json:"next_cursor"` // empty: this is the last page
}

// Page asks for a part of a list.
type Page struct {
	Limit  int    // 1 to 200; 0: the system's default
	Cursor string // NextCursor of the page before
}

func (p Page) query() url.Values {
	query := url.Values{}
	if p.Limit != 0 {
		query.Set("limit", strconv.Itoa(p.Limit))
	}
	setText(query, "cursor", p.Cursor)
	return query
}

func setText(query url.Values, name, value string) {
	if value != "" {
		query.Set(name, value)
	}
}

// Entry is one line of an account's statement.
type Entry struct {
	ID           string    `json:"id"`
	Sequence     int64     `json:"sequence"`
	TransferID   string    `json:"transfer_id"`
	Kind         string    `json:"kind"`
	Direction    string    `json:"direction"` // credit or debit
	Amount       string    `json:"amount"`
	Currency     string    `json:"currency"`
	BalanceAfter string    `json:"balance_after"`
	Counterparty string    `json:"counterparty"`
	Description  string    `json:"description"`
	Reference    string    `json:"reference"`
	CreatedAt    time.Time `json:"created_at"`
}

// Entries is a page of a statement, newest first.
type Entries struct {
	Entries    []Entry `json:"entries"`
	NextCursor string  `json:"next_cursor"`
}

// Filter narrows a list of transfers or entries; its zero value narrows nothing.
type Filter struct {
	Account     string // of transfers only
	Reference   string
	State       string
	Kind        string
	CreatedFrom time.Time
	CreatedTo   time.Time
	Page
}

func (f Filter) query() url.Values {
	query := f.Page.query()
	setText(query, "account", f.Account)
	setText(query, "reference", f.Reference)
	setText(query, "state", f.State)
	setText(query, "kind", f.Kind)
	setTime(query, "created_from", f.CreatedFrom)
	setTime(query, "created_to", f.CreatedTo)
	return query
}

func setTime(query url.Values, name string, value time.Time) {
	if !value.IsZero() {
		query.Set(name, value.UTC().Format(time.RFC3339Nano))
	}
}

// Payee is what a payer may know of the account that it is about to pay to.
type Payee struct {
	Number   string `json:"number"`
	Name     string `json:"name"` // masked
	Currency string `json:"currency"`
}

// get reads one thing.
func get[T any](ctx context.Context, c *Client, path string, query url.Values, options []Option) (T, error) {
	var into T
	err := c.do(ctx, call{method: http.MethodGet, path: path, query: query}, options, &into)
	return into, err
}

// post makes a change under a key.
func post[T any](ctx context.Context, c *Client, path string, body any, options []Option) (T, error) {
	var into T
	err := c.do(ctx, call{method: http.MethodPost, path: path, body: body, keyed: true}, options, &into)
	return into, err
}

// OpenAccount opens an account.
func (c *Client) OpenAccount(ctx context.Context, account NewAccount, options ...Option) (Account, error) {
	return post[Account](ctx, c, "/v1/accounts", account, options)
}

// Account reads an account.
func (c *Client) Account(ctx context.Context, number string, options ...Option) (Account, error) {
	return get[Account](ctx, c, "/v1/accounts/"+url.PathEscape(number), nil, options)
}

// Accounts lists the accounts that the caller may see.
func (c *Client) Accounts(ctx context.Context, page Page, options ...Option) (Accounts, error) {
	return get[Accounts](ctx, c, "/v1/accounts", page.query(), options)
}

// ChangeAccount sets values of an account. It takes no key: an *UnknownError of it is settled by reading the account.
func (c *Client) ChangeAccount(ctx context.Context, number string, change AccountChange, options ...Option) (Account, error) {
	var into Account
	err := c.do(ctx, call{method: http.MethodPatch, path: "/v1/accounts/" + url.PathEscape(number), body: change}, options, &into)
	return into, err
}

// Entries reads a statement, newest first.
func (c *Client) Entries(ctx context.Context, number string, filter Filter, options ...Option) (Entries, error) {
	return get[Entries](ctx, c, "/v1/accounts/"+url.PathEscape(number)+"/entries", filter.query(), options)
}

// Payee tells whom a number belongs to.
func (c *Client) Payee(ctx context.Context, number string, options ...Option) (Payee, error) {
	return get[Payee](ctx, c, "/v1/payees/"+url.PathEscape(number), nil, options)
}
