// The pet store sells goods over two services, each with a database of its own, and is paid by Lockstep: an outside user
// of the packages saga, cluster/events and api/client.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"lockstep/examples/petstore/audit"
	"lockstep/examples/petstore/order"
	"lockstep/examples/petstore/product"
	"lockstep/examples/petstore/tour"
)

type commands struct {
	LogLevel slog.Level `default:"info" help:"The least that is logged: debug, info, warn or error."`

	Order   order.Command   `cmd:"" help:"Run the order service."`
	Product product.Command `cmd:"" help:"Run the product service."`
	Audit   audit.Command   `cmd:"" help:"Hold orders, stock and money against each other; exit status 1 says that they do not agree."`
	Tour    tour.Command    `cmd:"" help:"Start both beside a local cluster and walk through every success and every failure."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cli commands
	level := new(slog.LevelVar)
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	parser := kong.Must(&cli, kong.Name("petstore"), kong.UsageOnError(),
		kong.Description("Orders over two services, paid by Lockstep."), kong.Bind(log),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(os.Stdout, (*io.Writer)(nil)))
	command, err := parser.Parse(os.Args[1:])
	if err != nil {
		parser.Errorf("%s", err)
		os.Exit(2)
	}
	level.Set(cli.LogLevel)
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "petstore:", err)
		stop()
		os.Exit(1)
	}
}
