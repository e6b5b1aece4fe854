package webhooks

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/node/store"
)

var (
	pendingDesc = prometheus.NewDesc("lockstep_webhooks_pending", "Deliveries that have not ended, of all nodes.", nil, nil)
	oldestDesc  = prometheus.NewDesc("lockstep_webhooks_oldest_seconds", "Age of the oldest of them.", nil, nil)
	overdueDesc = prometheus.NewDesc("lockstep_webhooks_overdue_seconds", "How long the delivery that is due for longest has waited for a dispatcher.", nil, nil)
)

// metrics counts this node's attempts, and asks the database about what waits when metrics are collected.
type metrics struct {
	db       *store.Store
	attempts *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, db *store.Store) *metrics {
	m := &metrics{db: db, attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "lockstep_webhooks_attempts_total", Help: "Attempts to deliver an event: delivered, failed, refused for the address, or given_up with the last one.",
	}, []string{"outcome"})}
	registry.MustRegister(m)
	return m
}

func (m *metrics) attempt(tried store.Tried, refused bool) {
	outcome := "failed"
	switch {
	case tried.State == store.DeliveryDelivered:
		outcome = "delivered"
	case tried.State == store.DeliveryFailed:
		outcome = "given_up"
	case refused:
		outcome = "refused"
	}
	m.attempts.WithLabelValues(outcome).Inc()
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(to chan<- *prometheus.Desc) {
	m.attempts.Describe(to)
	to <- pendingDesc
	to <- oldestDesc
	to <- overdueDesc
}

const collectMax = 2 * time.Second

// Collect implements prometheus.Collector. What the database does not answer is left out.
func (m *metrics) Collect(to chan<- prometheus.Metric) {
	m.attempts.Collect(to)
	ctx, cancel := context.WithTimeout(context.Background(), collectMax)
	defer cancel()
	backlog, err := m.db.CountDeliveries(ctx)
	if err != nil {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	gauge(pendingDesc, float64(backlog.Pending))
	gauge(oldestDesc, backlog.Oldest.Seconds())
	gauge(overdueDesc, backlog.Overdue.Seconds())
}
