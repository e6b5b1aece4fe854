// Package traces follows a request through a node and on to other systems, and tells a collector what it saw (OpenTelemetry,
// exported by OTLP over HTTP). It is off unless an endpoint is configured. What is not traced costs a look into its context
// and no memory. DESIGN.md tells what a trace shows.
//
// A span has a name, times, ids of requests and transfers, codes and numbers. It never has texts that clients or other
// programs have made up, such as descriptions or errors, nor who somebody is or what they own.
package traces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config says where spans go.
type Config struct {
	// Endpoint is the base address of a collector that takes OTLP over HTTP, such as http://127.0.0.1:4318; "" is off. What
	// else an exporter has to know, such as headers and certificates, OTEL_EXPORTER_OTLP_... variables tell it.
	Endpoint string
	Sample   float64 // share of the requests that are traced, of those that do not say themselves whether they are; 0 to 1

	System, Version string
	Node            int
	Log             *slog.Logger
}

// Validate refuses what spans could not be sent to.
func (c Config) Validate() error {
	if c.Sample < 0 || c.Sample > 1 {
		return errors.New("sample: between 0 and 1")
	}
	if c.Endpoint == "" {
		return nil
	}
	at, err := url.Parse(c.Endpoint)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" || at.User != nil || at.RawQuery != "" {
		return errors.New("endpoint: an address such as http://127.0.0.1:4318, without credentials")
	}
	return nil
}

const (
	path        = "/v1/traces"    // of OTLP (OTLP 1.x, OTLP/HTTP request)
	linksMax    = 512             // of a span: a batch has up to 256 commands
	exportMax   = 5 * time.Second // of one request to the collector
	exportEvery = time.Second
)

// Traces begins the spans of a node. A nil Traces is off: everything is allowed with it, and nothing happens.
type Traces struct {
	provider       *sdk.TracerProvider
	tracer         trace.Tracer
	sample         float64
	exported, lost atomic.Uint64
}

// Stats count spans: those that a collector has taken, and those that none took. Spans that are made faster than they can be
// sent are dropped before and counted nowhere.
type Stats struct{ Exported, Lost uint64 }

// Stats answers from memory.
func (t *Traces) Stats() Stats { return Stats{Exported: t.exported.Load(), Lost: t.lost.Load()} }

// Open makes spans leave for the collector, which need not be there; nil when traces are off.
func Open(ctx context.Context, config Config) (*Traces, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if config.Endpoint == "" {
		return nil, nil //nolint:nilnil // a nil Traces is one that is off
	}
	otlp, err := otlptracehttp.New(ctx,
		otlptracehttp.WithEndpointURL(strings.TrimSuffix(config.Endpoint, "/")+path), otlptracehttp.WithTimeout(exportMax),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false})) // the next ones come in a second
	if err != nil {
		return nil, fmt.Errorf("open the exporter of traces: %w", err)
	}
	t := &Traces{sample: config.Sample}
	limits := sdk.NewSpanLimits()
	limits.LinkCountLimit = linksMax
	t.provider = sdk.NewTracerProvider(
		sdk.WithBatcher(&exporter{SpanExporter: otlp, traces: t, log: config.Log}, sdk.WithBatchTimeout(exportEvery), sdk.WithExportTimeout(exportMax)),
		sdk.WithSampler(sdk.AlwaysSample()), // whoever is not sampled has no span at all
		sdk.WithRawSpanLimits(limits),
		sdk.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "lockstep"), attribute.String("service.version", config.Version), attribute.String("service.namespace", config.System),
			attribute.String("service.instance.id", fmt.Sprintf("%s-%d", config.System, config.Node)))),
	)
	t.tracer = t.provider.Tracer("lockstep")
	return t, nil
}

// Close sends what is left, for as long as ctx lasts.
func (t *Traces) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("close traces: %w", err)
	}
	return nil
}

// exporter counts what the collector takes. A collector that is away is nobody's trouble but the reader's of its traces.
type exporter struct {
	sdk.SpanExporter
	traces *Traces
	log    *slog.Logger
	failed bool
}

// ExportSpans implements sdk.SpanExporter; the SDK calls it once at a time.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		e.traces.exported.Add(uint64(len(spans)))
	} else {
		e.traces.lost.Add(uint64(len(spans)))
	}
	if failed := err != nil; failed != e.failed {
		e.failed = failed
		if failed {
			e.log.Warn("the collector takes no traces", "error", err)
		} else {
			e.log.Info("the collector takes traces again")
		}
	}
	return nil
}

// Kind says on which side of a conversation a span is.
type Kind = trace.SpanKind

// The kinds of spans. Everything else is inside a node.
const (
	Server   = trace.SpanKindServer
	Client   = trace.SpanKindClient
	Producer = trace.SpanKindProducer
	Consumer = trace.SpanKindConsumer
	Inside   = trace.SpanKindInternal
)

// Request begins the span of a request that came in at a time. A parent, a traceparent of W3C Trace Context, decides whether it
// is traced; without one, chance does.
func (t *Traces) Request(ctx context.Context, name, parent string, at time.Time) (context.Context, Span) {
	if t == nil || parent == "" && rand.Float64() >= t.sample || parent != "" && !sampled(parent) { //nolint:gosec // chance needs no secrecy
		return ctx, Span{}
	}
	return t.begin(remote(ctx, parent), name, Server, trace.WithTimestamp(at))
}

// Continue begins a span of a request that came with a message of another system, or from an earlier life of this one; none if
// parent does not say that it is traced. If ctx has a span of its own already, such as that of a request with many transfers,
// the new one is linked to it.
func (t *Traces) Continue(ctx context.Context, name string, kind Kind, parent string) (context.Context, Span) {
	if t == nil || !sampled(parent) {
		return ctx, Span{}
	}
	beside := trace.SpanFromContext(ctx)
	from := remote(ctx, parent)
	if !trace.SpanContextFromContext(from).IsValid() {
		return ctx, Span{}
	}
	ctx, span := t.begin(from, name, kind)
	if beside.IsRecording() {
		span.of.AddLink(trace.Link{SpanContext: beside.SpanContext()})
	}
	return ctx, span
}

func (t *Traces) begin(ctx context.Context, name string, kind Kind, options ...trace.SpanStartOption) (context.Context, Span) {
	ctx, span := t.tracer.Start(ctx, name, append(options, trace.WithSpanKind(kind))...)
	return ctx, Span{span}
}

// sampled tells whether a traceparent says that its request is traced: its last figure is odd (W3C Trace Context, 3.2.2.5).
func sampled(parent string) bool {
	const flag = len("00-00000000000000000000000000000000-0000000000000000-0")
	return len(parent) > flag && strings.IndexByte("13579bdf", parent[flag]) >= 0
}

// remote is ctx with another's span instead of its own; one that cannot be read is none.
func remote(ctx context.Context, parent string) context.Context {
	ctx = trace.ContextWithSpan(ctx, nil)
	if parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
}

// Start begins a span inside the one that ctx has; none if it has none.
func Start(ctx context.Context, name string, kind Kind) (context.Context, Span) {
	outer := trace.SpanFromContext(ctx)
	if !outer.IsRecording() {
		return ctx, Span{}
	}
	ctx, span := outer.TracerProvider().Tracer("lockstep").Start(ctx, name, trace.WithSpanKind(kind))
	return ctx, Span{span}
}

// Traced tells whether ctx has a span.
func Traced(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

// Parent is the traceparent of the span that ctx has, "" if it has none.
func Parent(ctx context.Context) string { return Of(ctx).parent() }

// Of is the span that ctx has.
func Of(ctx context.Context) Span {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		return Span{span}
	}
	return Span{}
}

// Together begins the span of what is done for several others at once. It is part of none of their traces, for it belongs to
// all of them: links lead from one to the other, both ways. There is none if none of the others is traced.
func Together(ctx context.Context, name string, kind Kind, parts ...Span) (context.Context, Span) {
	var links []trace.Link
	var first Span
	for _, part := range parts {
		if part.Traced() {
			first = part
			links = append(links, trace.Link{SpanContext: part.of.SpanContext()})
		}
	}
	if !first.Traced() {
		return ctx, Span{}
	}
	ctx, span := first.of.TracerProvider().Tracer("lockstep").Start(ctx, name, trace.WithNewRoot(), trace.WithSpanKind(kind), trace.WithLinks(links...))
	for _, part := range parts {
		if part.Traced() {
			part.of.AddLink(trace.Link{SpanContext: span.SpanContext()})
		}
	}
	return ctx, Span{span}
}
