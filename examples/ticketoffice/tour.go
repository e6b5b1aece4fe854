package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"lockstep/examples/ticketoffice/stage"
	"lockstep/examples/ticketoffice/tour"
)

// besides says next to which cluster the office is started.
type besides struct {
	Credentials string `help:"What the local cluster wrote." default:".lockstep/credentials.json" type:"existingfile"`
	Lockstep    string `help:"The lockstep program, which also runs the services' broker." default:"bin/lockstep" type:"existingfile"`
}

// with starts the office of a mode from this very program, and ends it after the work. The logs of work that failed are kept.
func (b besides) with(ctx context.Context, options stage.Options, work func(*stage.Stage) error) error {
	var err error
	if options.Credentials, err = stage.ReadCredentials(b.Credentials); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	options.Lockstep, options.Program = b.Lockstep, []string{program}
	if options.Dir, err = os.MkdirTemp("", "ticketoffice-"+options.Mode+"-"); err != nil {
		return err
	}
	s, err := stage.Open(ctx, options)
	if err == nil {
		err = errors.Join(work(s), s.Close())
	}
	if err != nil {
		return fmt.Errorf("%s: %w (logs in %s)", options.Mode, err, options.Dir)
	}
	return os.RemoveAll(options.Dir)
}

// tourCommand is `ticketoffice tour`.
type tourCommand struct {
	besides
	Mode   []string `help:"Which modes to show." enum:"monolith,events,choreography" default:"choreography,events,monolith"`
	Buyers int      `help:"How many want the seats of the crowd's concert." default:"100"`
	Seats  int      `help:"How many seats that has." default:"10"`
}

const (
	sceneMax     = time.Minute
	holdsBriefly = 6 * time.Second
)

// Run fails when something is not as it should be.
func (c *tourCommand) Run(ctx context.Context, out io.Writer) error {
	for _, mode := range c.Mode {
		fmt.Fprintln(out, mode)
		scenes := append(tour.Scenes(mode), tour.Scene{
			Name: fmt.Sprintf("%d buyers for %d seats: each seat is paid once, and nobody else pays", c.Buyers, c.Seats),
			Play: func(ctx context.Context, s *stage.Stage) error { return tour.Crowd(ctx, s, c.Buyers, c.Seats) },
		})
		if mode == stage.Choreography {
			scenes = append(scenes, tour.PushDown)
		}
		if err := c.with(ctx, stage.Options{Mode: mode}, func(s *stage.Stage) error { return show(ctx, out, s, scenes) }); err != nil {
			return err
		}
		if mode != stage.Choreography {
			continue
		}
		fmt.Fprintf(out, "%s, with holds that expire after %v\n", mode, holdsBriefly)
		brief := stage.Options{Mode: mode, HoldExpires: holdsBriefly}
		if err := c.with(ctx, brief, func(s *stage.Stage) error { return show(ctx, out, s, tour.Hinted()) }); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "All is as it should be.")
	return nil
}

// show plays scenes one after the other.
func show(ctx context.Context, out io.Writer, s *stage.Stage, scenes []tour.Scene) error {
	for _, scene := range scenes {
		began := time.Now()
		playing, cancel := context.WithTimeout(ctx, sceneMax)
		err := scene.Play(playing, s)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", scene.Name, err)
		}
		fmt.Fprintf(out, "  %s (%.1f s)\n", scene.Name, time.Since(began).Seconds())
	}
	result, err := s.Audit(ctx, sceneMax)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "  tickets, money and records agree: %d payments paid, %d voided\n", result.Paid, result.Voided)
	return nil
}
