package e2e_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"lockstep/cluster/local/process"
	"lockstep/node/ledger"
)

const (
	lockTTL = 1500 * time.Millisecond // of a node's Redis locks
	freeMax = lockTTL + 6*time.Second // the accounts of a stopped batch are free after this
)

// halted is a node of a test's own that is stopped inside a batch of payments from one account to another.
type halted struct {
	*extra
	what         string
	payer, payee string
	since        time.Time     // when it was surely stopped
	freed        time.Duration // then a payment between its accounts was made elsewhere, or given up

	probe   sync.WaitGroup // that payment
	clients sync.WaitGroup
	mu      sync.Mutex
	heard   map[string]int // what its clients were told, by code
}

// halt starts a node for a batch of its own.
func (p *patient) halt(t *testing.T, c caller, what string, faults map[string]any) *halted {
	h := &halted{what: what, heard: map[string]int{}, extra: c.site.join(t, map[string]any{"faults": faults})}
	h.payer, h.payee = p.open(c, "1000"), p.open(c, "1000")
	return h
}

// asks sends payments to the node, of clients who wait for a while and of clients who wait for long.
func (h *halted) asks(p *patient, c caller) {
	for _, wait := range []string{"5", "5", "30", "30"} {
		h.clients.Go(func() {
			got := p.pay(c.at(h.base), h.payer, h.payee, wait)
			word := got.field("code") + got.field("state")
			if got.err != nil {
				word = "no answer"
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			h.heard[word]++
		})
	}
}

// stopAtPoint gives the node its batch and waits until the fault point has stopped it, with the payer's row locked.
func (h *halted) stopAtPoint(t *testing.T, p *patient, c caller) {
	t.Helper()
	s := c.site
	h.asks(p, c)
	eventually(t, h.what+" has the payer's row", func() bool { return s.locked(t, h.payer) })
	process.AwaitStopped(h.PID())
	h.since = time.Now()
	if !s.locked(t, h.payer) {
		t.Fatalf("%s: the node was not stopped inside its batch", h.what)
	}
	h.probe.Go(func() { h.awaitFree(p, c.at(s.nodes[0])) })
}

// stopInside stops the node from outside while its batch waits for the row of the payee, so that it has the Redis locks
// and the payer's row. A node waits for a row that is kept once, and not for as long as a busy machine may need to notice;
// then it is tried again with new payments.
func (h *halted) stopInside(t *testing.T, p *patient, c caller) {
	t.Helper()
	db := c.site.root(t)
	eventually(t, h.what+" is stopped with its locks", func() bool { return h.caughtWaiting(t, p, c, db) })
	h.since = time.Now()
	h.probe.Go(func() { h.awaitFree(p, c.at(c.site.nodes[1])) })
}

// caughtWaiting keeps the payee's row, sends payments, and stops the node; it goes on when that was too late or too early.
func (h *halted) caughtWaiting(t *testing.T, p *patient, c caller, db *sql.DB) bool {
	t.Helper()
	s := c.site
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	var id int64
	if err := tx.QueryRow("SELECT id FROM accounts WHERE id = ? FOR UPDATE", ledger.Number(h.payee).Serial()).Scan(&id); err != nil {
		t.Fatal(err)
	}
	h.asks(p, c)
	for waited := time.Now(); !s.locked(t, h.payer) && time.Since(waited) < lockTTL; {
		time.Sleep(5 * time.Millisecond)
	}
	h.Signal(syscall.SIGSTOP)
	process.AwaitStopped(h.PID())
	if s.locked(t, h.payer) && s.lockedInRedis(t, h.payer) && s.lockedInRedis(t, h.payee) {
		return true
	}
	h.Signal(syscall.SIGCONT)
	return false
}

// awaitFree pays between the stopped batch's accounts through another node until that is done, or until patience ends.
func (h *halted) awaitFree(p *patient, c caller) {
	paid := false
	for !paid && time.Since(h.since) < patience {
		paid = p.pay(c, h.payer, h.payee, "1").status == http.StatusCreated
	}
	h.freed = time.Since(h.since)
}

// root opens a connection to the source past the nodes.
func (s *site) root(tb testing.TB) *sql.DB {
	tb.Helper()
	db, err := sql.Open("mysql", s.source)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// locked tells whether a transaction has an account's row.
func (s *site) locked(tb testing.TB, number string) bool {
	tb.Helper()
	const lockWait = 1205
	db, err := sql.Open("mysql", s.source)
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	var id int64
	err = db.QueryRow("SELECT id FROM accounts WHERE id = ? FOR UPDATE NOWAIT", ledger.Number(number).Serial()).Scan(&id)
	var refused *mysql.MySQLError
	if err != nil && (!errors.As(err, &refused) || refused.Number != lockWait) {
		tb.Fatalf("try an account's row: %v", err)
	}
	return err != nil
}

// lockedInRedis tells whether most Redis servers have a lock of the account.
func (s *site) lockedInRedis(tb testing.TB, number string) bool {
	tb.Helper()
	held := 0
	addrs := s.cluster.Credentials().Systems[0].RedisAddrs
	for _, addr := range addrs {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			tb.Fatal(err)
		}
		fmt.Fprintf(conn, "EXISTS lockstep:alpha:account:%s\r\n", number)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err = errors.Join(err, conn.Close()); err != nil {
			tb.Fatal(err)
		}
		if strings.TrimSpace(line) == ":1" {
			held++
		}
	}
	return held > len(addrs)/2
}

// inherit starts a node that gets the stopped one's id, as it would when the lease had ended.
func (h *halted) inherit(t *testing.T, s *site) {
	t.Helper()
	db := s.root(t)
	address := strings.TrimPrefix(h.base, "http://")
	var id int64
	if err := db.QueryRow("SELECT id FROM nodes WHERE address = ?", address).Scan(&id); err != nil {
		t.Fatalf("find the node's id: %v", err)
	}
	// The smallest id that is free is the next node's, so those below are taken for a while.
	const freed = "UPDATE nodes SET lease_until = UTC_TIMESTAMP(6) + INTERVAL IF(id = ?, -1, 60) SECOND WHERE id <= ?"
	if _, err := db.Exec(freed, id, id); err != nil {
		t.Fatalf("end the node's lease: %v", err)
	}
	heir := s.join(t, nil)
	if s.journal(t, "SELECT id FROM nodes WHERE address = ? AND state = 'running'", strings.TrimPrefix(heir.base, "http://")) != id {
		t.Fatal("the next node did not get the stopped one's id")
	}
}

// Nodes are stopped inside a batch, with its rows locked: one with its Redis locks too, two just before COMMIT that go on
// after twice the lock TTL, of which one has lost its id meanwhile, and one that never goes on. Other accounts go on being
// paid, those of the stopped batches are free soon, and what the nodes say when they go on is true.
func TestNodeStoppedInsideABatchDoesNoHarm(t *testing.T) {
	s := shared(t)
	c := s.as(t, s.operator).inHaste()
	p := &patient{record: newRecord("KRW")}
	for range 8 {
		p.numbers = append(p.numbers, p.open(c, "1000000"))
	}
	beforeCommit := map[string]any{"stop_before_commit": 1.0}
	taken, resolves := p.halt(t, c, "the node that loses its id", beforeCommit), p.halt(t, c, "the node stopped before COMMIT", beforeCommit)
	never, inside := p.halt(t, c, "the node that never goes on", beforeCommit), p.halt(t, c, "the node stopped between statements", nil)
	all := []*halted{inside, taken, resolves, never}
	stop := p.start(c)
	p.flows(c)
	inside.stopInside(t, p, c)
	for _, h := range all[1:] {
		h.stopAtPoint(t, p, c)
	}
	p.othersArePaid(t, c, all)
	for _, h := range all {
		t.Logf("%s: a payment between its accounts was made elsewhere after %.1f s", h.what, h.freed.Seconds())
		if h.freed > freeMax {
			t.Errorf("%s: its accounts were not free after %v", h.what, freeMax)
		}
	}
	taken.inherit(t, s)
	time.Sleep(time.Until(never.since.Add(2 * lockTTL))) // never was the last to stop
	for _, h := range []*halted{inside, taken, resolves} {
		h.Signal(syscall.SIGCONT)
	}
	eventually(t, "the node that lost its id ends", taken.gone)
	never.Signal(syscall.SIGKILL)
	for _, h := range all {
		h.clients.Wait()
		t.Logf("%s: its clients heard %v", h.what, h.heard)
	}
	goesOn(t, p, c, resolves, "lockstep_posting_unknown_commits_total")
	goesOn(t, p, c, inside, "lockstep_posting_failures_total")
	if ended := taken.Ended(); ended != "exit status 1" {
		t.Errorf("the node that lost its id ended with %q", ended)
	}
	stop()
	t.Logf("%d outcomes had to be asked for", p.learn(c))
	p.audit(c)
	s.verify(t)
}

// othersArePaid waits until the accounts of all stopped batches are free, and requires that meanwhile, with their rows
// locked, both other nodes made payments between other accounts.
func (p *patient) othersArePaid(t *testing.T, c caller, all []*halted) {
	t.Helper()
	free, cancel := context.WithCancel(context.Background())
	go func() {
		for _, h := range all {
			h.probe.Wait()
		}
		cancel()
	}()
	before := [2]int64{p.made[0].Load(), p.made[1].Load()}
	var paid [2]int64
	for ; free.Err() == nil; time.Sleep(20 * time.Millisecond) {
		now := [2]int64{p.made[0].Load() - before[0], p.made[1].Load() - before[1]}
		if c.site.locked(t, all[len(all)-1].payer) { // still: by the one that was the last to stop
			paid = now
		}
	}
	t.Logf("with the rows locked the other nodes made %d + %d payments between other accounts", paid[0], paid[1])
	if paid[0] == 0 || paid[1] == 0 {
		t.Errorf("with the rows locked the other nodes made %d + %d payments between other accounts", paid[0], paid[1])
	}
}

// goesOn requires that a continued node has met what was lost, as its metric shows, and works again.
func goesOn(t *testing.T, p *patient, c caller, h *halted, metric string) {
	t.Helper()
	if met := c.at(h.admin).metric(metric); met == 0 {
		t.Errorf("%s: %s is 0, so its transaction was not gone", h.what, metric)
	}
	if got := p.pay(c.at(h.base), h.payer, h.payee, "30"); got.status != http.StatusCreated {
		t.Errorf("%s: when it goes on a payment is answered with %v", h.what, got)
	}
}
