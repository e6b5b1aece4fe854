package main

import (
	"fmt"
	"html"
	"html/template"
	"maps"
	"math"
	"slices"
	"strings"
)

// The measures of a chart, in pixels.
const (
	chartWidth  = 960
	chartHeight = 190
	left        = 52
	right       = 12
	top         = 26
	bottom      = 22
)

// line is one curve of a chart.
type line struct {
	name, colour      string
	metric, aggregate string
}

var (
	rates = []line{
		{"requests", "#8c959f", "http_reqs", "rate"},
		{"acknowledged", "#2f81f7", "paid", "rate"},
		{"refused", "#a371f7", "refused", "rate"},
		{"5xx or no answer", "#f85149", "broken", "rate"},
	}
	latencies = []line{
		{"p50", "#3fb950", "http_req_duration", "med"},
		{"p95", "#d29922", "http_req_duration", "p(95)"},
		{"p99", "#f85149", "http_req_duration", "p(99)"},
	}
	memories = []line{{"a node's heap and stacks, at most", "#a371f7", "node_memory_mib", "max"}}
)

// Charts draws what happened in each second: rates, latencies and, where it was looked at, memory.
func (r result) Charts() []template.HTML {
	if len(r.Seconds) < 2 {
		return nil
	}
	charts := []template.HTML{r.chart("per second", rates), r.chart("milliseconds", latencies)}
	if _, noted := r.Metrics["node_memory_mib"]; noted {
		charts = append(charts, r.chart("MiB", memories))
	}
	return charts
}

// chart draws lines over time, and a mark wherever a fault was made.
func (r result) chart(unit string, lines []line) template.HTML {
	most := 1.0
	for _, s := range r.Seconds {
		for _, l := range lines {
			most = max(most, s.of(l.metric, l.aggregate))
		}
	}
	most = niceCeil(most)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img" aria-label="%s: %s">`, chartWidth, chartHeight, r.Name, unit)
	for _, part := range []float64{0, 0.5, 1} {
		y := r.y(most*part, most)
		fmt.Fprintf(&b, `<line class="axis" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, left, chartWidth-right, y, y)
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" text-anchor="end">%s</text>`, left-6, y+4, number(most*part))
	}
	r.drawTime(&b)
	r.drawFaults(&b)
	at := left
	for _, l := range lines {
		fmt.Fprintf(&b, `<polyline stroke="%s" points="`, l.colour)
		for i, s := range r.Seconds {
			fmt.Fprintf(&b, "%.1f,%.1f ", r.x(i), r.y(s.of(l.metric, l.aggregate), most))
		}
		fmt.Fprintf(&b, `"/><text x="%d" y="14" style="fill:%s">%s</text>`, at, l.colour, html.EscapeString(l.name))
		at += 9*len(l.name) + 20
	}
	fmt.Fprintf(&b, `<text x="%d" y="14" text-anchor="end">%s</text></svg>`, chartWidth-right, unit)
	return template.HTML(b.String()) // made here; the names in it are escaped
}

func (r result) x(i int) float64 {
	length := r.Seconds[len(r.Seconds)-1].At.Sub(r.Seconds[0].At).Seconds()
	return left + (chartWidth-left-right)*r.Seconds[i].At.Sub(r.Seconds[0].At).Seconds()/max(length, 1)
}

func (result) y(value, most float64) float64 {
	return chartHeight - bottom - (chartHeight-top-bottom)*value/most
}

// drawTime writes the seconds since the start, some ten times.
func (r result) drawTime(b *strings.Builder) {
	every := max(1, len(r.Seconds)/10)
	for i := 0; i < len(r.Seconds); i += every {
		since := r.Seconds[i].At.Sub(r.Seconds[0].At).Seconds()
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle">%.0f s</text>`, r.x(i), chartHeight-6, since)
	}
}

// drawFaults marks the seconds in which chaos made a fault.
func (r result) drawFaults(b *strings.Builder) {
	const prefix = "faults{fault:"
	n := 0
	for i, s := range r.Seconds {
		for _, name := range slices.Sorted(maps.Keys(s.Values)) {
			fault, is := strings.CutPrefix(name, prefix)
			if !is || s.of(name, "count") == 0 {
				continue
			}
			x := r.x(i)
			fmt.Fprintf(b, `<line class="fault" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x, x, top, chartHeight-bottom)
			fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`, x+3, top+10+12*(n%4), html.EscapeString(strings.TrimSuffix(fault, "}")))
			n++
		}
	}
}

// niceCeil is the next of 1, 2, 5, 10, 20 and so on.
func niceCeil(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 5} {
		if v <= step*unit {
			return step * unit
		}
	}
	return 10 * unit
}
