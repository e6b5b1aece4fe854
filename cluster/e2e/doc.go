// Package e2e holds the tests that use a whole local cluster as its users do: over HTTP, through the balancer and the
// nodes' own addresses, with node programs built with the race detector. What clients were told is held against the
// books, and answers against the OpenAPI file that the cluster serves.
//
// Tests that leave the servers alone share one cluster, and most of them run side by side on accounts of their own. Those
// that end its nodes, or need it for themselves, come first and one by one. A test that stops servers has a cluster of its
// own, and runs beside the others.
package e2e
