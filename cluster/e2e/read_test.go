package e2e_test

import (
	"database/sql"
	"encoding/json"
	"net/http"
	"slices"
	"testing"
)

// line is an entry of a statement.
type line struct {
	ID           string `json:"id"`
	TransferID   string `json:"transfer_id"`
	Direction    string `json:"direction"`
	Amount       string `json:"amount"`
	BalanceAfter string `json:"balance_after"`
}

type page struct {
	Entries    []line `json:"entries"`
	NextCursor string `json:"next_cursor"`
}

// statement reads all entries of an account by small pages, newest first.
func (c caller) statement(tb testing.TB, number string) []line {
	tb.Helper()
	const pagesMax = 10_000
	var all []line
	path := "/v1/accounts/" + number + "/entries?limit=7"
	for cursor := ""; len(all) < pagesMax; {
		query := path
		if cursor != "" {
			query += "&cursor=" + cursor
		}
		got := c.get(query, "Cache-Control", "no-cache")
		var p page
		if err := json.Unmarshal(got.body, &p); err != nil || got.status != http.StatusOK {
			tb.Fatalf("read entries: %v %v", got, err)
		}
		all = append(all, p.Entries...)
		if cursor = p.NextCursor; cursor == "" {
			break
		}
	}
	ids := map[string]bool{}
	for _, entry := range all {
		ids[entry.ID] = true
	}
	if len(ids) != len(all) {
		tb.Errorf("the pages repeat entries: %d of %d are different", len(ids), len(all))
	}
	return slices.Clip(all)
}

// deadlocks reads the server's own count.
func (s *site) deadlocks(tb testing.TB) (count int64) {
	tb.Helper()
	db, err := sql.Open("mysql", s.source)
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	var name string
	if err := db.QueryRow("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").Scan(&name, &count); err != nil {
		tb.Fatalf("read the deadlock count: %v", err)
	}
	return count
}
