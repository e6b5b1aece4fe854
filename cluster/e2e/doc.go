// Package e2e holds the tests that use a whole local cluster as its users do: over HTTP, through the balancer and the
// nodes' own addresses, with node programs built with the race detector. What clients were told is held against the
// books, and answers against the OpenAPI file that the cluster serves.
//
// Tests that leave the servers alone share one cluster, and most of them run side by side on accounts of their own. The
// others come first and one by one, for they end nodes or need the machine. A test that stops servers has a cluster of
// its own.
package e2e
