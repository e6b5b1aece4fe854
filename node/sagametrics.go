package node

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// What operators see of transfers that are under way, of all nodes together, and of what waits to be told.
var (
	sagasInFlight = prometheus.NewDesc("lockstep_sagas_in_flight", "Transfers between systems that have not ended, of all nodes.", nil, nil)
	sagasOldest   = prometheus.NewDesc("lockstep_sagas_oldest_seconds", "Age of the oldest of them.", nil, nil)
	sagasStuck    = prometheus.NewDesc("lockstep_sagas_stuck", "Those that are older than they should be.", nil, nil)
	sagasParked   = prometheus.NewDesc("lockstep_sagas_parked", "Those that wait for an operator.", nil, nil)
	sagasRetries  = prometheus.NewDesc("lockstep_sagas_retries", "Failed attempts of those that have not ended.", nil, nil)
	outboxWaiting = prometheus.NewDesc("lockstep_outbox_waiting", "Messages that were not published yet.", nil, nil)
	outboxLag     = prometheus.NewDesc("lockstep_outbox_lag_seconds", "Age of the oldest of these.", nil, nil)
	outboxRetried = prometheus.NewDesc("lockstep_outbox_retried", "Of these, those that failed at least once while the broker was there.", nil, nil)
	outboxParked  = prometheus.NewDesc("lockstep_outbox_parked", "Messages that could not be published and wait for an operator.", nil, nil)
	natsConnected = prometheus.NewDesc("lockstep_nats_connected", "1 while a broker answers.", nil, nil)
	natsLetters   = prometheus.NewDesc("lockstep_nats_dead_letters", "Statements of peers that wait for an operator.", nil, nil)
)

// sagaMetrics asks the database and the broker when metrics are collected.
type sagaMetrics struct{ node *Node }

// Describe implements prometheus.Collector.
func (sagaMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		sagasInFlight, sagasOldest, sagasStuck, sagasParked, sagasRetries, outboxWaiting, outboxLag, outboxRetried, outboxParked, natsConnected, natsLetters,
	} {
		to <- desc
	}
}

const collectMax = 2 * time.Second

// Collect implements prometheus.Collector. What does not answer is left out.
func (m sagaMetrics) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), collectMax)
	defer cancel()
	gauge := func(desc *prometheus.Desc, value float64) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	if counts, err := (transferSagas{m.node.sagas, m.node.store}).Counts(ctx); err == nil {
		gauge(sagasInFlight, float64(counts.InFlight))
		gauge(sagasOldest, counts.Oldest.Seconds())
		gauge(sagasStuck, float64(counts.Stuck))
		gauge(sagasParked, float64(counts.Parked))
		gauge(sagasRetries, float64(counts.Retries))
	}
	if m.node.outbox == nil {
		return
	}
	if stats, err := m.node.outbox.Stats(ctx); err == nil {
		gauge(outboxWaiting, float64(stats.Waiting))
		gauge(outboxLag, stats.Oldest.Seconds())
		gauge(outboxRetried, float64(stats.Retried))
		gauge(outboxParked, float64(stats.Parked))
	}
	connected := 0.0
	if m.node.bus.Connected() {
		connected = 1
		if backlog, err := m.node.bus.Backlog(ctx); err == nil {
			gauge(natsLetters, float64(backlog.DeadLetters))
		}
	}
	gauge(natsConnected, connected)
}
