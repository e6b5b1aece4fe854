// Broker is the NATS server as a program of its own, for tests that kill it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"lockstep/cluster/broker"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := (&broker.Command{Config: os.Args[1]}).Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
