package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// scriptMax bounds a script that hangs; the long form of soak takes a quarter of an hour.
const scriptMax = 2 * time.Hour

// script is one run of k6.
type script struct {
	name        string
	dir         string // of the scripts; empty is k6
	k6          string // the program
	credentials string
	out         string
	settings    []string // NAME=value
}

// result is what a run of a script has shown.
type result struct {
	Name    string
	Err     error // why it failed
	Took    time.Duration
	Metrics map[string]metric // as k6 sums them up at the end
	Seconds []second
}

// metric is one of k6's, or a tagged part of one.
type metric struct {
	Type       string             `json:"type"`
	Values     map[string]float64 `json:"values"`
	Thresholds map[string]struct {
		OK bool `json:"ok"`
	} `json:"thresholds"`
}

// run runs the script. Its figures, the record of each second and its log go to files named for it.
func (s script) run(ctx context.Context, out io.Writer) result {
	r := result{Name: s.name}
	began := time.Now()
	r.Err = s.execute(ctx, out)
	r.Took = time.Since(began)
	if err := s.read(&r); err != nil && r.Err == nil {
		r.Err = err
	}
	return r
}

func (s script) file(kind string) string { return filepath.Join(s.out, s.name+kind) }

// execute ends with an error unless k6 says that every threshold held.
func (s script) execute(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, scriptMax)
	defer cancel()
	for _, kind := range []string{".json", ".ndjson"} {
		_ = os.Remove(s.file(kind)) // of an earlier run, which must not be taken for this one's
	}
	log, err := os.Create(s.file(".log"))
	if err != nil {
		return fmt.Errorf("keep the log: %w", err)
	}
	defer log.Close()
	dir := s.dir
	if dir == "" {
		dir = "k6"
	}
	args := []string{"run", "--no-usage-report", "--quiet", "--no-color", "--out", "web-dashboard=port=-1&period=1s&tag=fault&record=" + s.file(".ndjson")}
	for _, setting := range append([]string{"CREDENTIALS=" + s.credentials, "OUT=" + s.out}, s.settings...) {
		args = append(args, "--env", setting)
	}
	cmd := exec.CommandContext(ctx, s.k6, append(args, filepath.Join(dir, s.name+".js"))...)
	cmd.Env = append(os.Environ(), "K6_AUTO_EXTENSION_RESOLUTION=false")
	cmd.Stdout, cmd.Stderr = io.MultiWriter(out, log), log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) } // k6 then runs its teardown
	cmd.WaitDelay = time.Minute
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w; its last words:\n%s", s.name, err, lastWords(log.Name()))
	}
	return nil
}

// lastWords are the last errors in a log: one each, without k6's own prose around them.
func lastWords(path string) string {
	const most = 12
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	var words []string
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "level=error") || strings.Contains(line, "  FAILED ") {
			words = append(words, "  "+strings.TrimSpace(line))
		}
	}
	return strings.Join(words[max(0, len(words)-most):], "\n")
}

// read takes what k6 has written. A run without thresholds has shown nothing; rules that a script makes of its own are not
// in k6's exit status.
func (s script) read(r *result) error {
	text, err := os.ReadFile(s.file(".json"))
	if err != nil {
		return fmt.Errorf("read the figures of %s: %w", s.name, err)
	}
	var figures struct {
		Metrics map[string]metric `json:"metrics"`
	}
	if err := json.Unmarshal(text, &figures); err != nil {
		return fmt.Errorf("read the figures of %s: %w", s.name, err)
	}
	r.Metrics = figures.Metrics
	if len(r.rules()) == 0 {
		return fmt.Errorf("%s: %w: no threshold was judged", s.name, errFailed)
	}
	record, err := os.Open(s.file(".ndjson"))
	if err != nil {
		return fmt.Errorf("read the record of %s: %w", s.name, err)
	}
	defer record.Close()
	if r.Seconds, err = readRecord(record); err != nil {
		return err
	}
	return r.held()
}
