// Package tour plays everything that can happen to a pet store, on real processes beside a real cluster, and looks whether
// it ends as it should. The example's tests play the same scenes.
package tour

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"lockstep/examples/petstore/audit"
)

// Command is `petstore tour`.
type Command struct {
	Credentials string        `default:".lockstep/credentials.json" type:"path" help:"What a running local cluster has left for its clients."`
	Frozen      time.Duration `default:"5s" help:"How long the product service is stopped in the middle of calls."`
	Killing     time.Duration `default:"10s" help:"How long services are killed at random."`
	Seed        uint64        `default:"1" help:"Who is killed when, and who buys what."`
}

// Help is shown by --help.
func (*Command) Help() string {
	return "The services run with schemas and accounts of the tour's own, which it removes when all went well; their logs are left beside the credentials."
}

// Run plays all scenes, prints what happened, and fails when something is not as it should be.
func (c *Command) Run(ctx context.Context, out io.Writer) (err error) {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own program: %w", err)
	}
	stage, err := Open(ctx, Config{
		Credentials: c.Credentials, Program: program, Dir: filepath.Join(filepath.Dir(c.Credentials), "petstore"),
		Frozen: c.Frozen, Killing: c.Killing, Seed: c.Seed,
		Note: func(text string) { fmt.Fprintln(out, "         ", text) },
	})
	if err != nil {
		return err
	}
	defer func() {
		if closing := stage.Close(); err == nil {
			err = closing
		}
	}()
	fmt.Fprintf(out, "pet store: orders at %s/admin, products at %s/admin, logs in %s\n", stage.order.url, stage.product.url, stage.config.Dir)
	for _, scene := range Scenes() {
		began := time.Now()
		if err := scene.Play(ctx, stage); err != nil {
			fmt.Fprintf(out, "  FAILED %s: %v\n", scene.Name, err)
			return fmt.Errorf("%s: %w", scene.Name, err)
		}
		fmt.Fprintf(out, "  %5.1f s  %s\n", time.Since(began).Seconds(), scene.Name)
	}
	return stage.Audit(ctx, out)
}

// Audit waits until nothing is under way, and prints what the auditor found.
func (s *Stage) Audit(ctx context.Context, out io.Writer) error {
	if err := s.settled(ctx); err != nil {
		return err
	}
	found, err := audit.Run(ctx, s.books)
	if err != nil {
		return err
	}
	proof, err := s.bank.TrialBalance(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "audit: ")
	if err := found.Print(out); err != nil {
		return err
	}
	return expect(proof.Balanced, "the payment system's books are not balanced: %+v", proof)
}
