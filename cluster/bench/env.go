package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lockstep/cluster/local"
	"lockstep/node/verify"
)

// env is what a section works with: how long a load takes, and where its results go.
type env struct {
	report   *Report
	section  string        // the one that runs
	duration time.Duration // of each load
	binary   string        // of the nodes; empty for ourselves
	began    time.Time

	speaking sync.Mutex
	out      io.Writer
}

// say prints a line of progress with the time since the start.
func (e *env) say(format string, args ...any) {
	e.speaking.Lock()
	defer e.speaking.Unlock()
	fmt.Fprintf(e.out, "%6.1fs  %s\n", time.Since(e.began).Seconds(), fmt.Sprintf(format, args...))
}

// figure records a result, judged by its bar if it has one. An empty unit says that it is a ratio.
func (e *env) figure(name string, value float64, unit string, bar ...Bar) {
	f := Figure{Section: e.section, Name: name, Value: value, Unit: unit}
	if len(bar) > 0 {
		f.Bar = &bar[0]
	}
	e.say("%s", e.report.add(f))
}

// record keeps what a load reached.
func (e *env) record(l Load) Load {
	l.Section = e.section
	e.report.Loads = append(e.report.Loads, l)
	e.say("%s", l)
	return l
}

// bufferPoolMB is InnoDB's cache on each server, enough for what the loads touch.
const bufferPoolMB = 1024

// stage is a running cluster of one system with customers in its bank.
type stage struct {
	*local.Cluster
	*env
	system  local.SystemCredentials
	bank    *bank
	source  *sql.DB   // as root
	replica []*sql.DB // as root
	dir     string
	peak    float64 // MiB, of the largest node so far
}

// open starts a cluster with two nodes, one semi-synchronous replica and three Redis servers, and fills its bank.
// change, which may be nil, may alter its options. The caller closes it.
func (e *env) open(ctx context.Context, change func(*local.Options)) (_ *stage, err error) {
	s := &stage{env: e}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp("", "lockstep-bench-"); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	options := local.Default()
	options.Dir, options.Systems, options.PortBase = filepath.Join(s.dir, "cluster"), local.SystemNames(1), 0
	options.Binary, options.BufferPoolMB, options.IDP = e.binary, bufferPoolMB, local.IDPNone
	if change != nil {
		change(&options)
	}
	e.say("starting a cluster: %d nodes, %d replicas, 3 Redis servers", options.Nodes, options.Replicas)
	if s.Cluster, err = local.Start(ctx, options); err != nil {
		return nil, err
	}
	s.system = s.Credentials().Systems[0]
	if s.source, err = sql.Open("mysql", s.system.MySQLSourceDSN+sqlParams); err != nil {
		return nil, fmt.Errorf("open the source: %w", err)
	}
	for _, dsn := range s.system.MySQLReplicaDSNs {
		db, err := sql.Open("mysql", dsn+sqlParams)
		if err != nil {
			return nil, fmt.Errorf("open a replica: %w", err)
		}
		s.replica = append(s.replica, db)
	}
	if err := s.describe(ctx); err != nil {
		return nil, err
	}
	e.say("making %d principals with %d accounts", principals, accounts)
	s.bank, err = openBank(ctx, s.system)
	return s, err
}

// close stops the cluster and removes its data.
func (s *stage) close() {
	for _, db := range append(s.replica, s.source) {
		if db != nil {
			_ = db.Close()
		}
	}
	if s.Cluster != nil {
		s.Cluster.Close()
	}
	_ = os.RemoveAll(s.dir)
}

// measure runs a load once the replicas have caught up, so that it does not pay for what came before, and checks the
// books after it.
func (s *stage) measure(ctx context.Context, l load) (result, error) {
	if l.duration == 0 {
		l.duration = s.duration
	}
	if err := s.settle(ctx); err != nil {
		return result{}, err
	}
	if err := s.bank.renew(ctx); err != nil {
		return result{}, err
	}
	before := s.spent()
	r, err := s.bank.run(ctx, l)
	if err != nil {
		return result{}, err
	}
	r.used = s.spent().since(before)
	if err := s.noteMemory(ctx); err != nil {
		return result{}, err
	}
	return r, s.verify(ctx)
}

// settleMax bounds the waiting for replicas, which look as often as settlePause.
const (
	settleMax   = 10 * time.Minute
	settlePause = 100 * time.Millisecond
)

// settle waits until every replica has applied all that the source has committed, and acknowledges commits again where
// it was too slow for a while: a load that need not wait for it would look too good.
func (s *stage) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	var position string
	if err := s.source.QueryRowContext(ctx, "SELECT @@gtid_binlog_pos").Scan(&position); err != nil {
		return fmt.Errorf("ask the source for its position: %w", err)
	}
	for _, db := range s.replica {
		applied := func() (bool, error) {
			var waited int // 0, or -1 after the second
			err := db.QueryRowContext(ctx, "SELECT MASTER_GTID_WAIT(?, 1)", position).Scan(&waited)
			return waited == 0, err
		}
		if err := await(ctx, applied); err != nil {
			return fmt.Errorf("wait for a replica: %w", err)
		}
	}
	acknowledged := func() (bool, error) {
		var name, state string
		err := s.source.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_master_status'").Scan(&name, &state)
		return state == "ON" || len(s.replica) == 0, err
	}
	if err := await(ctx, acknowledged); err != nil {
		return fmt.Errorf("wait for semi-synchronous replication: %w", err)
	}
	return nil
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

// globalStatus reads a counter of a server.
func globalStatus(ctx context.Context, db *sql.DB, name string) (value int64, err error) {
	if err := db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&name, &value); err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return value, nil
}

// verify checks all invariants of the books; a breach is an error.
func (s *stage) verify(ctx context.Context) error {
	report, err := verify.Run(ctx, s.system.MySQLSourceDSN, nil)
	if err != nil {
		return err
	}
	if !report.OK() {
		for _, breach := range report.Breaches {
			s.say("breach of %s at %s: %s", breach.Invariant, breach.Place, breach.Detail)
		}
		return verify.ErrBreach
	}
	return nil
}
