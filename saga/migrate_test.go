package saga_test

import (
	"sync"
	"testing"

	"github.com/pressly/goose/v3"

	"lockstep/cluster/local/servers"
	"lockstep/saga"
)

// Several nodes start at once, and each start migrates again.
func TestMigrationsMayBeRepeatedByManyAtOnce(t *testing.T) {
	t.Parallel()
	db := pool(t, servers.Shared(t).Database(t).Migrate)
	ctx := testContext(t)
	var nodes sync.WaitGroup
	for range 4 {
		nodes.Go(func() {
			if err := saga.Migrate(ctx, db); err != nil {
				t.Error(err)
			}
		})
	}
	nodes.Wait()
	must(t, saga.Migrate(ctx, db))
	// A host may run the same files by goose, also after Migrate.
	provider, err := goose.NewProvider(goose.DialectMySQL, db, saga.Migrations())
	must(t, err)
	results, err := provider.Up(ctx)
	must(t, err)
	if len(results) != 4 {
		t.Errorf("goose ran %d migrations", len(results))
	}
}
