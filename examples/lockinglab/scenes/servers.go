package scenes

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"lockstep/examples/lockinglab/tables"
)

// servers are the database servers of both systems, each with the lab's tables and the replicas behind it.
type servers struct {
	tables   []*tables.Tables
	replicas [][]*sql.DB // by system
	version  string
}

const (
	settleMax   = time.Minute
	settlePause = 50 * time.Millisecond
	spare       = 8 // connections beside those of the workers

	// lockWait is longer than the queue of all workers on a slow disk, so that a wait that is cut off is a circle or a storm.
	lockWait = "innodb_lock_wait_timeout=10" // seconds
)

func openServers(ctx context.Context, systems []System) (_ *servers, err error) {
	s := &servers{replicas: make([][]*sql.DB, len(systems))}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	for i, system := range systems {
		t, err := tables.Open(ctx, system.Source, manyWorkers+spare, lockWait)
		if err != nil {
			return nil, err
		}
		s.tables = append(s.tables, t)
		for _, dsn := range system.Replicas {
			db, err := sql.Open("mysql", tables.WithSchema(dsn, "")+"?interpolateParams=true&timeout=2s")
			if err != nil {
				return nil, fmt.Errorf("open a replica: %w", err)
			}
			s.replicas[i] = append(s.replicas[i], db)
		}
	}
	if err := s.tables[0].DB.QueryRowContext(ctx, "SELECT CONCAT('MariaDB ', VERSION())").Scan(&s.version); err != nil {
		return nil, fmt.Errorf("ask the server for its version: %w", err)
	}
	return s, nil
}

func (s *servers) close() {
	for _, t := range s.tables {
		t.Close()
	}
	for _, replicas := range s.replicas {
		for _, db := range replicas {
			_ = db.Close()
		}
	}
}

// deadlocks is how many both servers have resolved, whoever had them.
func (s *servers) deadlocks(ctx context.Context) (sum int64, err error) {
	for _, t := range s.tables {
		count, err := t.Deadlocks(ctx)
		if err != nil {
			return 0, err
		}
		sum += count
	}
	return sum, nil
}

// settle waits until every replica has applied what its source has committed, and acknowledges commits: a load need not pay
// for the one before it, nor be spared what the others pay.
func (s *servers) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	for i, t := range s.tables {
		var position string
		if err := t.DB.QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&position); err != nil {
			return fmt.Errorf("ask a source for its position: %w", err)
		}
		for _, db := range s.replicas[i] {
			if err := await(ctx, func() (bool, error) { return applied(ctx, db, position) }); err != nil {
				return fmt.Errorf("wait for a replica: %w", err)
			}
		}
		if len(s.replicas[i]) == 0 {
			continue
		}
		if err := await(ctx, func() (bool, error) { return acknowledged(ctx, t.DB) }); err != nil {
			return fmt.Errorf("wait for semi-synchronous replication: %w", err)
		}
	}
	return nil
}

func applied(ctx context.Context, replica *sql.DB, position string) (bool, error) {
	var waited int // 0, or -1 after the second
	err := replica.QueryRowContext(ctx, "SELECT MASTER_GTID_WAIT(?, 1)", position).Scan(&waited)
	return waited == 0, err
}

func acknowledged(ctx context.Context, source *sql.DB) (bool, error) {
	var name, state string
	err := source.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_status'").Scan(&name, &state)
	return state == "ON", err
}

// await polls until the condition holds or the context ends. A server that does not answer is asked again.
func await(ctx context.Context, holds func() (bool, error)) error {
	for {
		ok, err := holds()
		if ok && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(settlePause):
		}
	}
}
