package sim_test

import (
	"flag"
	"fmt"
	"sync"
	"testing"

	"lockstep/node/ledger"
	"lockstep/node/remit/sim"
)

var (
	first   = flag.Uint64("sim.first", 1, "the first seed to simulate")
	seeds   = flag.Uint64("sim.seeds", 250, "how many seeds to simulate in memory, of each kind")
	mariadb = flag.Uint64("sim.mariadb", 20, "how many seeds to simulate on MariaDB")
	trace   = flag.Bool("sim.trace", false, "print what happens; for a single seed")
)

// lane is the one that the systems in memory write with.
var lane = ledger.Lane{Node: 1}

// tracer prints what happens, if that is asked for.
func tracer() func(format string, args ...any) {
	if !*trace {
		return nil
	}
	return func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
}

// inMemory simulates a seed on systems in memory.
func inMemory(seed uint64, mutant sim.Mutant, failover bool) (sim.Report, error) {
	options := sim.Options{Seed: seed, Mutant: mutant, Failover: failover}
	options.Systems[0] = sim.NewMemory(sim.Alpha, lane, sim.Fixture(sim.Alpha, !failover), sim.Beta)
	options.Systems[1] = sim.NewMemory(sim.Beta, lane, sim.Fixture(sim.Beta, !failover), sim.Alpha)
	options.Trace = tracer()
	return sim.Run(options)
}

// sweep simulates seeds on all cores until one shows a breach, and returns that one's report.
func sweep(t *testing.T, count uint64, run func(seed uint64) (sim.Report, error)) (worst uint64, found sim.Report, posted, voided int) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	next := *first
	for range 2 {
		all.Go(func() {
			for {
				mu.Lock()
				seed := next
				next++
				stop := seed >= *first+count || worst != 0
				mu.Unlock()
				if stop {
					return
				}
				report, err := run(seed)
				mu.Lock()
				if err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
				if posted, voided = posted+report.Posted, voided+report.Voided; len(report.Breaches) > 0 && (worst == 0 || seed < worst) {
					worst, found = seed, report
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return worst, found, posted, voided
}

// Whatever is lost, late, repeated or killed, in the end both systems agree and no money was lost, made or doubled.
func TestNoFaultBetweenTwoStepsLosesMoney(t *testing.T) {
	for name, failover := range map[string]bool{"with what the databases keep": false, "with lost tails": true} {
		t.Run(name, func(t *testing.T) {
			seed, report, posted, voided := sweep(t, *seeds, func(seed uint64) (sim.Report, error) {
				return inMemory(seed, sim.NoMutant, failover)
			})
			for _, breach := range report.Breaches {
				t.Errorf("seed %d: %s", seed, breach)
			}
			if seed != 0 {
				t.Logf("replay it with -sim.first=%d -sim.seeds=1 -sim.trace", seed)
			}
			t.Logf("%d transfers were posted, %d voided", posted, voided)
		})
	}
}

// Each guard is needed: without it the auditor finds a breach, which it does not find with it.
func TestEachGuardIsMissed(t *testing.T) {
	for _, mutant := range sim.Mutants() {
		t.Run(string(mutant), func(t *testing.T) {
			failover := mutant.OfFailover()
			seed, report, _, _ := sweep(t, 1000, func(seed uint64) (sim.Report, error) { return inMemory(seed, mutant, failover) })
			if seed == 0 {
				t.Fatal("nobody misses it in 1000 seeds")
			}
			t.Logf("seed %d: %s", seed, report.Breaches[0])
			if report, err := inMemory(seed, sim.NoMutant, failover); err != nil || len(report.Breaches) > 0 {
				t.Errorf("with the guard seed %d fails as well: %v %v", seed, report.Breaches, err)
			}
		})
	}
}
