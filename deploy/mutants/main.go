// Mutants removes one guard at a time and requires the test that is named for it to fail, with the words that the test
// has for that failure. A guard whose test goes on passing is not guarded.
//
// The sources are not touched: `go build -overlay` puts the changed file in the original's place. Tests that build a
// program of their own find the same overlay in LOCKSTEP_OVERLAY.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// mutant is one removed guard.
type mutant struct {
	name    string
	file    string // from the top of the checkout
	old     string // stands in the file exactly once
	new     string
	pkg     string // package of the test
	test    string // name of the test that must fail
	failure string // words of the assertion that must be in its output
}

// pattern selects just the test, or the subtest behind a slash.
func (m mutant) pattern() string { return "^" + strings.ReplaceAll(m.test, "/", "$/^") + "$" }

const testTimeout = 4 * time.Minute

func main() {
	only := flag.String("only", "", "run the mutants whose name contains this")
	list := flag.Bool("list", false, "list the mutants and end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
	defer os.RemoveAll(dir)
	run := runner{dir: dir, passed: map[string]bool{}}
	killed, alive := 0, 0
	for _, m := range mutants {
		if !strings.Contains(m.name, *only) {
			continue
		}
		if *list {
			fmt.Printf("%-28s %s %s\n", m.name, m.pkg, m.test)
			continue
		}
		began := time.Now()
		if err := run.kill(ctx, m); err != nil {
			alive++
			fmt.Printf("ALIVE  %-28s %v\n", m.name, err)
			continue
		}
		killed++
		fmt.Printf("killed %-28s by %s (%s)\n", m.name, m.test, time.Since(began).Round(time.Second))
	}
	fmt.Printf("mutants: %d passed, %d failed\n", killed, alive)
	if alive > 0 {
		os.Exit(1)
	}
}

type runner struct {
	dir    string
	passed map[string]bool // tests that passed on the sources as they are
}

// kill returns nil when the named test passes without the mutant and fails, as it should, with it.
func (r runner) kill(ctx context.Context, m mutant) error {
	overlay, err := r.overlay(m)
	if err != nil {
		return err
	}
	if key := m.pkg + " " + m.test; !r.passed[key] {
		if out, err := r.test(ctx, m, ""); err != nil {
			return fmt.Errorf("the test fails on the sources as they are: %w\n%s", err, tail(out))
		}
		r.passed[key] = true
	}
	out, err := r.test(ctx, m, overlay)
	var broken *exec.ExitError
	switch {
	case err == nil:
		return fmt.Errorf("%s passes without the guard", m.test)
	case !errors.As(err, &broken):
		return fmt.Errorf("the mutant cannot be tested: %w", err)
	case strings.Contains(out, "panic: "):
		return fmt.Errorf("the test panicked or hung instead of failing:\n%s", tail(out))
	case !strings.Contains(out, "--- FAIL: "+m.test+" "):
		return fmt.Errorf("another test failed than %s:\n%s", m.test, tail(out))
	case !strings.Contains(out, m.failure):
		return fmt.Errorf("%s failed, but not with %q:\n%s", m.test, m.failure, tail(out))
	}
	return nil
}

// overlay writes the changed file and the overlay that puts it in place.
func (r runner) overlay(m mutant) (string, error) {
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(source), m.old); n != 1 || m.old == m.new {
		return "", fmt.Errorf("the text to replace stands %d times in %s", n, m.file)
	}
	changed := filepath.Join(r.dir, m.name+".go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
		return "", err
	}
	content, err := json.Marshal(map[string]any{"Replace": map[string]string{original: changed}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(r.dir, m.name+".json")
	return path, os.WriteFile(path, content, 0o600)
}

// test compiles the package's tests and runs the one that is named. The error is an *exec.ExitError only when the test
// itself ended so.
func (r runner) test(ctx context.Context, m mutant, overlay string) (string, error) {
	binary, err := r.binary(ctx, m, overlay)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, binary, "-test.run", m.pattern(), "-test.v", "-test.timeout", testTimeout.String())
	cmd.Dir = m.pkg
	cmd.Env = append(os.Environ(), "LOCKSTEP_OVERLAY="+overlay)
	out, err := cmd.CombinedOutput()
	if err == nil && !strings.Contains(string(out), "--- PASS: "+m.test+" ") {
		err = fmt.Errorf("there is no test %s", m.test)
	}
	return string(out), err
}

// binary compiles the tests of a package; those of the sources as they are only once.
func (r runner) binary(ctx context.Context, m mutant, overlay string) (string, error) {
	path := filepath.Join(r.dir, "mutant.test")
	if overlay == "" {
		path = filepath.Join(r.dir, strings.ReplaceAll(strings.Trim(m.pkg, "./"), "/", "-")+".test")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	args := []string{"test", "-c", "-race", "-tags", "faults", "-o", path}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, m.pkg)...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("compile: %s\n%s", err.Error(), tail(string(out)))
	}
	return path, nil
}

// tail keeps the end of a long output.
func tail(out string) string {
	const most = 3000
	if len(out) > most {
		out = "..." + out[len(out)-most:]
	}
	return out
}
