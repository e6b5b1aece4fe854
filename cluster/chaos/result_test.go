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

// A run in which nothing happened, or nothing was looked at, has found nothing.
func TestARunThatDidNothingIsNoProof(t *testing.T) {
	t.Parallel()
	lively := func() *Result {
		return &Result{
			Checks: []Check{{Name: "totals", Judged: 1}}, Incidents: []Incident{{Fault: "kill -9 of a node"}}, Calm: Pace{PerSecond: 1},
			Tally:   Tally{Asked: 10, AskedAcross: 3, Acknowledged: 10, Across: 1},
			Answers: []Answers{{What: "422 insufficient_funds"}},
		}
	}
	if r := lively(); true {
		if r.judgeRun(); !r.OK() {
			t.Errorf("a lively run: %+v", r.Checks)
		}
	}
	for name, change := range map[string]func(*Result){
		"nothing judged": func(r *Result) { r.Checks[0].Judged = 0 }, "no fault": func(r *Result) { r.Incidents = nil },
		"a fault that failed": func(r *Result) { r.Incidents[0].Failed = "it is not there" },
		"nothing in calm":     func(r *Result) { r.Calm.PerSecond = 0 }, "nothing acknowledged": func(r *Result) { r.Tally.Acknowledged = 0 },
		"none acknowledged across": func(r *Result) { r.Tally.Across = 0 }, "few asked across": func(r *Result) { r.Tally.AskedAcross = 1 },
		"nobody short of money": func(r *Result) { r.Answers[0].What = "503 peer_unavailable" },
	} {
		r := lively()
		change(r)
		if r.judgeRun(); r.OK() {
			t.Errorf("%s: passes", name)
		}
	}
}

// A replica that has anything else than its source is told apart, whatever order rows come in.
func TestAReplicaThatDiffersIsTold(t *testing.T) {
	t.Parallel()
	books := func(change func(*Books)) Books {
		b := Books{
			Accounts: map[string]Balance{"a": {1, 0}}, Transfers: []Posting{{ID: "1", Amount: 1}, {ID: "2"}},
			Holds: map[string]HoldRow{"h": {State: "held"}}, Remittances: map[string]RemittanceRow{"r": {"posted"}},
		}
		change(&b)
		return b
	}
	source := books(func(*Books) {})
	if found := source.unlike(books(func(b *Books) { b.Transfers[0], b.Transfers[1] = b.Transfers[1], b.Transfers[0] })); found != "" {
		t.Errorf("in another order: %s", found)
	}
	for name, change := range map[string]func(*Books){
		"balance": func(b *Books) { b.Accounts["a"] = Balance{2, 0} }, "transfer": func(b *Books) { b.Transfers[0].Amount = 2 },
		"one less": func(b *Books) { b.Transfers = b.Transfers[:1] }, "hold": func(b *Books) { delete(b.Holds, "h") },
		"remittance": func(b *Books) { b.Remittances["r"] = RemittanceRow{"voided"} },
	} {
		if source.unlike(books(change)) == "" {
			t.Errorf("another %s is not seen", name)
		}
	}
}
