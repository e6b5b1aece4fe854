package traces

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Span is a stage of a traced request. The zero Span is that of a request that is not traced: all its methods do nothing.
type Span struct{ of trace.Span }

// Traced tells whether anybody will see the span.
func (s Span) Traced() bool { return s.of != nil }

// Note adds a word about the span: an id, a code or a name of ours, never a text that somebody else made up.
func (s Span) Note(key, word string) {
	if s.of != nil && word != "" {
		s.of.SetAttributes(attribute.String(key, word))
	}
}

// Count adds a number.
func (s Span) Count(key string, n int) {
	if s.of != nil {
		s.of.SetAttributes(attribute.Int(key, n))
	}
}

// Fail marks the span as failed, with a code; "" does nothing.
func (s Span) Fail(code string) {
	if s.of != nil && code != "" {
		s.of.SetStatus(codes.Error, code)
	}
}

// End ends the span.
func (s Span) End() {
	if s.of != nil {
		s.of.End()
	}
}

// Stage adds a span inside this one that began at a time and ends now; code says how it failed, if it did.
func (s Span) Stage(name string, began time.Time, code string) {
	if s.of == nil {
		return
	}
	_, stage := s.of.TracerProvider().Tracer("lockstep").Start(trace.ContextWithSpan(context.Background(), s.of), name, trace.WithTimestamp(began))
	Span{stage}.Fail(code)
	stage.End()
}

// TraceID names the trace in logs; "" if there is none.
func (s Span) TraceID() string {
	if s.of == nil {
		return ""
	}
	return s.of.SpanContext().TraceID().String()
}

// parent is the span's traceparent.
func (s Span) parent() string {
	if s.of == nil {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpan(context.Background(), s.of), carrier)
	return carrier["traceparent"]
}
