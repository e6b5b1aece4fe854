package auth_test

import (
	"database/sql"
	"testing"
	"time"

	"lockstep/api/auth"
	"lockstep/node/store/storetest"
)

// A node whose database does not answer in time when it starts goes on when it does.
func TestANodeStartsWhenItsDatabaseIsSlow(t *testing.T) {
	t.Parallel()
	const slow = 1500 * time.Millisecond // longer than one reading of the denial list may take
	config, database := storetest.Database(t)
	db, clock := storetest.OpenWith(t, config), newClock()
	root, err := sql.Open("mysql", database.Admin)
	must(t, err)
	defer root.Close()
	open(t, db, clock).Close() // has made the keys
	conn, err := root.Conn(t.Context())
	must(t, err)
	defer conn.Close()
	_, err = conn.ExecContext(t.Context(), "LOCK TABLES denials WRITE")
	must(t, err)
	opened := make(chan error, 1)
	began := time.Now()
	go func() {
		authority, err := auth.Open(t.Context(), auth.Config{System: system, Secret: systemSecret, DB: db.Source(), Clock: clock.Now})
		if err == nil {
			authority.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("opened without the list: %v", err)
	case <-time.After(slow):
	}
	_, err = conn.ExecContext(t.Context(), "UNLOCK TABLES")
	must(t, err)
	if err := <-opened; err != nil {
		t.Errorf("%v after a start of %v", err, time.Since(began))
	}
}
