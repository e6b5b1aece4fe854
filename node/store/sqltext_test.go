package store_test

import (
	"database/sql"
	"slices"
	"testing"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/store/storetest"
)

// Arguments of queued statements reach the server as they are, whether the store writes them into the text or leaves that to the
// driver, which it does for all of a flush when one of them is odd.
func TestQueuedArgumentsMeanThemselves(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	at := time.Date(2026, 11, 27, 13, 0, 0, 123456000, time.UTC)
	plain := []any{"plain-1_2.3:4", ledger.TransferID("0192-id"), sql.NullString{String: "valid", Valid: true}, 7, int64(-7), ledger.Posted}
	odd := []any{"it's", `back\slash`, "what?", "a;b", `"`, "", "x', NOW()); DELETE FROM peer_nonces; -- ", []byte("bytes"), "--", "#", "/*", "`"}
	for _, values := range [][]any{plain, odd, append(slices.Clone(plain), odd...)} {
		tx := begin(t, s)
		tx.Queue("DELETE FROM peer_nonces")
		for _, value := range values {
			tx.Queue("INSERT INTO peer_nonces (keyid, nonce, keep_until) VALUES ('test', ?, ?)", value, at)
		}
		found, err := tx.Flush(testContext(t))
		must(t, err)
		if len(found) != len(values)+1 || slices.Contains(found[1:], 0) {
			t.Errorf("%d statements found %v rows", len(values)+1, found)
		}
		for _, value := range values {
			var rows int
			must(t, tx.Query(testContext(t), func(r *sql.Rows) error { return r.Scan(&rows) },
				"SELECT COUNT(*) FROM peer_nonces WHERE nonce = ? AND keep_until = ?", value, at))
			if rows != 1 {
				t.Errorf("%q was written as something else: %d rows", value, rows)
			}
			tx.Queue("DELETE FROM peer_nonces WHERE nonce = ? AND keep_until = ?", value, at)
			if found, err := tx.Flush(testContext(t)); err != nil || found[0] != 1 {
				t.Errorf("%q was compared as something else: %v rows, %v", value, found, err)
			}
		}
		must(t, tx.Rollback())
	}
}
