package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/cluster/local/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a shell script as a supervised process.
func start(t *testing.T, script string) (*process.Process, process.Spec) {
	t.Helper()
	dir := t.TempDir()
	spec := process.Spec{
		Name: "sh", Path: "/bin/sh", Args: []string{"-c", script},
		Log: filepath.Join(dir, "log"), PIDFile: filepath.Join(dir, "pid"),
	}
	p, err := process.Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.Done()
	})
	return p, spec
}

// await polls until the condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not so after 10 s: %s", what)
		}
	}
}

func logged(spec process.Spec, word string) func() bool {
	return func() bool { return strings.Contains(process.LogTail(spec.Log, 10), word) }
}

func TestOutputGoesToTheLogAndThePIDFileGoesWithTheProcess(t *testing.T) {
	t.Parallel()
	p, spec := start(t, "echo out; echo err >&2; exit 3")
	if ended := p.Ended(); ended != "exit status 3" {
		t.Errorf("ended with %q", ended)
	}
	if tail := process.LogTail(spec.Log, 10); tail != "out\nerr" {
		t.Errorf("log is %q", tail)
	}
	if _, err := os.Stat(spec.PIDFile); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pid file is still there: %v", err)
	}
}

func TestStopReachesChildrenToo(t *testing.T) {
	t.Parallel()
	p, spec := start(t, `(trap 'echo child heard; exit' TERM; echo child up; while :; do sleep 0.05; done) & wait`)
	await(t, "the child runs", logged(spec, "child up"))
	if !p.Stop(syscall.SIGTERM, 10*time.Second) {
		t.Error("it had to be killed")
	}
	await(t, "the child heard it too", logged(spec, "child heard"))
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	t.Parallel()
	p, spec := start(t, `trap '' TERM; echo deaf; while :; do sleep 1; done`)
	await(t, "the trap is set", logged(spec, "deaf"))
	if p.Stop(syscall.SIGTERM, 50*time.Millisecond) {
		t.Error("Stop reports that it ended by itself")
	}
}

func TestStopWakesAFrozenProcess(t *testing.T) {
	t.Parallel()
	p, spec := start(t, `trap 'echo heard; exit 0' TERM; echo up; while :; do sleep 0.05; done`)
	await(t, "it runs", logged(spec, "up"))
	p.Signal(syscall.SIGSTOP)
	if !p.Stop(syscall.SIGTERM, 10*time.Second) || !logged(spec, "heard")() {
		t.Error("the frozen process did not end in order")
	}
}

func TestAStoppedProcessDoesNothingMore(t *testing.T) {
	t.Parallel()
	p, spec := start(t, `while :; do echo on; done`)
	size := func() int64 {
		info, err := os.Stat(spec.Log)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	for range 50 {
		before := size()
		await(t, "it writes", func() bool { return size() > before })
		p.Signal(syscall.SIGSTOP)
		process.AwaitStopped(p.PID())
		if first := size(); first != sizeLater(size) {
			t.Fatal("a stopped process went on writing")
		}
		p.Signal(syscall.SIGCONT)
	}
}

// sizeLater gives a process that still runs the time to write some lines.
func sizeLater(size func() int64) int64 {
	<-time.After(5 * time.Millisecond)
	return size()
}

func TestReapEndsWhatTheFileNames(t *testing.T) {
	t.Parallel()
	p, spec := start(t, `sleep 60`)
	found, err := process.Reap(spec.PIDFile, 10*time.Second)
	if !found || err != nil {
		t.Fatalf("Reap: %v, %v", found, err)
	}
	<-p.Done()
	if found, err := process.Reap(spec.PIDFile, 0); found || err != nil {
		t.Errorf("a second Reap: %v, %v", found, err)
	}
}

func TestReapKillsWhatDoesNotListen(t *testing.T) {
	t.Parallel()
	p, spec := start(t, `trap '' TERM; echo deaf; while :; do sleep 1; done`)
	await(t, "the trap is set", logged(spec, "deaf"))
	if found, err := process.Reap(spec.PIDFile, 50*time.Millisecond); !found || err != nil {
		t.Fatalf("Reap: %v, %v", found, err)
	}
	<-p.Done()
}

// A number is reused: a pid file of long ago may name somebody else's process.
func TestReapSparesAnotherProcessOfTheSameNumber(t *testing.T) {
	t.Parallel()
	p, spec := start(t, `sleep 60`)
	var record map[string]any
	text, err := os.ReadFile(spec.PIDFile)
	if err != nil || json.Unmarshal(text, &record) != nil {
		t.Fatal(err)
	}
	record["started"] = "another boot/12345"
	text, _ = json.Marshal(record)
	old := filepath.Join(t.TempDir(), "old.pid")
	if err := os.WriteFile(old, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if found, err := process.Reap(old, time.Second); found || err != nil {
		t.Errorf("Reap: %v, %v", found, err)
	}
	select {
	case <-p.Done():
		t.Error("it ended a process that the file does not name")
	default:
	}
	if _, err := os.Stat(old); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stale file is still there: %v", err)
	}
}

func TestALockHasOneHolderOrSharers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	one, err := process.LockShared(path)
	if err != nil {
		t.Fatal(err)
	}
	two, err := process.LockShared(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := process.Lock(path); !errors.Is(err, process.ErrLocked) {
		t.Errorf("a lock that is shared was given out alone: %v", err)
	}
	_, _ = one.Close(), two.Close()
	alone, err := process.Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = alone.Close()
}

// A child holds a copy of every open file until it runs its own program. A lock
// that was given up in that moment is free all the same.
func TestALockGivenUpIsFreeWhileChildrenStart(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(t.Context())
	var starting sync.WaitGroup
	defer starting.Wait()
	defer end()
	for range 4 {
		starting.Go(func() {
			for ended.Err() == nil {
				_ = exec.Command("/bin/true").Run()
			}
		})
	}
	path := filepath.Join(t.TempDir(), "lock")
	for i := range 2000 {
		lock, err := process.Lock(path)
		if err != nil {
			t.Fatalf("lock %d: %v", i, err)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAMissingProgramNamesTheWayOut(t *testing.T) {
	t.Parallel()
	_, err := process.Find("no-such-server")
	if !errors.Is(err, process.ErrMissing) || !strings.Contains(err.Error(), "no-such-server is missing: run deploy/install.sh") {
		t.Errorf("Find says: %v", err)
	}
	if path, err := process.Find("haproxy"); err != nil || !filepath.IsAbs(path) {
		t.Errorf("Find of an installed server: %q, %v", path, err)
	}
}
