package node_test

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collect "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"lockstep/api/client"
)

// seenSpan is a span as a collector got it.
type seenSpan struct {
	*otlp.Span
	system string
}

func (s seenSpan) trace() string  { return hex.EncodeToString(s.TraceId) }
func (s seenSpan) id() string     { return hex.EncodeToString(s.SpanId) }
func (s seenSpan) parent() string { return hex.EncodeToString(s.ParentSpanId) }

func (s seenSpan) text(key string) string {
	for _, attribute := range s.Attributes {
		if attribute.Key == key {
			return attribute.Value.GetStringValue()
		}
	}
	return ""
}

// collector takes spans by OTLP over HTTP, as any other does, and keeps them in memory.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []seenSpan
	sent  strings.Builder // all of it, readable
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collect.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &request) != nil {
		http.Error(w, "no spans", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent.WriteString(protojson.Format(&request))
	for _, resource := range request.ResourceSpans {
		system := ""
		for _, attribute := range resource.Resource.Attributes {
			if attribute.Key == "service.namespace" {
				system = attribute.Value.GetStringValue()
			}
		}
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				c.spans = append(c.spans, seenSpan{span, system})
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	_, _ = w.Write(nil)
}

func (c *collector) all() []seenSpan {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// named are the spans of a trace, by system and name.
func (c *collector) named(trace string) map[string]seenSpan {
	found := map[string]seenSpan{}
	for _, span := range c.all() {
		if span.trace() == trace {
			found[span.system+" "+span.Name] = span
		}
	}
	return found
}

// way is what the trace of a transfer between two systems shows, each span with the one that it is inside of.
var way = [][2]string{
	{"alpha ledger.Remit", "alpha POST /v1/transfers"},
	{"alpha queue", ""},
	{"alpha transaction", ""},
	{"alpha commit", ""},
	{"alpha remit", "alpha POST /v1/transfers"},
	{"alpha ask", "alpha remit"},
	{"beta promise", "alpha ask"},
	{"beta ledger.Prepare", "beta promise"},
	{"beta queue", ""},
	{"beta transaction", ""},
	{"beta commit", ""},
	{"alpha ledger.Conclude", "alpha remit"},
	{"alpha publish", "alpha remit"},
	{"beta apply", "alpha publish"},
	{"beta ledger.Credit", "beta apply"},
}

// One trace shows a transfer on its way through both systems, and names nothing that it moves or whom it belongs to.
func TestOneTraceShowsBothSystems(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	w := newWorldWith(t, map[string]any{"traces": map[string]any{"endpoint": c.URL, "sample": 0}})
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	traced, err := client.New(client.Config{
		BaseURL: "http://" + w.alpha.listen, ClientID: "tester", ClientSecret: secret,
		HTTPClient: &http.Client{Transport: tracing("00-" + trace + "-00f067aa0ba902b7-01"), Timeout: patience},
	})
	must(t, err)
	t.Cleanup(traced.Close)
	payer, payee := w.alpha.funded("10"), w.beta.empty()
	const told = "rent of Gil-dong Hong"
	transfer, err := traced.Transfer(w.context(), client.Payment{From: payer, To: payee, Amount: "7", Currency: krw, Description: told, Reference: "canary-reference"})
	must(t, err)
	w.settle()
	w.eventually("the collector has the whole way", func() bool {
		found := c.named(trace)
		return !slices.ContainsFunc(way, func(step [2]string) bool { _, there := found[step[0]]; return !there })
	})
	found := c.named(trace)
	for _, step := range way {
		if inside := found[step[1]]; step[1] != "" && found[step[0]].parent() != inside.id() {
			t.Errorf("%q is not inside of %q", step[0], step[1])
		}
	}
	if request := found["alpha POST /v1/transfers"]; request.parent() != "00f067aa0ba902b7" || request.text("http.route") != "/v1/transfers" {
		t.Errorf("the request's span is inside of %s and on %s", request.parent(), request.text("http.route"))
	}
	for _, name := range []string{"alpha remit", "beta promise", "beta apply"} {
		if id := found[name].text("lockstep.transfer"); id != transfer.ID {
			t.Errorf("%q is of the transfer %q", name, id)
		}
	}
	c.linked(t, found["alpha ledger.Remit"], "batch")
	together := c.linked(t, found["alpha ask"], "prepares")
	asked := c.linked(t, found["beta promise"], "POST /peer/v1/transfers")
	if sent := c.named(together.trace())["alpha /peer/v1/transfers"]; sent.parent() != together.id() || asked.parent() != sent.id() {
		t.Error("the request between the systems is not one trace")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, private := range []string{told, "Hong", "canary-reference", payer, payee, secret, "eyJ", "tester"} {
		if strings.Contains(c.sent.String(), private) {
			t.Errorf("the spans tell of %q", private)
		}
	}
}

// linkMax is how long a span may come after the one that links to it.
const linkMax = 10 * time.Second

// linked requires a link from a span to one of that name, in its own system and in a trace of its own.
func (c *collector) linked(t *testing.T, span seenSpan, name string) seenSpan {
	t.Helper()
	for end := time.Now().Add(linkMax); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, other := range c.all() {
			to := func(link *otlp.Span_Link) bool { return string(link.SpanId) == string(other.SpanId) }
			if other.Name == name && other.system == span.system && other.trace() != span.trace() && slices.ContainsFunc(span.Links, to) {
				return other
			}
		}
	}
	t.Fatalf("no link leads from %q of %s to %q", span.Name, span.system, name)
	return seenSpan{}
}

// Without a traceparent chance decides, with one the caller does; a node that nobody asks to trace sends nothing.
func TestASampleOfTheRequestsIsTraced(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	w := newWorldWith(t, map[string]any{"traces": map[string]any{"endpoint": c.URL, "sample": 1}})
	untraced, err := client.New(client.Config{
		BaseURL: "http://" + w.alpha.listen, ClientID: "tester", ClientSecret: secret,
		HTTPClient: &http.Client{Transport: tracing("00-0000000000000000000000000000abcd-00f067aa0ba902b7-00"), Timeout: patience},
	})
	must(t, err)
	t.Cleanup(untraced.Close)
	_, err = untraced.OpenAccount(w.context(), client.NewAccount{Currency: krw})
	must(t, err)
	account := w.alpha.funded("1")
	w.alpha.posted(account)
	w.alpha.stop() // sends what is left
	count := map[string]int{}
	for _, span := range c.all() {
		count[span.Name]++
		if strings.HasSuffix(span.trace(), "abcd") {
			t.Errorf("%s was traced, and its caller said that it is not to be", span.Name)
		}
		if strings.Contains(fmt.Sprint(span.Span), account) {
			t.Errorf("%s tells of the account", span.Name)
		}
	}
	if count["POST /v1/deposits"] != 1 || count["POST /v1/accounts"] != 1 || count["ledger.Pay"] != 1 || count["GET /readyz"] != 0 {
		t.Errorf("the collector got %v", count)
	}
}
