package main

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// report is what all scripts have shown.
type report struct {
	At      time.Time
	Form    string
	Took    time.Duration
	Results []result
	Books   error // of verify
}

// verdict is nil when every script and the books are as they must be.
func (r report) verdict() error {
	var failures []error
	for _, one := range r.Results {
		failures = append(failures, one.Err)
	}
	return errors.Join(append(failures, r.Books)...)
}

// rule is one threshold and what it was held against.
type rule struct {
	Metric, Rule, Value string
	OK                  bool
}

// rules are the thresholds of a run, those that failed first.
func (r result) rules() []rule {
	var rules []rule
	for _, name := range slices.Sorted(maps.Keys(r.Metrics)) {
		m := r.Metrics[name]
		for _, text := range slices.Sorted(maps.Keys(m.Thresholds)) {
			aggregate, _, _ := strings.Cut(strings.NewReplacer("<", " ", ">", " ", "=", " ").Replace(text), " ")
			value := ""
			if v, there := m.Values[aggregate]; there {
				value = number(v)
			}
			rules = append(rules, rule{Metric: name, Rule: text, Value: value, OK: m.Thresholds[text].OK})
		}
	}
	slices.SortStableFunc(rules, func(a, b rule) int {
		switch {
		case a.OK == b.OK:
			return 0
		case b.OK:
			return -1
		}
		return 1
	})
	return rules
}

// held is nil when all rules hold.
func (r result) held() error {
	var failures []error
	for _, one := range r.rules() {
		if !one.OK {
			failures = append(failures, fmt.Errorf("%s: %w: %s %s: %s", r.Name, errFailed, one.Metric, one.Rule, one.Value))
		}
	}
	return errors.Join(failures...)
}

// Rules are for the page.
func (r result) Rules() []rule { return r.rules() }

// Count is the sum of a counter.
func (r result) Count(name string) string { return number(r.Metrics[name].Values["count"]) }

// Latency is a quantile of all answers.
func (r result) Latency(quantile string) string {
	return number(r.Metrics["http_req_duration"].Values[quantile]) + " ms"
}

// number has as many decimals as are worth reading.
func number(v float64) string {
	if v == float64(int64(v)) || v >= 100 || v <= -100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

//go:embed report.html.tmpl
var page string

func (r report) write(path string) error {
	parsed, err := template.New("report").Parse(page)
	if err != nil {
		return fmt.Errorf("read the report's template: %w", err)
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := parsed.Execute(file, r); err != nil {
		return fmt.Errorf("write the report: %w", errors.Join(err, file.Close()))
	}
	return file.Close()
}
