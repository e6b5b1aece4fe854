package main_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/examples/ticketoffice/stage"
	"lockstep/examples/ticketoffice/tour"
)

// longEnv gives the length in seconds of the kills; make it 60 for the long proof.
const longEnv = "TICKETOFFICE_LONG"

// Each mode has one office, and after each part of its test all books agree.
func TestChoreography(t *testing.T) {
	t.Parallel()
	s := office(t, stage.Options{Mode: stage.Choreography})
	scenes(t, s, stage.Choreography)
	play(t, s, tour.PushDown)
	t.Run("500 buyers for 50 seats: exactly 50 are paid", func(t *testing.T) { crowd(t, s) })
	t.Run("processes are killed", func(t *testing.T) { killed(t, s, append(s.Processes(), "broker")) })
}

func TestEvents(t *testing.T) {
	t.Parallel()
	s := office(t, stage.Options{Mode: stage.Events})
	scenes(t, s, stage.Events)
	t.Run("the process is killed", func(t *testing.T) { killed(t, s, s.Processes()) })
}

func TestMonolith(t *testing.T) {
	t.Parallel()
	s := office(t, stage.Options{Mode: stage.Monolith})
	scenes(t, s, stage.Monolith)
	t.Run("the process is killed", func(t *testing.T) { killed(t, s, s.Processes()) })
}

// What Lockstep tells brings tickets on, and holds that expire end them.
func TestHints(t *testing.T) {
	t.Parallel()
	s := office(t, stage.Options{Mode: stage.Choreography, HoldExpires: 12 * time.Second})
	playAll(t, s, tour.Hinted())
}

// Two processes that admit keep together what one would keep alone.
func TestTwoProcessesAdmit(t *testing.T) {
	t.Parallel()
	const capacity, buyers = 4, 30
	s := office(t, stage.Options{Mode: stage.Events, Capacity: capacity, TokenLifetime: time.Minute, Twice: true})
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	entering, ctx := errgroup.WithContext(ctx)
	for i := range buyers {
		entering.Go(func() error { // comes, stays for a moment, and goes
			token, err := s.Enter(ctx, fmt.Sprint("fan-", i))
			if err != nil {
				return err
			}
			return s.Leave(ctx, token.ID)
		})
	}
	gone := make(chan error, 1)
	go func() { gone <- entering.Wait() }()
	most, looks := 0, 0
	for {
		active, err := s.MostActive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		most, looks = max(most, active), looks+1
		select {
		case err := <-gone:
			if err != nil {
				t.Fatal(err)
			}
			if most != capacity {
				t.Errorf("at most %d tokens were active in %d looks, where %d may be", most, looks, capacity)
			}
			return
		default:
		}
	}
}

// scenes plays every success and every failure.
func scenes(t *testing.T, s *stage.Stage, mode string) {
	playAll(t, s, tour.Scenes(mode))
}

func playAll(t *testing.T, s *stage.Stage, scenes []tour.Scene) {
	var playing sync.WaitGroup // all at once: they mostly wait
	for _, scene := range scenes {
		playing.Go(func() { play(t, s, scene) })
	}
	playing.Wait()
	audited(t, s)
}

func play(t *testing.T, s *stage.Stage, scene tour.Scene) {
	t.Run(scene.Name, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		if err := scene.Play(ctx, s); err != nil {
			t.Error(err)
		}
	})
}

func crowd(t *testing.T, s *stage.Stage) {
	const buyers, seats = 500, 50
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	before := audited(t, s).Paid
	if err := tour.Crowd(ctx, s, buyers, seats); err != nil {
		t.Fatal(err)
	}
	if paid := audited(t, s).Paid - before; paid != seats {
		t.Errorf("%d payments were paid for %d seats", paid, seats)
	}
}

// killed kills processes at random under load. Half of the buyers ask again what has no answer, the others never come back.
func killed(t *testing.T, s *stage.Stage, victims []string) {
	const buyers, seats = 8, 1000
	length := 3 * time.Second
	if text := os.Getenv(longEnv); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", longEnv, err)
		}
		length = time.Duration(seconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(t.Context(), length+2*time.Minute)
	defer cancel()
	if err := s.OpenConcert(ctx, "killed", seats, 1000); err != nil {
		t.Fatal(err)
	}
	accounts, err := s.Accounts(ctx, buyers, int64(length.Seconds())*2500) // some payments find no money any more
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	end := time.Now().Add(length)
	working, ctx := errgroup.WithContext(ctx)
	for i := range buyers {
		working.Go(func() error {
			for n := 0; time.Now().Before(end); n++ {
				if err := tour.BuyOnce(ctx, s.Office, "killed", fmt.Sprintf("fan-%d-%d", i, n), accounts[(i+n)%buyers], i%2 == 0); err != nil {
					return fmt.Errorf("buyer %d, ticket %d: %w", i, n, err)
				}
			}
			return nil
		})
	}
	kills := 0
	working.Go(func() error {
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
	before := time.Now()
	result := audited(t, s)
	t.Logf("%d kills; all books agreed %.1f s after the last", kills, time.Since(before).Seconds())
	if result.Paid == 0 || kills == 0 {
		t.Errorf("%d payments were paid, %d processes killed: nothing was tried", result.Paid, kills)
	}
}
