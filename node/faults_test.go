//go:build faults

package node_test

import (
	"testing"
	"time"

	"lockstep/node"
)

// The clock of a node with the point clock_ahead jumps by so many seconds and back; any other is the machine's.
func TestAClockJumps(t *testing.T) {
	t.Parallel()
	if off := time.Since(node.FaultClock(nil)()); off.Abs() > time.Second {
		t.Errorf("a clock without the point is %s off", off)
	}
	const ahead = -100
	clock, deadline := node.FaultClock(map[string]float64{"clock_ahead": ahead}), time.Now().Add(20*time.Second)
	for _, want := range []time.Duration{0, ahead * time.Second, 0} {
		for (time.Until(clock()) - want).Abs() > time.Second {
			if time.Now().After(deadline) {
				t.Fatalf("the clock is never %s off", want)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
