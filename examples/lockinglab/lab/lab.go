// Package lab lets workers move money in one way after another, and compares what they were told with what the books say.
package lab

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Nobody is the payee of a use: the money leaves the books.
const Nobody = 0

// Move is one request: take the amount from one account and give it to another, or to Nobody. Accounts count from 1.
type Move struct {
	Ticket       int64 // counts the requests of a load from 1, in the order in which they were made
	Worker       int   // who asks, from 0
	Payer, Payee int
	Amount       int64
}

// ErrRefused says that the payer has less than the amount: the move did not happen and never will.
var ErrRefused = errors.New("the payer has less than the amount")

// ErrUnknown says that nobody can tell whether the move happened. It is not tried again, for that could make it twice.
var ErrUnknown = errors.New("unknown whether it happened")

// Setback says that a try left nothing behind and that another one may succeed.
type Setback int

// The setbacks.
const (
	Deadlock Setback = iota // the server saw a circle of waiting transactions and took this one back
	Timeout                 // a lock was waited for as long as is allowed
	Conflict                // the row had changed since it was read
	Busy                    // another has the lock in Redis, or the system said "not now"
)

func (s Setback) Error() string {
	return [...]string{"deadlock", "lock wait timeout", "version conflict", "busy"}[s]
}

// Way is one way to move money. Try may be called by all workers at once, each with moves of its own; the other methods only
// while nobody tries.
type Way interface {
	// Reset makes so many new accounts with the same balance, and forgets all others.
	Reset(ctx context.Context, accounts int, balance int64) error
	// Try makes the move once. The error is nil, ErrRefused, ErrUnknown, a Setback, or something that ends the load.
	Try(ctx context.Context, move Move) error
	// Books reads what the tries came to.
	Books(ctx context.Context) (Books, error)
}

// Retrier is a way that tries again by itself.
type Retrier interface {
	// Retries is how often it has done so since it was made.
	Retries() int64
}

// Books are the accounts after a load.
type Books struct {
	Balances map[int]int64
	Applied  map[int][]int64 // by account: the tickets of its moves in the order in which they took effect
}

// Patience says how often a worker tries one move, and how long it pauses in between.
type Patience struct {
	Tries              int
	PauseMin, PauseMax time.Duration // at random between them, so that losers do not meet again
}

// Fixed is a patience with always the same pause.
func Fixed(tries int, pause time.Duration) Patience {
	return Patience{Tries: tries, PauseMin: pause, PauseMax: pause}
}

// Soon is for setbacks that are over when they are known.
var Soon = Patience{Tries: 500, PauseMax: 20 * time.Millisecond}

func (p Patience) pause(ctx context.Context) error {
	timer := time.NewTimer(p.PauseMin + rand.N(p.PauseMax-p.PauseMin+1)) //nolint:gosec // G404: jitter
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Load is what the workers ask for.
type Load struct {
	Name     string
	Workers  int
	Count    int           // how many moves
	Duration time.Duration // without a count: for how long new moves begin
	Accounts int
	Balance  int64 // of each at first
	Amount   int64 // of each move

	// Pick names the accounts of a move.
	Pick func(ticket int64) (payer, payee int)
}

// Validate refuses a load that would never end or never begin.
func (l Load) Validate() error {
	switch {
	case l.Workers < 1, l.Accounts < 1, l.Amount < 1, l.Pick == nil:
		return fmt.Errorf("load %q: it needs workers, accounts, an amount and a choice of accounts", l.Name)
	case (l.Count > 0) == (l.Duration > 0):
		return fmt.Errorf("load %q: it needs either a count or a duration", l.Name)
	}
	return nil
}
