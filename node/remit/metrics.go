package remit

import (
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/cluster/peers"
	"lockstep/node/ledger"
)

// metrics are what operators see of transfers between systems.
type metrics struct {
	begun     prometheus.Counter
	ended     *prometheus.CounterVec // by state
	retried   prometheus.Counter
	prepares  *prometheus.CounterVec // by result
	applied   *prometheus.CounterVec // by type and code
	inquiries prometheus.Counter
	faults    *prometheus.CounterVec // by point

	receivable prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "lockstep_remit_" + name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockstep_remit_" + name, Help: help}, labels)
	}
	m := &metrics{
		begun:     counter("begun_total", "Transfers to peers that were held here."),
		ended:     counters("ended_total", "Transfers to peers that this node decided, by how.", "state"),
		retried:   counter("retried_total", "Times that a transfer was gone on with after its first try."),
		prepares:  counters("prepares_total", "Prepares of peers, by result.", "state"),
		applied:   counters("statements_total", "Statements of peers, by type and by why they were not applied.", "type", "code"),
		inquiries: counter("inquiries_total", "Times that a payer's system was asked about an old promise."),
		faults:    counters("faults_total", "Fault points that were hit.", "point"),
	}
	m.receivable = counter("receivable_total", "Forgotten payments that no account could bear.")
	// At 0, for what alerts look at: of a series that begins at 1 nobody sees the first increase.
	for _, state := range []ledger.State{ledger.Posted, ledger.Voided} {
		m.ended.WithLabelValues(string(state))
	}
	for _, state := range []string{peers.Reserved, peers.Refused, peers.Later} {
		m.prepares.WithLabelValues(state)
	}
	for _, kind := range []string{ledger.EventCommitted, ledger.EventAborted, ledger.EventCredited} {
		m.applied.WithLabelValues(kind, string(ledger.TransferConflict))
	}
	m.applied.WithLabelValues("unknown", "signature_invalid")
	m.applied.WithLabelValues("unknown", "foreign")
	registry.MustRegister(m.begun, m.ended, m.retried, m.prepares, m.applied, m.inquiries, m.faults, m.receivable)
	return m
}
