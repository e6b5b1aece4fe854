package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"lockstep/cluster/local"
)

// shared is the cluster of all tests that break no server: one system, two nodes, one replica.
var shared *site

const startMax = 90 * time.Second

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lockstep-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if program, err = build(dir); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	if shared, err = open(filepath.Join(dir, "shared"), nil); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: start the cluster:", err)
		return 1
	}
	defer shared.cluster.Close()
	return m.Run()
}

// program is the lockstep program that nodes run, with the race detector and fault points.
var program string

// build compiles the program; LOCKSTEP_OVERLAY names an overlay that replaces sources, as `make mutants` wants.
func build(dir string) (string, error) {
	top, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	path := filepath.Join(dir, "lockstep")
	args := []string{"build", "-race", "-tags", "faults", "-o", path}
	if overlay := os.Getenv("LOCKSTEP_OVERLAY"); overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = string(top[:len(top)-1])
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the node: %w\n%s", err, out)
	}
	return path, nil
}

// open starts a cluster of one system, alpha, on free ports.
func open(dir string, change func(*local.Options)) (*site, error) {
	options := local.Default()
	options.Dir, options.Systems, options.PortBase, options.Binary = dir, local.SystemNames(1), 0, program
	if change != nil {
		change(&options)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startMax)
	defer cancel()
	cluster, err := local.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	return newSite(cluster), nil
}

// own starts a cluster for one test that breaks its servers.
func own(t *testing.T, change func(*local.Options)) *site {
	t.Helper()
	s, err := open(filepath.Join(t.TempDir(), "c"), change)
	if err != nil {
		t.Fatalf("start a cluster: %v", err)
	}
	t.Cleanup(s.cluster.Close)
	return s
}
