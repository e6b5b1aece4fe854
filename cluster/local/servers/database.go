package servers

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // registers the driver that the DSNs are for
)

// Schemas is the pattern of the databases that tests may make, as GRANT spells it.
const Schemas = `test\_%`

// Database is a fresh, empty database of one test, as DSNs of the accounts that
// production has, on source and replica.
type Database struct {
	Name    string
	Source  string // lockstep: SELECT, INSERT, UPDATE, DELETE
	Replica string // lockstep_read, on the replica: SELECT, SLAVE MONITOR
	Migrate string // lockstep_migrate: all rights in this database

	Admin        string // root, on the source
	AdminReplica string // root, on the replica
}

// Database makes a database of the test's own, on the source, and returns when the
// replica has it too. It is dropped when the test passed, and kept when it failed,
// for a day.
func (s *Servers) Database(tb testing.TB) Database {
	tb.Helper()
	name := databaseName(tb.Name())
	if err := s.create(name); err != nil {
		tb.Fatalf("make database %s: %v", name, err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("kept database %s at %s", name, s.SourceAddr)
			return
		}
		if err := onAdmin(s.Admin, func(ctx context.Context, conn *sql.Conn) error {
			_, err := conn.ExecContext(ctx, "DROP DATABASE "+name)
			return err
		}); err != nil {
			tb.Errorf("drop database %s: %v", name, err)
		}
	})
	return Database{
		Name: name, Source: s.Source + name, Replica: s.Replica + name, Migrate: s.Migrate + name,
		Admin: s.Admin + name, AdminReplica: s.AdminReplica + name,
	}
}

// databaseName tells a human whose database it is, and is like no other.
func databaseName(test string) string {
	const testNameMax = 40 // of 64 characters in all
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	var unique [6]byte
	_, _ = rand.Read(unique[:]) // never fails, see crypto/rand
	return "test_" + plain[:min(len(plain), testNameMax)] + "_" + hex.EncodeToString(unique[:])
}

func (s *Servers) create(name string) error {
	const replicaWaitSeconds = 20
	var gtid string
	err := onAdmin(s.Admin, func(ctx context.Context, conn *sql.Conn) error {
		if _, err := conn.ExecContext(ctx, "CREATE DATABASE "+name+
			" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"); err != nil {
			return err
		}
		return conn.QueryRowContext(ctx, "SELECT @@last_gtid").Scan(&gtid)
	})
	if err != nil {
		return err
	}
	return onAdmin(s.AdminReplica, func(ctx context.Context, conn *sql.Conn) error {
		var late int
		row := conn.QueryRowContext(ctx, "SELECT MASTER_GTID_WAIT(?, ?)", gtid, replicaWaitSeconds)
		if err := row.Scan(&late); err != nil {
			return fmt.Errorf("wait for the replica: %w", err)
		}
		if late != 0 {
			return fmt.Errorf("the replica did not get it within %d s", replicaWaitSeconds)
		}
		return nil
	})
}

// onAdmin runs work in one session of root.
func onAdmin(dsn string, work func(context.Context, *sql.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return work(ctx, conn)
}
