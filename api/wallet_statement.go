package api

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"lockstep/api/console"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// Bounds of a statement, in lines.
const (
	statementLines = 25 // on a page
	exportLines    = 10_000
	exportPage     = 200 // read at a time
)

var statementKinds = []ledger.Kind{ledger.Deposit, ledger.Withdrawal, ledger.Payment, ledger.Captured, ledger.Returned}

// statement is what a person wants to see of an account.
type statement struct {
	filter store.EntryFilter
	asked  console.Filter
}

// statement reads the query of a statement: kind, from and to as days where the person is, and before, a sequence.
func (x *exchange) statement(number ledger.Number, zone *time.Location) (statement, error) {
	asked := console.Filter{Kind: x.fiber.Query("kind"), First: x.fiber.Query("from"), Last: x.fiber.Query("to"), Zone: zone.String()}
	for _, kind := range statementKinds {
		asked.Kinds = append(asked.Kinds, string(kind))
	}
	kind, err := oneOf("kind", asked.Kind, statementKinds...)
	if err != nil {
		return statement{}, err
	}
	from, until, ok := console.Days(asked.First, asked.Last, zone)
	if !ok {
		return statement{}, ledger.Refuse(ledger.InvalidRequest, "from and to are days such as 2026-01-31")
	}
	filter := store.EntryFilter{Account: number.Serial(), Kind: kind, CreatedFrom: from.UTC(), CreatedTo: until.UTC()}
	if from.IsZero() {
		filter.CreatedFrom = time.Time{}
	}
	if until.IsZero() {
		filter.CreatedTo = time.Time{}
	}
	if before := x.fiber.Query("before"); before != "" {
		if filter.Before, err = strconv.ParseInt(before, 10, 64); err != nil || filter.Before < 1 {
			return statement{}, ledger.Refuse(ledger.InvalidRequest, "before is the number of a line")
		}
	}
	return statement{filter: filter, asked: asked}, nil
}

// query writes the statement's filters as an address has them.
func (s statement) query(before int64) string {
	values := url.Values{}
	for name, value := range map[string]string{"kind": s.asked.Kind, "from": s.asked.First, "to": s.asked.Last} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if before > 0 {
		values.Set("before", strconv.FormatInt(before, 10))
	}
	if len(values) == 0 {
		return ""
	}
	return "?" + values.Encode()
}

func linesOf(rows []store.EntryRow) []console.Line {
	lines := make([]console.Line, 0, len(rows))
	for _, row := range rows {
		lines = append(lines, console.Line{Entry: row.Entry, Description: row.Description})
	}
	return lines
}

// getWalletAccount shows an account and its statement.
func (x *exchange) getWalletAccount() error {
	number, w, asked, err := x.askedStatement()
	if err != nil {
		return err
	}
	asked.filter.Limit = statementLines + 1
	var account ledger.Account
	var rows []store.EntryRow
	err = x.read(noAccount(number), func(ctx context.Context, q Queries) (err error) {
		if account, err = x.visibleAccount(ctx, q, number); err != nil {
			return err
		}
		rows, err = q.Entries(ctx, asked.filter)
		return err
	})
	if err != nil {
		return err
	}
	page := console.AccountPage{
		Account: w.Account(account), Filter: asked.asked, Newest: asked.filter.Before == 0,
		Export: accountPath(number) + "/statement.csv" + asked.query(0),
	}
	if len(rows) > statementLines {
		rows = rows[:statementLines]
		page.Older = accountPath(number) + asked.query(rows[statementLines-1].Sequence)
	}
	page.Lines = w.Statement(linesOf(rows))
	return x.showPage(200, "account", x.personal(), page)
}

func accountPath(number ledger.Number) string { return walletPath + "/accounts/" + string(number) }

// askedStatement is whose statement the request wants, how, and in whose words. What is no number is no account.
func (x *exchange) askedStatement() (ledger.Number, console.Writer, statement, error) {
	w := x.writer()
	number, err := ledger.ParseNumber(x.param("number"))
	if err != nil {
		return "", w, statement{}, ledger.Refuse(ledger.AccountNotFound, "there is no account of this number")
	}
	asked, err := x.statement(number, w.Zone)
	return number, w, asked, err
}

// getWalletExport is the statement as CSV. One that is cut off would look whole, so one too long is refused.
func (x *exchange) getWalletExport() error {
	number, w, asked, err := x.askedStatement()
	if err != nil {
		return err
	}
	var rows []store.EntryRow
	err = x.read(noAccount(number), func(ctx context.Context, q Queries) error {
		if _, err := x.visibleAccount(ctx, q, number); err != nil {
			return err
		}
		rows = rows[:0] // another database may be asked when the first one fails
		rows, err = allEntries(ctx, q, asked.filter, rows)
		return err
	})
	if err != nil {
		return err
	}
	text, err := w.CSV(linesOf(rows))
	if err != nil {
		return err
	}
	x.set("Content-Disposition", `attachment; filename="`+string(number)+`.csv"`)
	x.set("Cache-Control", "no-store")
	return x.write(store.Answer{Status: 200, ContentType: "text/csv; charset=utf-8", Body: text})
}

func allEntries(ctx context.Context, q Queries, filter store.EntryFilter, rows []store.EntryRow) ([]store.EntryRow, error) {
	for filter.Limit = exportPage; ; {
		page, err := q.Entries(ctx, filter)
		if err != nil {
			return nil, err
		}
		rows = append(rows, page...)
		switch {
		case len(rows) > exportLines:
			return nil, ledger.Refuse(ledger.InvalidRequest, "a statement has at most %d lines; choose a shorter period", exportLines)
		case len(page) < exportPage:
			return rows, nil
		}
		filter.Before = page[len(page)-1].Sequence
	}
}
