package lab

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// counts is what one worker saw.
type counts struct {
	done      []Move
	unknown   []Move
	refused   int
	gaveUp    int
	setbacks  [Busy + 1]int
	latencies []time.Duration // of moves that were done or refused, with all their tries
}

func (c *counts) add(other counts) {
	c.done = append(c.done, other.done...)
	c.unknown = append(c.unknown, other.unknown...)
	c.refused += other.refused
	c.gaveUp += other.gaveUp
	for i, n := range other.setbacks {
		c.setbacks[i] += n
	}
	c.latencies = append(c.latencies, other.latencies...)
}

// run is a load under way.
type run struct {
	load     Load
	way      Way
	patience Patience
	tickets  atomic.Int64
	until    time.Time // zero when moves are counted
}

// Run makes new accounts, has the workers move money between them, and reads the books. It does not check them.
func (l Load) Run(ctx context.Context, way Way, patience Patience) (Result, error) {
	if err := l.Validate(); err != nil {
		return Result{}, err
	}
	if err := way.Reset(ctx, l.Accounts, l.Balance); err != nil {
		return Result{}, fmt.Errorf("make accounts: %w", err)
	}
	retries := retriesOf(way)
	began := time.Now()
	seen, err := l.work(ctx, way, patience)
	if err != nil {
		return Result{}, err
	}
	took := time.Since(began)
	retries = retriesOf(way) - retries
	books, err := way.Books(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("read the books: %w", err)
	}
	result := l.result(seen, took, books)
	result.Retries += int(retries)
	return result, nil
}

func retriesOf(way Way) int64 {
	if retrier, ok := way.(Retrier); ok {
		return retrier.Retries()
	}
	return 0
}

// work has all workers work at once. The first error that is no answer ends all of them.
func (l Load) work(ctx context.Context, way Way, patience Patience) (all counts, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &run{load: l, way: way, patience: patience}
	if l.Duration > 0 {
		r.until = time.Now().Add(l.Duration)
	}
	parts := make([]counts, l.Workers)
	var workers sync.WaitGroup
	for worker := range parts {
		workers.Go(func() {
			if err := r.worker(ctx, worker, &parts[worker]); err != nil {
				cancel(err)
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return counts{}, err
	}
	for _, part := range parts {
		all.add(part)
	}
	return all, nil
}

// over tells whether the time of a load without a count has ended.
func (r *run) over() bool { return !r.until.IsZero() && time.Now().After(r.until) }

func (r *run) worker(ctx context.Context, worker int, seen *counts) error {
	for ctx.Err() == nil && !r.over() {
		ticket := r.tickets.Add(1)
		if r.load.Count > 0 && ticket > int64(r.load.Count) {
			return nil
		}
		payer, payee := r.load.Pick(ticket)
		move := Move{Ticket: ticket, Worker: worker, Payer: payer, Payee: payee, Amount: r.load.Amount}
		if err := r.make(ctx, move, seen); err != nil {
			return fmt.Errorf("move %d: %w", ticket, err)
		}
	}
	return nil
}

// make tries a move until it is done or refused, the patience ends, or the load does.
func (r *run) make(ctx context.Context, move Move, seen *counts) error {
	began := time.Now()
	for try := 1; ; try++ {
		err := r.way.Try(ctx, move)
		var setback Setback
		switch {
		case err == nil:
			seen.done = append(seen.done, move)
			seen.latencies = append(seen.latencies, time.Since(began))
			return nil
		case errors.Is(err, ErrRefused):
			seen.refused++
			seen.latencies = append(seen.latencies, time.Since(began))
			return nil
		case errors.Is(err, ErrUnknown):
			seen.unknown = append(seen.unknown, move)
			return nil
		case !errors.As(err, &setback):
			return err
		}
		seen.setbacks[setback]++
		if try >= r.patience.Tries || r.over() {
			seen.gaveUp++
			return nil
		}
		if err := r.patience.pause(ctx); err != nil {
			return err
		}
	}
}
