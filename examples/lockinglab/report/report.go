// Package report writes down what the ways came to, as a table and as charts.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lockstep/examples/lockinglab/lab"
)

// Report is what one run measured. Only its ratios mean anything on another machine.
type Report struct {
	At       time.Time `json:"at"`
	Machine  string    `json:"machine"`
	Sections []Section `json:"sections"`
	Findings []string  `json:"findings,omitempty"` // what was not as it should be
}

// Section is one load, under all ways.
type Section struct {
	Title   string       `json:"title"`
	Across  bool         `json:"across"` // between two databases
	Results []lab.Result `json:"results"`
}

// Write puts the report, its table and its charts into a directory.
func (r Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make the directory of the report: %w", err)
	}
	all, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	var table strings.Builder
	r.Table(&table)
	for name, content := range map[string][]byte{
		"report.json":       append(all, '\n'),
		"table.md":          []byte(table.String()),
		"one-database.svg":  r.chart(false),
		"two-databases.svg": r.chart(true),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return nil
}

// Table prints all sections in Markdown.
func (r Report) Table(out io.Writer) {
	for _, section := range r.Sections {
		fmt.Fprintf(out, "\n### %s\n\n", section.Title)
		fmt.Fprintln(out, "| way | books | order | done | refused | gave up | unknown | deadlocks | timeouts | conflicts | retries | throughput | p50 | p99 |")
		fmt.Fprintln(out, "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
		for _, result := range section.Results {
			fmt.Fprintf(out, "| %s | %s | %s | %d | %d | %d | %d | %d | %d | %d | %d | %s/s | %s | %s |\n",
				result.Way, books(result), order(result), result.Done, result.Refused, result.GaveUp, result.Unknown, result.Deadlocks, result.Timeouts,
				result.Conflicts, result.Retries, rate(result.PerSecond), shortly(result.P50), shortly(result.P99))
		}
	}
}

// Compare says in one line for each section how Lockstep stands beside the fastest of the other ways whose books are right.
func (r Report) Compare(out io.Writer) {
	for _, section := range r.Sections {
		var ours, best lab.Result
		for _, result := range section.Results {
			switch {
			case isOurs(result):
				ours = result
			case result.Correct() && result.PerSecond > best.PerSecond:
				best = result
			}
		}
		if ours.PerSecond > 0 && best.PerSecond > 0 {
			fmt.Fprintf(out, "%s: Lockstep does %.2f times as much as the next right way (%s)\n", section.Title, ours.PerSecond/best.PerSecond, best.Way)
		}
	}
}

// books says in a word or two whether they are right.
func books(r lab.Result) string {
	switch {
	case r.Correct():
		return "right"
	case r.Halves > 0:
		return fmt.Sprintf("**credit without debit: %+d**", r.Made)
	case r.Lost > 0:
		return fmt.Sprintf("**%d lost updates**", r.Lost)
	}
	return fmt.Sprintf("**wrong: %d overdrawn, %d unsaid**", r.Overdrawn, r.Unsaid)
}

// order says whether requests had their turn, and how many others went before one of them at most.
func order(r lab.Result) string {
	if r.InOrder() {
		return fmt.Sprintf("kept (%d)", r.Passed)
	}
	return fmt.Sprintf("not (%d)", r.Passed)
}

// rate writes so many a second.
func rate(perSecond float64) string {
	if perSecond < 10 {
		return fmt.Sprintf("%.1f", perSecond)
	}
	return fmt.Sprintf("%.0f", perSecond)
}

// shortly writes a duration in milliseconds; that of no move at all is a dash.
func shortly(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	ms := float64(d) / float64(time.Millisecond)
	if ms < 10 {
		return fmt.Sprintf("%.1f ms", ms)
	}
	return fmt.Sprintf("%.0f ms", ms)
}

// isOurs tells Lockstep's ways from the others.
func isOurs(r lab.Result) bool { return strings.HasPrefix(r.Way, "Lockstep") }
