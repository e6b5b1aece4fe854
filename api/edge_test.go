package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"lockstep/api"
	"lockstep/api/auth"
	"lockstep/node/ledger"
)

// TestMain lets more tests run at once than there are cores, for some wait for servers most of the time.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "6"); err != nil { // the command line is read later
		panic(err)
	}
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.PlainBodyDecoder) // kin-openapi knows no pages
	// fasthttp keeps one clock for its Date header and idle workers for ten seconds, for as long as the process lives.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// edge is a served edge over a bank in memory, and a client that repeats nothing by itself.
type edge struct {
	bank     *bank
	server   *api.Server
	registry *prometheus.Registry
	base     string
	logs     *logs
	health   api.Health
	client   *http.Client
}

func newEdge(tb testing.TB, changes ...func(*api.Deps)) *edge {
	tb.Helper()
	return newEdgeOn(tb, newBank(), listen(tb), changes...)
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return listener
}

func newEdgeOn(tb testing.TB, bank *bank, listener net.Listener, changes ...func(*api.Deps)) *edge {
	tb.Helper()
	e := &edge{
		bank: bank, registry: prometheus.NewRegistry(), logs: &logs{},
		health: api.Health{Started: true, Lease: true, Source: true},
		client: &http.Client{
			Transport: &http.Transport{}, Timeout: 10 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	deps := api.Deps{
		System: "alpha", Version: "1.2.3", Currencies: []ledger.Currency{"KRW", "USD"},
		Engine: e.bank, Store: e.bank, Webhooks: desk{e.bank}, Authority: authority{e.bank}, Health: func() api.Health { return e.health },
		Locks: func() api.Locks { return api.Locks{Enabled: true, Servers: []api.LockServer{}} },
		Now:   e.bank.now, Clock: time.Now, NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
		Logger: slog.New(slog.NewJSONHandler(e.logs, &slog.HandlerOptions{Level: slog.LevelDebug})), Metrics: e.registry,
	}
	for _, change := range changes {
		change(&deps)
	}
	server, err := api.New(deps)
	if err != nil {
		tb.Fatal(err)
	}
	e.server, e.base = server, "http://"+listener.Addr().String()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	tb.Cleanup(func() {
		e.client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
		if err := <-served; err != nil {
			tb.Error(err)
		}
	})
	return e
}

// logs keeps what was logged.
type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// answer is what the edge said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// field reads a field of the JSON body; "" when it is not there.
func (a answer) field(path ...string) string {
	var value any
	if json.Unmarshal(a.body, &value) != nil {
		return ""
	}
	for _, name := range path {
		switch inside := value.(type) {
		case map[string]any:
			value = inside[name]
		case []any:
			var i int
			if _, err := fmt.Sscan(name, &i); err != nil || i >= len(inside) {
				return ""
			}
			value = inside[i]
		}
	}
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

// expect fails the test unless the answer has the status and, for a problem, the code.
func (a answer) expect(tb testing.TB, status int, code string) answer {
	tb.Helper()
	if a.status != status || (code != "" && a.field("code") != code) {
		tb.Fatalf("got %v, want %d %s", a, status, code)
	}
	return a
}

// headers are given in pairs of name and value.
func (e *edge) do(tb testing.TB, method, path, body string, headers ...string) answer {
	tb.Helper()
	got, err := e.try(method, path, strings.NewReader(body), headers...)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

func (e *edge) try(method, path string, body io.Reader, headers ...string) (answer, error) {
	request, err := http.NewRequest(method, e.base+path, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Add(headers[i], headers[i+1])
	}
	response, err := e.client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, text}, err
}

// as makes the headers of a JSON request of a caller under a key.
func as(who, key string, more ...string) []string {
	headers := []string{"Authorization", "Bearer " + who, "Content-Type", "application/json"}
	if key != "" {
		headers = append(headers, "Idempotency-Key", key)
	}
	return append(headers, more...)
}

func (e *edge) post(tb testing.TB, who, path, body string, more ...string) answer {
	tb.Helper()
	return e.do(tb, "POST", path, body, as(who, uuid.NewString(), more...)...)
}

func (e *edge) get(tb testing.TB, who, path string, more ...string) answer {
	tb.Helper()
	return e.do(tb, "GET", path, "", append([]string{"Authorization", "Bearer " + who}, more...)...)
}

// open opens an account and pays an amount in.
func (e *edge) open(tb testing.TB, who, amount string) string {
	tb.Helper()
	number := e.post(tb, who, "/v1/accounts", `{"currency":"KRW","label":"Alice"}`).expect(tb, 201, "").field("number")
	if amount != "" {
		e.post(tb, "teller", "/v1/deposits", fmt.Sprintf(`{"account":%q,"amount":%q,"currency":"KRW"}`, number, amount)).expect(tb, 201, "")
	}
	return number
}

// The callers that the tests know. "limited" may only read accounts.
func principals() map[string]auth.Principal {
	client := func(name string, scopes auth.Scopes) auth.Principal {
		return auth.Principal{Caller: "client:" + name, Owner: "client:" + name, Scopes: scopes, Client: true}
	}
	adminRead, _ := auth.ParseScopes(auth.AdminRead)
	without := func(scope string) auth.Scopes {
		one, err := auth.ParseScopes(scope)
		if err != nil {
			panic(err)
		}
		if scope == auth.Admin {
			one |= adminRead
		}
		return auth.AllScopes &^ one
	}
	limited, err := auth.ParseScopes(auth.AccountsRead)
	if err != nil {
		panic(err)
	}
	agent := client("agent", without(auth.Admin))
	agent.Owner = "client:alice"
	return map[string]auth.Principal{
		"operator": client("operator", auth.AllScopes), "alice": client("alice", without(auth.Admin)),
		"bob": client("bob", without(auth.Admin)), "teller": client("teller", without(auth.Admin)),
		"agent": agent, "blind": client("blind", without(auth.AccountsRead)), "limited": client("limited", limited),
		"carol": {Caller: "user:carol", Owner: "user:carol", Scopes: without(auth.Admin)},
	}
}
