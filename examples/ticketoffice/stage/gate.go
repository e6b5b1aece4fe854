package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Fate is what becomes of a request at a gate.
type Fate int

// Fates. What passes is nobody's business.
const (
	Pass Fate = iota
	Cut       // it arrives, and its answer is lost
	Fail      // it does not arrive: the gate answers 502, as a balancer does
)

// What is asked for at a gate.
const (
	ToHold    = "hold"
	ToCapture = "capture"
	ToVoid    = "void"
	ToTell    = "tell" // a delivery of Lockstep's
	other     = ""
)

// Rule decides about the n-th request, from 1, for an action on a buyer's account.
type Rule func(action string, n int) Fate

// gate stands before Lockstep, or before what Lockstep sends to. It knows by the account whose money a request is about.
type gate struct {
	url    string
	target string
	server *http.Server
	client *http.Client

	mu    sync.Mutex
	rules map[string]Rule
	holds map[string]string // the account of each hold that was made here
	seen  map[string]int    // requests by account and action
}

func newGate(target string) (*gate, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gate{
		url: "http://" + listener.Addr().String(), target: target, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		rules: map[string]Rule{}, holds: map[string]string{}, seen: map[string]int{},
	}
	g.server = &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}
	go func() { _ = g.server.Serve(listener) }()
	return g, nil
}

func (g *gate) close() {
	_ = g.server.Close()
	g.client.CloseIdleConnections()
}

// rule decides about an account from now on; its requests are counted anew.
func (g *gate) rule(account string, rule Rule) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rules[account] = rule
	for _, action := range []string{ToHold, ToCapture, ToVoid, ToTell} {
		delete(g.seen, account+action)
	}
}

func (g *gate) count(account, action string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[account+action]
}

// holdOf is the last hold of an account that was made here.
func (g *gate) holdOf(account string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for hold, of := range g.holds {
		if of == account {
			return hold
		}
	}
	return ""
}

// about reads what a request asks for, and about whose money.
func (g *gate) about(r *http.Request, body []byte) (account, action string) {
	var named struct {
		Account string `json:"account"`
		Data    struct {
			Account string `json:"account"`
		} `json:"data"`
	}
	_ = json.Unmarshal(body, &named) // a body without names nobody
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/holds"), "/")
	switch {
	case r.Method != http.MethodPost:
		return "", other
	case named.Data.Account != "":
		return named.Data.Account, ToTell
	case !strings.HasPrefix(r.URL.Path, "/v1/holds"):
		return "", other
	case len(path) == 1:
		return named.Account, ToHold
	case len(path) == 3:
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.holds[path[1]], path[2]
	}
	return "", other
}

func (g *gate) judge(account, action string) Fate {
	g.mu.Lock()
	defer g.mu.Unlock()
	rule := g.rules[account]
	if rule == nil || action == other {
		return Pass
	}
	g.seen[account+action]++
	return rule(action, g.seen[account+action])
}

// learn remembers whose hold was made.
func (g *gate) learn(account string, answer []byte) {
	var made struct{ ID string }
	if json.Unmarshal(answer, &made) == nil && made.ID != "" {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.holds[made.ID] = account
	}
}

// ServeHTTP lets a request pass, or not.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	account, action := g.about(r, body)
	fate := g.judge(account, action)
	if fate == Fail {
		http.Error(w, "bad gateway", http.StatusBadGateway)
		return
	}
	status, header, answer, err := g.forward(r, body)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	case action == ToHold:
		g.learn(account, answer)
	}
	if fate == Cut {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	for name, values := range header {
		w.Header()[name] = values
	}
	w.WriteHeader(status)
	_, _ = w.Write(answer) // who has left does not hear it
}

func (g *gate) forward(r *http.Request, body []byte) (status int, header http.Header, answer []byte, err error) {
	forward, err := http.NewRequestWithContext(context.WithoutCancel(r.Context()), r.Method, g.target+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	forward.Header = r.Header.Clone()
	forward.GetBody = nil // the transport is not to repeat it by itself
	response, err := g.client.Do(forward)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("nobody answers: %w", err)
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, response.Header, answer, err
}
