package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/pressly/goose/v3"

	"lockstep/saga"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Bounds of a migration.
const (
	migrationReadMax  = 10 * time.Minute // one DDL statement
	migrationTurnWait = 5 * time.Second  // one wait for another node's migration, then a line of progress
	metadataLockMax   = 30 * time.Second // DDL that waits longer for running transactions gives up
)

// Migrate brings the schema of the DSN's database up to this program and names the system that it belongs to. It needs
// an account with DDL rights. Several may run at once: they take turns. It refuses a database of another system before
// changing anything.
func Migrate(ctx context.Context, dsn, system string, logger *slog.Logger) (err error) {
	config := Default()
	config.System, config.Source, config.ReadMax = system, dsn, migrationReadMax
	if err := config.Validate(); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	parsed, err := config.parseDSN(dsn)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	parsed.Params["lock_wait_timeout"] = seconds(metadataLockMax)
	db, err := pool(parsed, mariaDB(), 2) // one for the turn, one for the work
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = inTurn(ctx, db, parsed.DBName, logger, func() error {
		return migrate(ctx, db, system, logger)
	})
	if err != nil {
		return fmt.Errorf("migrate database %s at %s: %w", parsed.DBName, parsed.Addr, err)
	}
	return nil
}

// inTurn runs work while holding the server-wide lock of the database's migrations, on a connection of its own: the
// lock ends with it, whatever happens to this process.
func inTurn(ctx context.Context, db *sql.DB, database string, logger *slog.Logger, work func() error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	const turn = "CONCAT('lockstep:', LEFT(SHA2(?, 256), 40))" // a lock's name ends at 64 characters
	for {
		var mine sql.NullInt64
		row := conn.QueryRowContext(ctx, "SELECT GET_LOCK("+turn+", ?)", database, migrationTurnWait.Seconds())
		if err := row.Scan(&mine); err != nil {
			return fmt.Errorf("wait for the turn to migrate: %w", err)
		}
		if mine.Valid && mine.Int64 == 1 {
			break
		}
		logger.Info("another node migrates this database; waiting", "database", database)
	}
	defer func() { _, _ = conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK("+turn+")", database) }()
	return work()
}

func migrate(ctx context.Context, db *sql.DB, system string, logger *slog.Logger) error {
	if err := refuseOther(ctx, db, system); err != nil {
		return err
	}
	provider, err := newProvider(db)
	if err != nil {
		return err
	}
	for {
		result, err := provider.UpByOne(ctx)
		if errors.Is(err, goose.ErrNoNextVersion) {
			break
		}
		if done, failure := doneBefore(ctx, db, err); failure != nil {
			return fmt.Errorf("apply the next migration: %w", failure)
		} else if done {
			continue
		}
		logger.Info("migrated", "version", result.Source.Version, "took", result.Duration.Round(time.Millisecond))
	}
	if err := saga.Migrate(ctx, db); err != nil { // repeatable, and without versions of their own
		return err
	}
	_, err = db.ExecContext(ctx, "INSERT INTO `system` (only, id, epoch, state) VALUES (1, ?, 1, 'ready') ON DUPLICATE KEY UPDATE id = id", system)
	if err != nil {
		return fmt.Errorf("name the system: %w", err)
	}
	return nil
}

// doneBefore tells whether an ALTER failed because it was done already, by a process that died before it could note so;
// then that is noted. Each migration is one statement, so it was done whole or not at all.
func doneBefore(ctx context.Context, db *sql.DB, err error) (bool, error) {
	var partial *goose.PartialError
	if !errors.As(err, &partial) || !is(err, errorColumnThere, errorKeyThere, errorNothingToDrop) {
		return false, err
	}
	_, err = db.ExecContext(ctx, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (?, TRUE)", partial.Failed.Source.Version)
	return true, err
}

// What an ALTER fails with that was done before.
const (
	errorColumnThere   = 1060
	errorKeyThere      = 1061
	errorNothingToDrop = 1091
)

func newProvider(db *sql.DB) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	provider, err := goose.NewProvider(goose.DialectMySQL, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, fmt.Errorf("read the embedded migrations: %w", err)
	}
	return provider, nil
}

const errorNoSuchTable = 1146

// refuseOther refuses a database that already belongs to another system.
func refuseOther(ctx context.Context, db *sql.DB, system string) error {
	var id string
	err := db.QueryRowContext(ctx, "SELECT id FROM `system`").Scan(&id)
	switch {
	case errors.Is(err, sql.ErrNoRows) || is(err, errorNoSuchTable):
		return nil
	case err != nil:
		return fmt.Errorf("read which system the database belongs to: %w", err)
	case id != system:
		return fmt.Errorf("it belongs to system %q, not %q: check `system` and mysql.migrate", id, system)
	}
	return nil
}

// schemaVersion is the version of the newest embedded migration.
func schemaVersion() (int64, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(names) == 0 {
		return 0, errors.Join(errors.New("no migrations are embedded"), err)
	}
	return goose.NumericComponent(names[len(names)-1])
}

// checkSchema refuses a schema that is missing or older than this program. A newer one is welcome: each migration works
// with the previous release's nodes.
func checkSchema(ctx context.Context, db *sql.DB) error {
	wanted, err := schemaVersion()
	if err != nil {
		return err
	}
	var found sql.NullInt64
	err = db.QueryRowContext(ctx, "SELECT MAX(version_id) FROM goose_db_version WHERE is_applied").Scan(&found)
	switch {
	case is(err, errorNoSuchTable) || (err == nil && found.Int64 == 0):
		return errors.New("the database has no schema yet: run `lockstep migrate` with this configuration, then start again")
	case err != nil:
		return fmt.Errorf("read the schema's version: %w", err)
	case found.Int64 < wanted:
		return fmt.Errorf("the schema is at version %d, this program needs %d: run `lockstep migrate` with this configuration, then start again", found.Int64, wanted)
	}
	return nil
}
