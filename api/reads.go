package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

type accountsBody struct {
	Accounts   []accountBody `json:"accounts"`
	NextCursor *string       `json:"next_cursor"`
}

// getAccounts lists the caller's accounts; operators and auditors see all, or those of the owner that it names.
func (x *exchange) getAccounts() error {
	if err := x.checkQuery("limit", "cursor", "owner"); err != nil {
		return err
	}
	asked, err := x.page("accounts")
	if err != nil {
		return err
	}
	after, err := asked.number()
	if err != nil {
		return err
	}
	owner := x.fiber.Query("owner")
	if owner != "" {
		if _, err := checkOwner(owner); err != nil {
			return err
		}
	}
	filter := store.AccountFilter{Owner: x.principal.Owner, After: ledger.AccountID(after), Limit: asked.limit + 1}
	if x.principal.SeesAll() {
		filter.Owner = owner
	} else if owner != "" && owner != filter.Owner {
		return ledger.Refuse(ledger.Forbidden, "only operators and auditors list the accounts of others")
	}
	var accounts []ledger.Account
	err = x.read(nil, func(ctx context.Context, q Queries) error {
		accounts, err = q.Accounts(ctx, filter)
		return err
	})
	if err != nil {
		return err
	}
	accounts, next := cut(asked, accounts, func(a ledger.Account) string { return strconv.FormatInt(int64(a.ID), 10) })
	body := accountsBody{Accounts: make([]accountBody, 0, len(accounts)), NextCursor: next}
	for _, account := range accounts {
		body.Accounts = append(body.Accounts, x.renderer().account(account))
	}
	return x.answer(200, body)
}

type entryBody struct {
	ID           string            `json:"id"`
	Sequence     int64             `json:"sequence"`
	TransferID   ledger.TransferID `json:"transfer_id"`
	Kind         ledger.Kind       `json:"kind"`
	Direction    string            `json:"direction"`
	Amount       string            `json:"amount"`
	Currency     ledger.Currency   `json:"currency"`
	BalanceAfter string            `json:"balance_after"`
	Counterparty ledger.Number     `json:"counterparty"`
	Description  string            `json:"description"`
	Reference    string            `json:"reference"`
	CreatedAt    string            `json:"created_at"`
}

type entriesBody struct {
	Entries    []entryBody `json:"entries"`
	NextCursor *string     `json:"next_cursor"`
}

// getEntries is the statement of an account, the newest line first. It pages by the account's own sequence, which has
// no gaps and only grows, so that pages miss and repeat nothing while entries are added.
func (x *exchange) getEntries() error {
	number, err := x.numberParam()
	if err != nil {
		return err
	}
	filters, err := x.filters("limit", "cursor", "reference", "state", "kind", "created_from", "created_to")
	if err != nil {
		return err
	}
	asked, err := x.page("entries of " + string(number))
	if err != nil {
		return err
	}
	before, err := asked.number()
	if err != nil {
		return err
	}
	var rows []store.EntryRow
	err = x.read(noAccount(number), func(ctx context.Context, q Queries) error {
		if _, err := x.visibleAccount(ctx, q, number); err != nil {
			return err
		}
		rows, err = q.Entries(ctx, store.EntryFilter{
			Account: number.Serial(), Before: before, Kind: filters.kind, State: filters.state, Reference: filters.reference,
			CreatedFrom: filters.from, CreatedTo: filters.to, Limit: asked.limit + 1,
		})
		return err
	})
	if err != nil {
		return err
	}
	rows, next := cut(asked, rows, func(row store.EntryRow) string { return strconv.FormatInt(row.Sequence, 10) })
	body := entriesBody{Entries: make([]entryBody, 0, len(rows)), NextCursor: next}
	for _, row := range rows {
		body.Entries = append(body.Entries, entryOf(number, row))
	}
	return x.answer(200, body)
}

func entryOf(number ledger.Number, row store.EntryRow) entryBody {
	decimal := func(minor int64) string { return ledger.Money{Minor: minor, Currency: row.Currency}.Decimal() }
	direction, amount := "credit", row.Amount
	if amount < 0 {
		direction, amount = "debit", -amount
	}
	return entryBody{
		ID: fmt.Sprintf("%s.%d", number, row.Sequence), Sequence: row.Sequence, TransferID: row.Transfer, Kind: row.Kind,
		Direction: direction, Amount: decimal(amount), Currency: row.Currency, BalanceAfter: decimal(row.BalanceAfter),
		Counterparty: row.Counterparty, Description: row.Description, Reference: row.Reference, CreatedAt: stamp(row.CreatedAt),
	}
}

// getTransfer shows a transfer to those whose account is payer or payee, and to operators.
func (x *exchange) getTransfer() error {
	id := x.param("id")
	missing := ledger.Refuse(ledger.TransferNotFound, "there is no transfer %s", id)
	if !canonicalID(id) {
		return missing
	}
	var body transferBody
	err := x.read(missing, func(ctx context.Context, q Queries) error {
		transfer, err := q.Transfer(ctx, ledger.TransferID(id))
		if err != nil {
			return err
		}
		remitted, err := remittancesOf(ctx, q, transfer)
		if err != nil {
			return err
		}
		body = transferIn(transfer, remitted)
		return x.mayLook(ctx, q, transfer, missing)
	})
	if err != nil {
		return err
	}
	return x.answer(200, body)
}

// remittancesOf reads the ways of those transfers that are between two systems.
func remittancesOf(ctx context.Context, q Queries, transfers ...ledger.Transfer) (map[ledger.TransferID]ledger.Remittance, error) {
	var ids []ledger.TransferID
	for _, transfer := range transfers {
		if transfer.Remote() {
			ids = append(ids, transfer.ID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return q.Remittances(ctx, ids)
}

// transferIn is a transfer with all that is known of its way.
func transferIn(transfer ledger.Transfer, remitted map[ledger.TransferID]ledger.Remittance) transferBody {
	if remittance, there := remitted[transfer.ID]; there && remittance.Transfer != nil {
		return remittanceOf(remittance, true)
	}
	return transferOf(transfer)
}

func (x *exchange) mayLook(ctx context.Context, q Queries, transfer ledger.Transfer, missing error) error {
	if x.principal.SeesAll() {
		return nil
	}
	for _, id := range []ledger.AccountID{transfer.PayerID, transfer.PayeeID} {
		if system, _ := ledger.StripeOf(id); system != 0 || id == 0 {
			continue // a system account is nobody's, and the other side's is kept elsewhere
		}
		account, err := q.Account(ctx, id)
		if err != nil {
			return err
		}
		if x.sees(account) {
			return nil
		}
	}
	return missing
}

type transfersBody struct {
	Transfers  []transferBody `json:"transfers"`
	NextCursor *string        `json:"next_cursor"`
}

// getTransfers lists the transfers of the caller's accounts, the newest first; operators and auditors see all.
func (x *exchange) getTransfers() error {
	filters, err := x.filters("limit", "cursor", "account", "reference", "state", "kind", "created_from", "created_to")
	if err != nil {
		return err
	}
	asked, err := x.page("transfers")
	if err != nil {
		return err
	}
	filter := store.TransferFilter{
		Reference: filters.reference, State: filters.state, Kind: filters.kind, CreatedFrom: filters.from, CreatedTo: filters.to,
		After: asked.position, Limit: asked.limit, Account: filters.account.Serial(),
	}
	if !x.principal.SeesAll() {
		filter.Owner = x.principal.Owner
	}
	var found store.TransferPage
	var remitted map[ledger.TransferID]ledger.Remittance
	err = x.read(noAccount(filters.account), func(ctx context.Context, q Queries) error {
		if filters.account != "" {
			if _, err := x.visibleAccount(ctx, q, filters.account); err != nil {
				return err
			}
		}
		if found, err = q.Transfers(ctx, filter); err != nil {
			return err
		}
		remitted, err = remittancesOf(ctx, q, found.Transfers...)
		return err
	})
	switch {
	case errors.Is(err, store.ErrPosition):
		return badCursor()
	case err != nil:
		return err
	}
	body := transfersBody{Transfers: make([]transferBody, 0, len(found.Transfers)), NextCursor: asked.next(found.Next)}
	for _, transfer := range found.Transfers {
		body.Transfers = append(body.Transfers, transferIn(transfer, remitted))
	}
	return x.answer(200, body)
}

// filters are the query parameters that narrow a list; the zero value of each narrows nothing.
type filters struct {
	account   ledger.Number
	reference string
	state     ledger.State
	kind      ledger.Kind
	from, to  time.Time
}

// filters reads the query; known are the parameters that the list has.
func (x *exchange) filters(known ...string) (read filters, err error) {
	if err = x.checkQuery(known...); err != nil {
		return read, err
	}
	if account := x.fiber.Query("account"); account != "" {
		if read.account, err = parseNumber("account", account); err != nil {
			return read, err
		}
	}
	read.reference = x.fiber.Query("reference")
	if err = checkText("reference", read.reference, referenceMax); err != nil {
		return read, err
	}
	if read.state, err = oneOf("state", x.fiber.Query("state"), ledger.Pending, ledger.Posted, ledger.Voided); err != nil {
		return read, err
	}
	if read.kind, err = oneOf("kind", x.fiber.Query("kind"), ledger.Deposit, ledger.Withdrawal, ledger.Payment, ledger.Captured, ledger.Returned); err != nil {
		return read, err
	}
	if read.from, err = parseTime("created_from", x.fiber.Query("created_from")); err != nil {
		return read, err
	}
	read.to, err = parseTime("created_to", x.fiber.Query("created_to"))
	return read, err
}

// checkQuery refuses parameters that the list does not have: a mistyped filter would show more than was asked for.
func (x *exchange) checkQuery(known ...string) error {
	seen := map[string]bool{}
	var refusal error
	x.fiber.Context().QueryArgs().VisitAll(func(key, _ []byte) {
		name := string(key)
		if !slices.Contains(known, name) {
			refusal = ledger.Refuse(ledger.InvalidRequest, "there is no query parameter of this name; there are %v", known)
		} else if seen[name] {
			refusal = ledger.Refuse(ledger.InvalidRequest, "the query parameter %s is there twice", name)
		}
		seen[name] = true
	})
	return refusal
}

func oneOf[T ~string](name, text string, allowed ...T) (T, error) {
	for _, value := range append(allowed, "") {
		if T(text) == value {
			return value, nil
		}
	}
	return "", ledger.Refuse(ledger.InvalidRequest, "%s is one of %v", name, allowed)
}

func parseTime(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || at.Year() < 1970 || at.Year() > 9000 {
		return time.Time{}, ledger.Refuse(ledger.InvalidRequest, "%s is a time such as 2026-01-31T09:00:00Z", name)
	}
	return at.UTC(), nil
}
