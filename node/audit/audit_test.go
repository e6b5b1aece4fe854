package audit_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/node/audit"
	"lockstep/node/store/storetest"
	"lockstep/node/verify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Nodes that write at once make one chain, in which each record stands once.
func TestNodesMakeOneChain(t *testing.T) {
	t.Parallel()
	const nodes, each = 3, 100
	config, database := storetest.Database(t)
	db := storetest.OpenWith(t, config).Source()
	var all sync.WaitGroup
	for node := range nodes {
		all.Go(func() {
			log := audit.Open(t.Context(), db, node+1, storetest.Logger(t))
			for i := range each {
				log.Add(audit.Record{Who: "client:shop", What: "POST /v1/deposits", From: "127.0.0.1", Status: 201, Request: fmt.Sprintf("r-%d-%d-", node, i)})
				if i%20 == 0 {
					if err := log.Sync(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
			if err := log.Close(context.Background()); err != nil {
				t.Error(err)
			}
			if written, lost := log.Stats(); written != each || lost != 0 {
				t.Errorf("node %d wrote %d and lost %d of %d", node, written, lost, each)
			}
		})
	}
	all.Wait()
	text := chain(t, db)
	for node := range nodes {
		for i := range each {
			if n := strings.Count(text, fmt.Sprintf("r-%d-%d-", node, i)); n != 1 {
				t.Errorf("record %d of node %d is there %d times", i, node, n)
			}
		}
	}
	report, err := verify.Run(t.Context(), database.Source, nil)
	if err != nil || !report.OK() {
		t.Errorf("verify: %v %v", report.Breaches, err)
	}
}

// chain reads all records.
func chain(t *testing.T, db *sql.DB) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT records FROM audit ORDER BY sequence")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all strings.Builder
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all.WriteString(text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// Sync returns when the record is stored, and says so when it is not; nothing that waits is lost while the database is
// away for a moment.
func TestSyncIsAboutWhatIsStored(t *testing.T) {
	t.Parallel()
	config, database := storetest.Database(t)
	db := storetest.OpenWith(t, config).Source()
	log := audit.Open(t.Context(), db, 1, storetest.Logger(t))
	defer func() {
		if err := log.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	if err := log.Sync(t.Context()); err != nil {
		t.Errorf("with nothing to store: %v", err)
	}
	log.Add(audit.Record{What: "first"})
	if err := log.Sync(t.Context()); err != nil || !strings.Contains(chain(t, db), `"what":"first"`) {
		t.Errorf("after Sync the record is not there: %v", err)
	}
	admin, err := sql.Open("mysql", database.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	rename := func(from, to string) {
		if _, err := admin.ExecContext(t.Context(), "RENAME TABLE "+from+" TO "+to); err != nil {
			t.Fatal(err)
		}
	}
	rename("audit", "away")
	log.Add(audit.Record{What: "second"})
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := log.Sync(short); err == nil {
		t.Error("a record counts as stored that cannot be")
	}
	log.Add(audit.Record{What: "third"})
	rename("away", "audit")
	if err := log.Sync(t.Context()); err != nil || !strings.Contains(chain(t, db), `"what":"second"`) || !strings.Contains(chain(t, db), `"what":"third"`) {
		t.Errorf("after an outage records are missing: %v", err)
	}
}
