package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count requests by route template, never by path: the number of series must not grow with the accounts.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec

	refusedPeers *prometheus.CounterVec // by why
}

func newMetrics(registry prometheus.Registerer) (metrics, error) {
	m := metrics{
		refusedPeers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_peer_refused_total", Help: "Requests of peers that were not believed, by why.",
		}, []string{"reason"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_http_requests_total", Help: "Answered requests by route and status.",
		}, []string{"method", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "lockstep_http_request_seconds", Help: "Time from the request's arrival to its answer, by route.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .075, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"method", "route"}),
	}
	for reason := range reasons {
		m.refusedPeers.WithLabelValues(reason) // at 0: of a series that begins at 1 nobody sees the first increase
	}
	m.refusedPeers.WithLabelValues("store")
	for _, collector := range []prometheus.Collector{m.requests, m.seconds, m.refusedPeers} {
		if err := registry.Register(collector); err != nil {
			return metrics{}, fmt.Errorf("register the REST metrics: %w", err)
		}
	}
	return m, nil
}

// record counts and logs an answered request. Bodies, keys and headers with secrets are never logged.
func (s *Server) record(x *exchange) {
	took := s.deps.Clock().Sub(x.started)
	status := x.fiber.Response().StatusCode()
	method, path := x.fiber.Method(), "unmatched"
	if x.route.path != "" {
		path = x.route.path
	} else {
		method = "-" // anyone can invent methods
	}
	s.metrics.requests.WithLabelValues(method, path, strconv.Itoa(status)).Inc()
	s.metrics.seconds.WithLabelValues(method, path).Observe(took.Seconds())
	x.endTrace(status)
	s.log(x, path, status, float64(took.Microseconds())/1000)
}

func (s *Server) log(x *exchange, path string, status int, milliseconds float64) {
	level := slog.LevelInfo
	switch {
	case errors.Is(x.failure, errFull):
		level = slog.LevelDebug // counted; a line for each would cost more than the refusal
	case x.failure != nil:
		level = slog.LevelError
	case status < 400:
		level = slog.LevelDebug // the journal tells it better, and a line for each payment costs as much as its JSON
	}
	if !s.deps.Logger.Enabled(context.Background(), level) {
		return
	}
	attributes := []slog.Attr{
		slog.String("request_id", x.id), slog.String("method", x.fiber.Method()), slog.String("route", path),
		slog.Int("status", status), slog.Float64("ms", milliseconds), slog.String("principal", x.principal.Caller),
	}
	if trace := cmp.Or(x.span.TraceID(), traceID(x.header("traceparent"))); trace != "" {
		attributes = append(attributes, slog.String("trace_id", trace))
	}
	if x.replayed {
		attributes = append(attributes, slog.Bool("replayed", true))
	}
	if x.failure != nil {
		attributes = append(attributes, slog.Any("error", x.failure))
	}
	s.deps.Logger.LogAttrs(context.Background(), level, "request", attributes...)
}
