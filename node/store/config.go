package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lockstep/node/ledger"
)

// Config says which database a Store stands on and where its bounds are. Start from Default.
type Config struct {
	System   string   // id of the payment system, e.g. "alpha"
	Source   string   // DSN of the source, without parameters: the store adds its own
	Replicas []string // DSNs of the read replicas
	// Addresses, host:port, of all servers that may be the source, in one another's place. The one that takes writes in the
	// highest epoch is, whatever address Source has. Without them it is the server of Source, and a promotion needs a new one.
	Candidates []string

	AllowUnsafe bool // start on settings that can lose acknowledged money; for tests only
	Logger      *slog.Logger
	Clock       func() time.Time // the node's own clock
	Faults      Faults           // nil in production

	SourceConnsMax  int // connections to the source for transactions, and as many for reads
	ReplicaConnsMax int // connections to each replica

	DialMax            time.Duration // one connection attempt
	LockWaitMax        time.Duration // one wait for a row lock, at the server; whole seconds
	StatementMax       time.Duration // one statement, at the server
	IdleTransactionMax time.Duration // a transaction whose node says nothing is rolled back; whole seconds
	ReadMax            time.Duration // one answer of the server, seen from here
	WriteMax           time.Duration // one request to the server, seen from here

	CheckEvery     time.Duration // source and replicas are looked at
	LagMax         time.Duration // a replica further behind serves nothing
	TokenWaitMax   time.Duration // a read waits for a replica to reach its token
	ReplicaReadMax time.Duration // a read on a replica; then the source is asked

	LeaseFor   time.Duration // how long a node id stays taken without a word from its node; whole seconds
	LeaseEvery time.Duration // the node renews its lease

	ClockSkewMax time.Duration // between this clock and the database's, at the start
}

// Faults are the points at which tests break a commit. An error of BeforeCommit keeps COMMIT from being sent; an error
// of AfterCommit, called when COMMIT has succeeded, is what the caller gets in place of the success.
type Faults interface {
	BeforeCommit(ctx context.Context) error
	AfterCommit(ctx context.Context) error
}

// Default is a Config with every bound set. System, Source and Replicas are to be filled in.
func Default() Config {
	return Config{
		Logger: slog.Default(), Clock: time.Now,
		SourceConnsMax: 16, ReplicaConnsMax: 16,
		DialMax: 2 * time.Second, LockWaitMax: 2 * time.Second, StatementMax: 5 * time.Second,
		IdleTransactionMax: 5 * time.Second, ReadMax: 6 * time.Second, WriteMax: 3 * time.Second,
		CheckEvery: time.Second, LagMax: 10 * time.Second,
		TokenWaitMax: 100 * time.Millisecond, ReplicaReadMax: 2 * time.Second,
		LeaseFor: 15 * time.Second, LeaseEvery: 3 * time.Second,
		ClockSkewMax: 5 * time.Second,
	}
}

// Validate names the first setting that cannot work, also in relation to the others.
func (c *Config) Validate() error {
	switch {
	case !ledger.ValidSystem(c.System):
		return fmt.Errorf("system %q: must be a lower-case letter and 1 to 15 more letters or digits", c.System)
	case c.Source == "":
		return errors.New("the source's DSN is missing: set mysql.source")
	case c.Logger == nil || c.Clock == nil:
		return errors.New("a logger and a clock are required: start from store.Default()")
	case c.SourceConnsMax < 1 || c.ReplicaConnsMax < 1:
		return errors.New("SourceConnsMax and ReplicaConnsMax must be at least 1")
	}
	return c.validateDurations()
}

func (c *Config) validateDurations() error {
	least := min(c.DialMax, c.WriteMax, c.CheckEvery, c.TokenWaitMax, c.ClockSkewMax, c.LeaseEvery)
	switch {
	case least <= 0:
		return errors.New("DialMax, WriteMax, CheckEvery, TokenWaitMax, ClockSkewMax and LeaseEvery must be more than zero")
	case !wholeSeconds(c.LockWaitMax) || !wholeSeconds(c.IdleTransactionMax) || !wholeSeconds(c.LeaseFor):
		return errors.New("LockWaitMax, IdleTransactionMax and LeaseFor must be whole seconds, at least one")
	case c.LockWaitMax >= c.StatementMax:
		return fmt.Errorf("LockWaitMax %s must be less than StatementMax %s", c.LockWaitMax, c.StatementMax)
	case c.StatementMax >= c.ReadMax:
		return fmt.Errorf("StatementMax %s must be less than ReadMax %s", c.StatementMax, c.ReadMax)
	case c.LagMax < 2*c.CheckEvery:
		return fmt.Errorf("LagMax %s must be at least twice CheckEvery %s", c.LagMax, c.CheckEvery)
	case c.ReplicaReadMax <= c.TokenWaitMax:
		return fmt.Errorf("ReplicaReadMax %s must be more than TokenWaitMax %s", c.ReplicaReadMax, c.TokenWaitMax)
	case c.LeaseFor < 3*c.LeaseEvery:
		return fmt.Errorf("LeaseFor %s must be at least three times LeaseEvery %s", c.LeaseFor, c.LeaseEvery)
	}
	return nil
}

func wholeSeconds(d time.Duration) bool { return d >= time.Second && d%time.Second == 0 }
