package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/examples/ticketoffice/stage"
	"lockstep/examples/ticketoffice/tour"
)

// benchCommand is `ticketoffice bench`.
type benchCommand struct {
	besides
	Mode     []string `help:"Which modes to measure." enum:"monolith,events,choreography" default:"monolith,events,choreography"`
	Payments int      `help:"How many, each by a buyer of its own." default:"400"`
	Buyers   int      `help:"Who buy at the same time." default:"16"`
	Concerts int      `help:"Over which the buyers spread." default:"1"`
}

// Run prints one line for each mode.
func (c *benchCommand) Run(ctx context.Context, out io.Writer) error {
	fmt.Fprintln(out, "| mode | payments/s | order to record, p50 | p99 | transactions per payment | open, p50 | p99 | longest |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|")
	for _, mode := range c.Mode {
		if err := c.with(ctx, stage.Options{Mode: mode, Capacity: c.Payments, Direct: true}, func(s *stage.Stage) error { return c.measure(ctx, out, mode, s) }); err != nil {
			return err
		}
	}
	return nil
}

// measure pays with many buyers at once.
func (c *benchCommand) measure(ctx context.Context, out io.Writer, mode string, s *stage.Stage) error {
	jobs, err := tour.Prepare(ctx, s, c.Concerts, c.Payments)
	if err != nil {
		return err
	}
	if _, err := s.Lengths(ctx); err != nil { // forget the preparation
		return err
	}
	var mu sync.Mutex
	var took []time.Duration
	began := time.Now()
	buying, paying := errgroup.WithContext(ctx)
	buying.SetLimit(c.Buyers)
	for _, job := range jobs {
		buying.Go(func() error {
			began := time.Now()
			err := job(paying)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
			return err
		})
	}
	if err := buying.Wait(); err != nil {
		return err
	}
	seconds := time.Since(began).Seconds()
	lengths, err := s.Lengths(ctx)
	if err != nil {
		return err
	}
	if _, err := s.Audit(ctx, sceneMax); err != nil {
		return err
	}
	slices.Sort(took)
	transactions, p50, p99, longest := 0, 0.0, 0.0, 0.0
	for _, l := range lengths {
		transactions += l.Transactions
		p50, p99, longest = max(p50, l.P50), max(p99, l.P99), max(longest, l.Longest)
	}
	quantile := func(q float64) string {
		return strconv.FormatInt(took[int(q*float64(len(took)-1))].Milliseconds(), 10) + " ms"
	}
	_, err = fmt.Fprintf(out, "| %s | %.0f | %s | %s | %.1f | %.1f ms | %.1f ms | %.0f ms |\n",
		mode, float64(len(jobs))/seconds, quantile(0.5), quantile(0.99), float64(transactions)/float64(len(jobs)), p50, p99, longest)
	return err
}
