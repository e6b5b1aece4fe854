package report

import (
	"bytes"
	"fmt"
	"html"
	"strings"

	"lockstep/examples/lockinglab/lab"
)

// The chart's measures, in pixels.
const (
	width      = 1080
	margin     = 16
	rowHeight  = 24
	barHeight  = 14
	barsFrom   = 230
	barsWidth  = 230
	letterRise = 11 // of the base line within a bar
)

// columns are the figures beside the bars, each with its right edge.
var columns = []struct {
	title string
	right int
	value func(lab.Result) string
}{
	{"per second", barsFrom + barsWidth + 80, func(r lab.Result) string { return rate(r.PerSecond) }},
	{"p99", barsFrom + barsWidth + 170, func(r lab.Result) string { return shortly(r.P99) }},
	{"deadlocks", barsFrom + barsWidth + 250, func(r lab.Result) string { return count(r.Deadlocks) }},
	{"timeouts", barsFrom + barsWidth + 320, func(r lab.Result) string { return count(r.Timeouts) }},
	{"retries", barsFrom + barsWidth + 385, func(r lab.Result) string { return count(r.Retries) }},
	{"order", barsFrom + barsWidth + 440, orderWord},
	{"books", barsFrom + barsWidth + 600, func(r lab.Result) string { return strings.Trim(books(r), "*") }},
}

func count(n int) string { return fmt.Sprint(n) }

func orderWord(r lab.Result) string {
	word, _, _ := strings.Cut(order(r), " ")
	return word
}

// The style reads on a light and on a dark page.
const style = `<style>
text { font: 13px system-ui, sans-serif; fill: #6e7781 }
.head { font-weight: 600 }
.right { text-anchor: end }
.sound { fill: #8c959f }
.ours { fill: #2f81f7 }
.wrong { fill: #d1242f }
@media (prefers-color-scheme: dark) { text { fill: #b1bac4 } }
</style>
`

// chart draws the throughput of every way, section by section, each against its own fastest: a way that loses updates is red,
// Lockstep's is blue.
func (r Report) chart(across bool) []byte {
	var body bytes.Buffer
	y := margin
	for _, section := range r.Sections {
		if section.Across == across {
			y = section.draw(&body, y)
		}
	}
	text(&body, margin, y+letterRise, "", r.Machine)
	height := y + rowHeight + margin
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="Moves a second in each way">`+"\n",
		width, height, width, height)
	svg.WriteString(style)
	svg.Write(body.Bytes())
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

// draw draws a section from y down, and returns where the next may begin.
func (s Section) draw(body *bytes.Buffer, y int) int {
	text(body, margin, y+letterRise, "head", s.Title)
	y += rowHeight
	most := 1.0
	for _, result := range s.Results {
		most = max(most, result.PerSecond)
	}
	for _, column := range columns {
		text(body, column.right, y+letterRise, "head right", column.title)
	}
	for _, result := range s.Results {
		y += rowHeight
		text(body, margin, y+letterRise, "", result.Way)
		fmt.Fprintf(body, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`+"\n",
			class(result), barsFrom, y, barsWidth*result.PerSecond/most, barHeight)
		for _, column := range columns {
			text(body, column.right, y+letterRise, "right", column.value(result))
		}
	}
	return y + 2*rowHeight
}

func class(r lab.Result) string {
	switch {
	case !r.Correct():
		return "wrong"
	case isOurs(r):
		return "ours"
	}
	return "sound"
}

func text(body *bytes.Buffer, x, y int, class, content string) {
	fmt.Fprintf(body, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, x, y, html.EscapeString(content))
}
