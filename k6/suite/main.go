// Suite runs the k6 scripts one after the other against the local cluster, verifies the books, and writes a report with
// charts. It expects k6 at .lockstep/bin/k6, where deploy/k6.sh compiles it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"lockstep/cluster/local"
	"lockstep/node/verify"
)

// scripts are all there are, in the order in which they run: faults come last.
var scripts = []string{"smoke", "load", "concurrency", "deadlock", "idempotency", "cross", "login", "spike", "soak", "restart", "kill", "chaos"}

// settleMax is how long money may stand between two systems after the last script.
const settleMax = 60 * time.Second

var errFailed = errors.New("failed")

type command struct {
	Scripts []string `arg:"" optional:"" help:"Scripts to run: smoke, load, concurrency, deadlock, idempotency, cross, login, spike, soak, restart, kill, chaos; default: all of these. And upgrade, which compiles an earlier commit and has a cluster of its own."`
	Form    string   `enum:"short,long" default:"short" help:"How long the scripts take: short or long."`
	Seconds int      `help:"Length of each script's main part, instead of its form's."`
	Seed    int      `help:"Order of the faults of chaos."`
	Dir     string   `default:".lockstep" type:"path" help:"Directory of the local cluster. One is started there, and stopped at the end, if none runs."`
	Out     string   `default:".lockstep/k6" type:"path" help:"Where logs, figures and report.html go."`
}

// Validate refuses names that no script has.
func (c *command) Validate() error {
	for _, name := range c.Scripts {
		if name != upgradeName && !slices.Contains(scripts, name) {
			return fmt.Errorf("there is no script %q, only %s and %s", name, strings.Join(scripts, ", "), upgradeName)
		}
	}
	return nil
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c command
	kong.Parse(&c, kong.Name("k6"), kong.Description("Loads the local cluster and holds what clients were told against the books."))
	if err := c.run(ctx, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "k6:", err)
		stop()
		os.Exit(1)
	}
}

func (c *command) run(ctx context.Context, out io.Writer) error {
	if err := os.MkdirAll(c.Out, 0o755); err != nil {
		return fmt.Errorf("make a place for the report: %w", err)
	}
	picked := c.Scripts
	if len(picked) == 0 {
		picked = scripts
	}
	shared := slices.ContainsFunc(picked, func(name string) bool { return name != upgradeName })
	if shared {
		stop, err := c.cluster(ctx, out)
		if err != nil {
			return err
		}
		defer stop()
	}
	began := time.Now()
	r := report{At: began, Form: c.Form}
	for _, name := range picked {
		result := c.play(ctx, name, out)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.Results = append(r.Results, result)
	}
	if shared {
		r.Books = verifyBooks(ctx, c.Dir, filepath.Join(c.Out, "verify.log"), out)
	}
	r.Took = time.Since(began)
	path := filepath.Join(c.Out, "report.html")
	if err := r.write(path); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%d scripts in %s; the report is %s\n", len(picked), r.Took.Round(time.Second), path)
	return r.verdict()
}

// play runs a script.
func (c *command) play(ctx context.Context, name string, out io.Writer) result {
	if name != upgradeName {
		return c.script(name).run(ctx, out)
	}
	u := upgrade{root: ".", dir: filepath.Join(c.Dir, upgradeName), bin: ".lockstep/bin", next: "bin/lockstep"}
	return u.run(ctx, c.script(name), out)
}

func (c *command) script(name string) script {
	s := script{name: name, k6: ".lockstep/bin/k6", credentials: filepath.Join(c.Dir, "credentials.json"), out: c.Out}
	s.settings = append(s.settings, "FORM="+c.Form)
	if c.Seconds > 0 {
		s.settings = append(s.settings, fmt.Sprintf("SECONDS=%d", c.Seconds))
	}
	if c.Seed > 0 {
		s.settings = append(s.settings, fmt.Sprintf("SEED=%d", c.Seed))
	}
	return s
}

// cluster finds the running cluster, or starts one that stop ends.
func (c *command) cluster(ctx context.Context, out io.Writer) (stop func(), err error) {
	if credentials, err := local.ReadCredentials(c.Dir); err == nil {
		if _, err := credentials.Control().Processes(ctx); err == nil {
			return func() {}, nil
		}
	}
	fmt.Fprintln(out, "No cluster is running; starting one.")
	options := local.Default()
	options.Dir, options.Binary, options.IDP = c.Dir, "bin/lockstep", local.IDPNone
	cluster, err := local.Start(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("start a cluster: %w", err)
	}
	return cluster.Close, nil
}

// verifyBooks recomputes all invariants of the cluster in dir, and those between the systems.
func verifyBooks(ctx context.Context, dir, path string, out io.Writer) error {
	log, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("keep what verify says: %w", err)
	}
	defer log.Close()
	began := time.Now()
	check := verify.Command{All: true, Dir: dir, SettledWithin: settleMax}
	if err := check.Run(ctx, log); err != nil {
		return fmt.Errorf("lockstep verify --all: %w; see %s", err, log.Name())
	}
	fmt.Fprintf(out, "\nlockstep verify --all: every invariant holds (%s)\n", time.Since(began).Round(time.Millisecond))
	return nil
}
