package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/api/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is a server that misbehaves as a test says, request by request. It stands where faults must come at an exact
// moment, which no real system can be made to have.
type script struct {
	testing.TB
	server *httptest.Server

	mu       sync.Mutex
	steps    []step
	got      []seen
	tokens   int
	lifetime int // of tokens, in seconds
	waits    []time.Duration
	attempts []client.Attempt
}

// seen is a request as the server got it.
type seen struct {
	method, path, query, key, body, token, consistency, cache, language string
}

type step func(w http.ResponseWriter)

func play(t testing.TB, steps ...step) *script {
	t.Helper()
	s := &script{TB: t, steps: steps, lifetime: 900}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.server.Close)
	return s
}

func (s *script) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	if r.URL.Path == "/v1/oauth/token" {
		s.giveToken(w, r)
		s.mu.Unlock()
		return
	}
	s.got = append(s.got, seen{
		r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("Idempotency-Key"), string(body), r.Header.Get("Authorization"),
		r.Header.Get("Consistency-Token"), r.Header.Get("Cache-Control"), r.Header.Get("Accept-Language"),
	})
	if len(s.steps) == 0 {
		s.mu.Unlock()
		s.Errorf("unexpected %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusTeapot)
		return
	}
	next := s.steps[0]
	s.steps = s.steps[1:]
	s.mu.Unlock()
	next(w)
}

func (s *script) giveToken(w http.ResponseWriter, r *http.Request) {
	id, secret, ok := r.BasicAuth()
	if !ok || id != "shop%3A1" || secret != "s+p%25" {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		write(w, `{"error":"invalid_client","error_description":"wrong"}`)
		return
	}
	s.tokens++
	fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"Bearer","expires_in":%d,"scope":"admin"}`, s.tokens, s.lifetime)
}

// client makes a client of the scripted server that does not really wait.
func (s *script) client(change ...func(*client.Config)) *client.Client {
	s.Helper()
	config := client.Config{
		BaseURL: s.server.URL, ClientID: "shop:1", ClientSecret: "s p%",
		Wait: func(ctx context.Context, d time.Duration) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.waits = append(s.waits, d)
			return ctx.Err()
		},
		Observe: func(a client.Attempt) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.attempts = append(s.attempts, a)
		},
	}
	for _, c := range change {
		c(&config)
	}
	made, err := client.New(config)
	must(s, err)
	s.Cleanup(made.Close)
	return made
}

// requests is what came so far.
func (s *script) requests() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

// keys lists the different keys in the order in which they came, and fails when the bodies under one differ.
func (s *script) keys() []string {
	s.Helper()
	var keys []string
	bodies := map[string]string{}
	for _, request := range s.requests() {
		if !slices.Contains(keys, request.key) {
			keys, bodies[request.key] = append(keys, request.key), request.body
		}
		if request.body != bodies[request.key] || request.body == "" {
			s.Errorf("under one key came %s and %s", bodies[request.key], request.body)
		}
	}
	return keys
}

// played fails when steps are left.
func (s *script) played() {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.steps) > 0 {
		s.Errorf("%d steps were never asked for", len(s.steps))
	}
}

// loses takes the request, does what it asks for, and closes the connection without a word.
func loses(effect func()) step {
	return func(w http.ResponseWriter) {
		effect()
		connection, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		connection.Close()
	}
}

func nothing() {}

// says answers with a problem of the system.
func says(status int, code string, outcome client.Outcome, retry client.Retry, headers ...string) step {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/problem+json")
		setAll(w, headers)
		w.WriteHeader(status)
		text, _ := json.Marshal(client.Problem{
			Type: "/problems/" + code, Title: code, Status: status, Code: code, Outcome: outcome, Retry: retry, Detail: "because",
		})
		write(w, string(text))
	}
}

// page answers as something between us and the system does.
func page(status int) step {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		write(w, "<h1>Oh</h1>")
	}
}

// gives answers with JSON.
func gives(status int, body string, headers ...string) step {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json")
		setAll(w, headers)
		w.WriteHeader(status)
		write(w, body)
	}
}

// write does not mind a client that has gone.
func write(w http.ResponseWriter, text string) { _, _ = io.WriteString(w, text) }

func setAll(w http.ResponseWriter, headers []string) {
	for i := 0; i+1 < len(headers); i += 2 {
		w.Header().Set(headers[i], headers[i+1])
	}
}

const posted = `{"id":"019a","kind":"transfer","state":"posted","from":"a","to":"b","amount":"1500","currency":"KRW"}`

var payment = client.Payment{From: "a", To: "b", Amount: "1500", Currency: "KRW"}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantProblem(t testing.TB, err error, code string) {
	t.Helper()
	var problem *client.Problem
	var unknown *client.UnknownError
	if !errors.As(err, &problem) || problem.Code != code || errors.As(err, &unknown) {
		t.Fatalf("got %v, want the problem %s and no doubt", err, code)
	}
}

// wantUnknown wants doubt and tells the key to go on with.
func wantUnknown(t testing.TB, err error) (key string) {
	t.Helper()
	var unknown *client.UnknownError
	if !errors.As(err, &unknown) {
		t.Fatalf("got %v, want an unknown outcome", err)
	}
	return unknown.Key
}

func wantPosted(t testing.TB, transfer client.Transfer, err error) {
	t.Helper()
	must(t, err)
	if transfer.ID != "019a" || transfer.State != "posted" || transfer.Amount != "1500" {
		t.Fatalf("got %+v", transfer)
	}
}

func quoted(keys []string) string { return strings.Join(keys, ",") }
