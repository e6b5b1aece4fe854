package main

import (
	"context"
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

// open starts the office of a mode from this very program.
func (b besides) open(ctx context.Context, mode string) (s *stage.Stage, err error) {
	credentials, err := stage.ReadCredentials(b.Credentials)
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ticketoffice-"+mode+"-")
	if err != nil {
		return nil, err
	}
	return stage.Open(ctx, stage.Options{
		Mode: mode, Credentials: credentials, Lockstep: b.Lockstep, Program: []string{program}, Dir: dir,
	})
}

// tourCommand is `ticketoffice tour`.
type tourCommand struct {
	besides
	Mode   []string `help:"Which modes to show." enum:"monolith,events,choreography" default:"choreography,events,monolith"`
	Buyers int      `help:"How many want the seats of the crowd's concert." default:"100"`
	Seats  int      `help:"How many seats that has." default:"10"`
}

const sceneMax = time.Minute

// Run fails when something is not as it should be.
func (c *tourCommand) Run(ctx context.Context, out io.Writer) error {
	for _, mode := range c.Mode {
		if err := c.show(ctx, out, mode); err != nil {
			return fmt.Errorf("%s: %w", mode, err)
		}
	}
	fmt.Fprintln(out, "All is as it should be.")
	return nil
}

func (c *tourCommand) show(ctx context.Context, out io.Writer, mode string) (err error) {
	fmt.Fprintf(out, "%s\n", mode)
	s, err := c.open(ctx, mode)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.Close(); err == nil {
			err = closeErr
		}
	}()
	scenes := append(tour.Scenes(mode), tour.Scene{
		Name: fmt.Sprintf("%d buyers for %d seats: each seat is paid once, and nobody else pays", c.Buyers, c.Seats),
		Play: func(ctx context.Context, s *stage.Stage) error { return tour.Crowd(ctx, s, c.Buyers, c.Seats) },
	})
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
