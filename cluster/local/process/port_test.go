package process_test

import (
	"net"
	"strconv"
	"testing"

	"lockstep/cluster/local/process"
)

// A port is free, comes once, and is none that the kernel gives to an outgoing connection.
func TestAFreePortIsNobodyElses(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 100 {
		port, err := process.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			t.Fatalf("listen there: %v", err)
		}
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		if seen[port] || port >= 32_768 {
			t.Errorf("port %d, which came before or which an outgoing connection may get", port)
		}
		seen[port] = true
	}
}
