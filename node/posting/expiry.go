package posting

import (
	"context"
	"sync"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/rounds"
)

const (
	expiryPause   = time.Second
	expiryHolds   = 200 // expired in one round
	expiryTimeout = 10 * time.Second
)

// ExpireHolds ends clients' holds whose time is over, by the database's clock, until ctx ends. Every node may run it: a
// hold expires once, whoever comes first.
func (e *Engine) ExpireHolds(ctx context.Context) {
	rounds.Make(ctx, expiryPause, e.expireDue)
}

func (e *Engine) expireDue(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, expiryTimeout)
	defer cancel()
	holds, err := store.DueHolds(ctx, e.store.Source(), expiryHolds)
	if err != nil {
		e.log.Debug("holds that are due cannot be listed", "error", err)
		return
	}
	var expired sync.WaitGroup
	for _, hold := range holds { // together, to be combined
		expired.Go(func() { e.expire(ctx, hold) })
	}
	expired.Wait()
}

func (e *Engine) expire(ctx context.Context, hold ledger.Hold) {
	operation := ledger.Settle{
		Hold: hold.ID, End: ledger.Expired, Account: ledger.NewNumber(e.store.System(), hold.Account),
	}
	if _, err := e.Submit(ctx, Command{Operation: operation}); err != nil {
		e.log.Debug("a due hold could not be expired now", "hold", hold.ID, "error", err)
	}
}
