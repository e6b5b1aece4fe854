// Package bench measures the whole of Lockstep against SQL by hand, in one run on one machine: only the ratios mean
// anything elsewhere.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"lockstep/node"
)

// Command is `lockstep bench`.
type Command struct {
	Seconds int      `help:"Duration of each load." default:"10"`
	Only    []string `help:"Run these sections only; --list names them." placeholder:"SECTION"`
	List    bool     `help:"List the sections and end."`
	Strict  bool     `help:"Exit with status 1 when a figure misses its bar."`
	Binary  string   `help:"Program that the nodes run; the default is this one." type:"path"`
	Out     string   `help:"Where the figures go, as JSON; a chart (SVG) goes beside them." default:".lockstep/bench.json" type:"path"`
}

// Help is shown by --help.
func (c *Command) Help() string {
	return `Starts clusters of its own with durable settings, loads them, and holds each figure against its bar. What is compared
is measured in the same run.

Exit status 1: the books had a breach, or an answer was not the expected one. A missed bar alone is 0 unless --strict is given.`
}

// section is one part of the benchmark. Sections run one after another, each on clusters of its own.
type section struct {
	name  string // as --only knows it
	about string // in one line
	run   func(context.Context, *env) error
}

// sections are all there are, in the order in which they run.
func sections() []section {
	return append([]section{
		{"speed", "throughput and latency against SQL by hand, and memory", speed},
		{"journal", "the same load with and without a large journal before it", largeJournal},
		{"locks", "Redis locks on, on without early release, and off", compareLocks},
		{"cross", "transfers between two systems, beside those inside one", compareCross},
		{"reads", "balances read from the replica and from the source, beside transfers", compareReads},
	}, faultSections()...)
}

// secondsMin is the shortest load whose figures mean anything.
const secondsMin = 1

// pick returns the sections of these names, or all without any.
func pick(all []section, names []string) ([]section, error) {
	if len(names) == 0 {
		return all, nil
	}
	var picked []section
	for _, s := range all {
		if slices.Contains(names, s.name) {
			picked = append(picked, s)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s section) bool { return s.name == name }) {
			return nil, fmt.Errorf("--only: there is no section %q; `lockstep bench --list` names them", name)
		}
	}
	return picked, nil
}

// Validate refuses what cannot run, before anything starts.
func (c *Command) Validate() error {
	if c.Seconds < secondsMin {
		return fmt.Errorf("--seconds must be at least %d", secondsMin)
	}
	_, err := pick(sections(), c.Only)
	return err
}

// errMissed says that a figure missed its bar.
var errMissed = errors.New("a figure missed its bar")

// Run measures, prints, and writes the report.
func (c *Command) Run(ctx context.Context, version node.Version, out io.Writer) error {
	picked, err := pick(sections(), c.Only)
	if err != nil {
		return err
	}
	if c.List {
		for _, s := range picked {
			fmt.Fprintf(out, "%-12s %s\n", s.name, s.about)
		}
		return nil
	}
	e := &env{
		report: newReport(string(version), c.Seconds), duration: time.Duration(c.Seconds) * time.Second, binary: c.Binary,
		out: out, began: time.Now(),
	}
	failure := e.runAll(ctx, picked)
	if ctx.Err() != nil {
		return fmt.Errorf("stopped before its end; nothing was written: %w", ctx.Err())
	}
	e.report.print(out)
	if err := errors.Join(failure, e.report.write(c.Out)); err != nil {
		return err
	}
	fmt.Fprintf(out, "written to %s and %s\n", c.Out, chartPath(c.Out))
	if missed := e.report.missed(); c.Strict && len(missed) > 0 {
		return fmt.Errorf("%w: %s", errMissed, strings.Join(missed, ", "))
	}
	return nil
}

// runAll goes on after a section that failed, for the others may still tell something.
func (e *env) runAll(ctx context.Context, picked []section) error {
	var failures []error
	for _, s := range picked {
		e.section = s.name
		e.say("%s: %s", s.name, s.about)
		err := s.run(ctx, e)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", s.name, err)
			e.say("FAILED: %v", err)
			failures = append(failures, err)
			e.report.Failures = append(e.report.Failures, err.Error())
		}
	}
	return errors.Join(failures...)
}
