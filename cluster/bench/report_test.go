package bench_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/cluster/bench"
)

// A figure is ok exactly when its value reaches the bar; one that could not be computed never is.
func TestAFigureIsJudgedByItsBar(t *testing.T) {
	var report bench.Report
	for _, c := range []struct {
		value float64
		bar   bench.Bar
		ok    bool
	}{
		{4, bench.AtLeast(4), true},
		{3.99, bench.AtLeast(4), false},
		{100, bench.AtMost(100), true},
		{100.1, bench.AtMost(100), false},
		{0, bench.AtMost(0), true},
		{math.NaN(), bench.AtMost(1), false},
		{math.Inf(1), bench.AtLeast(1), false},
	} {
		figure := report.Add(bench.Figure{Section: "speed", Name: "ratio", Value: c.value, Bar: &c.bar})
		verdict := "ok"
		if !c.ok {
			verdict = "MISSED"
		}
		if figure.OK != c.ok || !strings.HasSuffix(figure.String(), verdict) {
			t.Errorf("%v with the bar %q is ok: %v, written as %q", c.value, c.bar, figure.OK, figure)
		}
	}
	if told := report.Add(bench.Figure{Name: "told", Value: 7}); !told.OK {
		t.Error("a figure without a bar is not ok")
	}
	if missed := report.Missed(); len(missed) != 4 || missed[0] != "speed: ratio" {
		t.Errorf("missed are %q, want four", missed)
	}
	text, err := json.Marshal(report.Figures)
	if err != nil {
		t.Fatal(err)
	}
	if count := strings.Count(string(text), `"value":null`); count != 2 {
		t.Errorf("%d values of two that could not be computed are null: %s", count, text)
	}
}

// The quantile is the duration that this share of all stays within.
func TestTheQuantileIsTheDurationThatAShareStaysWithin(t *testing.T) {
	took := make([]time.Duration, 100)
	for i := range took {
		took[i] = time.Duration(100 - i) // from the slowest to the fastest
	}
	for share, want := range map[float64]time.Duration{0: 1, 0.5: 50, 0.99: 99, 1: 100} {
		if got := bench.Quantile(share, took...); got != want {
			t.Errorf("quantile %v of 1 to 100 is %d, want %d", share, got, want)
		}
	}
	if got := bench.Quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %d", got)
	}
}

// The chart is well-formed XML, names every load, and draws each reference as one line.
func TestTheChartIsWellFormed(t *testing.T) {
	report := bench.Report{
		Version: `<v1> & "more"`, Machine: map[string]string{"cpus": "2"},
		Loads: []bench.Load{
			{Section: "speed", Name: "direct SQL, before", Connections: 32, PerSecond: 1000, Reference: "direct SQL"},
			{Section: "speed", Name: "direct SQL, after", Connections: 32, PerSecond: 2000, Reference: "direct SQL"},
			{Section: "speed", Name: "uniform <&>", Connections: 256, PerSecond: 7000, P50: time.Millisecond, P99: time.Second},
			{Section: "locks", Name: "hot", Connections: 256, PerSecond: 6000},
		},
	}
	var texts []string
	rects, lines := 0, 0
	decoder := xml.NewDecoder(strings.NewReader(string(report.Chart())))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the chart is no XML: %v\n%s", err, report.Chart())
		}
		switch token := token.(type) {
		case xml.StartElement:
			switch token.Name.Local {
			case "rect":
				rects++
			case "line":
				lines++
			}
		case xml.CharData:
			texts = append(texts, string(token))
		}
	}
	if rects != len(report.Loads) || lines != 1 {
		t.Errorf("%d bars and %d lines are drawn, want 4 and 1", rects, lines)
	}
	for _, want := range []string{"uniform <&> (256)", "7000", "hot (256)", "locks", "1 ms", "1000 ms", "direct SQL"} {
		if !slices.Contains(texts, want) {
			t.Errorf("the chart does not say %q: %q", want, texts)
		}
	}
}
