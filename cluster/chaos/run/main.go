// The command runs the chaos suite on a cluster of its own; `make chaos` calls it. It is no part of the lockstep binary, which
// has no use for a judge of histories.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"lockstep/cluster/chaos"
)

func main() {
	var config chaos.Config
	parser := kong.Must(&config, kong.Name("chaos"), kong.UsageOnError(),
		kong.Description("Keep clients busy on a cluster that suffers faults, and prove that no money was lost, created or doubled."))
	_, err := parser.Parse(os.Args[1:])
	if err != nil {
		parser.Errorf("%s", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := chaos.Run(ctx, config, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		stop()
		os.Exit(1)
	}
}
