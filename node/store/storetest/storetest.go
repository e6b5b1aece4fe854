// Package storetest opens stores for tests, each on a migrated database of its own on the real test servers.
package storetest

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"lockstep/cluster/local/servers"
	"lockstep/node/store"
)

// System is the id that the test databases belong to.
const System = "alpha"

// setupMax bounds the preparation of a test's database.
const setupMax = time.Minute

// migrated are the schemas of this program, by system, as tests have needed them.
var migrated sync.Map

// Config makes a migrated database, which is dropped when the test passes and kept when it fails, and answers with what
// store.Open needs for its source and its replica.
func Config(tb testing.TB) store.Config {
	tb.Helper()
	config, _ := Database(tb)
	return config
}

// Database is Config together with the DSNs of the database, those of root among them.
func Database(tb testing.TB) (store.Config, servers.Database) {
	tb.Helper()
	database := Migrated(tb, System)
	config := store.Default()
	config.System, config.Source, config.Replicas = System, database.Source, []string{database.Replica}
	config.Logger = Logger(tb)
	return config, database
}

// Migrated makes a migrated database of a system.
func Migrated(tb testing.TB, system string) servers.Database {
	tb.Helper()
	database := servers.Shared(tb).Database(tb)
	ctx, cancel := context.WithTimeout(context.Background(), setupMax)
	defer cancel()
	of, _ := migrated.LoadOrStore(system, &schema{})
	if err := of.(*schema).in(ctx, database.Migrate, func() error {
		return store.Migrate(ctx, database.Migrate, system, slog.New(slog.DiscardHandler))
	}); err != nil {
		tb.Fatalf("storetest: %v", err)
	}
	return database
}

// Open opens a store on a database of its own. It is closed when the test ends.
func Open(tb testing.TB) *store.Store {
	tb.Helper()
	return OpenWith(tb, Config(tb))
}

// OpenWith opens a store as configured. It is closed when the test ends.
func OpenWith(tb testing.TB, config store.Config) *store.Store {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupMax)
	defer cancel()
	opened, err := store.Open(ctx, config)
	if err != nil {
		tb.Fatalf("storetest: %v", err)
	}
	tb.Cleanup(func() {
		if err := opened.Close(); err != nil {
			tb.Errorf("storetest: close: %v", err)
		}
	})
	return opened
}

// Logger writes what is said during the test into the test's own output.
func Logger(tb testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
