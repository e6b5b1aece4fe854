package store_test

import (
	"log/slog"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"lockstep/cluster/local/servers"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestMigrationsStartedAtOnceTakeTurns(t *testing.T) {
	t.Parallel()
	database := servers.Shared(t).Database(t)
	var group errgroup.Group
	for range 4 {
		group.Go(func() error { return store.Migrate(testContext(t), database.Migrate, "alpha", quiet()) })
	}
	if err := group.Wait(); err != nil {
		t.Fatalf("four migrations at once: %v", err)
	}
	var versions, distinct, systems int
	row := open(t, database.Admin).QueryRow("SELECT COUNT(*), COUNT(DISTINCT version_id), (SELECT COUNT(*) FROM `system`) FROM goose_db_version")
	must(t, row.Scan(&versions, &distinct, &systems))
	if versions != distinct || systems != 1 {
		t.Errorf("%d versions were written %d times, %d systems", distinct, versions, systems)
	}
}

func TestAMigrationThatWasKilledGoesOn(t *testing.T) {
	t.Parallel()
	_, database := storetest.Database(t)
	admin := open(t, database.Admin)
	_, err := admin.Exec("DELETE FROM goose_db_version WHERE version_id >= 5") // the tables are there, their versions not
	must(t, err)
	must(t, store.Migrate(testContext(t), database.Migrate, "alpha", quiet()))
}

func TestADatabaseBelongsToOneSystem(t *testing.T) {
	t.Parallel()
	config, database := storetest.Database(t)
	_, err := open(t, database.Admin).Exec("DELETE FROM goose_db_version ORDER BY version_id DESC LIMIT 1")
	must(t, err)
	err = store.Migrate(testContext(t), database.Migrate, "beta", quiet())
	if err == nil || !strings.Contains(err.Error(), `belongs to system "alpha"`) {
		t.Errorf("another system's migration said: %v", err)
	}
	must(t, store.Migrate(testContext(t), database.Migrate, "alpha", quiet()))
	config.System = "beta"
	if _, err := store.Open(testContext(t), config); err == nil || !strings.Contains(err.Error(), `belongs to system "alpha"`) {
		t.Errorf("another system's node started: %v", err)
	}
}

func TestANodeRefusesASchemaThatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	config := store.Default()
	database := servers.Shared(t).Database(t)
	config.System, config.Source, config.Logger = "alpha", database.Source, quiet()
	refused := func(when string) {
		t.Helper()
		if _, err := store.Open(testContext(t), config); err == nil || !strings.Contains(err.Error(), "run `lockstep migrate`") {
			t.Errorf("with %s a node said: %v", when, err)
		}
	}
	refused("no schema")
	must(t, store.Migrate(testContext(t), database.Migrate, "alpha", quiet()))
	admin := open(t, database.Admin)
	_, err := admin.Exec("DELETE FROM goose_db_version ORDER BY version_id DESC LIMIT 1")
	must(t, err)
	refused("an old schema")
	_, err = admin.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (999, 1)")
	must(t, err)
	storetest.OpenWith(t, config) // a newer schema works with this release
}

// Nodes cannot change the schema, whatever statement slips into one.
func TestNodesHaveNoRightToChangeTheSchema(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	if _, err := s.Source().Exec("DROP TABLE lanes"); number(err) != 1142 {
		t.Errorf("DROP TABLE by a node's account: %v", err)
	}
}
