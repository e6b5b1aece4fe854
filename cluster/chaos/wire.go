package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"lockstep/cluster/local"
)

const (
	tryMax      = 6 * time.Second // for one request: a stopped node would keep a client for ever
	answerBytes = 1 << 20
	waitHeader  = "wait=2" // for the outcome of a transfer between systems
)

// wire sends requests to one system and repeats nothing by itself.
type wire struct {
	system local.SystemCredentials
	http   *http.Client

	mu    sync.Mutex
	token string
}

func newWire(system local.SystemCredentials) *wire {
	transport := &http.Transport{MaxIdleConnsPerHost: 64, IdleConnTimeout: 10 * time.Second}
	return &wire{system: system, http: &http.Client{Transport: transport, Timeout: tryMax}}
}

func (w *wire) close() { w.http.CloseIdleConnections() }

// bases are the addresses of the system: the balancer's, and each node's own.
func (w *wire) bases() []string { return append([]string{w.system.BaseURL}, w.system.Nodes...) }

// signIn gets a token for the operator, which opens all accounts.
func (w *wire) signIn(ctx context.Context) error {
	form := url.Values{"grant_type": {"client_credentials"}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.system.BaseURL+"/v1/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(w.system.Operator.ClientID, w.system.Operator.ClientSecret)
	got := w.send(request)
	var answer struct {
		Token string `json:"access_token"`
	}
	if got.err != nil || got.status != http.StatusOK || json.Unmarshal(got.body, &answer) != nil {
		return fmt.Errorf("sign in at %s: %v", w.system.ID, got)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.token = answer.Token
	return nil
}

// answer is what a request got.
type answer struct {
	status int // 0 without one
	source bool
	body   []byte
	err    error
	problem
}

func (a answer) String() string { return fmt.Sprintf("%d %s %v", a.status, a.body, a.err) }

// problem is the part of a refusal that a program reads.
type problem struct {
	Code    string `json:"code"`
	Outcome string `json:"outcome"`
	Retry   string `json:"retry"`
}

// ask is one request. Without a key it is a read.
type ask struct {
	base, path string
	key        string
	body       any  // of a change, for JSON
	strong     bool // the read is to be of the source
}

// call sends one request.
func (w *wire) call(ctx context.Context, a ask) answer {
	method, content := http.MethodGet, io.Reader(nil)
	if a.key != "" {
		text, err := json.Marshal(a.body)
		if err != nil {
			return answer{err: err}
		}
		method, content = http.MethodPost, bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, a.base+a.path, content)
	if err != nil {
		return answer{err: err}
	}
	w.mu.Lock()
	request.Header.Set("Authorization", "Bearer "+w.token)
	w.mu.Unlock()
	if a.key != "" {
		request.Header.Set("Idempotency-Key", a.key)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Prefer", waitHeader)
	}
	if a.strong {
		request.Header.Set("Cache-Control", "no-cache")
	}
	return w.send(request)
}

func (w *wire) send(request *http.Request) answer {
	request.GetBody = nil // net/http would send a POST with an Idempotency-Key again by itself, and nobody would know
	response, err := w.http.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytes))
	if err != nil {
		return answer{err: err} // half an answer is none
	}
	got := answer{status: response.StatusCode, source: response.Header.Get("Read-From") == "source", body: body}
	if got.status >= http.StatusMultipleChoices {
		_ = json.Unmarshal(body, &got.problem) // a page that is no problem has no outcome
	}
	return got
}
