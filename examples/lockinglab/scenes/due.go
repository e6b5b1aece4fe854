package scenes

import (
	"fmt"

	"lockstep/examples/lockinglab/lab"
)

// chance says whether something is to be seen.
type chance int

const (
	never chance = iota
	may          // when the workers meet at the wrong moment, or the machine is slow
	must
)

// due is what a way has to show under a load. Its zero value is a way without fault.
type due struct {
	wrong     chance // books
	deadlocks chance
	timeouts  chance
}

// surprises says what was otherwise, one sentence each.
func (d due) surprises(r lab.Result) (all []string) {
	say := func(format string, args ...any) {
		all = append(all, fmt.Sprintf("%s, %s: ", r.Load, r.Way)+fmt.Sprintf(format, args...))
	}
	if !r.Correct() && d.wrong == never {
		say("the books are wrong: %d lost updates, %d made, %d overdrawn, %d unsaid, %d halves", r.Lost, r.Made, r.Overdrawn, r.Unsaid, r.Halves)
	}
	if r.Correct() && d.wrong == must {
		say("the books are right, though nothing keeps them so")
	}
	for _, seen := range []struct {
		what   string
		chance chance
		count  int
	}{{"deadlocks", d.deadlocks, r.Deadlocks}, {"lock wait timeouts", d.timeouts, r.Timeouts}} {
		if seen.count > 0 && seen.chance == never {
			say("%d %s, where none may be", seen.count, seen.what)
		}
		if seen.count == 0 && seen.chance == must {
			say("no %s, where they are due", seen.what)
		}
	}
	return all
}
