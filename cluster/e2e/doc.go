// Package e2e holds the tests that use a whole local cluster as its users do: over HTTP, through the balancer and the
// nodes' own addresses, with node programs built with the race detector.
package e2e
