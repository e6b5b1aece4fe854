package api_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"lockstep/api"
	"lockstep/node/ledger"
	"lockstep/node/posting"
)

func TestTokensAreGivenAsRFC6749Says(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	basic := func(credentials string) []string {
		request := http.Request{Header: http.Header{}}
		id, secret, _ := strings.Cut(credentials, ":")
		request.SetBasicAuth(id, secret)
		return append([]string{"Authorization", request.Header.Get("Authorization")}, form...)
	}
	const grant = "grant_type=client_credentials"
	for name, c := range map[string]struct {
		body    string
		headers []string
		status  int
		code    string
	}{
		"form":                {grant + "&client_id=shop&client_secret=s3cret%2B%25&scope=money%3Aread", form, 200, ""},
		"basic":               {grant, basic("shop:s3cret%2B%25"), 200, ""},
		"basic and id":        {grant + "&client_id=shop", basic("shop:s3cret%2B%25"), 200, ""},
		"wrong secret":        {grant, basic("shop:x"), 401, "invalid_client"},
		"broken basic":        {grant, append([]string{"Authorization", "Basic ???"}, form...), 401, "invalid_client"},
		"bearer":              {grant, append([]string{"Authorization", "Bearer alice"}, form...), 401, "invalid_client"},
		"both ways":           {grant + "&client_id=shop&client_secret=x", basic("shop:s3cret%2B%25"), 400, "invalid_request"},
		"two ids":             {grant + "&client_id=other", basic("shop:s3cret%2B%25"), 400, "invalid_request"},
		"twice":               {grant + "&" + grant, form, 400, "invalid_request"},
		"no grant":            {"client_id=shop", form, 400, "invalid_request"},
		"another grant":       {"grant_type=password&client_id=shop", form, 400, "unsupported_grant_type"},
		"another scope":       {grant + "&client_id=shop&client_secret=s3cret%2B%25&scope=none", form, 400, "invalid_scope"},
		"not form-encoded":    {"%zz", form, 400, "invalid_request"},
		"form without secret": {grant + "&client_id=shop", form, 401, "invalid_client"},
	} {
		got := e.do(t, "POST", "/v1/oauth/token", c.body, c.headers...)
		if got.status != c.status || got.field("error") != c.code {
			t.Errorf("%s: got %v, want %d %s", name, got, c.status, c.code)
		}
		if got.header.Get("Cache-Control") != "no-store" || (c.status == 401) != (got.header.Get("WWW-Authenticate") != "") {
			t.Errorf("%s: headers are %v", name, got.header)
		}
	}
	e.do(t, "POST", "/v1/oauth/token", `{"grant_type":"client_credentials"}`, "Content-Type", "application/json").expect(t, 415, "unsupported_media_type")
	if strings.Contains(e.logs.String(), "s3cret") {
		t.Error("a secret is in the log")
	}
}

// The secret is in the first answer only.
func TestClientSecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	key, body := uuid.NewString(), `{"client_id":"shop","name":"The shop","scopes":["money:read","admin"]}`
	first := e.do(t, "POST", "/v1/admin/clients", body, as("operator", key)...).expect(t, 201, "")
	if first.field("client_secret") != "the-secret" || first.field("owner") != "client:shop" {
		t.Errorf("got %v", first)
	}
	repeat := e.do(t, "POST", "/v1/admin/clients", body, as("operator", key)...).expect(t, 201, "")
	if strings.Contains(string(repeat.body), "the-secret") || !strings.Contains(repeat.field("notice"), "rotate") || repeat.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("the repeat got %v", repeat)
	}
	key = uuid.NewString()
	if got := e.do(t, "POST", "/v1/admin/clients/shop/rotate", "", as("operator", key)...).expect(t, 200, ""); got.field("client_secret") != "another-secret" {
		t.Errorf("got %v", got)
	}
	if got := e.do(t, "POST", "/v1/admin/clients/shop/rotate", "{}", as("operator", key)...).expect(t, 200, ""); got.field("client_secret") != "" {
		t.Errorf("got %v", got)
	}
	for _, bad := range []string{`{"name":"x","scopes":[]}`, `{"name":"x","scopes":["fly"]}`, `{"name":"","scopes":["admin"]}`, `{"client_id":"","name":"x","scopes":["admin"]}`, `{"client_id":"a b","name":"x","scopes":["admin"]}`, `{"name":"x","scopes":["admin"],"owner":"me"}`} {
		e.post(t, "operator", "/v1/admin/clients", bad).expect(t, 400, "invalid_request")
	}
	e.do(t, "DELETE", "/v1/admin/clients/%ED%95%9C", "", as("operator", "")...).expect(t, 404, "not_found")
	if strings.Contains(e.logs.String(), "secret\"") {
		t.Error("a secret is in the log")
	}
}

func TestClientsPage(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for i := range 5 {
		e.post(t, "operator", "/v1/admin/clients", fmt.Sprintf(`{"client_id":"c%d","name":"x","scopes":["money:read"]}`, i)).expect(t, 201, "")
	}
	seen := ""
	for cursor := ""; ; {
		page := e.get(t, "operator", "/v1/admin/clients?limit=2&cursor="+cursor).expect(t, 200, "")
		for i := 0; page.field("clients", fmt.Sprint(i), "client_id") != ""; i++ {
			seen += page.field("clients", fmt.Sprint(i), "client_id")
		}
		if cursor = page.field("next_cursor"); cursor == "" {
			break
		}
	}
	if seen != "c0c1c2c3c4" {
		t.Errorf("saw %s", seen)
	}
}

func TestReadinessIsRedOnlyWhenTheNodeIsOfNoUse(t *testing.T) {
	t.Parallel()
	good := api.Health{Started: true, Lease: true, Source: true}
	replica := []api.ReplicaHealth{{Address: "r", Serving: true, Lag: 20 * time.Millisecond}}
	for name, c := range map[string]struct {
		health api.Health
		ready  bool
		said   string
	}{
		"all well":       {good, true, `"source":"up"`},
		"no Redis":       {api.Health{Started: true, Lease: true, Source: true, Redis: []api.ServerHealth{{Address: "a"}, {Address: "b"}, {Address: "c", Up: true}}}, true, `degraded: 1 of 3`},
		"replica only":   {api.Health{Started: true, Lease: true, Replicas: replica}, true, `"source":"down"`},
		"replica behind": {api.Health{Started: true, Lease: true, Source: true, Replicas: []api.ReplicaHealth{{Address: "r"}}}, true, `"status":"down"`},
		"nothing":        {api.Health{Started: true, Lease: true}, false, "neither"},
		"starting":       {api.Health{Lease: true, Source: true}, false, "starting"},
		"lease lost":     {api.Health{Started: true, Source: true}, false, "lease"},
		"warned":         {api.Health{Started: true, Lease: true, Source: true, Warnings: []string{"semi-sync is off"}}, true, "semi-sync is off"},
	} {
		e := newEdge(t)
		e.health = c.health
		got := e.do(t, "GET", "/readyz", "")
		if (got.status == 200) != c.ready || !strings.Contains(string(got.body), c.said) {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// A drained node says so and serves on; Shutdown lets what is under way end.
func TestDrainThenShutdownLosesNoRequest(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "")
	body := fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, account)
	e.server.Drain()
	if got := e.do(t, "GET", "/readyz", ""); got.status != 503 || !strings.Contains(got.field("reason"), "shutting down") {
		t.Errorf("got %v", got)
	}
	e.post(t, "alice", "/v1/deposits", body).expect(t, 201, "")

	entered, leave := make(chan struct{}), make(chan struct{})
	e.bank.set(func() {
		e.bank.fail = func(posting.Command) error { close(entered); <-leave; return nil }
	})
	answers := make(chan answer, 1)
	go func() {
		got, err := e.try("POST", "/v1/deposits", strings.NewReader(body), as("alice", uuid.NewString())...)
		if err != nil {
			t.Error(err)
		}
		answers <- got
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		stopped <- e.server.Shutdown(ctx)
	}()
	refused := func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(e.base, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	}
	for deadline := time.Now().Add(5 * time.Second); !refused(); {
		if time.Now().After(deadline) {
			t.Fatal("it goes on listening")
		}
	}
	select {
	case err := <-stopped:
		t.Fatalf("Shutdown returned %v before the request had ended", err)
	default:
	}
	close(leave)
	(<-answers).expect(t, 201, "")
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A server that is shut down before it has begun to serve never begins: whoever waits for its end would wait for ever.
func TestAServerThatWasShutDownServesNobody(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	if err := e.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	listener, ended := listen(t), make(chan error, 1)
	go func() { ended <- e.server.Serve(listener) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Serve after Shutdown: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Serve goes on after Shutdown")
		_ = listener.Close()
	}
	if conn, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		conn.Close()
		t.Error("it listens")
	}
}

// What goes wrong before anything was handed over changed nothing; the cause is logged and not shown.
func TestFailureOfAReadIsInternal(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "")
	for name, fail := range map[string]func() error{
		"error": func() error { return fmt.Errorf("odd: %w", io.ErrShortWrite) },
		"panic": func() error { panic("odd thing") },
	} {
		e.bank.set(func() { e.bank.readFail = fail })
		got := e.get(t, "alice", "/v1/accounts/"+account).expect(t, 500, "internal")
		if strings.Contains(string(got.body), "odd") || !strings.Contains(e.logs.String(), "odd") {
			t.Errorf("%s: got %v", name, got)
		}
	}
	e.bank.set(func() { e.bank.readFail = func() error { return io.ErrUnexpectedEOF } })
	e.get(t, "alice", "/v1/accounts/"+account).expect(t, 503, "source_unavailable")
}

func TestPagesBringAllTheyNeed(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	docs := e.do(t, "GET", "/docs", "").expect(t, 200, "")
	text := string(docs.body)
	for _, r := range api.RouteFacts() {
		if !strings.Contains(text, "<code>"+r.Path+"</code>") {
			t.Errorf("the reference lacks %s", r.Path)
		}
	}
	for _, rule := range api.RuleFacts() {
		if !strings.Contains(text, `href="/problems/`+rule.Code+`"`) {
			t.Errorf("the reference lacks the problem %s", rule.Code)
		}
	}
	text = strings.ReplaceAll(text, "https://shop.example.com/hooks", "") // in an example, which loads nothing
	for _, foreign := range []string{"http://", "https://", "src=", "@import", "url(", "<script", "<link", "%!", "ZgotmplZ"} {
		if strings.Contains(text, foreign) {
			t.Errorf("the reference has %q", foreign)
		}
	}
	if policy := docs.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") {
		t.Errorf("the policy is %q", policy)
	}
	if file := e.do(t, "GET", "/openapi.yaml", ""); !strings.HasPrefix(string(file.body), "openapi: 3.1.0") {
		t.Errorf("got %.100v", file)
	}
	if got := e.do(t, "GET", "/.well-known/lockstep", ""); got.field("system") != "alpha" || got.field("version") != "1.2.3" || got.field("currencies", "1") != "USD" {
		t.Errorf("got %v", got)
	}
}

func TestMetricsAndLogsNameTheRouteNotThePath(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "10")
	trace := "4bf92f3577b34da6a3ce929d0e0e4736"
	e.get(t, "alice", "/v1/accounts/"+account, "traceparent", "00-"+trace+"-00f067aa0ba902b7-01").expect(t, 200, "")
	e.do(t, "GET", "/nowhere/"+account, "").expect(t, 404, "")
	want := `
# HELP lockstep_http_requests_total Answered requests by route and status.
# TYPE lockstep_http_requests_total counter
lockstep_http_requests_total{method="-",route="unmatched",status="404"} 1
lockstep_http_requests_total{method="GET",route="/v1/accounts/{number}",status="200"} 1
lockstep_http_requests_total{method="POST",route="/v1/accounts",status="201"} 1
lockstep_http_requests_total{method="POST",route="/v1/deposits",status="201"} 1
`
	if err := testutil.GatherAndCompare(e.registry, strings.NewReader(want), "lockstep_http_requests_total"); err != nil {
		t.Error(err)
	}
	log := e.logs.String()
	for _, part := range []string{`"route":"/v1/accounts/{number}"`, `"principal":"client:alice"`, `"status":200`, `"trace_id":"` + trace + `"`} {
		if !strings.Contains(log, part) {
			t.Errorf("the log lacks %s", part)
		}
	}
	if strings.Contains(log, "Bearer") {
		t.Error("the log has a token")
	}
}

func TestMetricsRegisterOnce(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	if _, err := api.New(api.Deps{Metrics: registry}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.New(api.Deps{Metrics: registry}); err == nil {
		t.Error("the same metrics were registered twice")
	}
}

func TestListenSaysWhenItCannot(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	other, err := api.New(api.Deps{Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	address := strings.TrimPrefix(e.base, "http://")
	if err := other.Listen(address); err == nil || !strings.Contains(err.Error(), address) {
		t.Errorf("got %v", err)
	}
}

// The bytes of version 1 are a promise: repeats are rendered again, by this release and by later ones.
func TestVersionOneRendersTheseBytes(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 31, 18, 0, 0, 123456789, time.FixedZone("KST", 9*3600))
	transfer := ledger.Transfer{
		ID: "019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d2e", Kind: ledger.Payment, State: ledger.Posted,
		From: ledger.NewNumber("alpha", 1000), To: ledger.NewNumber("alpha", 1001), Amount: ledger.Money{Minor: 1234, Currency: "USD"},
		Description: `"R&D" <월세>`, Reference: "r1", CreatedAt: at, FinishedAt: at,
	}
	want := `{"id":"019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d2e","kind":"transfer","state":"posted","from":"alpha-00000000100042","to":"alpha-00000000100139",` +
		`"amount":"12.34","currency":"USD","description":"\"R\u0026D\" \u003c월세\u003e","reference":"r1","created_at":"2026-01-31T09:00:00.123456Z",` +
		`"finished_at":"2026-01-31T09:00:00.123456Z","timeline":[{"at":"2026-01-31T09:00:00.123456Z","step":"posted","detail":"12.34 USD moved from alpha-00000000100042 to alpha-00000000100139 in one transaction"}]}`
	for _, r := range []posting.Renderer{api.NewRenderer("alpha", "en", "one"), api.NewRenderer("alpha", "ko", "two")} {
		got := r.Render(1, ledger.Result{Transfer: &transfer}, nil)
		if string(got.Body) != want || got.Status != 201 || got.Location != "/v1/transfers/019a8c1e-6f0a-7c6e-8a33-0f5b1f0c9d2e" || got.ContentType != "application/json" {
			t.Errorf("got %+v\n%s\nwant\n%s", got, got.Body, want)
		}
	}
}

// A node that is older than the one that promised an answer cannot give it, and must not invent another.
func TestUnknownVersionsAreAskedAgain(t *testing.T) {
	t.Parallel()
	r := api.NewRenderer("alpha", "en", "one")
	if got := r.Render(api.RendererVersion+1, ledger.Result{Transfer: &ledger.Transfer{}}, nil); got.Status != 504 || !strings.Contains(string(got.Body), `"retry":"same-key"`) {
		t.Errorf("got %d %s", got.Status, got.Body)
	}
}
