package store

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/go-sql-driver/mysql"
)

// sqlMode refuses what would otherwise be stored cut or wrapped.
const sqlMode = "'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION'"

// parseDSN reads a DSN and gives it what every connection of ours has; the driver's defaults know no timeouts.
func (c *Config) parseDSN(dsn string) (*mysql.Config, error) {
	parsed, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the DSN (it looks like user:password@tcp(host:port)/database): %w", err)
	}
	if parsed.DBName == "" {
		return nil, fmt.Errorf("the DSN of %s names no database: add /name", parsed.Addr)
	}
	parsed.Timeout, parsed.ReadTimeout, parsed.WriteTimeout = c.DialMax, c.ReadMax, c.WriteMax
	parsed.InterpolateParams = true // one round trip per statement
	parsed.ClientFoundRows = true   // an UPDATE counts the rows it found
	parsed.RejectReadOnly = true    // a demoted source closes the connection
	parsed.ParseTime, parsed.Loc = true, time.UTC
	parsed.MultiStatements = false
	parsed.Logger = log.New(io.Discard, "", 0) // the driver's lines say nothing that its errors do not
	if err := parsed.Apply(mysql.Charset("utf8mb4", "utf8mb4_bin")); err != nil {
		return nil, err
	}
	if parsed.Params == nil {
		parsed.Params = map[string]string{}
	}
	parsed.Params["time_zone"] = "'+00:00'"
	parsed.Params["sql_mode"] = sqlMode
	return parsed, nil
}

// parseDSNAt reads a DSN for another server of the same system. By TLS that one has to name itself, unless a name is set for all.
func (c *Config) parseDSNAt(dsn, address string) (*mysql.Config, error) {
	parsed, err := mysql.ParseDSN(dsn)
	if err != nil {
		return c.parseDSN(dsn) // which says so
	}
	parsed.Addr = address
	return c.parseDSN(parsed.FormatDSN()) // the driver takes the name from the address as it reads
}

// session adds what only a server of a known dialect understands.
func (c *Config) session(parsed *mysql.Config, d *dialect) {
	parsed.Params[d.isolation] = "'READ-COMMITTED'"
	parsed.Params["innodb_lock_wait_timeout"] = seconds(c.LockWaitMax)
	variable, value := d.statementMax(c.StatementMax)
	parsed.Params[variable] = value
	variable, value = d.transactIdle(c.IdleTransactionMax)
	parsed.Params[variable] = value
}

// pool opens a pool of at most connsMax connections; it does not dial.
func pool(parsed *mysql.Config, d *dialect, connsMax int) (*sql.DB, error) {
	connector, err := mysql.NewConnector(parsed)
	if err != nil {
		return nil, fmt.Errorf("prepare connections to %s: %w", parsed.Addr, err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(connsMax)
	db.SetMaxIdleConns(connsMax)
	db.SetConnMaxIdleTime(d.pooledIdleMax)
	return db, nil
}

// identify dials once to learn the dialect of the server.
func (c *Config) identify(ctx context.Context, parsed *mysql.Config) (*dialect, error) {
	db, err := pool(parsed, mariaDB(), 1)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return detect(ctx, db)
}
