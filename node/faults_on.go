//go:build faults

package node

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// faultsBuilt tells whether this build has fault points.
const faultsBuilt = true

// errFault is what a fault point that loses an answer returns.
var errFault = errors.New("node: a configured fault point was hit")

// clockTurn is how long a clock is right, and then wrong.
const clockTurn = 2 * time.Second

// faultClock is this machine's clock. The point clock_ahead says by how many seconds it jumps ahead, or back where it is
// negative; then it jumps to the right time again, and so on.
func faultClock(points map[string]float64) func() time.Time {
	ahead, began := time.Duration(points["clock_ahead"]*float64(time.Second)), time.Now()
	if ahead == 0 {
		return time.Now
	}
	return func() time.Time {
		now := time.Now()
		if now.Sub(began)/clockTurn%2 == 1 {
			now = now.Add(ahead)
		}
		return now
	}
}

// abandonPoints makes the points between the steps of a transfer act: with the probability that stands under the point's
// own name, such as after_hold, the transfer is abandoned in this node there, as if it had died.
func abandonPoints(points map[string]float64) func(string) error {
	if len(points) == 0 {
		return nil
	}
	return func(point string) error {
		if rand.Float64() < points[point] {
			return errFault
		}
		return nil
	}
}

// stopReachesAll is more than a signal to stop needs to reach every thread.
const stopReachesAll = 100 * time.Millisecond

// faultPoints makes the configured points act: `kill_<point>` ends the process at the point as kill -9 would,
// `stop_<point>` stops it there as SIGSTOP does, once in its life, until SIGCONT, and `lose_<point>` turns the answer that
// was just received into an unknown one. Values are probabilities.
func faultPoints(points map[string]float64) func(string) error {
	if len(points) == 0 {
		return nil
	}
	var stopped atomic.Bool
	return func(point string) error {
		if rand.Float64() < points["kill_"+point] {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way; nothing may happen after the point
		}
		if rand.Float64() < points["stop_"+point] && stopped.CompareAndSwap(false, true) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			time.Sleep(stopReachesAll)
		}
		if rand.Float64() < points["lose_"+point] {
			return errFault
		}
		return nil
	}
}
