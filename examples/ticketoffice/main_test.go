package main_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	ticketoffice "lockstep/examples/ticketoffice"
	"lockstep/examples/ticketoffice/audit"
	"lockstep/examples/ticketoffice/stage"

	"lockstep/cluster/local"
	"lockstep/cluster/local/process"
	"lockstep/cluster/local/servers"
)

// asOffice makes the test binary the ticket office, with the race detector of the tests.
const asOffice = "TICKETOFFICE_TEST_BINARY"

// house is the cluster of all tests of a run.
var house struct {
	dir, lockstep string
	once          sync.Once
	cluster       *local.Cluster
	credentials   stage.Credentials
	err           error
}

func TestMain(m *testing.M) {
	if os.Getenv(asOffice) != "" {
		ticketoffice.Main()
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) (status int) {
	lock, err := moveIn()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ticketoffice:", err)
		return 1
	}
	defer lock.Close()
	status = m.Run()
	if house.cluster != nil {
		house.cluster.Close()
	}
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, "ticketoffice:", err)
		status = 1
	}
	if status == 0 {
		_ = os.RemoveAll(house.dir)
	} else {
		fmt.Fprintln(os.Stderr, "ticketoffice: the logs of all processes are kept in", house.dir)
	}
	return status
}

// moveIn takes a place below the checkout's one for tests, which one run uses at a time, and ends what a run that was cut
// short has left there.
func moveIn() (*process.FileLock, error) {
	place, err := servers.Here()
	if err != nil {
		return nil, err
	}
	house.dir = filepath.Join(string(place), "ticketoffice")
	if err := os.MkdirAll(filepath.Dir(house.dir), 0o755); err != nil {
		return nil, err
	}
	lock, err := process.LockWait(house.dir + ".lock")
	if err != nil {
		return nil, err
	}
	left, err := filepath.Glob(filepath.Join(house.dir, "cluster", "run", "*.pid"))
	for _, file := range left {
		_, reapErr := process.Reap(file, time.Second)
		err = errors.Join(err, reapErr)
	}
	if err := errors.Join(err, os.RemoveAll(house.dir), os.MkdirAll(house.dir, 0o755)); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// start builds lockstep and starts a cluster of one node. It is the office that the race detector is to watch here.
func start() error {
	place, err := servers.Here()
	if err != nil {
		return err
	}
	if house.lockstep, err = place.Build("lockstep", "lockstep"); err != nil {
		return err
	}
	options := local.Default()
	options.Dir, options.Systems, options.PortBase, options.Binary = filepath.Join(house.dir, "cluster"), local.SystemNames(1), 0, house.lockstep
	options.Nodes, options.Replicas, options.IDP, options.BufferPoolMB = 1, 0, local.IDPNone, 64
	options.NodeConfig = map[string]any{
		"rate_limits": map[string]any{"client": 100_000}, "drain": "0s", "webhooks": map[string]any{"retry_min": "200ms"},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if house.cluster, err = local.Start(ctx, options); err != nil {
		return err
	}
	house.credentials, err = stage.ReadCredentials(filepath.Join(options.Dir, "credentials.json"))
	return err
}

// office starts an office of the test's own next to the cluster.
func office(t *testing.T, options stage.Options) *stage.Stage {
	t.Helper()
	house.once.Do(func() { house.err = start() })
	if house.err != nil {
		t.Fatalf("start the cluster: %v", house.err)
	}
	dir, err := os.MkdirTemp(house.dir, options.Mode+"-")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	options.Credentials, options.Lockstep, options.Program, options.Dir = house.credentials, house.lockstep, []string{os.Args[0]}, dir
	options.Env = []string{asOffice + "=1", "GORACE=atexit_sleep_ms=20"}
	s, err := stage.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the office opened in %.1f s", time.Since(began).Seconds())
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// audited fails unless all books agree before long: what is under way ends by itself.
func audited(t *testing.T, s *stage.Stage) audit.Result {
	t.Helper()
	result, err := s.Audit(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d payments paid, %d voided", result.Paid, result.Voided)
	return result
}
