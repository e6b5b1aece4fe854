package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"lockstep/cluster/local"
)

// operatorFaults are what people do to a system that runs, and what its machine does.
func operatorFaults() []fault {
	all := []fault{
		{"migration while serving", one("mysql-source"), every(migrate), nothing},
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
