package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/cluster/local"
	"lockstep/cluster/local/process"
	"lockstep/cluster/local/servers"
)

const startMax = 90 * time.Second

// hasty keeps the race detector from waiting a second at the end of each process, and a cluster starts and ends a dozen.
const hasty = "GORACE=atexit_sleep_ms=20"

// program is the lockstep program that nodes run, with the race detector and fault points.
var program string

// house is where the clusters of this run live, and the one that its tests share.
var house struct {
	dir      string
	clusters atomic.Int64 // that tests have had of their own

	once sync.Once
	site *site
	err  error
}

// TestMain lets one test run at a time: each has clusters of its own under load, and some have bounds on how soon things come,
// which two at once did not keep on two cores. -parallel 2 is for larger machines.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "1"); err != nil { // the command line is read later
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	began := time.Now()
	lock, err := moveIn()
	if err == nil {
		defer lock.Close()
		program, err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	built := time.Now()
	status := m.Run()
	tested := time.Now()
	if house.site != nil {
		status = max(status, house.site.end())
	}
	fmt.Printf("e2e: node built in %.1f s, tested in %.1f s, stopped in %.1f s\n",
		built.Sub(began).Seconds(), tested.Sub(built).Seconds(), time.Since(tested).Seconds())
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		status = 1
	}
	moveOut(status)
	return status
}

const housesMax = 8 // runs at a time in one checkout

// moveIn takes a place that no other run uses, below the checkout's place for tests, and ends what a run that was cut
// short has left there.
func moveIn() (lock *process.FileLock, err error) {
	place, err := servers.Here()
	if err != nil {
		return nil, err
	}
	for n := range housesMax {
		house.dir = filepath.Join(string(place), fmt.Sprintf("e2e-%d", n+1))
		if err := os.MkdirAll(house.dir, 0o755); err != nil {
			return nil, fmt.Errorf("make a place for clusters: %w", err)
		}
		if lock, err = process.Lock(filepath.Join(house.dir, "lock")); !errors.Is(err, process.ErrLocked) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("take a place for clusters: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(house.dir, "*", "run", "*.pid"))
	for _, file := range left {
		if _, reapErr := process.Reap(file, time.Second); reapErr != nil {
			err = errors.Join(err, reapErr)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("end what an earlier run left: %w", err), lock.Close())
	}
	empty("lock")
	return lock, nil
}

// moveOut removes what the tests wrote; of a run that failed the logs of all processes stay until the next one.
func moveOut(status int) {
	if status == 0 {
		empty("lock")
		return
	}
	empty("lock", "logs")
	fmt.Fprintln(os.Stderr, "e2e: the logs of all processes are kept in", house.dir)
}

// empty removes what is in the house and in the clusters' directories there, but for what has one of these names.
func empty(kept ...string) {
	for _, pattern := range []string{"*", "*/*"} {
		found, _ := filepath.Glob(filepath.Join(house.dir, pattern)) // the pattern is well-formed
		for _, path := range found {
			holds := func(name string) bool {
				_, err := os.Stat(filepath.Join(path, name))
				return err == nil
			}
			if !slices.Contains(kept, filepath.Base(path)) && !slices.ContainsFunc(kept[1:], holds) {
				_ = os.RemoveAll(path)
			}
		}
	}
}

// build compiles the program, or what becomes of it when MUTANT_OVERLAY names an overlay that replaces sources, as
// `make mutants` does.
func build() (string, error) {
	if overlay := os.Getenv("MUTANT_OVERLAY"); overlay != "" {
		return servers.Place(house.dir).Build("lockstep-race", "lockstep", "-race", "-overlay", overlay)
	}
	place, err := servers.Here()
	if err != nil {
		return "", err
	}
	return place.Build("lockstep-race", "lockstep", "-race")
}

// shared is the cluster of all tests that leave its servers alone: one system with two nodes and a replica. The first
// test that asks starts it.
func shared(tb testing.TB) *site {
	tb.Helper()
	house.once.Do(func() {
		house.site, house.err = open(filepath.Join(house.dir, "shared"), func(o *local.Options) {
			o.IDP = local.IDPBuiltin
			o.NodeConfig = map[string]any{"webhooks": map[string]any{"timeout": "2s", "settle": "1s", "retry_min": "200ms", "retry_max": "1s"}}
		})
	})
	if house.err != nil {
		tb.Fatalf("start the cluster: %v", house.err)
	}
	return house.site
}

// own starts a cluster for one test that stops or kills its servers. Its directory is a new one: with -count, what the same
// test did to its cluster before would still be there.
func own(tb testing.TB, change func(*local.Options)) *site {
	tb.Helper()
	dir := fmt.Sprintf("%s-%d", strings.ReplaceAll(tb.Name(), "/", "-"), house.clusters.Add(1))
	s, err := open(filepath.Join(house.dir, dir), change)
	if err != nil {
		tb.Fatalf("start a cluster: %v", err)
	}
	tb.Cleanup(func() {
		if s.end() != 0 {
			tb.Error("the race detector or a panic ended a node; see its log")
		}
	})
	return s
}

// open starts a cluster of one system, alpha, on free ports.
func open(dir string, change func(*local.Options)) (*site, error) {
	options := local.Default()
	options.Dir, options.Systems, options.PortBase, options.Binary = dir, local.SystemNames(1), 0, program
	options.IDP, options.BufferPoolMB, options.NodeEnv = local.IDPNone, 64, []string{hasty}
	options.NodeConfig = map[string]any{"drain": "0s"} // at the end nobody asks any more
	if change != nil {
		change(&options)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startMax)
	defer cancel()
	began := time.Now()
	cluster, err := local.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	fmt.Printf("e2e: a cluster started in %.1f s\n", time.Since(began).Seconds())
	return newSite(cluster, options), nil
}

// end stops the cluster and looks at what its processes wrote: a data race, a panic or a secret there fails the tests,
// whatever the clients saw.
func (s *site) end() (status int) {
	s.http.CloseIdleConnections()
	began := time.Now()
	s.cluster.Close()
	fmt.Printf("e2e: a cluster stopped in %.1f s\n", time.Since(began).Seconds())
	logs, err := filepath.Glob(filepath.Join(s.options.Dir, "logs", "*-node-*.log"))
	if err == nil && len(logs) == 0 {
		err = errors.New("there are no logs of nodes")
	}
	for _, path := range logs {
		var text []byte
		if text, err = os.ReadFile(path); err != nil {
			break
		}
		for _, word := range []string{"WARNING: DATA RACE", "panic:", "fatal error:"} {
			if strings.Contains(string(text), word) {
				fmt.Fprintf(os.Stderr, "e2e: %s has %q\n", path, word)
				status = 1
			}
		}
	}
	if err == nil {
		err = s.leaked()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: read the nodes' logs:", err)
		status = 1
	}
	return status
}
