package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// second is what happened in one second of a run, by metric and by what k6 makes of it, such as rate or p(99).
type second struct {
	At     time.Time
	Values map[string]map[string]float64
}

// of is 0 for what was not measured.
func (s second) of(metric, aggregate string) float64 { return s.Values[metric][aggregate] }

// readRecord reads what k6's dashboard records, a JSON object to a line. Metrics are announced once, with their types; each
// snapshot has the values of all metrics that are known by then, in the order of their names.
func readRecord(from io.Reader) ([]second, error) {
	var seconds []second
	var aggregates map[string][]string
	types := map[string]string{}
	for decoder := json.NewDecoder(from); ; {
		var line struct {
			Event string          `json:"event"`
			Data  json.RawMessage `json:"data"`
		}
		err := decoder.Decode(&line)
		if errors.Is(err, io.EOF) {
			return seconds, nil
		}
		if err == nil {
			switch line.Event {
			case "param":
				aggregates, err = readAggregates(line.Data)
			case "metric":
				err = readTypes(line.Data, types)
			case "snapshot":
				var s second
				s, err = readSnapshot(line.Data, types, aggregates)
				seconds = append(seconds, s)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read a record: %w", err)
		}
	}
}

func readAggregates(data json.RawMessage) (map[string][]string, error) {
	var param struct {
		Aggregates map[string][]string `json:"aggregates"`
	}
	err := json.Unmarshal(data, &param)
	return param.Aggregates, err
}

func readTypes(data json.RawMessage, types map[string]string) error {
	var announced map[string]struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(data, &announced); err != nil {
		return err
	}
	for name, metric := range announced {
		types[name] = metric.Type
	}
	return nil
}

var errRecord = errors.New("not a record as this k6 writes it")

func readSnapshot(data json.RawMessage, types map[string]string, aggregates map[string][]string) (second, error) {
	s := second{Values: map[string]map[string]float64{}}
	var values [][]float64
	if err := json.Unmarshal(data, &values); err != nil {
		return s, err
	}
	names := slices.Sorted(maps.Keys(types))
	if len(values) != len(names) {
		return s, fmt.Errorf("%w: %d values for %d metrics", errRecord, len(values), len(names))
	}
	for i, name := range names {
		s.Values[name] = map[string]float64{}
		for j, aggregate := range aggregates[types[name]] {
			if j < len(values[i]) {
				s.Values[name][aggregate] = values[i][j]
			}
		}
	}
	s.At = time.UnixMilli(int64(s.of("time", "value")))
	if s.At.Year() < 2000 {
		return s, fmt.Errorf("%w: its metrics are in another order", errRecord)
	}
	return s, nil
}
