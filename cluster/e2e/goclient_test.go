package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/api/client"
)

// cutter is a TCP proxy that loses answers: of each new POST to a money route it passes the request on, and then cuts
// both connections instead of passing the answer back.
type cutter struct {
	listener net.Listener
	target   string
	armed    atomic.Bool // the next such POST loses its answer
	late     bool        // cut when the answer comes; else as soon as the request is sent
	cuts     atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]bool
	work  sync.WaitGroup
}

func newCutter(t *testing.T, target string, late bool) *cutter {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cutter{listener: listener, target: strings.TrimPrefix(target, "http://"), late: late, conns: map[net.Conn]bool{}}
	p.work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.work.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(p.close)
	return p
}

func (p *cutter) base() string { return "http://" + p.listener.Addr().String() }

func (p *cutter) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	for conn := range p.conns {
		_ = conn.Close()
	}
	p.mu.Unlock()
	p.work.Wait()
}

// keep remembers a connection until it is closed.
func (p *cutter) keep(conn net.Conn) (drop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[conn] = true
	return func() {
		_ = conn.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, conn)
	}
}

func (p *cutter) serve(conn net.Conn) {
	defer p.keep(conn)()
	node, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer p.keep(node)()
	var doomed atomic.Bool
	p.work.Go(func() { // requests
		defer node.Close()
		copyChunks(node, conn, func(chunk []byte) bool {
			if isMoney(chunk) && p.armed.CompareAndSwap(true, false) {
				doomed.Store(true)
			}
			return true
		}, func() bool {
			if p.late || !doomed.Load() {
				return true
			}
			p.cuts.Add(1)
			_ = conn.Close()
			return false
		})
	})
	copyChunks(conn, node, func([]byte) bool { // answers
		if !doomed.Load() {
			return true
		}
		p.cuts.Add(1)
		return false
	}, func() bool { return true })
}

// copyChunks copies what comes until one of the questions, asked before and after each chunk, says no.
func copyChunks(to, from net.Conn, before func([]byte) bool, after func() bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || !before(buffer[:n]) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil || !after() {
			return
		}
	}
}

func isMoney(request []byte) bool {
	for _, path := range []string{"transfers", "deposits", "withdrawals", "holds", "batches"} {
		if bytes.HasPrefix(request, []byte("POST /v1/"+path)) {
			return true
		}
	}
	return false
}

// The Go client asks again under the same key when its first answer is lost, right after the request or right before the
// answer: what it returns is the answer to the one effect.
func TestGoClientMakesAPaymentOnceWhenItsAnswerIsLost(t *testing.T) {
	t.Parallel()
	s := shared(t)
	rounds := 0
	for _, base := range s.bases() {
		for _, late := range []bool{true, false} {
			rounds += s.loseAnswers(t, base, late)
		}
	}
	if rounds != 6*15 {
		t.Errorf("%d answers were lost, want %d", rounds, 6*15)
	}
}

// loseAnswers makes payments of every kind, each of which loses its first answer.
func (s *site) loseAnswers(t *testing.T, base string, late bool) (lost int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	proxy := newCutter(t, base, late)
	var mu sync.Mutex
	var attempts []client.Attempt
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c, err := client.New(client.Config{
		BaseURL: proxy.base(), ClientID: s.client.ClientID, ClientSecret: s.client.ClientSecret, HTTPClient: &http.Client{Transport: transport},
		Observe: func(a client.Attempt) {
			mu.Lock()
			defer mu.Unlock()
			attempts = append(attempts, a)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	alice, bob := s.goAccount(t, ctx, c), s.goAccount(t, ctx, c)
	pays := map[string]func(mark string) (string, error){ // each answers with the id of what it made
		"deposit": func(mark string) (string, error) {
			made, err := c.Deposit(ctx, client.Cash{Account: alice, Amount: "1000", Currency: "KRW", Reference: mark})
			return made.ID, err
		},
		"transfer": func(mark string) (string, error) {
			made, err := c.Transfer(ctx, client.Payment{From: alice, To: bob, Amount: "10", Currency: "KRW", Reference: mark})
			return made.ID, err
		},
		"batch": func(mark string) (string, error) {
			one := client.Payment{From: alice, To: bob, Amount: "10", Currency: "KRW", Reference: mark}
			made, err := c.Batch(ctx, client.Batch{Atomic: true, Transfers: []client.Payment{one}})
			if err != nil || made[0].Transfer == nil {
				return "", fmt.Errorf("batch: %v: %w", made, err)
			}
			return made[0].Transfer.ID, nil
		},
	}
	for round := range 5 {
		for _, kind := range []string{"deposit", "transfer", "batch"} {
			mark := fmt.Sprintf("%s %d %t %s", kind, round, late, alice)
			mu.Lock()
			attempts = nil
			mu.Unlock()
			cuts := proxy.cuts.Load()
			proxy.armed.Store(true)
			id, err := pays[kind](mark)
			if err != nil {
				t.Fatalf("%s: %v", mark, err)
			}
			mu.Lock()
			keys := map[string]bool{}
			for _, attempt := range attempts {
				keys[attempt.Key] = true
			}
			if proxy.cuts.Load() != cuts+1 || len(attempts) < 2 || len(keys) != 1 || attempts[0].Err == nil || late && !attempts[len(attempts)-1].Replayed {
				t.Errorf("%s: %d cuts, attempts %+v", mark, proxy.cuts.Load()-cuts, attempts)
			}
			mu.Unlock()
			if effects := s.journal(t, "SELECT COUNT(*) FROM transfers WHERE reference = ?", mark); effects != 1 {
				t.Errorf("%s had %d effects", mark, effects)
			}
			if s.journal(t, "SELECT COUNT(*) FROM transfers WHERE reference = ? AND id = ?", mark, id) != 1 {
				t.Errorf("%s was answered with the id %s, which the journal does not have", mark, id)
			}
			lost++
		}
	}
	account, err := c.Account(ctx, alice)
	if err != nil || account.Balance.Posted != "4900" {
		t.Errorf("after 5 deposits of 1000 and 10 payments of 10 the account has %+v, %v", account.Balance, err)
	}
	return lost
}

func (s *site) goAccount(t *testing.T, ctx context.Context, c *client.Client) string { //nolint:revive // t goes first everywhere here
	t.Helper()
	account, err := c.OpenAccount(ctx, client.NewAccount{Currency: "KRW"})
	if err != nil {
		t.Fatal(err)
	}
	return account.Number
}
