package bench

import (
	"bytes"
	"fmt"
	"html"
	"slices"
	"time"
)

// The chart's measures, in pixels.
const (
	chartWidth  = 960
	chartMargin = 16
	rowHeight   = 24
	barHeight   = 14
	barsFrom    = 350
	barsWidth   = 320
	valuesAt    = barsFrom + barsWidth + 80 // their right edge
	p50At       = valuesAt + 95
	p99At       = p50At + 95
	letterRise  = 11 // of the base line within a bar
)

// The style reads on a light and on a dark page, also where the page does not tell which it is.
const chartStyle = `<style>
text { font: 13px system-ui, sans-serif; fill: #6e7781 }
.head { font-weight: 600 }
.right { text-anchor: end }
.ours { fill: #2f81f7 }
.sql { fill: #8c959f }
.line { stroke: #d29922; stroke-width: 1.5; stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) { text { fill: #b1bac4 } }
</style>
`

// chart draws the throughput of every load by section, with SQL by hand as dashed lines, and its latencies beside it.
func (r *Report) chart() []byte {
	var body bytes.Buffer
	most := 1.0
	for _, l := range r.Loads {
		most = max(most, l.PerSecond)
	}
	y := chartMargin
	for from := 0; from < len(r.Loads); {
		to := from
		for to < len(r.Loads) && r.Loads[to].Section == r.Loads[from].Section {
			to++
		}
		y = drawSection(&body, r.Loads[from:to], most, y)
		from = to
	}
	drawText(&body, chartMargin, y+letterRise, "", fmt.Sprintf("%s, %s: %s CPUs, MariaDB %s, Redis %s; each load %d s",
		r.Version, r.At.Format(time.DateOnly), r.Machine["cpus"], r.Machine["mariadb"], r.Machine["redis"], r.Seconds))
	height := y + rowHeight + chartMargin
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Transfers a second of each load">`+"\n",
		chartWidth, height, chartWidth, height)
	svg.WriteString(chartStyle)
	svg.Write(body.Bytes())
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

// drawSection draws the loads of one section from y down, and returns where the next may begin.
func drawSection(body *bytes.Buffer, loads []Load, most float64, y int) int {
	drawText(body, chartMargin, y+letterRise, "head", loads[0].Section)
	drawText(body, valuesAt, y+letterRise, "head right", "per second")
	drawText(body, p50At, y+letterRise, "head right", "p50")
	drawText(body, p99At, y+letterRise, "head right", "p99")
	y += rowHeight
	top := y
	for _, l := range loads {
		class := "ours"
		if l.Reference != "" {
			class = "sql"
		}
		drawText(body, chartMargin, y+letterRise, "", fmt.Sprintf("%s (%d)", l.Name, l.Connections))
		fmt.Fprintf(body, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n",
			class, barsFrom, y, barsWidth*l.PerSecond/most, barHeight)
		drawText(body, valuesAt, y+letterRise, "right", fmt.Sprintf("%.0f", l.PerSecond))
		drawText(body, p50At, y+letterRise, "right", shortly(l.P50))
		drawText(body, p99At, y+letterRise, "right", shortly(l.P99))
		y += rowHeight
	}
	drawReferences(body, loads, most, top, y)
	return y + rowHeight
}

// drawReferences draws a line through the bars at the mean of each reference.
func drawReferences(body *bytes.Buffer, loads []Load, most float64, top, bottom int) {
	var names []string
	sums, counts := map[string]float64{}, map[string]float64{}
	for _, l := range loads {
		if l.Reference == "" {
			continue
		}
		if !slices.Contains(names, l.Reference) {
			names = append(names, l.Reference)
		}
		sums[l.Reference] += l.PerSecond
		counts[l.Reference]++
	}
	for _, name := range names {
		x := barsFrom + barsWidth*sums[name]/counts[name]/most
		fmt.Fprintf(body, `<line class="line" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`+"\n", x, top-letterRise/2, x, bottom-rowHeight+barHeight)
		drawText(body, int(x), top-rowHeight+letterRise, "right", name)
	}
}

func drawText(body *bytes.Buffer, x, y int, class, text string) {
	fmt.Fprintf(body, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, x, y, html.EscapeString(text))
}

// shortly writes a latency in milliseconds.
func shortly(d time.Duration) string {
	return number(milliseconds(d.Round(100*time.Microsecond))) + " ms"
}
