package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"

	"github.com/go-sql-driver/mysql"

	"lockstep/node/ledger"
)

// Consistency says how fresh a read must be. The zero value takes any replica that is less than LagMax behind.
type Consistency struct {
	Token  Token // at least the state of this write
	Source bool  // the source itself
}

// ReadFrom tells which server answered a read.
type ReadFrom string

// The servers that answer reads.
const (
	FromSource  ReadFrom = "source"
	FromReplica ReadFrom = "replica"
)

// Read runs fn on a replica that is fresh enough, waiting at most TokenWaitMax for one to reach the token, and else on
// the source. What a replica misses (ErrMiss) or fails at is asked again at the source, so fn must be able to run twice.
// A refusal of fn (*ledger.Error) is returned as it is; when no server can answer, the error holds the refusal
// SourceUnavailable. So it does while the source takes no writes, for it may have been replaced, and when the servers have
// interrupted it.
func (s *Store) Read(ctx context.Context, want Consistency, fn func(context.Context, *Queries) error) (ReadFrom, error) {
	needs, gtid := s.need(want)
	if needs != needSource {
		err := s.readReplicas(ctx, gtid, fn)
		if err == nil || isRefusal(err) {
			return FromReplica, err
		}
	}
	err := s.readOn(ctx, s.source, fn)
	if err != nil && (ClassOf(err) == ClassServer || Interrupted(err)) && !isRefusal(err) {
		err = fmt.Errorf("%w: read: %w", unavailable(), err)
	}
	return FromSource, err
}

func isRefusal(err error) bool {
	var refusal *ledger.Error
	return errors.As(err, &refusal)
}

func unavailable() *ledger.Error {
	return ledger.Refuse(ledger.SourceUnavailable, "the database does not answer at the moment; please try again")
}

// errNotFresh sends a read to the source.
var errNotFresh = errors.New("no replica is fresh enough")

// readReplicas asks the replicas in turn. One that does not answer is left out until it is looked at again; any other
// error ends the search, for the next replica would say the same.
func (s *Store) readReplicas(ctx context.Context, gtid string, fn func(context.Context, *Queries) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.ReplicaReadMax)
	defer cancel()
	turn := s.next.Add(1)
	for i := range s.replicas {
		replica := s.replicas[(turn+uint64(i))%uint64(len(s.replicas))]
		if !replica.serving.Load() {
			continue
		}
		err := s.readOn(ctx, replica.db, replica.fresh(gtid, fn))
		if err == nil || isRefusal(err) || ClassOf(err) != ClassServer {
			return err
		}
		replica.fail(err)
	}
	return errNotFresh
}

// readOn runs fn on one connection.
func (s *Store) readOn(ctx context.Context, db *sql.DB, fn func(context.Context, *Queries) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	q := &Queries{conn: conn, system: s.config.System}
	if db == s.source {
		q.conn = sourceConn{conn}
	}
	return fn(ctx, q)
}

// sourceConn reads from a server that must be the source. One that takes no writes was replaced, perhaps, or is on the way back
// after a crash, with commits that nobody was told of and that may be put aside.
type sourceConn struct{ *sql.Conn }

const askReadOnly = "SELECT @@GLOBAL.read_only"

// errNoSource is what the server itself answers to a write.
var errNoSource = &mysql.MySQLError{Number: errorReadOnly, Message: "the server takes no writes, so it may not be the source"}

// QueryContext asks whether the server takes writes in the same round trip, before the query.
func (c sourceConn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := c.Conn.QueryContext(ctx, askReadOnly+"; "+query, args...)
	if err != nil {
		return nil, err
	}
	readOnly := true
	for rows.Next() {
		err = rows.Scan(&readOnly)
	}
	if err == nil && readOnly && rows.Err() == nil {
		err = errNoSource
	}
	if err == nil && !rows.NextResultSet() && rows.Err() == nil {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, rows.Err()); err != nil {
		return nil, errors.Join(err, rows.Close()) //nolint:sqlclosecheck // else they are the caller's
	}
	return rows, nil
}

// fresh runs fn when the replica has reached the position; "" is any. A replica that is known to lag is asked, but not
// waited for: under load the waits would use up its connections.
func (r *replica) fresh(position string, fn func(context.Context, *Queries) error) func(context.Context, *Queries) error {
	if position == "" {
		return fn
	}
	wait := r.store.config.TokenWaitMax
	if r.lagging.Load() {
		wait = 0
	}
	return func(ctx context.Context, q *Queries) error {
		reached, err := r.store.dialect.reached(ctx, q.conn, position, wait)
		if err != nil {
			return err
		}
		if !reached {
			return errNotFresh
		}
		return fn(ctx, q)
	}
}
