//go:build !faults

package node

import "time"

// faultsBuilt tells whether this build has fault points.
const faultsBuilt = false

func faultClock(map[string]float64) func() time.Time { return time.Now }

func faultPoints(map[string]float64) func(string) error { return nil }

func abandonPoints(map[string]float64) func(string) error { return nil }
