package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// replica is one read replica and what is known of it.
type replica struct {
	store   *Store
	db      *sql.DB
	serving atomic.Bool
	lagging atomic.Bool // it did not reach the newest sample in good time: waiting for it is in vain

	mu       sync.Mutex
	state    ReplicaState
	syncedAt time.Time // it shows all that was committed before; zero: not known
}

// openReplica prepares the pool. It does not dial: a replica that is away hinders no start.
func (s *Store) openReplica(dsn string) (*replica, error) {
	parsed, err := s.config.parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	parsed.RejectReadOnly = false // it is one
	s.config.session(parsed, s.dialect)
	db, err := pool(parsed, s.dialect, s.config.ReplicaConnsMax)
	if err != nil {
		return nil, err
	}
	return &replica{store: s, db: db, state: ReplicaState{Address: parsed.Addr, Problem: "not looked at yet"}}, nil
}

func (r *replica) get() ReplicaState {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.state
	state.Serving = r.serving.Load()
	return state
}

// fail takes the replica out until the next look.
func (r *replica) fail(err error) {
	r.serving.Store(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.Problem = err.Error()
}

var errIsSource = errors.New("it is the source")

// look finds out how old the replica's data is, and whether it may serve.
func (r *replica) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	if len(r.store.candidates) > 0 && r.get().Address == r.store.sourceAddress() {
		r.fail(errIsSource)
		return
	}
	conn, err := r.db.Conn(ctx)
	if err != nil {
		r.fail(fmt.Errorf("connect: %w", err))
		return
	}
	defer conn.Close()
	if err := r.measure(ctx, conn); err != nil {
		r.fail(err)
	}
}

// measure compares the replica with the source's samples. Seconds_Behind_Source is not enough: it is NULL when a thread
// is stopped, whatever the age of the data. It only stands in when no sample was ever reached.
func (r *replica) measure(ctx context.Context, conn *sql.Conn) error {
	samples := r.store.samples.get()
	if len(samples) == 0 {
		return errors.New("the source was not seen yet")
	}
	newest := samples[len(samples)-1].at
	synced, err := r.synced(ctx, conn, samples)
	if err != nil {
		return err
	}
	threads := r.threads(ctx, conn)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case synced.After(r.syncedAt):
		r.syncedAt = synced
	case r.syncedAt.IsZero() && threads.behind.Valid:
		r.syncedAt = newest.Add(-time.Duration(threads.behind.Int64) * time.Second)
	}
	r.judge(newest, threads)
	return nil
}

// synced is the time of the newest sample that the replica has reached, or zero.
func (r *replica) synced(ctx context.Context, conn *sql.Conn, samples []sample) (time.Time, error) {
	wait := r.store.config.CheckEvery / 2
	for i := len(samples) - 1; i >= 0; i-- {
		reached, err := r.store.dialect.reached(ctx, conn, samples[i].position, wait)
		if err != nil {
			return time.Time{}, err
		}
		if reached {
			return samples[i].at, nil
		}
		wait = 0
	}
	return time.Time{}, nil
}

// judge sets the state from what was measured.
func (r *replica) judge(newest time.Time, threads threads) {
	lagMax := r.store.config.LagMax
	state := ReplicaState{Address: r.state.Address, IO: threads.io, Apply: threads.apply}
	switch {
	case r.syncedAt.IsZero():
		state.Problem = "how far it is behind is not known: its replication is stopped"
	default:
		state.Behind = max(0, newest.Sub(r.syncedAt))
		if state.Behind > lagMax {
			state.Problem = fmt.Sprintf("it is %s behind, more than %s", state.Behind.Round(time.Second), lagMax)
		}
	}
	r.lagging.Store(state.Behind > 0)
	r.serving.Store(state.Problem == "")
	r.state = state
}

// threads is what a replica says of its replication.
type threads struct {
	io, apply bool
	behind    sql.NullInt64 // seconds
}

// threads reads the replication status, whose columns are named differently by each server and release. A replica
// account that may not ask leaves it empty.
func (r *replica) threads(ctx context.Context, conn *sql.Conn) threads {
	var found threads
	_ = each(ctx, conn, func(rows *sql.Rows) error {
		columns, err := namedColumns(rows)
		if err != nil {
			return err
		}
		found.io = columns["Slave_IO_Running"] == "Yes" || columns["Replica_IO_Running"] == "Yes"
		found.apply = columns["Slave_SQL_Running"] == "Yes" || columns["Replica_SQL_Running"] == "Yes"
		behind, err := strconv.ParseInt(columns["Seconds_Behind_Master"]+columns["Seconds_Behind_Source"], 10, 64)
		found.behind = sql.NullInt64{Int64: behind, Valid: err == nil}
		return nil
	}, r.store.dialect.replicas)
	return found
}

// namedColumns reads a row whose columns are not known beforehand; NULL becomes "".
func namedColumns(rows *sql.Rows) (map[string]string, error) {
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values := make([]sql.NullString, len(names))
	targets := make([]any, len(names))
	for i := range values {
		targets[i] = &values[i]
	}
	if err := rows.Scan(targets...); err != nil {
		return nil, err
	}
	columns := make(map[string]string, len(names))
	for i, name := range names {
		columns[name] = values[i].String
	}
	return columns, nil
}
