// Cli is the lockstep program reduced to the commands of the local cluster, for tests
// of the commands themselves.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"lockstep/cluster/local"
)

type commands struct {
	Up   local.UpCommand   `cmd:"" help:"Start a whole local cluster and stay with it."`
	Down local.DownCommand `cmd:"" help:"Stop the local cluster."`
	Ctl  local.CtlCommand  `cmd:"" help:"Control the processes of the local cluster."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cli commands
	parser := kong.Must(&cli, kong.Name("lockstep"), kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(os.Stdout, (*io.Writer)(nil)))
	command, err := parser.Parse(os.Args[1:])
	if err != nil {
		parser.Errorf("%s", err)
		os.Exit(2)
	}
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "lockstep:", err)
		stop()
		os.Exit(1)
	}
}
