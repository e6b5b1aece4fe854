package tour

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// fate is what becomes of a request at a gate.
type fate int

const (
	pass   fate = iota
	cut         // it arrives, and its answer is lost
	fail        // it does not arrive: the gate answers 502, as a balancer does
	detain      // it arrives when the gate is released, whether or not anybody waits for it still
)

// gate stands before a service and decides the fate of each request.
type gate struct {
	url    string
	target string
	server *http.Server
	client *http.Client

	mu       sync.Mutex
	decide   map[string]func(method string) fate // by a word in the request's path or body
	seen     map[string]int                      // requests by method and word
	released map[string]chan struct{}            // by word
}

func newGate(target string) (*gate, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	g := &gate{
		url: "http://" + listener.Addr().String(), target: target, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		decide: map[string]func(string) fate{}, seen: map[string]int{}, released: map[string]chan struct{}{},
	}
	g.server = &http.Server{Handler: g, ReadHeaderTimeout: time.Minute}
	go func() { _ = g.server.Serve(listener) }()
	return g, nil
}

func (g *gate) close() {
	g.mu.Lock()
	for word := range g.released {
		g.open(word)
	}
	g.mu.Unlock()
	_ = g.server.Close()
	g.client.CloseIdleConnections()
}

// watch decides about requests that hold a word, and counts them.
func (g *gate) watch(word string, decide func(method string) fate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.decide[word], g.released[word] = decide, make(chan struct{})
}

// release lets detained requests go on, and later ones pass.
func (g *gate) release(word string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open(word)
	g.decide[word] = func(string) fate { return pass }
}

func (g *gate) open(word string) {
	select {
	case <-g.released[word]:
	default:
		close(g.released[word])
	}
}

// count is how many requests of a method held the word.
func (g *gate) count(method, word string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.seen[method+" "+word]
}

func (g *gate) judge(method, text string) (fate, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for word, decide := range g.decide {
		if strings.Contains(text, word) {
			g.seen[method+" "+word]++
			return decide(method), g.released[word]
		}
	}
	return pass, nil
}

// ServeHTTP lets a request pass, or not.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	fate, released := g.judge(r.Method, r.URL.Path+"\n"+string(body))
	switch fate {
	case fail:
		http.Error(w, "bad gateway", http.StatusBadGateway)
		return
	case detain:
		<-released
	}
	ctx := r.Context()
	if fate != pass {
		ctx = context.WithoutCancel(ctx)
	}
	forward, err := http.NewRequestWithContext(ctx, r.Method, g.target+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	forward.Header = r.Header.Clone()
	response, err := g.client.Do(forward)
	if err != nil {
		http.Error(w, "the service does not answer", http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	if fate == cut {
		panic(http.ErrAbortHandler) // the connection ends without an answer
	}
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body) // who has left does not hear it
}
