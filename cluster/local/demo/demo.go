// Package demo moves money on the local cluster, step by step, and proves afterwards that none was lost. It uses the
// system as any customer would, with the Go client.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"lockstep/cluster/local"
)

// errSurprise says that something was not as the demo says it is.
var errSurprise = errors.New("the demo saw something that must not be")

// Command is `lockstep demo`.
type Command struct {
	Dir string `help:"Directory of the local cluster." default:".lockstep" type:"path"`
}

// Help is shown by --help.
func (c *Command) Help() string {
	return "Uses the running local cluster, or starts one and stops it at the end. Every step says what it expects; the exit status is 1 when anything is otherwise."
}

// Run plays all scenes on every system.
func (c *Command) Run(ctx context.Context, out io.Writer) error {
	credentials, stop, err := c.cluster(ctx, out)
	if err != nil {
		return err
	}
	defer stop()
	began := time.Now()
	for _, system := range credentials.Systems {
		stage, err := openStage(ctx, system, out)
		if err != nil {
			return err
		}
		if err := stage.play(); err != nil {
			return fmt.Errorf("system %s: %w", system.ID, err)
		}
	}
	if len(credentials.Systems) > 1 {
		if err := playBetween(ctx, credentials, out); err != nil {
			return fmt.Errorf("between systems: %w", err)
		}
	}
	_, err = fmt.Fprintf(out, "\nAll as expected, in %.1f s. No money was lost, created or doubled.\n", time.Since(began).Seconds())
	return err
}

// cluster finds the running cluster, or starts one that stop ends.
func (c *Command) cluster(ctx context.Context, out io.Writer) (_ local.Credentials, stop func(), err error) {
	if credentials, err := local.ReadCredentials(c.Dir); err == nil {
		if _, err := credentials.Control().Processes(ctx); err == nil {
			return credentials, func() {}, nil
		}
	}
	fmt.Fprintln(out, "No cluster is running; starting one.")
	if err := os.MkdirAll(filepath.Dir(c.Dir), 0o750); err != nil {
		return local.Credentials{}, nil, fmt.Errorf("make %s: %w", c.Dir, err)
	}
	options := local.Default()
	options.Dir = c.Dir
	options.Progress = func(e local.Event) {
		if e.Process == "" {
			fmt.Fprintln(out, " ", e.Text)
		}
	}
	cluster, err := local.Start(ctx, options)
	if err != nil {
		return local.Credentials{}, nil, err
	}
	return cluster.Credentials(), cluster.Close, nil
}
