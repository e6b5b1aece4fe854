package bench

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// sample is one success: when it was known, counted from the start of its load, how long it took, and its status.
type sample struct {
	at, took time.Duration
	status   int
}

// result is what a load reached.
type result struct {
	name    string
	conns   int
	took    time.Duration
	samples []sample // successes, in no order
	others  int      // other answers, which the load's judge accepted
	used    cpu      // meanwhile
}

// between keeps what succeeded from one moment of the load to another.
func (r result) between(from, to time.Duration) result {
	part := result{name: r.name, conns: r.conns, took: to - from}
	for _, s := range r.samples {
		if s.at >= from && s.at < to {
			part.samples = append(part.samples, s)
		}
	}
	return part
}

// of keeps the successes with this status.
func (r result) of(status int) result {
	part := result{name: r.name, conns: r.conns, took: r.took}
	for _, s := range r.samples {
		if s.status == status {
			part.samples = append(part.samples, s)
		}
	}
	return part
}

// join adds up rounds of one load.
func join(rounds ...result) result {
	all := result{name: rounds[0].name, conns: rounds[0].conns}
	for _, r := range rounds {
		all.took += r.took
		all.others += r.others
		all.samples = append(all.samples, r.samples...)
		all.used = all.used.plus(r.used)
	}
	return all
}

func (r result) perSecond() float64 {
	if r.took <= 0 {
		return 0
	}
	return float64(len(r.samples)) / r.took.Seconds()
}

// quantile is the duration that this share of all stays within; 0 without any.
func (r result) quantile(share float64) time.Duration {
	if len(r.samples) == 0 {
		return 0
	}
	slices.SortFunc(r.samples, func(a, b sample) int { return cmp.Compare(a.took, b.took) })
	rank := int(math.Ceil(share * float64(len(r.samples)))) // from 1
	return r.samples[max(rank, 1)-1].took
}

// load is the result as the report keeps it.
func (r result) load() Load {
	return Load{Name: r.name, Connections: r.conns, PerSecond: r.perSecond(), P50: r.quantile(0.5), P99: r.quantile(0.99)}
}
