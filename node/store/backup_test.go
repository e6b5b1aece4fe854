package store_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

// tables lists those of a database that hold what a system is; the others belong to running processes, to people who are
// signed in, to migrations, or are said by the backup's header.
func tables(tb testing.TB, db *sql.DB) (names []string) {
	tb.Helper()
	others := []string{
		"goose_db_version", "system", "nodes", "lanes", "sessions", "refresh_tokens", "denials", "throttles", "login_states",
	}
	rows, err := db.QueryContext(testContext(tb), "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()")
	must(tb, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		must(tb, rows.Scan(&name))
		if !slices.Contains(others, name) {
			names = append(names, name)
		}
	}
	must(tb, rows.Err())
	return names
}

// checksum is the server's own over all rows of a table.
func checksum(tb testing.TB, db *sql.DB, table string) string {
	tb.Helper()
	var name, sum string
	must(tb, db.QueryRowContext(testContext(tb), "CHECKSUM TABLE "+table+" EXTENDED").Scan(&name, &sum))
	return sum
}

// A restored database has every row of the one that was backed up, byte for byte: texts that look like SQL, bytes of every
// value, rows that are longer than a line should be. Nothing of what was there before is left, and no table is forgotten.
func TestARestoreBringsEveryByteBack(t *testing.T) {
	t.Parallel()
	config, database := storetest.Database(t)
	from := open(t, database.Admin)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	s := storetest.OpenWith(t, config)
	b := newBank(t, s)
	for i, label := range []string{`it's \ "quoted"`, "two\nlines\r\n\ttab", "잔액부족 😀", "', (1); -- ", "\x00nul\x1a"} {
		tx := begin(t, s)
		_, err := tx.CreateAccount(testContext(t), ledger.Account{Owner: fmt.Sprintf("client:%d", i), Currency: "KRW", Label: label, Status: ledger.Open})
		must(t, err)
		_, err = tx.Commit(testContext(t))
		must(t, err)
	}
	for i, body := range [][]byte{all, nil, bytes.Repeat(all, 2000), bytes.Repeat(all, 2100)} {
		_, err := from.ExecContext(testContext(t), `INSERT INTO idempotency (claim, principal, route, idem_key, fingerprint, command_id, status, body, language,
			request_id, created_at) VALUES (?, 'p', 'r', ?, ?, 'c', 200, ?, 'en', '', '2026-01-02 03:04:05.000006')`, fmt.Sprint(i), fmt.Sprint(i), all[:32], body)
		must(t, err)
	}
	for _, insert := range []string{
		"INSERT INTO daily_limits (account_id, daily_out, day_began, used, since) VALUES (1000, 5, NOW(), 1, NOW())",
		"INSERT INTO audit (sequence, entries, records, previous, hash) VALUES (1, 1, 'r', 'p', 'h')",
		"INSERT INTO audit_heads (node, sequence, hash) VALUES (1, 1, 'h')",
		"INSERT INTO users (id, username, password_hash, role, name, email, picture, created_at) VALUES ('u', 'u', '', 'user', '', '', '', NOW())",
		"INSERT INTO remittance_statements (id, statement) VALUES (UUID(), 's')",
		"INSERT INTO remittance_looks (id, look_at, remittances) VALUES (UUID(), NOW(), '')",
	} {
		_, err := from.ExecContext(testContext(t), insert)
		must(t, err)
	}
	var file bytes.Buffer
	var told []string
	snapshot, err := store.Backup(testContext(t), config, &file, func(table string, _ int64) { told = append(told, table) })
	must(t, err)
	if snapshot.System != "alpha" || snapshot.Epoch != 1 || snapshot.Position == "" {
		t.Errorf("the backup is of %+v", snapshot)
	}
	_, other := storetest.Database(t)
	into := open(t, other.Admin)
	_, err = into.ExecContext(testContext(t), "INSERT INTO peer_nonces (keyid, nonce, keep_until) VALUES ('x', 'y', NOW())")
	must(t, err)
	for range 2 { // the second finds all that the first one has brought, and empties it
		_, err = store.Restore(testContext(t), other.Migrate, "alpha", bytes.NewReader(file.Bytes()), false, nil, slog.New(slog.DiscardHandler))
		must(t, err)
	}
	restored, err := store.Restore(testContext(t), other.Migrate, "alpha", bytes.NewReader(file.Bytes()), false, nil, slog.New(slog.DiscardHandler))
	must(t, err)
	for _, table := range tables(t, from) {
		if !slices.Contains(told, table) {
			t.Errorf("%s is in no backup", table)
		}
		if table != "serials" && checksum(t, from, table) != checksum(t, into, table) {
			t.Errorf("%s differs after the restore", table)
		}
	}
	config.Source = other.Source
	again := storetest.OpenWith(t, config)
	if again.Reconciled() || again.Epoch() != restored.Began || restored.Began <= 1 {
		t.Errorf("after the restore: reconciled %v, epoch %d, told %d", again.Reconciled(), again.Epoch(), restored.Began)
	}
	if account := newBank(t, again).account(t, "client:new"); account.ID <= b.account(t, "client:new").ID {
		t.Errorf("account %d was opened after the restore", account.ID)
	}
}

// A backup is one moment of the books: what commits while it is written is not in it, not even in part.
func TestABackupIsOneMoment(t *testing.T) {
	t.Parallel()
	config, database := storetest.Database(t)
	admin := open(t, database.Admin)
	insert := func(table string) {
		_, err := admin.ExecContext(testContext(t), "INSERT INTO "+table+" (keyid, nonce, keep_until) VALUES ('k', UUID(), NOW())")
		must(t, err)
	}
	insert("peer_nonces")
	var file bytes.Buffer
	_, err := store.Backup(testContext(t), config, &file, func(table string, _ int64) {
		if table == "signing_keys" { // the first one
			insert("peer_nonces")
		}
	})
	must(t, err)
	if n := strings.Count(file.String(), "('k',"); n != 1 {
		t.Errorf("the backup has %d of the rows, one was there when it began", n)
	}
}
