package chaos

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// databaseFaults are what sessions and operators do to a database that runs.
func databaseFaults() []fault {
	return []fault{
		{"SQL thread of a replica stopped", one("mysql-replica"), every(execute("STOP SLAVE SQL_THREAD")), every(execute("START SLAVE SQL_THREAD"))},
		{"a session holds the rows of hot accounts", one("mysql-source"), holdRows, ended},
		{"KILL QUERY and KILL CONNECTION at random", one("mysql-source"), during(killPause, every(killSession)), ended},
		{"max_connections exhausted", one("mysql-source"), exhaust, ended},
	}
}

const (
	killPause       = 50 * time.Millisecond
	connectionsFew  = 10  // as few as the server takes
	connectionsFull = 500 // as deploy has it
)

// database opens a server as its root. Connections are few, and none is kept idle.
func (t *target) database(name string) (*sql.DB, error) {
	system, address := t.system(name), t.address(name)
	for _, dsn := range slices.Concat([]string{system.MySQLSourceDSN}, system.MySQLReplicaDSNs) { // whoever was the source when the cluster started
		if strings.Contains(dsn, "("+address+")") {
			return openDatabase(name, dsn)
		}
	}
	return nil, fmt.Errorf("there is no database %s", name)
}

func openDatabase(name, dsn string) (*sql.DB, error) {
	db, err := sql.Open("mysql", dsn+"?timeout=2s&readTimeout=5s")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	db.SetMaxIdleConns(0)
	return db, nil
}

func execute(statement string) func(ctx context.Context, t *target, name string) error {
	return func(ctx context.Context, t *target, name string) error {
		db, err := t.database(name)
		if err != nil {
			return err
		}
		defer db.Close()
		_, err = db.ExecContext(ctx, statement)
		return err
	}
}

// holdRows keeps every second account locked until the end.
func holdRows(ctx context.Context, t *target, on []string) error {
	db, err := t.database(on[0])
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(context.WithoutCancel(ctx), nil)
	if err == nil {
		_, err = tx.ExecContext(ctx, "SELECT id FROM accounts WHERE system_account IS NULL AND (id DIV 2) MOD 2 = 0 FOR UPDATE")
	}
	if err != nil {
		db.Close()
		return err
	}
	t.heal.Store(on[0], func(context.Context) error { return errors.Join(tx.Rollback(), db.Close()) })
	return nil
}

// killSession ends what one session of the nodes does, or the session.
func killSession(ctx context.Context, t *target, name string) error {
	db, err := t.database(name)
	if err != nil {
		return err
	}
	defer db.Close()
	var id int64
	err = db.QueryRowContext(ctx, "SELECT id FROM information_schema.processlist WHERE user = 'lockstep' ORDER BY command = 'Sleep', RAND() LIMIT 1").Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	verb := "KILL QUERY"
	if rand.IntN(2) == 0 {
		verb = "KILL CONNECTION"
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf("%s %d", verb, id))
	if err != nil && ctx.Err() == nil {
		return nil // it has ended by itself meanwhile
	}
	return err
}

// exhaust lowers the number of connections, ends the nodes' and takes what is free.
func exhaust(ctx context.Context, t *target, on []string) error {
	db, err := t.database(on[0])
	if err != nil {
		return err
	}
	conn, err := db.Conn(context.WithoutCancel(ctx)) // it is in, and will be able to undo it
	if err != nil {
		db.Close()
		return err
	}
	undo := func(ctx context.Context) error {
		_, err := conn.ExecContext(ctx, fmt.Sprintf("SET GLOBAL max_connections = %d", connectionsFull))
		return errors.Join(err, conn.Close(), db.Close())
	}
	var before, refused int64
	if before, err = refusals(ctx, conn); err == nil {
		_, err = conn.ExecContext(ctx, fmt.Sprintf("SET GLOBAL max_connections = %d", connectionsFew))
	}
	if err == nil {
		_, err = conn.ExecContext(ctx, "KILL CONNECTION USER 'lockstep'@'127.0.0.1'")
	}
	if err != nil {
		return errors.Join(err, undo(ctx))
	}
	var taken []*sql.Conn
	for range connectionsFew {
		more, err := db.Conn(ctx)
		if err != nil {
			break // there is none left
		}
		taken = append(taken, more)
	}
	t.heal.Store(on[0], func(ctx context.Context) error {
		for _, one := range taken {
			_ = one.Close()
		}
		if refused, err = refusals(ctx, conn); err == nil && refused == before {
			err = errors.New("no connection was refused")
		}
		return errors.Join(err, undo(ctx))
	})
	return nil
}

func refusals(ctx context.Context, conn *sql.Conn) (count int64, err error) {
	var name string
	err = conn.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Connection_errors_max_connections'").Scan(&name, &count)
	return count, err
}
