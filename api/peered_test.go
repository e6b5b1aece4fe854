package api_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/api"
	"lockstep/api/httpsig"
	"lockstep/cluster/events"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/remit"
	"lockstep/saga"
)

// peered is the edge of alpha, which knows the peers beta and gamma, with a true desk behind it.
type peered struct {
	*edge
	desk    *remit.Desk
	asker   *asker
	letters *letters
	parked  *parked
}

func newPeered(t *testing.T, changes ...func(*api.Deps)) *peered {
	t.Helper()
	bank, listener := newBank(), listen(t)
	p := &peered{asker: &asker{}, letters: &letters{}, parked: &parked{}}
	p.edge = newEdgeOn(t, bank, listener, func(deps *api.Deps) {
		ctx := context.Background()
		directory, err := peers.OpenDirectory(ctx, "alpha", keysOf("alpha"), bank.neighbours, deps.Logger)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(directory.Close)
		p.desk, err = remit.Open(ctx, remit.DefaultConfig(), bankBooks{bank}, bank, directory, p.asker, deps.Metrics, deps.Logger)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.desk.Close)
		deps.Peers = &api.Peers{
			Remitter: p.desk, Directory: directory, Client: peers.NewClient(directory, bankBooks{bank}.Epoch, prometheus.NewRegistry()),
			Authorities: []string{listener.Addr().String()}, Nonces: &nonces{seen: map[string]bool{}}, Epoch: bankBooks{bank}.Epoch, Raise: bank.raise,
			Sagas: sagaLog{bank}, Books: bankBooks{bank}, Letters: p.letters, Parked: p.parked,
		}
		for _, change := range changes {
			change(deps)
		}
	})
	return p
}

// asker is what a peer would answer.
type asker struct {
	mu      sync.Mutex
	prepare func(ctx context.Context) (peers.PrepareResult, error) // nil: the peer promises
}

func (a *asker) says(prepare func(ctx context.Context) (peers.PrepareResult, error)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.prepare = prepare
}

func (a *asker) Prepare(ctx context.Context, _ string, transfer peers.Transfer) (peers.PrepareResult, error) {
	a.mu.Lock()
	prepare := a.prepare
	a.mu.Unlock()
	if prepare != nil {
		return prepare(ctx)
	}
	return peers.PrepareResult{ID: transfer.ID, State: peers.Reserved, Epoch: 7}, nil
}

func (a *asker) Inquire(context.Context, string, string, string, ...string) (peers.InquiryAnswer, error) {
	return peers.InquiryAnswer{}, peers.ErrUnavailable
}

// letters are dead letters in memory.
type letters struct {
	mu       sync.Mutex
	list     []events.DeadLetter
	down     error
	replayed []string
}

func (l *letters) DeadLetters(_ context.Context, limit int) ([]events.DeadLetter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]events.DeadLetter(nil), l.list[:min(len(l.list), limit)]...), l.down
}

func (l *letters) Replay(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replayed = append(l.replayed, id)
	return l.take(id)
}

func (l *letters) Settle(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take(id)
}

func (l *letters) take(id string) error {
	for i, letter := range l.list {
		if letter.ID == id && l.down == nil {
			l.list = append(l.list[:i:i], l.list[i+1:]...)
			return nil
		}
	}
	if l.down != nil {
		return l.down
	}
	return events.ErrNoLetter
}

// parked are messages of the outbox in memory.
type parked struct{ list []saga.ParkedMessage }

func (p *parked) Parked(context.Context, int) ([]saga.ParkedMessage, error) { return p.list, nil }

func (p *parked) Replay(_ context.Context, id string) error {
	for i, message := range p.list {
		if message.ID == id {
			p.list = append(p.list[:i:i], p.list[i+1:]...)
			return nil
		}
	}
	return saga.ErrNotFound
}

// signed makes a request as a peer signs it; changes come before the signature.
func (p *peered) signed(tb testing.TB, by, method, path, body string, changes ...func(*http.Request, *httpsig.Signer)) (*http.Request, httpsig.Request) {
	tb.Helper()
	request, err := http.NewRequest(method, p.base+path, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", uuid.NewString())
	}
	signer := httpsig.Signer{Life: 30 * time.Second}
	signer.KeyID, signer.Private = keysOf(by).Signer()
	for _, change := range changes {
		change(request, &signer)
	}
	sent, err := signer.SignHTTP(request, []byte(body))
	if err != nil {
		tb.Fatal(err)
	}
	return request, sent
}

func (p *peered) send(tb testing.TB, request *http.Request) answer {
	tb.Helper()
	response, err := p.client.Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, text}
}

// ask sends a peer's request, and fails the test unless the answer is alpha's, signed to this very request.
func (p *peered) ask(tb testing.TB, by, method, path, body string) answer {
	tb.Helper()
	request, sent := p.signed(tb, by, method, path, body)
	got := p.send(tb, request)
	if err := believed(sent, got); err != nil {
		tb.Fatalf("%s %s: %v: %v", method, path, got, err)
	}
	return got
}

// believed tells whether an answer is alpha's to the request.
func believed(sent httpsig.Request, got answer) error {
	_, err := httpsig.Verifier{Keys: keysOf("alpha").find}.VerifyResponse(sent, httpsig.Response{Status: got.status, Header: got.header, Body: got.body})
	return err
}

// headersOf lists a request's headers in pairs, for a client that is given them so.
func headersOf(request *http.Request) []string {
	var pairs []string
	for name, values := range request.Header {
		for _, value := range values {
			pairs = append(pairs, name, value)
		}
	}
	return pairs
}

// setBody changes the body after the signature was made.
func setBody(request *http.Request, body string) {
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader([]byte(body))), int64(len(body))
}

// account is a number of another system.
func account(system string, serial int64) string {
	return string(ledger.NewNumber(system, ledger.AccountID(serial)))
}
