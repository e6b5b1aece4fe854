package chaos

import (
	"fmt"
	"testing"
	"time"
)

// The report says how long a system whose source was lost acknowledged nothing, from its own changes alone.
func TestTheReportSaysHowLongThereWereNoWrites(t *testing.T) {
	t.Parallel()
	op := func(system string, kind Kind, end End, at int) Op {
		return Op{System: system, Kind: kind, End: end, Return: time.Duration(at) * time.Second}
	}
	lost := Incident{Fault: "a source killed, a replica promoted, " + sourceReturns, On: []string{"alpha-mysql-source"}, From: 10 * time.Second, To: 30 * time.Second}
	other := Incident{Fault: "kill -9 of a source", On: lost.On, From: lost.From, To: lost.To}
	failed := lost
	failed.Failed = "nobody was promoted"
	for name, c := range map[string]struct {
		ops  []Op
		want float64
	}{
		"between two":  {[]Op{op("alpha", Transfer, Applied, 24), op("alpha", Transfer, Applied, 5), op("alpha", Hold, Applied, 11), op("alpha", Transfer, Applied, 20)}, 9},
		"others":       {[]Op{op("beta", Transfer, Applied, 15), op("alpha", Read, Applied, 16), op("alpha", Transfer, Refused, 17), op("alpha", Transfer, Applied, 22)}, 12},
		"until healed": {[]Op{op("alpha", Transfer, Applied, 12), op("alpha", Transfer, Applied, 31)}, 18},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &Result{Incidents: []Incident{other, lost, failed}}
			r.pauses(c.ops)
			if len(r.Seen) != 1 || r.Seen[0].Value != c.want {
				t.Errorf("%s, not %v", fmt.Sprint(r.Seen), c.want)
			}
		})
	}
}

// Faults of which none, one or several words are asked for are chosen by them.
func TestOnlyChoosesByName(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		only  []string
		locks bool
		want  []string
	}{
		{nil, false, []string{"kill -9 of a node", "kill -9 of a Redis", "500s from a peer"}},
		{[]string{"peer", "Redis"}, false, []string{"kill -9 of a Redis", "500s from a peer"}},
		{[]string{"kill"}, true, []string{"kill -9 of a Redis"}},
	} {
		var chosen []string
		for _, name := range []string{"kill -9 of a node", "kill -9 of a Redis", "500s from a peer"} {
			if (Config{Only: c.only, Locks: c.locks}).named(fault{name: name}) {
				chosen = append(chosen, name)
			}
		}
		if fmt.Sprint(chosen) != fmt.Sprint(c.want) {
			t.Errorf("%q with locks %t chooses %q", c.only, c.locks, chosen)
		}
	}
}
