// Package store keeps a payment system's money in MySQL or MariaDB: migrations, transactions that their first error
// poisons, idempotency claims, node leases, and reads that replicas answer when they are fresh enough.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// openMax bounds the first look at source and replicas.
const openMax = 15 * time.Second

// Store is a system's database: one source and its replicas. It is safe for concurrent use.
type Store struct {
	config       Config
	leader       *leader // the source's server
	candidates   []*candidate
	dialect      *dialect
	transactions *sql.DB // autocommit off, for Tx only
	source       *sql.DB // reads and single statements
	control      *sql.DB // leases and checks, which must not wait behind the load
	replicas     []*replica
	next         atomic.Uint64 // replica whose turn it is

	following  sync.Mutex
	noting     sync.Mutex // of epoch and reconciled
	epoch      atomic.Int64
	reconciled atomic.Bool
	offset     atomic.Int64 // nanoseconds that the database's clock is ahead of ours
	samples    samples
	health     health

	running context.Context // ends with Close
	stop    context.CancelFunc
	ended   sync.WaitGroup
	closed  sync.Once
}

// Open connects to the source and the replicas and checks that money is safe there. It refuses a source whose settings
// can lose acknowledged commits, that is read-only, whose clock is far from ours, whose schema is missing or older than
// this program, or that belongs to another system. Replicas that are away are waited for in the background.
func Open(ctx context.Context, config Config) (*Store, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("store configuration: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, openMax)
	defer cancel()
	s := &Store{config: config, stop: func() {}}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.watch(ctx)
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.openSource(ctx); err != nil {
		return fmt.Errorf("source: %w", err)
	}
	for i, dsn := range s.config.Replicas {
		replica, err := s.openReplica(dsn)
		if err != nil {
			return fmt.Errorf("replica %d: %w", i+1, err)
		}
		s.replicas = append(s.replicas, replica)
	}
	if err := s.selfCheck(ctx); err != nil {
		return err
	}
	if err := checkSchema(ctx, s.control); err != nil {
		return err
	}
	return s.checkSystem(ctx)
}

// openSource makes the three pools of the source.
func (s *Store) openSource(ctx context.Context) error {
	parsed, err := s.config.parseDSN(s.config.Source)
	if err != nil {
		return err
	}
	if err := s.lead(ctx, parsed); err != nil {
		return err
	}
	if s.dialect, err = s.config.identify(ctx, parsed); err != nil {
		return err
	}
	s.config.session(parsed, s.dialect)
	const controlConnsMax = 3
	if s.control, err = pool(parsed, s.dialect, controlConnsMax); err != nil {
		return err
	}
	parsed.MultiStatements = true // several statements of a batch, or of a read, in one round trip; all values are escaped
	if s.source, err = pool(parsed, s.dialect, s.config.SourceConnsMax); err != nil {
		return err
	}
	parsed.Params["autocommit"] = "0"
	s.transactions, err = pool(parsed, s.dialect, s.config.SourceConnsMax)
	return err
}

// Close ends the background work and closes all connections. It may be called twice.
func (s *Store) Close() error {
	var err error
	s.closed.Do(func() {
		s.stop()
		s.ended.Wait()
		for _, db := range []*sql.DB{s.transactions, s.source, s.control} {
			if db != nil {
				err = errors.Join(err, db.Close())
			}
		}
		for _, replica := range s.replicas {
			err = errors.Join(err, replica.db.Close())
		}
		for _, candidate := range s.candidates {
			err = errors.Join(err, candidate.db.Close())
		}
	})
	return err
}

// System is the id of the payment system.
func (s *Store) System() string { return s.config.System }

// Epoch is the system's epoch as last read from the source.
func (s *Store) Epoch() int64 { return s.epoch.Load() }

// Now is the database's time: this node's clock and the offset between the two, measured every clockEvery.
func (s *Store) Now() time.Time {
	return s.config.Clock().Add(time.Duration(s.offset.Load())).UTC().Truncate(time.Microsecond)
}

// Source is the pool for plain reads and single statements on the source. Changes of money go through Begin.
func (s *Store) Source() *sql.DB { return s.source }
