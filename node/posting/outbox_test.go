package posting_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"lockstep/node/ledger"
)

// outbox reads what the engine has to tell, by row.
func (w *world) outbox() (rows []map[string][]string) {
	w.Helper()
	found, err := w.admin.QueryContext(w.context(), "SELECT events FROM saga_outbox WHERE destination = 'events' ORDER BY id")
	must(w, err)
	defer found.Close()
	for found.Next() {
		var content []byte
		events := map[string][]string{}
		must(w, found.Scan(&content))
		must(w, json.Unmarshal(content, &events))
		rows = append(rows, events)
	}
	must(w, found.Err())
	return rows
}

// Each batch that committed has told all that it did in one row; one that did nothing or was rolled back has none.
func TestEachBatchTellsWhatItDidOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open()
	account, other := n.funded(100), w.account(alice)
	kept := hold(account, 5, time.Hour)
	kept.To = other
	n.succeed(kept)
	before := len(w.outbox())
	pays := []ledger.Pay{deposit(account, 1), transfer(account, other, 2), deposit(account, 3), deposit(other, 4)}
	made := hold(account, 1, time.Hour)
	capture := ledger.Settle{
		Hold: kept.ID, Actor: ledger.Actor{Principal: alice}, Account: account, End: ledger.Posted, Transfer: ledger.TransferID(newID()), To: other,
	}
	refused := transfer(account, other, 10_000)
	open := n.plugged()
	answers := n.queue(fresh(pays[0]), fresh(pays[1]), fresh(refused), fresh(made), fresh(capture), fresh(pays[2]))
	n.faults.once("before_commit", func() error { return errLost }) // rolled back, then run again
	open()
	for i, r := range receive(answers) {
		if r.ok() == (i == 2) {
			t.Errorf("command %d: %v", i, r.code())
		}
	}
	n.submit(fresh(refused)) // does nothing
	n.succeed(pays[3])
	rows := w.outbox()[before:]
	if len(rows) != 2 {
		t.Fatalf("two batches that did something wrote %d rows: %v", len(rows), rows)
	}
	for i, want := range []map[string][]string{
		{
			"transfer.posted": {string(pays[0].ID), string(pays[1].ID), string(capture.Transfer), string(pays[2].ID)},
			"hold.pending":    {string(made.ID)}, "hold.posted": {string(kept.ID)},
		},
		{"transfer.posted": {string(pays[3].ID)}},
	} {
		if !maps.EqualFunc(rows[i], want, slices.Equal[[]string]) {
			t.Errorf("batch %d told %v, not %v", i, rows[i], want)
		}
	}
	if n.metric("unknown_commits_total") != 1 {
		t.Error("no batch was rolled back")
	}
	told := map[string]bool{}
	for _, row := range w.outbox() {
		for _, id := range row["transfer.posted"] {
			told[id] = true
		}
	}
	if all := w.number("SELECT COUNT(*) FROM transfers"); int(all) != len(told) {
		t.Errorf("%d transfers were told, %d were made", len(told), all)
	}
	w.verify()
}
