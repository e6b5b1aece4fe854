package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// dialect holds the statements and variables in which MariaDB and MySQL differ. All other SQL runs on both.
type dialect struct {
	name          string
	isolation     string // session variable
	lastGTID      string // query: a position that contains the commit just made on this connection
	position      string // query: a position that contains all that is committed
	wait          string // query(position, seconds): 0 when the replica has reached it
	replicas      string // query: what the replica's threads do, one row per source
	keepReceived  string // statement(file, place): a replica whose threads stand still will apply what it has from there on
	startApplying string // statement: the replica applies what it has received
	stopReceiving string // statement: it asks its source for no more
	stopReplica   string // statement: it does neither
	forgetSource  string // statement: it is no replica any more
	adminWrites   string // statement: a read-only server takes writes of administrators, and of nobody else
	semiSync      string // status variable
	semiSyncAcks  string // status variable: replicas that acknowledge
	statementMax  func(time.Duration) (variable, value string)
	transactIdle  func(time.Duration) (variable, value string)
	pooledIdleMax time.Duration // idle connections are dropped before the server drops them
}

func mariaDB() *dialect {
	return &dialect{
		name:          "MariaDB",
		isolation:     "tx_isolation",
		lastGTID:      "SELECT @@last_gtid",
		position:      "SELECT @@GLOBAL.gtid_binlog_pos",
		wait:          "SELECT MASTER_GTID_WAIT(?, ?)",
		replicas:      "SHOW ALL SLAVES STATUS",
		keepReceived:  "CHANGE MASTER TO MASTER_USE_GTID = no, RELAY_LOG_FILE = ?, RELAY_LOG_POS = ?",
		startApplying: "START SLAVE SQL_THREAD",
		stopReceiving: "STOP SLAVE IO_THREAD",
		stopReplica:   "STOP SLAVE",
		forgetSource:  "RESET SLAVE ALL",
		adminWrites:   "SET GLOBAL read_only = 1",
		semiSync:      "Rpl_semi_sync_master_status",
		semiSyncAcks:  "Rpl_semi_sync_master_clients",
		statementMax: func(d time.Duration) (string, string) {
			return "max_statement_time", strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
		},
		transactIdle:  func(d time.Duration) (string, string) { return "idle_transaction_timeout", seconds(d) },
		pooledIdleMax: time.Minute,
	}
}

// mySQL 8.4 has no limit for an idle transaction: the connection's own limit stands in, and the pool drops idle
// connections before it does. Its statement limit covers SELECT only; lock wait and ReadMax bound the rest.
func mySQL() *dialect {
	return &dialect{
		name:          "MySQL",
		isolation:     "transaction_isolation",
		lastGTID:      "SELECT @@GLOBAL.gtid_executed",
		position:      "SELECT @@GLOBAL.gtid_executed",
		wait:          "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)",
		replicas:      "SHOW REPLICA STATUS",
		keepReceived:  "DO ?, ?", // it does so by itself
		startApplying: "START REPLICA SQL_THREAD",
		stopReceiving: "STOP REPLICA IO_THREAD",
		stopReplica:   "STOP REPLICA",
		forgetSource:  "RESET REPLICA ALL",
		adminWrites:   "SET GLOBAL super_read_only = 0",
		semiSync:      "Rpl_semi_sync_source_status",
		semiSyncAcks:  "Rpl_semi_sync_source_clients",
		statementMax: func(d time.Duration) (string, string) {
			return "max_execution_time", strconv.FormatInt(d.Milliseconds(), 10)
		},
		transactIdle:  func(d time.Duration) (string, string) { return "wait_timeout", seconds(2 * d) },
		pooledIdleMax: 4 * time.Second,
	}
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// detect asks the server what it is.
func detect(ctx context.Context, db *sql.DB) (*dialect, error) {
	var version string
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return nil, fmt.Errorf("ask for the server's version: %w", err)
	}
	if strings.Contains(strings.ToLower(version), "mariadb") {
		return mariaDB(), nil
	}
	return mySQL(), nil
}

// reached tells whether the connection's server has applied the position, waiting at most wait.
func (d *dialect) reached(ctx context.Context, conn querier, position string, wait time.Duration) (bool, error) {
	var late sql.NullInt64
	scan := func(rows *sql.Rows) error { return rows.Scan(&late) }
	if err := each(ctx, conn, scan, d.wait, position, wait.Seconds()); err != nil {
		return false, fmt.Errorf("wait for position %q: %w", position, err)
	}
	return late.Valid && late.Int64 == 0, nil
}
