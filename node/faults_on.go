//go:build faults

package node

import (
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
)

// faultsBuilt tells whether this build has fault points.
const faultsBuilt = true

// errFault is what a fault point that loses an answer returns.
var errFault = errors.New("node: a configured fault point was hit")

// faultPoints makes the configured points act: `kill_<point>` ends the process at the point as kill -9 would,
// `lose_<point>` turns the answer that was just received into an unknown one. Values are probabilities.
func faultPoints(points map[string]float64) func(string) error {
	if len(points) == 0 {
		return nil
	}
	return func(point string) error {
		if rand.Float64() < points["kill_"+point] {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way; nothing may happen after the point
		}
		if rand.Float64() < points["lose_"+point] {
			return errFault
		}
		return nil
	}
}
