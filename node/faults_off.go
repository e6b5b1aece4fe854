//go:build !faults

package node

// faultsBuilt tells whether this build has fault points.
const faultsBuilt = false

func faultPoints(map[string]float64) func(string) error { return nil }

func abandonPoints(map[string]float64) func(string) error { return nil }
