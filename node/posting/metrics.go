package posting

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

// metrics is what an operator sees of the engine.
type metrics struct {
	batchSize, lockWait, rowWait, commit, duration       prometheus.Histogram
	busy, lost, degraded, splits, unknown, claimsDropped prometheus.Counter
	skipped, shunned, reserved, putOff                   prometheus.Counter
	repeats                                              *prometheus.CounterVec
	commands                                             *prometheus.CounterVec
}

func newMetrics(registry prometheus.Registerer, waiting func() int) *metrics {
	seconds := prometheus.ExponentialBuckets(0.0005, 2, 14) // 0.5 ms to 4 s
	m := &metrics{
		batchSize:     histogram("batch_commands", "Commands combined into one transaction.", prometheus.ExponentialBuckets(1, 2, 9)),
		lockWait:      histogram("lock_seconds", "Time to take a batch's Redis locks.", seconds),
		rowWait:       histogram("row_lock_seconds", "Time to lock a batch's rows.", seconds),
		commit:        histogram("commit_seconds", "Duration of COMMIT.", seconds),
		duration:      histogram("command_seconds", "Time from a command's arrival to its outcome.", seconds),
		busy:          counter("busy_total", "Commands sent back because another node held one of their locks."),
		lost:          counter("locks_lost_total", "Redis locks that were gone at release."),
		degraded:      counter("degraded_batches_total", "Batches run on row locks alone because Redis had no quorum."),
		splits:        counter("splits_total", "Batches taken apart because one command failed."),
		unknown:       counter("unknown_commits_total", "COMMITs whose outcome had to be asked."),
		claimsDropped: counter("claims_dropped_total", "Claims deleted because their answer is not stored."),
		skipped:       counter("skipped_total", "Commands sent back because another transaction kept one of their rows."),
		shunned:       counter("shunned_total", "Commands answered without a try because the source had just failed."),
		reserved:      counter("reserved_total", "Commands passed over for so long that their accounts were kept for them."),
		putOff:        counter("put_off_total", "Batches put off because another node held the locks of most of their commands."),
		repeats: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_posting_failures_total", Help: "Transactions that failed before COMMIT, by class.",
		}, []string{"class"}),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lockstep_posting_commands_total", Help: "Commands by outcome: ok, refused or the error's code.",
		}, []string{"outcome"}),
	}
	for _, class := range classNames {
		m.repeats.WithLabelValues(class) // at 0: of a series that begins at 1 no rate shows the first failure
	}
	queued := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "lockstep_posting_queue_commands", Help: "Commands that wait for a lane.",
	}, func() float64 { return float64(waiting()) })
	registry.MustRegister(m.batchSize, m.lockWait, m.rowWait, m.commit, m.duration, m.busy, m.lost, m.degraded, m.splits,
		m.unknown, m.claimsDropped, m.skipped, m.shunned, m.reserved, m.putOff, m.repeats, m.commands, queued)
	return m
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: "lockstep_posting_" + name, Help: help, Buckets: buckets})
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "lockstep_posting_" + name, Help: help})
}

func (m *metrics) batch(tasks []*task) { m.batchSize.Observe(float64(len(tasks))) }

func (m *metrics) failure(err error) {
	m.repeats.WithLabelValues(classNames[store.ClassOf(err)]).Inc()
}

// classNames are what operators call the classes of failures.
var classNames = map[store.Class]string{store.ClassAgain: "again", store.ClassServer: "server", store.ClassCommand: "command"}

func (m *metrics) settled(t *task, err error) {
	m.duration.Observe(time.Since(t.since).Seconds())
	outcome := "ok"
	switch {
	case err != nil:
		outcome = string(ledger.CodeOf(err))
	case t.outcome.Refusal != nil:
		outcome = "refused"
	}
	m.commands.WithLabelValues(outcome).Inc()
}
