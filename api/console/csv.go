package console

import (
	"bytes"
	"encoding/csv"
	"strings"
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

// harmless keeps a spreadsheet from taking what somebody wrote to a payee for a formula.
func harmless(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return "'" + text
	}
	return text
}
