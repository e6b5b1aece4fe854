// Ticketoffice sells concert tickets: a waiting queue, seats, records of payments, and money at Lockstep, in one process with
// one long transaction, in one process with events, or as services of their own. The README compares the three.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type commands struct {
	Serve serveCommand `cmd:"" help:"Serve the office, or one of its services, until SIGTERM."`
	Tour  tourCommand  `cmd:"" help:"Start the office next to a running local cluster and walk through every success and failure."`
	Bench benchCommand `cmd:"" help:"Measure the three modes next to a running local cluster."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cli commands
	parser := kong.Must(&cli, kong.Name("ticketoffice"), kong.UsageOnError(),
		kong.Description("Concert tickets, paid with money at Lockstep."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(os.Stdout, (*io.Writer)(nil)))
	command, err := parser.Parse(os.Args[1:])
	if err != nil {
		parser.Errorf("%s", err)
		os.Exit(2)
	}
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "ticketoffice:", err)
		stop()
		os.Exit(1)
	}
}
