package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Result is all that one run found.
type Result struct {
	At        time.Time     `json:"at"`
	Seconds   int           `json:"seconds"`
	Seed      uint64        `json:"seed"`
	Command   string        `json:"command"`    // repeats the run
	Healed    time.Duration `json:"healed_ns"`  // when the last fault had ended
	Settled   time.Duration `json:"settled_ns"` // from then until both sides of every transfer were alike
	Locks     bool          `json:"locks"`      // Redis was lost throughout
	Seen      []Figure      `json:"seen"`       // by the nodes
	Periods   []Period      `json:"periods"`
	Incidents []Incident    `json:"incidents"`
	Checks    []Check       `json:"checks"`
	Calm      Pace          `json:"calm"`
	Struck    Pace          `json:"under_faults"`
	Tally     Tally         `json:"tally"`
	Answers   []Answers     `json:"answers"`
	Timeline  []Second      `json:"timeline"`
}

// Pace is how fast the system was for a part of the time.
type Pace struct {
	Seconds   float64       `json:"seconds"`
	PerSecond float64       `json:"per_second"` // acknowledged transfers
	P50       time.Duration `json:"p50_ns"`     // of changes, from the first request to the definite answer
	P99       time.Duration `json:"p99_ns"`
	Longest   time.Duration `json:"longest_ns"`
}

// Tally counts operations.
type Tally struct {
	Requests     int `json:"requests"`
	Silent       int `json:"silent"`       // requests without an answer
	Acknowledged int `json:"acknowledged"` // transfers
	Across       int `json:"across"`       // of those, between the systems
	Asked        int `json:"asked"`        // transfers, whatever became of them
	AskedAcross  int `json:"asked_across"`
	Holds        int `json:"holds"`
	Refused      int `json:"refused"`
	NotApplied   int `json:"not_applied"`
	Repeated     int `json:"repeated"` // changes that needed more than one request
	Reads        int `json:"reads"`
}

// Answers counts requests of one kind by what they got.
type Answers struct {
	Kind  Kind   `json:"kind"`
	What  string `json:"what"`
	Count int    `json:"count"`
}

// Second is one second of the load.
type Second struct {
	Inside  int           `json:"inside"` // acknowledged transfers inside one system
	Across  int           `json:"across"`
	Refused int           `json:"refused"`
	P50     time.Duration `json:"p50_ns"`
	P99     time.Duration `json:"p99_ns"`
}

func newResult(c Config) *Result {
	return &Result{At: time.Now().UTC().Truncate(time.Second), Seconds: c.Seconds, Seed: c.Seed, Command: c.command(), Locks: c.Locks}
}

// OK tells whether nothing was found that must not be.
func (r *Result) OK() bool {
	return len(r.Checks) > 0 && !slices.ContainsFunc(r.Checks, func(c Check) bool { return len(c.Breaches) > 0 })
}

func (r *Result) fail(meaning, detail string) {
	r.Checks = append(r.Checks, Check{Name: "run", Meaning: meaning, Breaches: []string{detail}})
}

// sum makes the figures out of the record.
func (r *Result) sum(ops []Op) {
	var calm, struck []Op
	answers := map[Answers]int{}
	r.Timeline = make([]Second, int(r.Healed/time.Second)+1)
	latencies := make([][]time.Duration, len(r.Timeline))
	for _, op := range ops {
		r.Tally.add(op)
		for _, t := range op.Tries {
			answers[Answers{Kind: op.Kind, What: t.what()}]++
		}
		if op.Kind.reads() || op.End != Applied && op.End != Refused {
			continue
		}
		if r.calmAt(op.Return) {
			calm = append(calm, op)
		} else {
			struck = append(struck, op)
		}
		if at := int(op.Return / time.Second); at < len(r.Timeline) {
			r.Timeline[at].add(op)
			latencies[at] = append(latencies[at], op.Return-op.Call)
		}
	}
	for at, all := range latencies {
		r.Timeline[at].P50, r.Timeline[at].P99 = quantile(all, 0.5), quantile(all, 0.99)
	}
	r.Calm, r.Struck = r.pace(calm, true), r.pace(struck, false)
	for key, count := range answers {
		key.Count = count
		r.Answers = append(r.Answers, key)
	}
	slices.SortFunc(r.Answers, func(a, b Answers) int { return b.Count - a.Count })
}

// pauses tells for how long a system that had lost its source acknowledged no change.
func (r *Result) pauses(ops []Op) {
	ends := map[string][]time.Duration{}
	for _, op := range ops {
		if !op.Kind.reads() && op.End == Applied {
			ends[op.System] = append(ends[op.System], op.Return)
		}
	}
	for _, incident := range r.Incidents {
		if !strings.HasSuffix(incident.Fault, sourceReturns) || incident.Failed != "" {
			continue
		}
		system, _, _ := strings.Cut(incident.On[0], "-")
		slices.Sort(ends[system])
		last, longest := incident.From, time.Duration(0)
		for _, at := range ends[system] {
			if at > incident.From && at < incident.To {
				last, longest = at, max(longest, at-last)
			}
		}
		r.Seen = append(r.Seen, Figure{
			Meaning: fmt.Sprintf("seconds until %s acknowledged changes again, its source lost at %.0f s", system, incident.From.Seconds()),
			Value:   max(longest, incident.To-last).Seconds(),
		})
	}
}

// what names an answer: its status, and the code of a problem.
func (t Try) what() string {
	if t.Status == 0 {
		return "no answer"
	}
	if t.Code == "" {
		return fmt.Sprint(t.Status)
	}
	return fmt.Sprintf("%d %s", t.Status, t.Code)
}

func (t *Tally) add(op Op) {
	t.Requests += len(op.Tries)
	t.Silent += count(op.Tries, func(t Try) bool { return t.Status == 0 })
	if op.Kind.reads() {
		t.Reads++
		return
	}
	if len(op.Tries) > 1 {
		t.Repeated++
	}
	if op.Kind.moves() {
		t.Asked++
		if op.Kind == Remit {
			t.AskedAcross++
		}
	}
	switch {
	case op.End == Refused:
		t.Refused++
	case op.End == NotApplied:
		t.NotApplied++
	case op.End == Applied && op.Kind == Hold:
		t.Holds++
	case op.End == Applied && op.Kind.moves():
		t.Acknowledged++
		if op.Kind == Remit {
			t.Across++
		}
	}
}

func (s *Second) add(op Op) {
	switch {
	case op.End == Refused:
		s.Refused++
	case op.Kind == Remit:
		s.Across++
	case op.Kind.moves():
		s.Inside++
	}
}

func (r *Result) calmAt(at time.Duration) bool {
	return slices.ContainsFunc(r.Periods, func(p Period) bool { return p.Calm && p.From <= at && at < p.To })
}

func (r *Result) pace(ops []Op, calm bool) (p Pace) {
	for _, period := range r.Periods {
		if period.Calm == calm {
			p.Seconds += (period.To - period.From).Seconds()
		}
	}
	acknowledged := 0
	latencies := make([]time.Duration, len(ops))
	for i, op := range ops {
		latencies[i] = op.Return - op.Call
		if op.End == Applied && op.Kind.moves() && op.Return < r.Healed {
			acknowledged++
		}
	}
	if p.Seconds > 0 {
		p.PerSecond = float64(acknowledged) / p.Seconds
	}
	p.P50, p.P99, p.Longest = quantile(latencies, 0.5), quantile(latencies, 0.99), quantile(latencies, 1)
	return p
}

// quantile sorts the values in place.
func quantile(values []time.Duration, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(q*float64(len(values))), len(values)-1)]
}

// judgeRun tells whether the run did what it was for. One in which nothing happened would find nothing.
func (r *Result) judgeRun() {
	applied := Check{Name: "faults_applied", Meaning: "every fault that was chosen was applied and healed", Judged: len(r.Incidents)}
	for _, incident := range r.Incidents {
		if incident.Failed != "" {
			applied.breach("%s on %v: %s", incident.Fault, incident.On, incident.Failed)
		}
	}
	if len(r.Incidents) == 0 {
		applied.breach("no fault was chosen")
	}
	for i, check := range r.Checks {
		if check.Judged == 0 && len(check.Breaches) == 0 {
			r.Checks[i].breach("there was nothing to judge")
		}
	}
	lively := Check{
		Name: "lively", Judged: r.Tally.Asked,
		Meaning: "transfers are acknowledged in calm periods, some are refused for want of funds, a fifth are to go across and a twentieth do",
	}
	if r.Calm.PerSecond == 0 && !r.Locks || r.Tally.Acknowledged == 0 {
		lively.breach("no transfer was acknowledged in a calm period")
	}
	if !slices.ContainsFunc(r.Answers, func(a Answers) bool { return a.What == "422 insufficient_funds" }) {
		lively.breach("no operation was refused for want of funds")
	}
	if share := float64(r.Tally.Across) / float64(max(r.Tally.Acknowledged, 1)); share < acrossLeast {
		lively.breach("only %.0f%% of the acknowledged transfers were between the systems", 100*share)
	}
	if share := float64(r.Tally.AskedAcross) / float64(max(r.Tally.Asked, 1)); share < remitsLeast {
		lively.breach("only %.0f%% of the transfers were between the systems", 100*share)
	}
	r.Checks = append(r.Checks, applied, lively)
	if r.Locks {
		r.Checks = append(r.Checks, r.locksWereLost())
	}
}

// locksWereLost tells whether a run without locks deserves the name: nodes held the same account at once.
func (r *Result) locksWereLost() Check {
	check := Check{Name: "locks_were_lost", Meaning: "locks were lost, two nodes held the same account at once, and nodes paid without any locks"}
	for _, seen := range r.Seen {
		check.Judged += int(seen.Value)
		if seen.Lock && seen.Value == 0 {
			check.breach("%s: never", seen.Meaning)
		}
	}
	return check
}

// Faults counts how often each fault was applied.
func (r *Result) Faults() map[string]int {
	counts := map[string]int{}
	for _, incident := range r.Incidents {
		counts[incident.Fault]++
	}
	return counts
}

// print shows what was found on a terminal.
func (r *Result) print(out io.Writer) {
	const breachesShown = 5
	fmt.Fprintln(out)
	for _, check := range r.Checks {
		verdict := "ok"
		if len(check.Breaches) > 0 {
			verdict = fmt.Sprintf("%d BREACHES", len(check.Breaches))
		}
		fmt.Fprintf(out, "%-24s %8d judged  %s\n", check.Name, check.Judged, verdict)
		for i, breach := range check.Breaches {
			if i == breachesShown {
				fmt.Fprintln(out, "   ... more in the report")
				break
			}
			fmt.Fprintln(out, "  ", breach)
		}
	}
	fmt.Fprintln(out)
	counts := r.Faults()
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(out, "%4d  %s\n", counts[name], name)
	}
	fmt.Fprintln(out)
	for _, seen := range r.Seen {
		fmt.Fprintf(out, "%8.0f  %s\n", seen.Value, seen.Meaning)
	}
	fmt.Fprintf(out, "\ncalm:         %s\nunder faults: %s\n", r.Calm, r.Struck)
	fmt.Fprintf(out, "%d transfers acknowledged, %d of them across; %d operations refused, %d not applied, %d repeated under their key; settled in %.1f s\n",
		r.Tally.Acknowledged, r.Tally.Across, r.Tally.Refused, r.Tally.NotApplied, r.Tally.Repeated, r.Settled.Seconds())
}

// String is a line for people.
func (p Pace) String() string {
	return fmt.Sprintf("%.0f s, %.0f acknowledged transfers/s, p50 %s, p99 %s, longest %s", p.Seconds, p.PerSecond, shortly(p.P50), shortly(p.P99), shortly(p.Longest))
}

func shortly(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%.0f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// The files of a report.
const (
	reportName = "report.html"
	figureName = "report.json"
)

// write leaves the report in a directory, for people and for programs.
func (r *Result) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, figureName), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	page, err := r.page()
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, reportName), page, 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
