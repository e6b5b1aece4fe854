package main

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	missed  = "--- FAIL: TestGuard (0.10s)\n    guard_test.go:7: the guard is gone\n"
	inVain  = "--- FAIL: TestGuard (20.00s)\n    helper_test.go:9: waited in vain\n"
	hung    = "panic: test timed out after 4m0s\n--- FAIL: TestGuard (240.00s)\n    guard_test.go:7: the guard is gone\n"
	another = "--- PASS: TestGuard (0.10s)\n--- FAIL: TestOther (0.10s)\n    other_test.go:7: the guard is gone\n"
	passed  = "--- PASS: TestGuard (0.10s)\n"
)

// Each mutant finds the one place in its file that it changes; a minute here saves a whole run.
func TestEachMutantHasItsPlace(t *testing.T) {
	t.Chdir("../..")
	for _, m := range slices.Concat(mutants, k6Mutants) {
		if _, err := m.source(); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}

// Only a failure that tells nothing about the guard is repeated; a pass without the guard is the end.
func TestOnlyUnclearFailuresAreRepeated(t *testing.T) {
	t.Parallel()
	m := mutant{name: "guard", test: "TestGuard", failure: "the guard is gone"}
	failed := fmt.Errorf("run: %w", &exec.ExitError{})
	tests := map[string]struct {
		runs    []string // what the test prints; all but passed ones exit with an error
		repeats int
		wrong   string // words of the verdict; none when the mutant is killed
	}{
		"at once":               {runs: []string{missed}},
		"second try":            {runs: []string{inVain, missed}, repeats: 1},
		"third try":             {runs: []string{hung, another, missed}, repeats: 2},
		"no fourth":             {runs: []string{inVain, inVain, inVain, missed}, repeats: 2, wrong: "but not with"},
		"hangs for ever":        {runs: []string{hung, hung, hung, missed}, repeats: 2, wrong: "panicked or hung"},
		"passes":                {runs: []string{passed, missed}, wrong: "passes without the guard"},
		"passes the second try": {runs: []string{inVain, passed, missed}, repeats: 1, wrong: "passes without the guard"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run, repeats := 0, 0
			verdict := repeated(t.Context(), func(error) { repeats++ }, func() error {
				out := test.runs[run]
				run++
				if out == passed {
					return m.judge(out, nil)
				}
				return m.judge(out, failed)
			})
			if repeats != test.repeats || run != repeats+1 {
				t.Errorf("%d runs, repeated %d times, want %d", run, repeats, test.repeats)
			}
			if (verdict == nil) != (test.wrong == "") || verdict != nil && !strings.Contains(verdict.Error(), test.wrong) {
				t.Errorf("the verdict is %v, want %q", verdict, test.wrong)
			}
		})
	}
}

// A mutant that cannot be run is no fragile test.
func TestAMutantWithoutATestIsNotRepeated(t *testing.T) {
	t.Parallel()
	verdict := mutant{test: "TestGuard"}.judge("", errors.New("there is no test TestGuard"))
	if verdict == nil || errors.As(verdict, new(unclear)) {
		t.Errorf("the verdict is %v", verdict)
	}
}

func TestATestPassesOnlyByItsOwnName(t *testing.T) {
	t.Parallel()
	if err := passes("TestGuard", passed+another, errors.New("another failed")); err != nil {
		t.Errorf("a test that passed among others: %v", err)
	}
	if err := passes("TestGuard", "--- PASS: TestGuardOfOthers (0.10s)\n", nil); err == nil {
		t.Error("a test that did not run is said to have passed")
	}
}
