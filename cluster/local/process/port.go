package process

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports for processes by themselves lie above those of test clusters, and below the range from which kernels take ports for
// outgoing connections: one of these could have the port just when a process is to be started there again.
const (
	portsFrom  = 27_700
	portsUntil = 32_700
	portTries  = 1000
)

var ports = struct {
	sync.Mutex
	given map[int]bool
}{given: map[int]bool{}}

// FreeAddress is 127.0.0.1 with a FreePort.
func FreeAddress() (string, error) {
	port, err := FreePort()
	return local(port), err
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// FreePort finds a port of 127.0.0.1 that nobody listens on. It does not find one twice.
func FreePort() (int, error) {
	ports.Lock()
	defer ports.Unlock()
	for range portTries {
		port := portsFrom + rand.IntN(portsUntil-portsFrom) //nolint:gosec // a port is no secret
		if ports.given[port] {
			continue
		}
		listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", local(port))
		if err != nil {
			continue
		}
		ports.given[port] = true
		return port, listener.Close()
	}
	return 0, errors.New("no port is free: too many servers run on this machine")
}
