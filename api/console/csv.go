package console

import (
	"bytes"
	"encoding/csv"
	"regexp"
	"time"

	"lockstep/node/ledger"
)

// byteOrderMark tells spreadsheets that the text is UTF-8; without it they show Korean as something else.
const byteOrderMark = "\ufeff"

// CSV writes a statement as RFC 4180 has it, newest first. Amounts are plain decimals; a debit is negative.
func (w Writer) CSV(lines []Line) ([]byte, error) {
	var text bytes.Buffer
	text.WriteString(byteOrderMark)
	table := csv.NewWriter(&text)
	table.UseCRLF = true
	header := make([]string, 0, 8)
	for _, column := range []string{"time", "kind", "other", "description", "amount", "currency", "after", "transfer"} {
		word, err := say(w.Language, "column."+column)
		if err != nil {
			return nil, err
		}
		header = append(header, word)
	}
	_ = table.Write(header) // to memory
	for i, shown := range w.Statement(lines) {
		kind, err := say(w.Language, shown.What)
		if err != nil {
			return nil, err
		}
		entry := lines[i].Entry
		_ = table.Write([]string{
			entry.CreatedAt.In(w.Zone).Format(time.RFC3339), kind, string(shown.Other), harmless(shown.Description),
			ledger.Money{Minor: entry.Amount, Currency: entry.Currency}.Decimal(), string(entry.Currency), shown.After.Plain, string(entry.Transfer),
		})
	}
	table.Flush()
	return text.Bytes(), table.Error()
}

// formula is where a spreadsheet may see one begin: at the start of a cell, and within one behind whatever else may begin another,
// for many are set to semicolons or tabs between cells and take our quotes for text. Full-width signs count like the others.
var formula = regexp.MustCompile(`((?:^|[;,"\t\r\n])\s*)([=+\-@＝＋－＠])`)

// harmless keeps a spreadsheet from taking what somebody wrote to a payee for a formula.
func harmless(text string) string { return formula.ReplaceAllString(text, "$1'$2") }
