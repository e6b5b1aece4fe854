package main_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/examples/ticketoffice/stage"
	"lockstep/examples/ticketoffice/tour"
)

// 500 buyers want 50 seats: exactly 50 seats are paid, and nobody else's money moves.
func TestACrowdBuysEachSeatOnce(t *testing.T) {
	const buyers, seats = 500, 50
	s := office(t, stage.Choreography)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := tour.Crowd(ctx, s, buyers, seats); err != nil {
		t.Fatal(err)
	}
	result := audited(t, s)
	if result.Paid != seats {
		t.Errorf("%d payments were paid for %d seats", result.Paid, seats)
	}
}

const longEnv = "TICKETOFFICE_LONG" // seconds of the test below

// Processes are killed at random under load, the broker among them: afterwards tickets, money and records agree.
func TestBooksAgreeAfterKills(t *testing.T) {
	seconds := 3
	if text := os.Getenv(longEnv); text != "" {
		var err error
		if seconds, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", longEnv, err)
		}
	}
	for _, mode := range []string{stage.Choreography, stage.Events, stage.Monolith} {
		t.Run(mode, func(t *testing.T) { killed(t, mode, time.Duration(seconds)*time.Second) })
	}
}

func killed(t *testing.T, mode string, length time.Duration) {
	const buyers, seats = 8, 10_000
	s := office(t, mode)
	ctx, cancel := context.WithTimeout(t.Context(), length+2*time.Minute)
	defer cancel()
	if err := s.OpenConcert(ctx, "endless", seats, 1000); err != nil {
		t.Fatal(err)
	}
	accounts, err := s.Accounts(ctx, buyers, 4500) // money for four tickets: later payments are refused
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // chooses victims
	end := time.Now().Add(length)
	working, ctx := errgroup.WithContext(ctx)
	for i := range buyers {
		working.Go(func() error {
			for n := 0; time.Now().Before(end); n++ {
				account := accounts[(i+n)%buyers]
				if err := tour.BuyOnce(ctx, s, "endless", fmt.Sprintf("fan-%d-%d", i, n), account); err != nil {
					return fmt.Errorf("buyer %d, ticket %d: %w", i, n, err)
				}
			}
			return nil
		})
	}
	kills := 0
	working.Go(func() error {
		victims := s.Processes()
		if mode == stage.Choreography {
			victims = append(victims, "broker")
		}
		for time.Now().Before(end) {
			victim := victims[random.IntN(len(victims))]
			time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond) // the fault's own time, not a wait for something
			if err := errors.Join(s.Kill(victim), s.Start(ctx, victim)); err != nil {
				return err
			}
			kills++
		}
		return nil
	})
	if err := working.Wait(); err != nil {
		t.Fatal(err)
	}
	result := audited(t, s)
	if result.Paid == 0 || kills == 0 {
		t.Errorf("%d payments were paid, %d processes killed: nothing was tried", result.Paid, kills)
	}
	t.Logf("%d kills", kills)
}
