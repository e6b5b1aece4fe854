package chaos

import (
	"bytes"
	_ "embed" // the page is part of the program
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

//go:embed report.html
var pageText string

// The charts' measures, in pixels.
const (
	pageWidth   = 1100
	plotLeft    = 60
	plotWidth   = pageWidth - plotLeft - 20
	plotHeight  = 150
	laneHeight  = 16
	laneLetters = 11
)

// page is the report for people: one file that needs nothing else.
func (r *Result) page() ([]byte, error) {
	tmpl, err := template.New("report").Funcs(template.FuncMap{
		"seconds": func(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) },
		"shortly": shortly,
		"percent": func(part, whole int) string { return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(max(whole, 1))) },
		"join":    func(list []string) string { return strings.Join(list, ", ") },
	}).Parse(pageText)
	if err != nil {
		return nil, err
	}
	var page bytes.Buffer
	err = tmpl.Execute(&page, r)
	return page.Bytes(), err
}

// plot is one chart over time.
type plot struct {
	Name         string
	Width        int
	Height       int
	Left, Bottom int
	Bands        []band // faults in the background
	Grid         []mark // lines of the scale, with their values
	Times        []mark
	Lines        []line
}

type band struct{ X, Width float64 }

type mark struct {
	At   float64
	Text string
}

type line struct{ Class, Name, Points string }

// lane is one fault's row in the chart of faults.
type lane struct {
	Name  string
	Count int
	Y     int
	Bars  []bar
}

type bar struct {
	X, Width float64
	Title    string
	Failed   bool
}

func (r *Result) x(at time.Duration) float64 {
	return plotLeft + plotWidth*at.Seconds()/max(r.Healed.Seconds(), 1)
}

func (r *Result) bands() (all []band) {
	for _, incident := range r.Incidents {
		all = append(all, band{r.x(incident.From), max(r.x(incident.To)-r.x(incident.From), 1)})
	}
	return all
}

func (r *Result) times() (marks []mark) {
	step := time.Duration(max(1, math.Ceil(r.Healed.Seconds()/12))) * time.Second
	for at := time.Duration(0); at <= r.Healed; at += step {
		marks = append(marks, mark{r.x(at), fmt.Sprintf("%.0f s", at.Seconds())})
	}
	return marks
}

// Throughput is drawn on an even scale from zero.
func (r *Result) Throughput() plot {
	most := 1.0
	for _, s := range r.Timeline {
		most = max(most, float64(s.Inside+s.Across))
	}
	y := func(value float64) float64 { return plotHeight * (1 - value/most) }
	p := r.plot("Acknowledged transfers a second")
	for _, part := range []float64{0, 0.25, 0.5, 0.75, 1} {
		p.Grid = append(p.Grid, mark{y(part * most), fmt.Sprintf("%.0f", part*most)})
	}
	p.Lines = []line{
		r.line("total", "all", func(s Second) float64 { return y(float64(s.Inside + s.Across)) }),
		r.line("across", "between the systems", func(s Second) float64 { return y(float64(s.Across)) }),
		r.line("refused", "operations refused", func(s Second) float64 { return y(min(float64(s.Refused), most)) }),
	}
	return p
}

// Latency is drawn on a logarithmic scale, from a millisecond to a minute.
func (r *Result) Latency() plot {
	y := func(d time.Duration) float64 {
		const decades = 5
		return plotHeight * (1 - min(math.Log10(max(float64(d)/float64(time.Millisecond), 1)), decades)/decades)
	}
	p := r.plot("Time until the definite answer to a change, by when it came")
	for _, d := range []time.Duration{time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second} {
		p.Grid = append(p.Grid, mark{y(d), shortly(d)})
	}
	p.Lines = []line{
		r.line("total", "p50", func(s Second) float64 { return y(s.P50) }),
		r.line("refused", "p99", func(s Second) float64 { return y(s.P99) }),
	}
	return p
}

func (r *Result) plot(name string) plot {
	const below = 24
	return plot{
		Name: name, Width: pageWidth, Height: plotHeight + below, Left: plotLeft, Bottom: plotHeight,
		Bands: r.bands(), Times: r.times(),
	}
}

func (r *Result) line(class, name string, y func(Second) float64) line {
	var points strings.Builder
	for i, s := range r.Timeline {
		at := min(time.Duration(i)*time.Second+time.Second/2, r.Healed)
		fmt.Fprintf(&points, "%.1f,%.1f ", r.x(at), y(s))
	}
	return line{class, name, points.String()}
}

// Lanes draws each fault's times below one another.
func (r *Result) Lanes() (lanes []lane) {
	byName := map[string]*lane{}
	for _, incident := range r.Incidents {
		l := byName[incident.Fault]
		if l == nil {
			l = &lane{Name: incident.Fault}
			byName[incident.Fault] = l
		}
		l.Count++
		l.Bars = append(l.Bars, bar{
			X: r.x(incident.From), Width: max(r.x(incident.To)-r.x(incident.From), 2), Failed: incident.Failed != "",
			Title: fmt.Sprintf("%s: %s, %.1f s to %.1f s %s", incident.Fault, strings.Join(incident.On, ", "), incident.From.Seconds(), incident.To.Seconds(), incident.Failed),
		})
	}
	for i, name := range slices.Sorted(maps.Keys(byName)) {
		byName[name].Y = i * laneHeight * 2
		lanes = append(lanes, *byName[name])
	}
	return lanes
}

// LanesHeight is that of the chart of faults.
func (r *Result) LanesHeight() int { return len(r.Faults()) * laneHeight * 2 }
