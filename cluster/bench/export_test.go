package bench

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"
)

// WriteJournal is what a preload writes, for so many accounts that each pay so many times.
func WriteJournal(ctx context.Context, db *sql.DB, system string, accounts, rounds int64) error {
	return newPreload(system, accounts, rounds).write(ctx, db, func(string, int64) {})
}

// PreloadParams are the parameters of the session that writes it.
const PreloadParams = preloadParams

// AtLeast and AtMost are bars.
var (
	AtLeast = atLeast
	AtMost  = atMost
)

// Add judges a figure and keeps it.
func (r *Report) Add(f Figure) Figure { return r.add(f) }

// Missed names the figures that missed their bars.
func (r *Report) Missed() []string { return r.missed() }

// Chart is the report's SVG.
func (r *Report) Chart() []byte { return r.chart() }

// Quantile of these durations.
func Quantile(share float64, took ...time.Duration) time.Duration {
	var r result
	for _, t := range took {
		r.samples = append(r.samples, sample{took: t})
	}
	return r.quantile(share)
}

// Picked are the names of the sections that --only runs.
func Picked(only ...string) (names []string, err error) {
	picked, err := pick(sections(), only)
	for _, s := range picked {
		names = append(names, s.name)
	}
	return names, err
}

// SumMetric adds up the series of a metric.
func SumMetric(text, name string, labels ...string) float64 {
	return sumMetric([]byte(text), name, labels)
}

// ErrAnswer is an unexpected answer.
var ErrAnswer = errAnswer

// Drive keeps nodes busy with transfers and counts those that succeed. accept, if set, judges all else.
func Drive(ctx context.Context, urls []string, conns int, duration time.Duration, accept func(status int, err error) error) (int, error) {
	b := &bank{life: "test", numbers: []string{"alpha-00000000100042", "alpha-00000000100139"}}
	for _, url := range urls {
		b.nodes = append(b.nodes, strings.TrimPrefix(url, "http://"))
	}
	for i := range principals {
		b.heads = append(b.heads, b.head(&person{cookies: []string{fmt.Sprintf("token=%d", i)}}))
	}
	l := load{name: "test", conns: conns, duration: duration, request: uniform}
	if accept != nil {
		l.accept = func(a answer) error { return accept(a.status, a.err) }
	}
	r, err := b.run(ctx, l)
	return len(r.samples), err
}

// Of the processor time of the cluster's processes.
var (
	CPUTimes = cpuTimes
	KindOf   = kindOf
)

// Yardstick fills the tables of direct SQL, and does one transaction of each size.
func Yardstick(ctx context.Context, dsn string) error {
	d, err := openDirect(ctx, dsn)
	if err != nil {
		return err
	}
	defer d.close()
	for _, work := range []transaction{d.single, d.many} {
		if err := work(ctx, d.conns[0]); err != nil {
			return err
		}
	}
	return nil
}
