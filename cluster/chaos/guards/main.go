// Guards builds the program once for each of a few guards, without it, and shows that a short chaos run finds that money is not
// safe then. A suite that finds nothing in a broken build proves nothing about a whole one. It takes minutes for each guard, so
// nothing runs it by itself:
//
//	make guards ARGS="row-lock barrier"
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"lockstep/cluster/chaos"
)

type config struct {
	Names   []string `arg:"" optional:"" help:"Guards to take out; all without one."`
	Seconds int      `help:"How long each run is at most." default:"75"`
	Seed    uint64   `help:"Of each run." default:"1"`
	Out     string   `help:"Where programs and reports go." default:".lockstep/guards" type:"path"`
}

func main() {
	var c config
	kong.Parse(&c, kong.Name("guards"), kong.Description("Take guards out of the program and let the chaos suite find that they lack."))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "guards:", err)
		stop()
		os.Exit(1)
	}
}

var errUnfound = errors.New("the suite did not find it")

func run(ctx context.Context, c config) (all error) {
	for _, name := range c.Names {
		if !slices.ContainsFunc(guards, func(g guard) bool { return g.name == name }) {
			return fmt.Errorf("there is no guard %s", name)
		}
	}
	for _, g := range guards {
		if len(c.Names) > 0 && !slices.Contains(c.Names, g.name) {
			continue
		}
		breaches, err := g.find(ctx, c)
		switch {
		case err != nil:
			fmt.Printf("FAILED   %-18s %v\n", g.name, err)
		case len(breaches) == 0:
			err = errUnfound
			fmt.Printf("UNFOUND  %-18s in %d s with seed %d and faults %s\n", g.name, c.Seconds, c.Seed, g.faults)
		default:
			fmt.Printf("found    %-18s by %s\n", g.name, strings.Join(breaches, ", "))
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", g.name, err))
		}
	}
	return all
}

// find builds the suite and the program without the guard and runs one against the other. It returns the rules that were broken.
func (g guard) find(ctx context.Context, c config) ([]string, error) {
	dir := filepath.Join(c.Out, g.name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	overlay, err := g.overlay(dir)
	if err != nil {
		return nil, err
	}
	suite, program, report := filepath.Join(dir, "chaos"), filepath.Join(dir, "lockstep"), filepath.Join(dir, "report")
	for path, pkg := range map[string]string{suite: "./cluster/chaos/run", program: "."} {
		if out, err := exec.CommandContext(ctx, "go", "build", "-tags", "faults", "-overlay", overlay, "-o", path, pkg).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	cmd := exec.CommandContext(ctx, suite, "--seconds", fmt.Sprint(c.Seconds), "--seed", fmt.Sprint(c.Seed),
		"--only", g.faults, "--binary", program, "--out", report)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	log, err := os.Create(filepath.Join(dir, "output.txt"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	ended := cmd.Run()
	breaches, err := broken(filepath.Join(report, "report.json"))
	if err != nil {
		return nil, errors.Join(ended, err)
	}
	return breaches, nil
}

// overlay puts changed files in the originals' places for a build.
func (g guard) overlay(dir string) (string, error) {
	texts := map[string]string{}
	for _, e := range g.edits {
		text, known := texts[e.file]
		if !known {
			source, err := os.ReadFile(e.file)
			if err != nil {
				return "", err
			}
			text = string(source)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return "", fmt.Errorf("the text to replace stands %d times in %s", n, e.file)
		}
		texts[e.file] = strings.Replace(text, e.old, e.new, 1)
	}
	replace := map[string]string{}
	for file, text := range texts {
		full, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		replace[full] = filepath.Join(dir, strings.ReplaceAll(file, "/", "-"))
		if err := os.WriteFile(replace[full], []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	content, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, content, 0o600)
}

// ofTheRun are the rules that speak of the run and not of money.
var ofTheRun = []string{"run", "faults_applied", "lively"}

// broken reads a report.
func broken(path string) (names []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the run left no report: %w", err)
	}
	var result chaos.Result
	if err := json.Unmarshal(text, &result); err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	for _, check := range result.Checks {
		if len(check.Breaches) > 0 && !slices.Contains(ofTheRun, check.Name) {
			names = append(names, fmt.Sprintf("%s (%d)", check.Name, len(check.Breaches)))
		}
	}
	return names, nil
}
