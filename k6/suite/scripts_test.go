//go:build k6

// These tests need k6 and take minutes, so they are no part of `make test`: `make mutants ARGS=-k6` runs them, without and
// with what each script has to notice.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"lockstep/cluster/local"
	"lockstep/cluster/local/servers"
)

const (
	buildMax = 10 * time.Minute // k6 may have to be compiled
	startMax = 2 * time.Minute
	length   = 8 // seconds of each script's main part
)

// house is where the cluster of this run lives.
var house struct {
	dir     string
	once    sync.Once
	cluster *local.Cluster
	err     error
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	place, err := servers.Here()
	if err == nil {
		house.dir = filepath.Join(string(place), fmt.Sprintf("k6-%d", os.Getpid()))
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "k6:", err)
		return 1
	}
	status := m.Run()
	if house.cluster != nil {
		house.cluster.Close()
	}
	if err := os.RemoveAll(house.dir); err != nil {
		fmt.Fprintln(os.Stderr, "k6:", err)
		return 1
	}
	return status
}

// build compiles k6, unless it is there, and the nodes' program, with the overlay that MUTANT_OVERLAY names.
func build() error {
	if err := os.MkdirAll(house.dir, 0o755); err != nil {
		return fmt.Errorf("make a place for the cluster: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildMax)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "bash", "../../deploy/k6.sh", "compile").CombinedOutput(); err != nil {
		return fmt.Errorf("compile k6: %w\n%s", err, out)
	}
	args := []string{"build", "-tags", "faults", "-o", program()}
	if overlay := os.Getenv("MUTANT_OVERLAY"); overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, "lockstep")...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the node: %w\n%s", err, out)
	}
	return nil
}

func program() string { return filepath.Join(house.dir, "lockstep") }

// start starts the cluster that all tests share, on free ports.
func start(tb testing.TB) {
	tb.Helper()
	house.once.Do(func() {
		options := local.Default()
		options.Dir, options.PortBase, options.Binary = filepath.Join(house.dir, "cluster"), 0, program()
		options.IDP, options.BufferPoolMB = local.IDPNone, 64
		ctx, cancel := context.WithTimeout(context.Background(), startMax)
		defer cancel()
		house.cluster, house.err = local.Start(ctx, options)
	})
	if house.err != nil {
		tb.Fatalf("start a cluster: %v", house.err)
	}
}

// Every script passes on a cluster that does what it promises. It is run in its short form.
func TestScript(t *testing.T) {
	for _, name := range scripts {
		t.Run(name, func(t *testing.T) {
			start(t)
			s := script{
				name: name, dir: "..", k6: "../../.lockstep/bin/k6", out: t.TempDir(),
				credentials: filepath.Join(house.dir, "cluster", "credentials.json"),
				settings:    []string{fmt.Sprintf("SECONDS=%d", length), "SEED=1"},
			}
			if r := s.run(t.Context(), os.Stdout); r.Err != nil {
				t.Error(r.Err)
			}
		})
	}
}

// The nodes of the release before are replaced by those of these sources, and no client notices.
func TestUpgrade(t *testing.T) {
	u := upgrade{root: "../..", dir: filepath.Join(house.dir, upgradeName), bin: "../../.lockstep/bin", next: program()}
	s := script{name: upgradeName, dir: "..", k6: "../../.lockstep/bin/k6", out: t.TempDir()}
	if r := u.run(t.Context(), s, os.Stdout); r.Err != nil {
		t.Error(r.Err)
	}
}
