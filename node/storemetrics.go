package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/node/store"
)

// What operators see of the databases, as this node last saw them.
var (
	sourceUp        = prometheus.NewDesc("lockstep_store_source_up", "1 while the source answers and takes writes.", nil, nil)
	semiSync        = prometheus.NewDesc("lockstep_store_semi_sync", "1 while a replica acknowledges each commit before it is answered.", nil, nil)
	reconciled      = prometheus.NewDesc("lockstep_store_reconciled", "0 from a restore or a failover until the books were compared with the peers'.", nil, nil)
	replicaServing  = prometheus.NewDesc("lockstep_store_replica_serving", "1 while the replica answers reads.", []string{"replica"}, nil)
	replicaBehind   = prometheus.NewDesc("lockstep_store_replica_behind_seconds", "The age of what the replica shows.", []string{"replica"}, nil)
	databaseOffset  = prometheus.NewDesc("lockstep_store_clock_offset_seconds", "How far the database's clock is ahead of this node's.", nil, nil)
	storeDescriptor = []*prometheus.Desc{sourceUp, semiSync, reconciled, replicaServing, replicaBehind, databaseOffset}
)

// storeMetrics collects the store's last look at its servers; it asks none.
type storeMetrics struct{ store *store.Store }

// Describe implements prometheus.Collector.
func (storeMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range storeDescriptor {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (m storeMetrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	is := func(desc *prometheus.Desc, so bool, labels ...string) {
		value := 0.0
		if so {
			value = 1
		}
		gauge(desc, value, labels...)
	}
	state := m.store.State()
	is(sourceUp, state.Source.OK)
	is(semiSync, state.Source.SemiSync)
	is(reconciled, state.Reconciled)
	gauge(databaseOffset, state.ClockOffset.Seconds())
	for _, replica := range state.Replicas {
		is(replicaServing, replica.Serving, replica.Address)
		gauge(replicaBehind, replica.Behind.Seconds(), replica.Address)
	}
}
