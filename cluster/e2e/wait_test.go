package e2e_test

import (
	"context"
	"database/sql"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
)

// What needs little of the machine, but long, goes on side by side, each on a cluster of its own or on accounts of its own:
// somebody at a browser, and what waits for its time.
func TestWhatMostlyWaits(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for name, run := range map[string]func(*testing.T){
		"the wallet in a browser":                  walletInABrowser,
		"transfers between systems":                slowTransfers,
		"Prefer says how long the answer may take": answersInTime,
	} {
		all.Go(func() { t.Run(name, run) })
	}
	all.Wait()
}

// answersInTime asks for what cannot be decided in time. It is answered when its caller wants to know: with an outcome that is
// unknown or not applied, never with a wrong one. The same key then has the one effect.
func answersInTime(t *testing.T) {
	s := shared(t)
	c := s.as(t, s.client)
	number := c.account("KRW", "1000")
	release := s.lockAccount(t, number)
	key := uuid.NewString()
	for _, wait := range []struct {
		prefer      string
		least, most time.Duration
	}{{"wait=1", 900 * time.Millisecond, 4 * time.Second}, {"wait=3", 2900 * time.Millisecond, 8 * time.Second}} {
		began := time.Now()
		got := c.at(s.nodes[0]).call(http.MethodPost, "/v1/withdrawals", cash(number, "10", "KRW"), "Idempotency-Key", key, "Prefer", wait.prefer)
		took := time.Since(began)
		retry := got.field("retry")
		if took < wait.least || took > wait.most || got.status < 409 || retry != "same-key" && retry != "later" {
			t.Errorf("Prefer: %s is answered after %v with %v", wait.prefer, took, got)
		}
	}
	release()
	var done answer
	eventually(t, "the withdrawal is made", func() bool {
		done = c.at(s.nodes[0]).call(http.MethodPost, "/v1/withdrawals", cash(number, "10", "KRW"), "Idempotency-Key", key, "Prefer", "wait=30")
		return done.status == http.StatusCreated
	})
	for _, base := range s.bases() {
		c.at(base).repeats(done, "/v1/withdrawals", cash(number, "10", "KRW"), key)
	}
	if got := c.balance(number); got != "990 posted, 0 held, 990 available" {
		t.Errorf("after one withdrawal that was asked for many times the account has %s", got)
	}
}

// lockAccount keeps an account's row locked, as a transaction that hangs would, until the test lets it go.
func (s *site) lockAccount(t *testing.T, number string) (release func()) {
	t.Helper()
	db, err := sql.Open("mysql", s.source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	var id int64
	if err := tx.QueryRow("SELECT id FROM accounts WHERE id = ? FOR UPDATE", ledger.Number(number).Serial()).Scan(&id); err != nil {
		t.Fatalf("lock an account: %v", err)
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			t.Errorf("let an account go: %v", err)
		}
	}
}
