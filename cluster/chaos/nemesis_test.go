package chaos

import (
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
