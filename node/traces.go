package node

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/cluster/traces"
)

// traces is where spans go.
func (c Config) traces() traces.Config {
	return traces.Config{Endpoint: c.Traces.Endpoint, Sample: c.Traces.Sample, System: c.System}
}

// openTraces begins to send spans, before anything has one.
func (n *Node) openTraces(ctx context.Context, registry prometheus.Registerer, version Version) error {
	config := n.config.traces()
	config.Version, config.Node, config.Log = string(version), n.lease.ID, n.log
	opened, err := traces.Open(ctx, config)
	if err != nil || opened == nil {
		return err
	}
	n.traces = opened
	n.onClose(opened.Close)
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "lockstep_traces_exported_total", Help: "Spans that the collector has taken.",
	}, func() float64 { return float64(opened.Stats().Exported) }), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "lockstep_traces_lost_total", Help: "Spans that the collector has not taken.",
	}, func() float64 { return float64(opened.Stats().Lost) }))
	return nil
}
