// Package store is one schema of the ticket office: its pool, its transactions and how long they take.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/pressly/goose/v3"

	"lockstep/saga"
)

//go:embed migrations
var migrations embed.FS

const (
	connectionsMax = 24
	triesMax       = 8                     // of a transaction that met a deadlock or a lock wait
	tryPauseMax    = 30 * time.Millisecond // drawn at random before the next try
	lockWaitMax    = 5                     // seconds, of a statement for a row
	lengthsMax     = 1 << 14               // transactions whose length is remembered
	cleanEvery     = time.Minute           // saga bookkeeping
	cleanAge       = 8 * 24 * time.Hour    // longer than the broker keeps a message
	cleanBatch     = 1000
)

// Store is one schema. It is a saga.Database.
type Store struct {
	pool *sql.DB

	mu      sync.Mutex
	lengths []time.Duration // of the last transactions, a ring
	count   int

	failedAt atomic.Int64 // when a transaction could last not begin, in Unix nanoseconds
}

// Open connects to the schema that a DSN names and makes the tables of the parts of the office that live in it, and those
// of package saga.
func Open(ctx context.Context, dsn string, parts ...string) (*Store, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the DSN: %w", err)
	}
	config.ParseTime, config.Loc, config.InterpolateParams, config.ClientFoundRows, config.RejectReadOnly = true, time.UTC, true, true, true
	config.Timeout, config.ReadTimeout, config.WriteTimeout = 2*time.Second, 10*time.Second, 5*time.Second
	if config.Params == nil {
		config.Params = map[string]string{}
	}
	config.Params["innodb_lock_wait_timeout"] = fmt.Sprint(lockWaitMax)
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, fmt.Errorf("read the DSN: %w", err)
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(connectionsMax)
	pool.SetMaxIdleConns(connectionsMax)
	s := &Store{pool: pool}
	if err := s.migrateAll(ctx, config.DBName, parts); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return s, nil
}

// migrateAll takes turns with other processes of the same schema, by a lock that ends with its connection.
func (s *Store) migrateAll(ctx context.Context, schema string, parts []string) error {
	const turnWait = 8 // seconds, less than the connection waits for an answer
	conn, err := s.pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var mine sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(CONCAT('ticketoffice:', ?), ?)", schema, turnWait).Scan(&mine); err != nil {
		return fmt.Errorf("wait for others who make tables: %w", err)
	}
	if mine.Int64 != 1 {
		return fmt.Errorf("others have been making tables for %d s", turnWait)
	}
	defer func() {
		_, _ = conn.ExecContext(context.WithoutCancel(ctx), "DO RELEASE_LOCK(CONCAT('ticketoffice:', ?))", schema)
	}()
	for _, part := range parts {
		if err := s.migrate(ctx, part); err != nil {
			return fmt.Errorf("make the tables of %s: %w", part, err)
		}
	}
	return saga.Migrate(ctx, s.pool)
}

func (s *Store) migrate(ctx context.Context, part string) error {
	files, err := fs.Sub(migrations, "migrations/"+part)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectMySQL, s.pool, files, goose.WithDisableGlobalRegistry(true),
		goose.WithTableName(part+"_version"))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// Close closes the pool.
func (s *Store) Close() error { return s.pool.Close() }

// Ping tells whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.pool.PingContext(ctx) }

// Begin implements saga.Database.
func (s *Store) Begin(ctx context.Context) (saga.Transaction, error) {
	began := time.Now()
	tx, err := saga.SQL(s.pool).Begin(ctx)
	if err != nil {
		s.failedAt.Store(time.Now().UnixNano())
		return nil, err
	}
	return &timed{Transaction: tx, store: s, began: began}, nil
}

// Ready says no for a second after the database could not be reached, so that nobody takes on work for it.
func (s *Store) Ready() bool { return time.Since(time.Unix(0, s.failedAt.Load())) > time.Second }

// Within runs work in one transaction. One that met a deadlock or waited too long for a row is done again, a few times: so
// work may run more than once, and is to keep nothing but what it writes by tx.
func (s *Store) Within(ctx context.Context, work func(tx saga.Tx) error) error {
	for try := 1; ; try++ {
		err := s.once(ctx, work)
		if err == nil || !again(err) || try == triesMax {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(rand.N(tryPauseMax)): //nolint:gosec // spreads load, protects nothing
		}
	}
}

func (s *Store) once(ctx context.Context, work func(tx saga.Tx) error) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := work(tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// again tells whether an error says that nothing was committed, for others stood in the way.
func again(err error) bool {
	var answer *mysql.MySQLError
	return errors.As(err, &answer) && slices.Contains([]uint16{1020, 1205, 1213}, answer.Number) && !errors.Is(err, saga.ErrCommitUnknown)
}

// timed is a transaction that notes how long it was open.
type timed struct {
	saga.Transaction
	store *Store
	began time.Time
	once  sync.Once
}

// Commit implements saga.Transaction.
func (t *timed) Commit(ctx context.Context) error {
	defer t.ended()
	return t.Transaction.Commit(ctx)
}

// Rollback implements saga.Transaction.
func (t *timed) Rollback() error {
	defer t.ended()
	return t.Transaction.Rollback()
}

func (t *timed) ended() { t.once.Do(func() { t.store.note(time.Since(t.began)) }) }

func (s *Store) note(length time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lengths) < lengthsMax {
		s.lengths = append(s.lengths, length)
	} else {
		s.lengths[s.count%lengthsMax] = length
	}
	s.count++
}

// Lengths says how long transactions were open.
type Lengths struct {
	Transactions int     `json:"transactions"`
	P50          float64 `json:"p50_ms"`
	P99          float64 `json:"p99_ms"`
	Longest      float64 `json:"longest_ms"`
}

// Lengths sums up the transactions since the last call.
func (s *Store) Lengths() Lengths {
	s.mu.Lock()
	lengths, count := s.lengths, s.count
	s.lengths, s.count = nil, 0
	s.mu.Unlock()
	if len(lengths) == 0 {
		return Lengths{}
	}
	slices.Sort(lengths)
	ms := func(q float64) float64 {
		return float64(lengths[int(q*float64(len(lengths)-1))].Microseconds()) / 1000
	}
	return Lengths{Transactions: count, P50: ms(0.5), P99: ms(0.99), Longest: ms(1)}
}

// CleanUp deletes what package saga needs no more, every minute until ctx ends. Errors are left to the next time.
func (s *Store) CleanUp(ctx context.Context, log *saga.Log) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(cleanEvery):
			_, _ = log.Clean(ctx, cleanAge, cleanBatch)
			_, _ = saga.CleanInbox(ctx, s, cleanAge, cleanBatch)
		}
	}
}
