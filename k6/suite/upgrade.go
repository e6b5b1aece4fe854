package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"lockstep/cluster/local"
)

// upgradeName is the script that has a cluster of its own: one of the release before, whose nodes are replaced.
const upgradeName = "upgrade"

// previous is the commit whose nodes are replaced: of the release before, once there are two. Its schema is twelve migrations
// behind this one's, and knows no people.
const previous = "6de205b"

const (
	oldStartMax = 2 * time.Minute
	oldStopMax  = 90 * time.Second // nodes drain
	replaceMax  = time.Minute      // of one node
	lookPause   = 50 * time.Millisecond
	underLoad   = 5 * time.Second // of clients before the first step
)

// upgrade is a cluster that the release before has started, with its own supervisor and templates, as on a machine that
// was set up with it. Its nodes run a program that is exchanged.
type upgrade struct {
	root    string // of the checkout
	dir     string // of the cluster
	bin     string // where the release before is kept
	next    string // the new program
	running string // the program that the nodes run
	stop    func() error
}

// run runs the script while the nodes are replaced, and stops the cluster, whose logs and data stay until the next upgrade.
func (u *upgrade) run(ctx context.Context, s script, out io.Writer) (r result) {
	began := time.Now()
	if err := u.start(ctx, out); err != nil {
		return result{Name: s.name, Err: err, Took: time.Since(began)}
	}
	replaced := make(chan error, 1)
	steps, cancel := context.WithCancel(ctx)
	go func() { replaced <- u.replace(steps, out) }()
	s.credentials = filepath.Join(u.dir, "credentials.json")
	r = s.run(ctx, out)
	cancel() // what is not done yet comes too late
	r.Err = errors.Join(r.Err, <-replaced, verifyBooks(ctx, u.dir, s.file("-verify.log"), out), u.stop())
	return r
}

// start builds the release before, unless it is there, and starts its cluster.
func (u *upgrade) start(ctx context.Context, out io.Writer) error {
	old, err := u.build(ctx, out)
	if err != nil {
		return fmt.Errorf("build the release before: %w", err)
	}
	if err := u.clear(ctx); err != nil {
		return err
	}
	u.running = filepath.Join(u.dir, "lockstep")
	if err := exchange(old, u.running); err != nil {
		return err
	}
	ended, err := u.supervise(ctx, old)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeoutCause(ctx, oldStartMax, errors.New("it takes too long"))
	defer cancel()
	for u.ready(wait) != nil {
		select {
		case <-ended:
			err = errors.New("its supervisor has ended")
		case <-wait.Done():
			err = context.Cause(wait)
		case <-time.After(lookPause):
			continue
		}
		return errors.Join(fmt.Errorf("start a cluster of the release before: %w; see %s", err, u.log()), u.stop())
	}
	return nil
}

// clear makes an empty place; an upgrade that was cut short may still run there.
func (u *upgrade) clear(ctx context.Context) error {
	if err := os.MkdirAll(u.dir, 0o755); err != nil {
		return fmt.Errorf("make a place for the upgrade: %w", err)
	}
	if said, err := exec.CommandContext(ctx, u.next, "down", "--dir", u.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("end an earlier upgrade: %w\n%s", err, said)
	}
	if err := errors.Join(os.RemoveAll(u.dir), os.Mkdir(u.dir, 0o755)); err != nil {
		return fmt.Errorf("clear the place of an earlier upgrade: %w", err)
	}
	return nil
}

// supervise starts the supervisor of the release before, which starts all else; ended is closed when it has ended.
func (u *upgrade) supervise(ctx context.Context, old string) (ended <-chan struct{}, err error) {
	log, err := os.Create(u.log())
	if err != nil {
		return nil, fmt.Errorf("keep what the supervisor says: %w", err)
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, old, "up", "--dir", u.dir, "--port-base", "0", "--binary", u.running)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = oldStopMax
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a supervisor of the release before: %w", err)
	}
	done, result := make(chan struct{}), error(nil)
	go func() {
		defer close(done)
		result = cmd.Wait()
	}()
	u.stop = func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-done
		return result
	}
	return done, nil
}

func (u *upgrade) log() string { return filepath.Join(u.dir, "up.log") }

// ready tells whether all of the cluster runs; its credentials are written last.
func (u *upgrade) ready(ctx context.Context) error {
	credentials, err := local.ReadCredentials(u.dir)
	if err != nil {
		return err
	}
	_, err = credentials.Control().Processes(ctx)
	return err
}

// build compiles the release before from the checkout's history.
func (u *upgrade) build(ctx context.Context, out io.Writer) (program string, err error) {
	program, err = filepath.Abs(filepath.Join(u.bin, "lockstep-"+previous))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	fmt.Fprintln(out, "compiling the release before, once")
	sources, err := os.MkdirTemp("", "lockstep-"+previous)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(sources)
	archive := filepath.Join(sources, "sources.tar")
	for _, step := range [][]string{
		{u.root, "git", "archive", "--output", archive, previous},
		{sources, "tar", "-xf", archive},
		{sources, "go", "build", "-tags", "faults", "-ldflags", "-X main.version=" + previous, "-o", program, "."},
	} {
		cmd := exec.CommandContext(ctx, step[1], step[2:]...)
		cmd.Dir = step[0]
		if said, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", strings.Join(step[1:], " "), err, said)
		}
	}
	return program, nil
}

// replace does what deploy/DEPLOYMENT.md says: the new release migrates while the old nodes serve, then each node in turn
// is asked to end, and the supervisor starts the new program in its place.
func (u *upgrade) replace(ctx context.Context, out io.Writer) error {
	credentials, err := local.ReadCredentials(u.dir)
	if err != nil {
		return err
	}
	if err := pause(ctx, underLoad); err != nil {
		return err
	}
	next, err := filepath.Abs(u.next)
	if err != nil {
		return err
	}
	for _, system := range credentials.Systems {
		cmd := exec.CommandContext(ctx, next, "migrate", "--config", filepath.Join(u.dir, system.ID, "setup.yaml"))
		cmd.Dir = filepath.Join(u.dir, system.ID)
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("migrate %s by the next release: %w\n%s", system.ID, err, said)
		}
	}
	if err := exchange(next, u.running); err != nil {
		return err
	}
	for _, system := range credentials.Systems {
		for i, base := range system.Nodes {
			name, began := fmt.Sprintf("%s-node-%d", system.ID, i+1), time.Now()
			if err := replaceNode(ctx, credentials.Control(), name, base); err != nil {
				return fmt.Errorf("replace %s: %w", name, err)
			}
			fmt.Fprintf(out, "%s is replaced (%.1f s)\n", name, time.Since(began).Seconds())
		}
	}
	return nil
}

// replaceNode ends a node in good order and returns when its successor is ready.
func replaceNode(ctx context.Context, control *local.Controller, name, base string) error {
	ctx, cancel := context.WithTimeout(ctx, replaceMax)
	defer cancel()
	before, err := processID(ctx, control, name)
	if err != nil {
		return err
	}
	if err := syscall.Kill(before, syscall.SIGTERM); err != nil {
		return fmt.Errorf("ask it to end: %w", err)
	}
	return eventually(ctx, func() error {
		now, err := processID(ctx, control, name)
		if err == nil && now == before {
			err = errors.New("it has not ended yet")
		}
		if err != nil {
			return err
		}
		return ready(ctx, base)
	})
}

// processID is that of a process that runs.
func processID(ctx context.Context, control *local.Controller, name string) (int, error) {
	processes, err := control.Processes(ctx)
	if err != nil {
		return 0, err
	}
	for _, p := range processes {
		if p.Name == name && p.State == local.Running {
			return p.PID, nil
		}
	}
	return 0, fmt.Errorf("no process %s runs", name)
}

func ready(ctx context.Context, base string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz answers %s", answer.Status)
	}
	return nil
}

// exchange puts a copy of a program in another's place in one step: who runs the other goes on with it.
func exchange(program, place string) error {
	from, err := os.Open(program)
	if err != nil {
		return fmt.Errorf("exchange the nodes' program: %w", err)
	}
	defer from.Close()
	to, err := os.OpenFile(place+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("exchange the nodes' program: %w", err)
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("exchange the nodes' program: %w", err)
	}
	return os.Rename(place+".new", place)
}

// eventually tries until it works or the context ends, and then says what was wrong at last.
func eventually(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		if pause(ctx, lookPause) != nil {
			return err
		}
	}
}

func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(length):
		return nil
	}
}
