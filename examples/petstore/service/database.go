package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/pressly/goose/v3"

	"lockstep/saga"
)

const (
	connectionsMax = 32
	dialMax        = 2 * time.Second
	readMax        = 15 * time.Second // above the lock wait, or its error would look like a lost connection
	writeMax       = 5 * time.Second
	lockWaitMax    = "5" // seconds
)

// Database opens the schema of a service, brings it up to date with the service's migrations and those of package saga, and
// returns it ready for use. The account of the DSN needs the right to CREATE. Several processes may do so at once.
func Database(ctx context.Context, dsn string, migrations fs.FS) (*sql.DB, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the DSN: %w", err)
	}
	config.ParseTime, config.Loc, config.ClientFoundRows, config.InterpolateParams, config.RejectReadOnly = true, time.UTC, true, true, true
	config.Timeout, config.ReadTimeout, config.WriteTimeout = dialMax, readMax, writeMax
	if config.Params == nil {
		config.Params = map[string]string{}
	}
	if config.Params["innodb_lock_wait_timeout"] == "" {
		config.Params["innodb_lock_wait_timeout"] = lockWaitMax
	}
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("read the DSN: %w", err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(connectionsMax)
	db.SetMaxIdleConns(connectionsMax)
	db.SetConnMaxIdleTime(time.Minute)
	if err := migrate(ctx, db, config.DBName, migrations); err != nil {
		return nil, errors.Join(fmt.Errorf("migrate %s: %w", config.DBName, err), db.Close())
	}
	return db, nil
}

// migrate takes turns with other processes by a lock that ends with its connection.
func migrate(ctx context.Context, db *sql.DB, schema string, migrations fs.FS) error {
	const turnWait = 60 // seconds
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var mine sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(CONCAT('petstore:', ?), ?)", schema, turnWait).Scan(&mine); err != nil {
		return err
	}
	if mine.Int64 != 1 {
		return fmt.Errorf("another process has been migrating for %d s", turnWait)
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK(CONCAT('petstore:', ?))", schema)
	}()
	provider, err := goose.NewProvider(goose.DialectMySQL, db, migrations, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if _, err := provider.Up(ctx); err != nil {
		return err
	}
	return saga.Migrate(ctx, db)
}

// Within runs work in a transaction of its own, and commits it if work succeeds.
func Within(ctx context.Context, db saga.Database, work func(tx saga.Tx) error) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}
