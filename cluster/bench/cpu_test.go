package bench_test

import (
	"testing"
	"time"

	"lockstep/cluster/bench"
)

// The processor time of a process stands behind its name, which may hold anything.
func TestProcessorTimeIsRead(t *testing.T) {
	t.Parallel()
	for stat, want := range map[string]time.Duration{
		"7 (mariadbd) S 1 7 7 0 -1 4194560 8 0 0 0 150 25 0 0 20 0 9 0 5 1 2": 1750 * time.Millisecond,
		"7 (a) b (c) 1) R 1 7 7 0 -1 4194560 8 0 0 0 3 0 0 0 20 0 9":          30 * time.Millisecond,
		"7 (cut) S 1 7": 0, "": 0,
	} {
		if got := bench.CPUTimes(stat); got != want {
			t.Errorf("%q: %s, not %s", stat, got, want)
		}
	}
}

func TestProcessesAreOfAKind(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"alpha-node-1": "node", "beta-mysql-source": "mysql-source", "alpha-mysql-replica-12": "mysql-replica", "alpha-lb": "lb", "nats-1": "nats", "nats": "nats",
	} {
		if got := bench.KindOf(name); got != want {
			t.Errorf("%s is a %s, not a %s", name, got, want)
		}
	}
}
