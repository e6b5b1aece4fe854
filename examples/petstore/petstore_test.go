package main_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"lockstep/cluster/local"
	"lockstep/cluster/local/servers"
	"lockstep/examples/petstore/tour"
)

// longEnv chooses the long form: the product service frozen for 30 s, services killed for 60 s.
const longEnv = "PETSTORE_LONG"

func formOf[T any](short, long T) T {
	if os.Getenv(longEnv) != "" {
		return long
	}
	return short
}

// Every scene of the tour, on real processes beside a cluster of the test's own.
func TestThePetStore(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), formOf[time.Duration](3, 6)*time.Minute)
	t.Cleanup(cancel)
	stage := open(ctx, t)
	t.Run("at once", func(t *testing.T) {
		for _, scene := range tour.Scenes() {
			if scene.Alone {
				continue
			}
			t.Run(scene.Name, func(t *testing.T) {
				t.Parallel()
				play(ctx, t, stage, scene)
			})
		}
	})
	for _, scene := range tour.Scenes() {
		if scene.Alone {
			t.Run(scene.Name, func(t *testing.T) { play(ctx, t, stage, scene) })
		}
	}
	if t.Failed() {
		return
	}
	var report bytes.Buffer
	if err := stage.Audit(ctx, &report); err != nil {
		t.Error(err)
	}
	t.Log(report.String())
}

func play(ctx context.Context, t *testing.T, stage *tour.Stage, scene tour.Scene) {
	t.Helper()
	if err := scene.Play(ctx, stage); err != nil {
		t.Error(err)
	}
}

// open starts a cluster of one system and both services.
func open(ctx context.Context, t *testing.T) *tour.Stage {
	t.Helper()
	dir := t.TempDir()
	place, err := servers.Here()
	if err != nil {
		t.Fatal(err)
	}
	lockstep, err := place.Build("lockstep", "lockstep")
	if err != nil {
		t.Fatal(err)
	}
	petstore, err := place.Build("petstore-race", "lockstep/examples/petstore", "-race")
	if err != nil {
		t.Fatal(err)
	}
	options := local.Default()
	options.Dir, options.Systems, options.Nodes, options.Replicas, options.PortBase = filepath.Join(dir, "cluster"), local.SystemNames(1), 1, 0, 0
	options.NodeConfig = map[string]any{"webhooks": map[string]any{"retry_min": "200ms"}, "drain": "0s"} // the test need not wait for long
	options.Binary, options.IDP, options.BufferPoolMB = lockstep, local.IDPNone, 64
	began := time.Now()
	cluster, err := local.Start(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	stage, err := tour.Open(ctx, tour.Config{
		Credentials: filepath.Join(options.Dir, "credentials.json"), Program: petstore, Dir: filepath.Join(dir, "logs"),
		Note: func(text string) { t.Log(text) }, Frozen: formOf[time.Duration](2, 30) * time.Second, Killing: formOf[time.Duration](5, 60) * time.Second, Seed: uint64(began.UnixNano()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("cluster and services started in", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		if err := stage.Close(); err != nil {
			t.Error(err)
		}
		for _, log := range logs(dir) {
			if text, err := os.ReadFile(log); err == nil && (t.Failed() || bytes.Contains(text, []byte("DATA RACE"))) {
				t.Errorf("%s:\n%s", log, text[max(len(text)-4000, 0):])
			}
		}
	})
	return stage
}

func logs(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, "logs", "*.log")) // the pattern is well-formed
	return found
}
