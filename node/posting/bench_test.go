package posting_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/posting"
)

// BenchmarkTransfers measures commands per second of 256 callers against the durable test servers, by the accounts that
// they share, the number of nodes and the kind of locks. Compare lines of one run only.
func BenchmarkTransfers(b *testing.B) {
	for _, test := range []struct {
		name     string
		accounts int
		nodes    int
		redis    bool
	}{
		{"uniform/1node", 1000, 1, false},
		{"hot/1node", 1, 1, false},
		{"uniform/1node/redis", 1000, 1, true},
		{"hot/1node/redis", 1, 1, true},
		{"uniform/2nodes", 1000, 2, false},
		{"hot/2nodes", 1, 2, false},
		{"uniform/2nodes/redis", 1000, 2, true},
		{"hot/2nodes/redis", 1, 2, true},
	} {
		b.Run(test.name, func(b *testing.B) { benchmark(b, test.accounts, test.nodes, test.redis) })
	}
}

func benchmark(b *testing.B, hot, count int, redis bool) {
	const callers = 256
	w := newWorld(b)
	prefix := newPrefix()
	var nodes []*node
	for range count {
		var locker posting.Locker
		if redis {
			locker = w.locker(prefix)
		}
		nodes = append(nodes, w.open(withLocker(locker)))
	}
	// Half of all pay into the shared accounts, half out of them.
	shared, others := w.accounts(alice, hot), w.accounts(alice, 1000)
	var fill ledger.Batch
	for _, number := range append(slices.Clone(shared), others...) {
		fill.Transfers = append(fill.Transfers, deposit(number, 1_000_000_000))
	}
	nodes[0].succeed(fill)
	took := make([][]time.Duration, callers)
	var next, failed atomic.Int64
	b.ResetTimer()
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for next.Add(1) <= int64(b.N) {
				from, to := shared[rand.IntN(len(shared))], others[rand.IntN(len(others))]
				if c%2 == 0 {
					from, to = to, from
				}
				began := time.Now()
				outcome, err := nodes[c%count].engine.Submit(context.Background(), fresh(transfer(from, to, 1)))
				took[c] = append(took[c], time.Since(began))
				if err != nil || outcome.Refusal != nil {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	b.StopTimer()
	if failed.Load() > 0 {
		b.Errorf("%d transfers failed", failed.Load())
	}
	latencies := slices.Sorted(slices.Values(slices.Concat(took...)))
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
	b.ReportMetric(float64(latencies[len(latencies)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(latencies[len(latencies)*99/100].Microseconds())/1000, "p99-ms")
	report := ""
	for i, n := range nodes {
		report += fmt.Sprintf("node %d: %.0f batches, %.0f busy, %.0f failed; ", i, n.metric("batch_commands"), n.metric("busy_total"), n.metric("failures_total"))
	}
	b.Log(report)
	w.verify()
}
