package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Report is all that one run found.
type Report struct {
	At       time.Time         `json:"at"`
	Version  string            `json:"version"`
	Seconds  int               `json:"seconds"` // of each load
	Machine  map[string]string `json:"machine"`
	Loads    []Load            `json:"loads"`
	Figures  []Figure          `json:"figures"`
	Failures []string          `json:"failures,omitempty"` // sections that did not come to their end
}

func newReport(version string, seconds int) *Report {
	return &Report{At: time.Now().UTC().Truncate(time.Second), Version: version, Seconds: seconds, Machine: machine()}
}

// Load is what one load reached.
type Load struct {
	Section     string        `json:"section"`
	Name        string        `json:"name"`
	Connections int           `json:"connections"`
	PerSecond   float64       `json:"per_second"`
	P50         time.Duration `json:"p50_ns"`
	P99         time.Duration `json:"p99_ns"`
	Reference   string        `json:"reference,omitempty"` // what SQL by hand it is that the others are held against
}

func (l Load) String() string {
	return fmt.Sprintf("%-46s %4d connections %8.0f/s   p50 %8v   p99 %8v", l.Name, l.Connections, l.PerSecond,
		l.P50.Round(100*time.Microsecond), l.P99.Round(100*time.Microsecond))
}

// Bar is what a figure has to reach. One that has none is only told.
type Bar struct {
	AtLeast *float64 `json:"at_least,omitempty"`
	AtMost  *float64 `json:"at_most,omitempty"`
}

func atLeast(limit float64) Bar { return Bar{AtLeast: &limit} }
func atMost(limit float64) Bar  { return Bar{AtMost: &limit} }

// meets tells whether the value reaches the bar. What could not be computed does not.
func (b Bar) meets(value float64) bool {
	switch {
	case math.IsNaN(value) || math.IsInf(value, 0):
		return false
	case b.AtLeast != nil && value < *b.AtLeast:
		return false
	case b.AtMost != nil && value > *b.AtMost:
		return false
	}
	return true
}

func (b Bar) String() string {
	switch {
	case b.AtLeast != nil:
		return "at least " + number(*b.AtLeast)
	case b.AtMost != nil:
		return "at most " + number(*b.AtMost)
	}
	return ""
}

// Figure is one result, with its bar if it has one.
type Figure struct {
	Section string  `json:"section"`
	Name    string  `json:"name"`
	Value   float64 `json:"value"`
	Unit    string  `json:"unit,omitempty"` // empty for a ratio
	Bar     *Bar    `json:"bar,omitempty"`
	OK      bool    `json:"ok"` // true without a bar
}

// MarshalJSON writes null for a value that could not be computed: JSON has no word for it.
func (f Figure) MarshalJSON() ([]byte, error) {
	type plain Figure
	if !math.IsNaN(f.Value) && !math.IsInf(f.Value, 0) {
		return json.Marshal(plain(f))
	}
	return json.Marshal(struct {
		plain
		Value *float64 `json:"value"`
	}{plain: plain(f)})
}

func (f Figure) String() string {
	line := fmt.Sprintf("%-72s %10s %-4s", f.Name, number(f.Value), f.Unit)
	if f.Bar == nil {
		return strings.TrimRight(line, " ")
	}
	verdict := "ok"
	if !f.OK {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%s %-16s %s", line, f.Bar, verdict)
}

// number writes a value with as many decimals as a reader needs.
func number(value float64) string {
	switch size := math.Abs(value); {
	case size == math.Trunc(size) || size >= 1000:
		return fmt.Sprintf("%.0f", value)
	case size >= 10:
		return fmt.Sprintf("%.1f", value)
	case size >= 0.1:
		return fmt.Sprintf("%.2f", value)
	}
	return fmt.Sprintf("%.4f", value)
}

// add judges a figure and keeps it.
func (r *Report) add(f Figure) Figure {
	f.OK = f.Bar == nil || f.Bar.meets(f.Value)
	r.Figures = append(r.Figures, f)
	return f
}

// missed names the figures that missed their bars.
func (r *Report) missed() []string {
	var names []string
	for _, f := range r.Figures {
		if !f.OK {
			names = append(names, f.Section+": "+f.Name)
		}
	}
	return names
}

// print shows all figures once more, by section.
func (r *Report) print(out io.Writer) {
	section := ""
	for _, f := range r.Figures {
		if f.Section != section {
			section = f.Section
			fmt.Fprintf(out, "\n%s\n", section)
		}
		fmt.Fprintln(out, " ", f)
	}
	fmt.Fprintf(out, "\n%d figures, %d missed their bars\n", len(r.Figures), len(r.missed()))
}

// write leaves the report as JSON at path, and its chart beside it.
func (r *Report) write(path string) error {
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make the report's directory: %w", err)
	}
	if err := os.WriteFile(path, append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := os.WriteFile(chartPath(path), r.chart(), 0o644); err != nil {
		return fmt.Errorf("write the chart: %w", err)
	}
	return nil
}

// chartPath is beside the report's.
func chartPath(path string) string { return strings.TrimSuffix(path, filepath.Ext(path)) + ".svg" }
