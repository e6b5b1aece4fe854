// Mutants removes one guard at a time and requires the test that is named for it to fail, with the words that the test
// has for that failure. A guard whose test goes on passing is not guarded.
//
// The sources are not touched: `go build -overlay` puts changed files in the originals' places. Compiling is most of the
// work, so all mutants are compiled at once, behind a switch (switch.go), and each package's tests are linked once. Tests
// that build a program of their own find its overlay in MUTANT_OVERLAY, and those that read the sources find what the
// mutant changes there in MUTANT_SOURCES.
//
// A test that fails with other words than its own, panics or hangs tells nothing about its guard: its set-up waited in vain
// for what the mutant or a busy machine made late. It is run again, at most twice, and each repeat is printed, for such a
// test is fragile and to be mended. A test that passes without its guard tells all there is to tell, and is never given
// another chance to fail. Before that, all tests of a package run together without a mutant, and disturb one another; one
// that does not pass there is run once more alone before it is called unsound.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

const (
	testTimeout = 4 * time.Minute
	k6Timeout   = 20 * time.Minute // all scripts run together once, without a mutant
	triesMax    = 3                // of a test whose failures tell nothing about its mutant
)

func main() {
	only := flag.String("only", "", "run the mutants whose name contains one of these, by commas")
	list := flag.Bool("list", false, "list the mutants and end")
	parallel := flag.Int("p", 2, "run so many mutants at a time")
	k6 := flag.Bool("k6", false, "run those that k6's scripts must notice instead, which takes half an hour")
	flag.Parse()
	all, timeout := mutants, testTimeout
	if *k6 {
		all, timeout = k6Mutants, k6Timeout
	}
	var chosen []mutant
	for _, m := range all {
		if slices.ContainsFunc(strings.Split(*only, ","), func(part string) bool { return strings.Contains(m.name, part) }) {
			chosen = append(chosen, m)
		}
	}
	if *list {
		for _, m := range chosen {
			fmt.Printf("%-28s %s %s\n", m.name, m.pkg, m.test)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	alive, err := runAll(ctx, chosen, *parallel, timeout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
	}
	if err != nil || alive > 0 {
		os.Exit(1)
	}
}

// runAll prints a line for each mutant and a summary, and counts those whose test did not miss the guard.
func runAll(ctx context.Context, chosen []mutant, parallel int, timeout time.Duration) (alive int, err error) {
	began := time.Now()
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	r := &runner{dir: dir, timeout: timeout, binaries: map[string]string{}, sound: map[string]error{}}
	if err := r.compile(ctx, chosen); err != nil {
		return 0, err
	}
	compiled := time.Since(began)
	r.checkTests(ctx, chosen)
	checked := time.Since(began) - compiled
	var running sync.WaitGroup
	var failed atomic.Int64
	free := make(chan struct{}, max(1, parallel))
	for _, m := range chosen {
		free <- struct{}{}
		running.Go(func() {
			defer func() { <-free }()
			began := time.Now()
			err := r.kill(ctx, m)
			if err != nil {
				r.printf("ALIVE  %-28s %v\n", m.name, err)
				failed.Add(1)
				return
			}
			r.printf("killed %-28s by %s (%s)\n", m.name, m.test, time.Since(began).Round(time.Second))
		})
	}
	running.Wait()
	took := time.Since(began)
	alive = int(failed.Load())
	fmt.Printf("mutants: %d passed, %d failed, %d tests repeated, in %s (compiled in %s, tests without mutants %s)\n", len(chosen)-alive,
		alive, r.repeats, took.Round(time.Second), compiled.Round(time.Second), checked.Round(time.Second))
	return alive, nil
}

type runner struct {
	dir      string
	timeout  time.Duration     // of a run of tests
	overlay  string            // of all mutants that are behind the switch
	switched map[string]bool   // their names
	binaries map[string]string // tests of each package, with all of those
	sound    map[string]error  // by package and test: what happens without a mutant

	printing sync.Mutex
	repeats  int // runs that told nothing
}

func (r *runner) printf(format string, values ...any) {
	r.printing.Lock()
	defer r.printing.Unlock()
	fmt.Printf(format, values...)
}

// again prints that a test is run once more, and counts it.
func (r *runner) again(name string, told error) {
	r.printf("again  %-28s %v\n", name, told)
	r.printing.Lock()
	defer r.printing.Unlock()
	r.repeats++
}

// compile compiles each package's tests once, with all mutants that a switch can turn on.
func (r *runner) compile(ctx context.Context, chosen []mutant) error {
	var err error
	if r.overlay, r.switched, err = switchable(r.dir, chosen); err != nil {
		return err
	}
	for _, m := range chosen {
		if r.binaries[m.pkg] != "" {
			continue
		}
		began := time.Now()
		r.binaries[m.pkg] = filepath.Join(r.dir, strings.ReplaceAll(strings.Trim(m.pkg, "./"), "/", "-")+".test")
		if err := r.link(ctx, m.pkg, r.overlay, r.binaries[m.pkg]); err != nil {
			return fmt.Errorf("%w\nthe mutant that does not compile shows with -only", err)
		}
		fmt.Printf("compiled %s (%s)\n", m.pkg, time.Since(began).Round(time.Second))
	}
	return nil
}

func (r *runner) link(ctx context.Context, pkg, overlay, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-race", "-tags", "faults,k6", "-overlay", overlay, "-o", binary, pkg)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile %s: %w\n%s", pkg, err, tail(string(out)))
	}
	return nil
}

// checkTests runs the tests without any mutant, those of a package together.
func (r *runner) checkTests(ctx context.Context, chosen []mutant) {
	for pkg, binary := range r.binaries {
		began, count := time.Now(), 0
		var patterns []string
		for _, m := range chosen {
			if m.pkg == pkg {
				patterns = append(patterns, m.pattern())
			}
		}
		out, err := r.run(ctx, binary, pkg, strings.Join(patterns, "|"), mutant{}, r.overlay, "")
		for _, m := range chosen {
			key := m.pkg + " " + m.test
			if _, known := r.sound[key]; m.pkg != pkg || known {
				continue
			}
			count++
			r.sound[key] = passes(m.test, out, err)
			if together := r.sound[key]; together != nil && ctx.Err() == nil {
				r.again(m.test, fmt.Errorf("among others %w", together))
				alone, err := r.run(ctx, binary, pkg, m.pattern(), mutant{}, r.overlay, "")
				r.sound[key] = passes(m.test, alone, err)
			}
		}
		fmt.Printf("%d tests of %s without mutants (%s)\n", count, pkg, time.Since(began).Round(time.Second))
	}
}

// passes returns nil when a run without a mutant says that the test passed.
func passes(test, out string, err error) error {
	if strings.Contains(out, "--- PASS: "+test+" ") {
		return nil
	}
	if err == nil {
		err = errors.New("there is no such test")
	}
	return fmt.Errorf("the test does not pass on the sources as they are: %w\n%s", err, tail(out))
}

// kill returns nil when the named test passes without the mutant and fails, as it should, with it.
func (r *runner) kill(ctx context.Context, m mutant) error {
	if err := r.sound[m.pkg+" "+m.test]; err != nil {
		return err
	}
	changed, err := single(r.dir, m)
	if err != nil {
		return err
	}
	binary, overlay := r.binaries[m.pkg], r.overlay
	if !r.switched[m.name] {
		overlay = changed
		binary = filepath.Join(r.dir, m.name+".test")
		defer func() { _ = os.Remove(binary) }()
		if err := r.link(ctx, m.pkg, overlay, binary); err != nil {
			return err
		}
	}
	again := func(told error) { r.again(m.name, told) }
	return repeated(ctx, again, func() error {
		out, err := r.run(ctx, binary, m.pkg, m.pattern(), m, overlay, changed)
		return m.judge(out, err)
	})
}

// unclear is a failure that tells nothing about the guard.
type unclear struct{ error }

// repeated tries until a run tells something, at most triesMax times.
func repeated(ctx context.Context, again func(told error), try func() error) error {
	for tries := 1; ; tries++ {
		told := try()
		if !errors.As(told, new(unclear)) || tries == triesMax || ctx.Err() != nil {
			return told
		}
		again(told)
	}
}

// judge returns nil when a run of the test has missed the guard.
func (m mutant) judge(out string, err error) error {
	var broken *exec.ExitError
	switch {
	case err == nil:
		return fmt.Errorf("%s passes without the guard", m.test)
	case !errors.As(err, &broken):
		return fmt.Errorf("the mutant cannot be tested: %w", err)
	case strings.Contains(out, "panic: "):
		return unclear{fmt.Errorf("the test panicked or hung instead of failing:\n%s", tail(out))}
	case !strings.Contains(out, "--- FAIL: "+m.test+" "):
		return unclear{fmt.Errorf("another test failed than %s:\n%s", m.test, tail(out))}
	case !strings.Contains(out, m.failure):
		return unclear{fmt.Errorf("%s failed, but not with %q:\n%s", m.test, m.failure, tail(out))}
	}
	return nil
}

// run runs tests with a mutant turned on; one without a name is none. The error is an *exec.ExitError only when the tests
// themselves ended so.
func (r *runner) run(ctx context.Context, binary, pkg, pattern string, m mutant, overlay, changed string) (string, error) {
	cmd := exec.CommandContext(ctx, binary, "-test.run", pattern, "-test.v", "-test.timeout", r.timeout.String())
	cmd.Dir = pkg
	cmd.Env = append(os.Environ(), "MUTANT_OVERLAY="+overlay, "MUTANT_SOURCES="+changed, switchVariable+"="+m.name)
	out, err := cmd.CombinedOutput()
	if err == nil && m.name != "" && !strings.Contains(string(out), "--- PASS: "+m.test+" ") {
		err = fmt.Errorf("there is no test %s", m.test)
	}
	return string(out), err
}

// tail keeps the end of a long output.
func tail(out string) string {
	const most = 3000
	if len(out) > most {
		out = "..." + out[len(out)-most:]
	}
	return out
}
