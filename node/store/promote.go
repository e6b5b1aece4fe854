package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/go-sql-driver/mysql"
)

// ErrTakesWrites says that the server which is to become the source takes writes already.
var ErrTakesWrites = errors.New("the server takes writes already: it is the source, or was promoted before")

// Promoted says what a replica has become.
type Promoted struct {
	Address string // of the server
	Applied string // the position up to which it has got the old source's commits; empty when it replicated no more
	Epoch   int64  // that the system is in now
}

// Promote makes a replica the source of its system, over an account that may control replication and write to a read-only
// server. Nothing may commit on the old source any more: whoever calls this has fenced it.
//
// All that the replica has received is applied first. Then it leaves the old source for good, and the system begins an epoch
// in which its books are unreconciled, for the old source may have acknowledged commits that the replica never received. Only
// then does the server take writes, so that no node sees it in the old epoch. A promotion that died is run again.
func Promote(ctx context.Context, dsn, system string, log *slog.Logger) (Promoted, error) {
	s, err := openForRestore(ctx, dsn, system, log)
	if err != nil {
		return Promoted{}, err
	}
	defer s.Close()
	if err := s.mayPromote(ctx); err != nil {
		return Promoted{}, err
	}
	conn, err := s.source.Conn(ctx)
	if err != nil {
		return Promoted{}, fmt.Errorf("promote: %w", err)
	}
	defer conn.Close()
	applied, err := s.leaveSource(ctx, conn)
	if err != nil {
		return Promoted{}, err
	}
	if _, err := conn.ExecContext(ctx, s.dialect.adminWrites); err != nil {
		return Promoted{}, fmt.Errorf("let administrators write: %w", err)
	}
	epoch, err := s.BeginEpoch(ctx)
	if err != nil {
		return Promoted{}, fmt.Errorf("promote (the server is no replica any more, and takes no writes until this is run again): %w", err)
	}
	if _, err := conn.ExecContext(ctx, "SET GLOBAL read_only = 0"); err != nil {
		return Promoted{}, fmt.Errorf("take writes: %w", err)
	}
	return Promoted{s.sourceAddress(), applied, epoch}, nil
}

// TakeReceived makes a replica receive no more of its source's commits and apply all that it has received, over an account that
// may control replication. It returns the position that the replica has reached. It stays a replica, of a source that it does
// not listen to until somebody starts its replication again.
func TakeReceived(ctx context.Context, dsn, system string, log *slog.Logger) (position string, err error) {
	s, err := openForRestore(ctx, dsn, system, log)
	if err != nil {
		return "", err
	}
	defer s.Close()
	conn, err := s.source.Conn(ctx)
	if err != nil {
		return "", fmt.Errorf("take what was received: %w", err)
	}
	defer conn.Close()
	if _, err := s.takeReceived(ctx, conn); err != nil {
		return "", err
	}
	if err := conn.QueryRowContext(ctx, s.dialect.position).Scan(&position); err != nil {
		return "", fmt.Errorf("ask for the position: %w", err)
	}
	return position, nil
}

// mayPromote refuses what nodes would refuse as their source, and what is no replica of this system.
func (s *Store) mayPromote(ctx context.Context) error {
	if err := checkSchema(ctx, s.control); err != nil {
		return err
	}
	if err := s.checkSystem(ctx); err != nil {
		return err
	}
	found, err := s.inspect(ctx)
	if err != nil {
		return fmt.Errorf("check the server: %w", err)
	}
	if !found.readOnly {
		return ErrTakesWrites
	}
	found.readOnly = false
	return errors.Join(found.problems(s.config.ClockSkewMax)...)
}

// replicating is what a server tells of the replication from its source.
type replicating struct {
	received            string // position of the last whole transaction that has arrived
	receiving, applying bool   // its threads run, if in vain
	file                string // of what has arrived, from which it goes on to apply
	place               int64  // in the file
	failure             string
}

// leaveSource applies what has arrived of the source's commits and ends the replication. It returns how far that was.
func (s *Store) leaveSource(ctx context.Context, conn *sql.Conn) (applied string, err error) {
	if applied, err = s.takeReceived(ctx, conn); err != nil {
		return "", err
	}
	for _, statement := range []string{s.dialect.stopReplica, s.dialect.forgetSource} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return "", fmt.Errorf("leave the old source: %w", err)
		}
	}
	return applied, nil
}

// takeReceived applies what has arrived, and lets no more arrive. It returns how far that was.
func (s *Store) takeReceived(ctx context.Context, conn *sql.Conn) (applied string, err error) {
	now, replica, err := s.replicating(ctx, conn)
	if err != nil || !replica {
		return "", err // a promotion that died later than here has ended it
	}
	if !now.receiving && !now.applying { // MariaDB throws away what has arrived when the first of two threads starts
		if _, err := conn.ExecContext(ctx, s.dialect.keepReceived, now.file, now.place); err != nil {
			return "", fmt.Errorf("keep what has arrived: %w", err)
		}
	}
	for _, statement := range []string{s.dialect.startApplying, s.dialect.stopReceiving} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return "", fmt.Errorf("apply what has arrived: %w", err)
		}
	}
	return s.applyReceived(ctx, conn)
}

// applyReceived waits until all that has arrived is applied, for as long as that takes, unless it cannot be.
func (s *Store) applyReceived(ctx context.Context, conn *sql.Conn) (string, error) {
	const look = time.Second
	for {
		now, _, err := s.replicating(ctx, conn)
		if err != nil || now.received == "" {
			return "", err
		}
		reached, err := s.dialect.reached(ctx, conn, now.received, look)
		switch {
		case err != nil:
			return "", err
		case reached:
			return now.received, nil
		case !now.applying:
			return "", fmt.Errorf("the server cannot apply what it has received up to %s: %s", now.received, now.failure)
		}
	}
}

func (s *Store) replicating(ctx context.Context, conn *sql.Conn) (now replicating, is bool, err error) {
	count := 0
	err = each(ctx, conn, func(rows *sql.Rows) error {
		columns, err := namedColumns(rows)
		if err != nil {
			return err
		}
		count++
		now = replicating{
			received:  columns["Gtid_IO_Pos"] + columns["Retrieved_Gtid_Set"],
			receiving: columns["Slave_IO_Running"]+columns["Replica_IO_Running"] != "No",
			applying:  columns["Slave_SQL_Running"]+columns["Replica_SQL_Running"] == "Yes",
			file:      columns["Relay_Log_File"],
			failure:   columns["Last_SQL_Error"],
		}
		now.place, err = strconv.ParseInt(columns["Relay_Log_Pos"], 10, 64)
		return err
	}, s.dialect.replicas)
	switch {
	case err != nil:
		return now, false, fmt.Errorf("ask for the state of replication: %w", err)
	case count > 1:
		return now, true, fmt.Errorf("the server replicates from %d sources: which of them was the system's is not known", count)
	}
	return now, count == 1, nil
}

// TakesWrites asks the servers that may be a system's source, as nodes reach them, whether one of them takes writes: that of
// Source, and all Candidates but the one that is to be promoted, given by its DSN, which Promote asks itself. The address is that of
// one that does, else of the first that gives no answer, whose error says nothing: nodes may reach what this machine does not.
func TakesWrites(ctx context.Context, config Config, to string) (takes bool, address string, err error) {
	source, err := config.parseDSN(config.Source)
	if err != nil {
		return false, "", err
	}
	promoted, err := config.parseDSN(to)
	if err != nil {
		return false, "", err
	}
	address = source.Addr
	others := slices.DeleteFunc(slices.Clone(config.Candidates), func(c string) bool { return c == source.Addr || c == promoted.Addr })
	for _, server := range append([]string{source.Addr}, others...) {
		asked, failure := config.parseDSNAt(config.Source, server)
		if failure != nil {
			return false, server, failure
		}
		takes, failure := takesWrites(ctx, asked)
		if takes {
			return true, server, nil
		}
		if failure != nil && err == nil {
			address, err = server, failure
		}
	}
	return false, address, err
}

func takesWrites(ctx context.Context, server *mysql.Config) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	db, err := pool(server, mariaDB(), 1)
	if err != nil {
		return false, err
	}
	defer db.Close()
	var readOnly bool
	err = db.QueryRowContext(ctx, askReadOnly).Scan(&readOnly)
	return err == nil && !readOnly, err
}
