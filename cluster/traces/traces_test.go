package traces_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/cluster/traces"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// open sends spans to a collector that answers so.
func open(t *testing.T, status int, sample float64) *traces.Traces {
	t.Helper()
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
	}))
	t.Cleanup(collector.Close)
	opened, err := traces.Open(t.Context(), traces.Config{
		Endpoint: collector.URL, Sample: sample, System: "alpha", Version: "test", Node: 1, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close(context.Background()) })
	return opened
}

// pass is what a request runs through, traced or not.
func pass(ctx context.Context, on *traces.Traces, parent string) {
	ctx, request := on.Request(ctx, "POST /v1/transfers", parent, time.Time{})
	ctx, part := on.Continue(ctx, "promise", traces.Inside, "")
	_, inside := traces.Start(ctx, "command", traces.Inside)
	inside.Stage("queue", time.Time{}, "")
	inside.Note("lockstep.transfer", traces.Parent(ctx))
	inside.Count("lockstep.commands", 1)
	_, batch := traces.Together(ctx, "batch", traces.Inside)
	for _, span := range []traces.Span{batch, inside, part, request} {
		span.Fail("failed")
		span.End()
	}
}

// Off, and on for a request that is not sampled, tracing takes no memory at all.
func TestWhatIsNotTracedTakesNoMemory(t *testing.T) {
	ctx, on, not := t.Context(), open(t, http.StatusOK, 0), strings.TrimSuffix(parent, "1")+"0"
	for name, run := range map[string]func(){
		"off":               func() { pass(ctx, nil, parent) },
		"not sampled":       func() { pass(ctx, on, "") },
		"not to be sampled": func() { pass(ctx, on, not) },
		"no traceparent":    func() { pass(ctx, on, "00-x-01") },
	} {
		if took := testing.AllocsPerRun(100, run); took != 0 {
			t.Errorf("%s: %v allocations", name, took)
		}
	}
	if took := testing.AllocsPerRun(10, func() { pass(ctx, on, parent) }); took == 0 {
		t.Error("a traced request took no memory: this test sees nothing")
	}
}

// What the collector does not take is counted and forgotten.
func TestSpansAreCountedByWhatBecameOfThem(t *testing.T) {
	for status, want := range map[int]traces.Stats{http.StatusOK: {Exported: 3}, http.StatusInternalServerError: {Lost: 3}} {
		on := open(t, status, 1)
		pass(t.Context(), on, "")
		if err := on.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := on.Stats(); got != want {
			t.Errorf("of a collector that answers %d: %+v, want %+v", status, got, want)
		}
	}
}

func TestUnsoundEndpointsAreRefused(t *testing.T) {
	t.Parallel()
	for _, config := range []traces.Config{
		{Endpoint: "127.0.0.1:4318"},
		{Endpoint: "ftp://collector"},
		{Endpoint: "http://user:password@collector"},
		{Endpoint: "http://"},
		{Sample: -0.1},
		{Sample: 1.1},
		{Endpoint: "http://collector?x=y"},
	} {
		if err := config.Validate(); err == nil {
			t.Errorf("%+v is taken", config)
		}
	}
	if on, err := traces.Open(t.Context(), traces.Config{}); on != nil || err != nil {
		t.Errorf("without an endpoint: %v, %v", on, err)
	}
}
