// Lockinglab measures ways to keep money right under concurrency, inside one database and between two, side by side.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"lockstep/examples/lockinglab/report"
	"lockstep/examples/lockinglab/scenes"
	"lockstep/examples/lockinglab/twodb"
)

type commands struct {
	Run     runCommand    `cmd:"" help:"Measure every way next to a running local cluster, and write a table and charts."`
	Tour    tourCommand   `cmd:"" help:"Only the counted loads and the crashes: what goes wrong, and what does not."`
	Service twodb.Command `cmd:"" help:"Run one of the two banks that the ways between databases need; the lab starts them by itself."`
}

// place is where the cluster is and where results go.
type place struct {
	Credentials string `help:"File that the local cluster has written." default:".lockstep/credentials.json" type:"path"`
	Out         string `help:"Directory of the results and of the services' logs." default:".lockstep/lockinglab" type:"path"`
}

type runCommand struct {
	place
	Seconds int `help:"Duration of each timed load." default:"5"`
}

// Validate refuses a load that measures nothing.
func (c *runCommand) Validate() error {
	if c.Seconds < 1 {
		return errors.New("--seconds must be at least 1")
	}
	return nil
}

// Run measures everything. It takes some minutes.
func (c *runCommand) Run(ctx context.Context, out io.Writer) error {
	result, err := c.play(ctx, out, time.Duration(c.Seconds)*time.Second)
	if err != nil {
		return err
	}
	result.Table(out)
	fmt.Fprintln(out)
	result.Compare(out)
	if err := result.Write(c.Out); err != nil {
		return err
	}
	fmt.Fprintf(out, "\ntable and charts are in %s\n", c.Out)
	return judge(result)
}

type tourCommand struct{ place }

// Run plays what can go wrong. It takes less than a minute.
func (c *tourCommand) Run(ctx context.Context, out io.Writer) error {
	result, err := c.play(ctx, out, 0)
	if err != nil {
		return err
	}
	if err := judge(result); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nAll as it should be: updates were lost, transactions deadlocked and money was made where nothing prevents it, and nowhere else.")
	return nil
}

func (p place) play(ctx context.Context, out io.Writer, loads time.Duration) (report.Report, error) {
	credentials, err := scenes.ReadCredentials(p.Credentials)
	if err != nil {
		return report.Report{}, err
	}
	program, err := os.Executable()
	if err != nil {
		return report.Report{}, fmt.Errorf("find our own program: %w", err)
	}
	return scenes.Play(ctx, scenes.Options{
		Credentials: credentials, Program: filepath.Clean(program), Dir: p.Out,
		Moves: scenes.Moves, Accounts: scenes.Accounts, Loads: loads, Out: out,
	})
}

func judge(result report.Report) error {
	if len(result.Findings) > 0 {
		return fmt.Errorf("%w:\n  %s", scenes.ErrSurprise, strings.Join(result.Findings, "\n  "))
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var cli commands
	command := kong.Parse(&cli, kong.Name("lockinglab"), kong.UsageOnError(),
		kong.Description("Which lock for which money? Measured side by side."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.BindTo(os.Stdout, (*io.Writer)(nil)),
		kong.Bind(slog.New(slog.NewJSONHandler(os.Stderr, nil))))
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "lockinglab:", err)
		stop()
		os.Exit(1)
	}
}
