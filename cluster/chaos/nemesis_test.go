package chaos

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// A fault comes again only when each has come, no two of a period share a place, a quarter of the periods is calm, and the
// same seed does all of it alike.
func TestTheNemesisDealsEachFaultBeforeAnyAgain(t *testing.T) {
	t.Parallel()
	const end = 2000 // calls of the clock
	play := func(seed uint64) (names []string) {
		var clock atomic.Int64
		n := &nemesis{
			target: &target{}, random: rand.New(rand.NewPCG(seed, 0)), length: time.Microsecond, restful: true,
			now: func() time.Duration { return time.Duration(clock.Add(1)) }, say: func(string, ...any) {},
		}
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			place := name
			if name == "b" {
				place = "a" // has to do with the same process
			}
			n.faults = append(n.faults, fault{name, func(*target, *rand.Rand) []string { return []string{place} }, nothing, nothing})
		}
		n.run(t.Context(), end)
		healed, calm := map[string]int{}, 0
		for _, incident := range n.incidents {
			healed[incident.Fault]++
			names = append(names, incident.Fault)
		}
		for _, period := range n.periods {
			if period.Calm {
				calm++
			}
			var during []string
			for _, incident := range n.incidents {
				if incident.From >= period.From && incident.To <= period.To {
					during = append(during, incident.On...)
				}
			}
			slices.Sort(during)
			if len(slices.Compact(slices.Clone(during))) != len(during) {
				t.Errorf("in one period %v were struck", during)
			}
		}
		least, most := len(n.incidents), 0
		for _, count := range healed {
			least, most = min(least, count), max(most, count)
		}
		if len(healed) != len(n.faults) || most-least > 2 {
			t.Errorf("faults came %v times", healed)
		}
		if quarter := len(n.periods) / calmEvery; calm < quarter || calm > quarter+1 {
			t.Errorf("%d of %d periods are calm", calm, len(n.periods))
		}
		return names
	}
	first := play(7)
	if again := play(7); !slices.Equal(first, again) {
		t.Error("one seed chose different faults")
	}
	if other := play(8); slices.Equal(first, other) {
		t.Error("two seeds chose the same faults")
	}
}

// What follows a fault that takes long to apply is not healed at once: it has a part of a period to itself.
func TestAFaultBehindASlowOneLasts(t *testing.T) {
	t.Parallel()
	const period = 200 * time.Millisecond
	began, injected := time.Now(), map[string]time.Duration{}
	n := &nemesis{
		target: &target{}, random: rand.New(rand.NewPCG(1, 0)), length: period,
		now: func() time.Duration { return time.Since(began) }, say: func(string, ...any) {}, injectMax: injectMax,
	}
	apply := func(name string, takes time.Duration) fault {
		return fault{name, func(*target, *rand.Rand) []string { return []string{name} }, func(context.Context, *target, []string) error {
			time.Sleep(takes)
			injected[name] = n.now()
			return nil
		}, func(context.Context, *target, []string) error { return nil }}
	}
	n.faults = []fault{apply("slow", 2*period), apply("quick", 0)}
	together := 0
	for n.strike(t.Context()); together == 0; n.strike(t.Context()) {
		together = len(n.incidents) / 2 // a period may have one alone
		for _, incident := range n.incidents {
			if lasted := incident.To - injected[incident.Fault]; lasted < period/lastLeast {
				t.Errorf("%s lasted %v", incident.Fault, lasted)
			}
		}
		n.incidents = nil
	}
}

// What a fault does again and again it does until it is healed, however soon it counts as applied.
func TestAFaultThatRepeatsGoesOnUntilItIsHealed(t *testing.T) {
	t.Parallel()
	began := time.Now()
	var times atomic.Int64
	n := &nemesis{
		target: &target{}, random: rand.New(rand.NewPCG(1, 0)), length: 200 * time.Millisecond, injectMax: injectMax,
		now: func() time.Duration { return time.Since(began) }, say: func(string, ...any) {},
	}
	repeat := during(time.Millisecond, func(context.Context, *target, []string) error { times.Add(1); return nil })
	n.faults = []fault{{"repeated", func(*target, *rand.Rand) []string { return []string{"redis"} }, repeat, ended}}
	n.strike(t.Context())
	if times.Load() < 3 || n.incidents[0].Failed != "" {
		t.Errorf("it came %d times, and the incident says %q", times.Load(), n.incidents[0].Failed)
	}
}

// A fault that waits for what another one of its period holds up is given up and healed with it, and the run says so.
func TestAFaultThatCannotBeAppliedEnds(t *testing.T) {
	t.Parallel()
	began, healed := time.Now(), false
	n := &nemesis{
		target: &target{}, random: rand.New(rand.NewPCG(1, 0)), length: 10 * time.Millisecond, injectMax: 50 * time.Millisecond,
		now: func() time.Duration { return time.Since(began) }, say: func(string, ...any) {},
	}
	n.faults = []fault{{"stuck", func(*target, *rand.Rand) []string { return []string{"node"} }, func(ctx context.Context, _ *target, _ []string) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Second):
			return nil
		}
	}, func(context.Context, *target, []string) error { healed = true; return nil }}}
	n.strike(t.Context())
	if !healed || len(n.incidents) != 1 || n.incidents[0].Failed == "" {
		t.Errorf("healed %t: %+v", healed, n.incidents)
	}
}

// A link has to do with both processes that it joins: neither is killed while the link is slow.
func TestALinkTakesItsEnds(t *testing.T) {
	t.Parallel()
	const node, source = "alpha-node-1", "alpha-mysql-source"
	n := &nemesis{target: &target{}, random: rand.New(rand.NewPCG(1, 0))}
	for name, place := range map[string]string{"link": node + linkSign + source, "node": node, "source": source, "other": "alpha-lb"} {
		n.faults = append(n.faults, fault{name, func(*target, *rand.Rand) []string { return []string{place} }, nothing, nothing})
	}
	for range 200 {
		chosen, places := n.deal()
		var ends []string
		for _, on := range places {
			ends = append(ends, endsOf(on)...)
		}
		slices.Sort(ends)
		if len(slices.Compact(slices.Clone(ends))) != len(ends) {
			t.Fatalf("%d faults have to do with %v", len(chosen), ends)
		}
	}
}
