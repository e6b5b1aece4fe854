package storetest_test

import (
	"context"
	"database/sql"
	"log/slog"
	"reflect"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver

	"lockstep/cluster/local/servers"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

// A database that was made from what a migration left elsewhere has the same tables and rows, to the letter.
func TestACopiedSchemaIsTheMigratedOne(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var schema storetest.Schema
	migrations := 0
	fill := func() *sql.DB {
		database := servers.Shared(t).Database(t)
		err := storetest.In(&schema, ctx, database.Migrate, func() error {
			migrations++
			return store.Migrate(ctx, database.Migrate, storetest.System, slog.New(slog.DiscardHandler))
		})
		if err != nil {
			t.Fatal(err)
		}
		db, err := sql.Open("mysql", database.Migrate)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	migrated, err := storetest.TablesOf(ctx, fill())
	if err != nil {
		t.Fatal(err)
	}
	copied, err := storetest.TablesOf(ctx, fill())
	if err != nil {
		t.Fatal(err)
	}
	const tablesMin = 30
	if migrations != 1 || len(migrated) < tablesMin {
		t.Fatalf("%d migrations were made, of %d tables", migrations, len(migrated))
	}
	if !reflect.DeepEqual(copied, migrated) {
		t.Errorf("the copy is\n%s\nand was to be\n%s", copied, migrated)
	}
}
