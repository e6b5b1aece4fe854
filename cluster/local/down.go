package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"lockstep/cluster/local/process"
)

// downMax is how long a cluster may take to stop: a drain of the nodes and a clean
// end of the databases, each with time to spare.
const downMax = 2 * time.Minute

// DownCommand is `lockstep down`.
type DownCommand struct {
	Dir string `default:".lockstep" type:"path" help:"The directory of the cluster to stop."`
}

// Run stops the cluster and returns when all of it has ended. The data stay. Where
// nothing runs it cleans up after a supervisor that crashed, and succeeds.
func (d *DownCommand) Run(ctx context.Context, out io.Writer) error {
	if _, err := os.Stat(d.Dir); errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(out, "nothing runs in %s\n", d.Dir)
		return nil
	}
	running, err := d.running()
	if err != nil {
		return err
	}
	if running {
		began := time.Now()
		fmt.Fprintln(out, "stopping; the nodes drain first")
		if err := d.ask(ctx); err != nil {
			return err
		}
		if err := d.await(ctx); err != nil {
			return err
		}
		fmt.Fprintf(out, "stopped in %.1f s; the data stay in %s\n", time.Since(began).Seconds(), d.Dir)
		return nil
	}
	left := 0
	err = reapDir(d.Dir, func(name, text string) { left++; fmt.Fprintln(out, name, text) })
	if err == nil && left == 0 {
		fmt.Fprintf(out, "nothing runs in %s\n", d.Dir)
	}
	return err
}

// running tells whether a supervisor holds the directory.
func (d *DownCommand) running() (bool, error) {
	lock, err := process.Lock(filepath.Join(d.Dir, lockName))
	if errors.Is(err, process.ErrLocked) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return false, lock.Close()
}

// ask tells the supervisor to end: over its control address, or while it is still
// starting, by a signal.
func (d *DownCommand) ask(ctx context.Context) error {
	credentials, err := ReadCredentials(d.Dir)
	if err == nil {
		err = credentials.Control().Shutdown(ctx)
	}
	if err == nil {
		return nil
	}
	found, errReap := process.Reap(filepath.Join(d.Dir, supervisorPID), downMax)
	if found && errReap == nil {
		return nil
	}
	return errors.Join(err, errReap)
}

func (d *DownCommand) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, downMax)
	defer cancel()
	for {
		running, err := d.running()
		if err != nil || !running {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of the cluster in %s: %w", d.Dir, ctx.Err())
		case <-time.After(probePause):
		}
	}
}
