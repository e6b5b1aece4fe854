package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/locks"
)

// What operators see of the lock servers. Degraded and lost are not the same trouble: without a quorum there are no locks,
// and row locks alone keep the order; servers that forgot what they had granted are up, and the locks are gone.
var (
	lockServerUp = prometheus.NewDesc("lockstep_locks_server_up", "1 while the lock server answers.", []string{"server"}, nil)
	lockFaults   = prometheus.NewDesc("lockstep_locks_server_faults_total", "How often the lock server went down.", []string{"server"}, nil)
	lockDegraded = prometheus.NewDesc("lockstep_locks_degraded", "1 while there is no quorum of lock servers.", nil, nil)
	lockSets     = prometheus.NewDesc("lockstep_locks_sets_total",
		"Sets of locks asked for, by what a quorum did: answered or unavailable.", []string{"result"}, nil)
	lockNames = prometheus.NewDesc("lockstep_locks_names_total",
		"Names of the sets that a quorum answered, by grant: held, busy or split; lost were held and gone at their release, overtaken those of them that another node held by then.", []string{"grant"}, nil)
)

// lockMetrics collects the figures of a locker.
type lockMetrics struct{ locker *locks.Locker }

// Describe implements prometheus.Collector.
func (lockMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{lockServerUp, lockFaults, lockDegraded, lockSets, lockNames} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (m lockMetrics) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, is bool, labels ...string) {
		value := 0.0
		if is {
			value = 1
		}
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	count := func(desc *prometheus.Desc, value uint64, label string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), label)
	}
	for _, server := range m.locker.Servers() {
		gauge(lockServerUp, server.Up, server.Addr)
		count(lockFaults, server.Faults, server.Addr)
	}
	gauge(lockDegraded, m.locker.Degraded())
	stats := m.locker.Stats()
	count(lockSets, stats.Sets, "answered")
	count(lockSets, stats.Unavailable, "unavailable")
	count(lockNames, stats.Held, locks.Held.String())
	count(lockNames, stats.Busy, locks.Busy.String())
	count(lockNames, stats.Split, locks.Split.String())
	count(lockNames, stats.Lost, locks.Lost.String())
	count(lockNames, stats.Overtaken, "overtaken")
}
