package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/cluster/local"
)

// operatorFaults are what people do to a system that runs, and what its machine does.
func operatorFaults() []fault {
	all := []fault{
		{"migration while serving", one("mysql-source"), every(migrate), nothing},
		{"clock of a node jumps", one("node"), every(jumpClock), every(rightClock)},
		{"NATS killed and its store wiped", one("nats"), every(wipe), every(start)},
	}
	if _, err := exec.LookPath("prlimit"); err == nil { // Linux has it
		all = append(all, fault{"no file descriptors left for a node", one("node"), every(limitFiles(filesFew)), every(limitFiles(filesMany))})
	}
	return all
}

const (
	filesFew  = 20 // fewer than a node has open: it gets no new one
	filesMany = 4096
)

func nothing(context.Context, *target, []string) error { return nil }

// migrate runs what an operator runs before an upgrade; here there is nothing new, and it still takes its locks.
func migrate(ctx context.Context, t *target, source string) error {
	config := filepath.Join(t.dir, t.system(source).ID, "setup.yaml")
	if out, err := exec.CommandContext(ctx, t.binary, "migrate", "--config", config).CombinedOutput(); err != nil {
		return fmt.Errorf("migrate: %w: %s", err, out)
	}
	return nil
}

const (
	clockJump = 20 // seconds: more than a signature or a start may be off
	clockMark = "\n# The clock jumps.\n"
	clockWait = 5 * time.Second
)

// nodeFile is the configuration of a node.
func (t *target) nodeFile(node string) string {
	system := t.system(node).ID
	return filepath.Join(t.dir, system, strings.TrimPrefix(node, system+"-")+".yaml")
}

// jumpClock starts a node anew whose clock jumps ahead or back, to the right time, and so on.
func jumpClock(ctx context.Context, t *target, node string) error {
	file, err := os.OpenFile(t.nodeFile(node), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	jump := clockJump - 2*clockJump*rand.IntN(2)
	_, err = fmt.Fprintf(file, "%sfaults: {clock_ahead: %d}\n", clockMark, jump)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := kill(ctx, t, node); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, clockWait)
	defer cancel()
	if err := start(within, t, node); err != nil && within.Err() == nil {
		return err
	}
	return nil // a node refuses to start by a clock that is wrong, and may find it so each time
}

// rightClock takes the line away again. A failover meanwhile has written the whole file anew.
func rightClock(ctx context.Context, t *target, node string) error {
	text, err := os.ReadFile(t.nodeFile(node))
	if err != nil {
		return err
	}
	right, _, _ := strings.Cut(string(text), clockMark)
	if err := os.WriteFile(t.nodeFile(node), []byte(right), 0o600); err != nil {
		return err
	}
	return restart(ctx, t, node)
}

func restart(ctx context.Context, t *target, name string) error {
	if err := kill(ctx, t, name); err != nil {
		return err
	}
	return start(ctx, t, name)
}

// wipe makes the broker forget all messages and who has read them.
func wipe(ctx context.Context, t *target, name string) error {
	if err := kill(ctx, t, name); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(t.dir, name, "store"))
}

// limitFiles sets how many files a process may have open. One that was killed meanwhile has a successor with no such limit.
func limitFiles(most int) func(context.Context, *target, string) error {
	return func(ctx context.Context, t *target, name string) error {
		list := t.cluster.Processes()
		pid := list[slices.IndexFunc(list, func(s local.Status) bool { return s.Name == name })].PID
		limit := fmt.Sprintf("--nofile=%d:", most)
		if out, err := exec.CommandContext(ctx, "prlimit", "--pid", strconv.Itoa(pid), limit).CombinedOutput(); err != nil {
			return fmt.Errorf("prlimit: %w: %s", err, out)
		}
		return nil
	}
}
