package local

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// screen shows what a cluster does: on a terminal a table that stays at the bottom,
// below the events; elsewhere the events only.
type screen struct {
	out  io.Writer
	live bool

	mu    sync.Mutex
	drawn []string // the table as it stands at the bottom now
}

const redrawEvery = time.Second

func newScreen(out io.Writer) *screen { return &screen{out: out, live: isTerminal(out)} }

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func formatEvent(e Event) string {
	return strings.TrimRight(fmt.Sprintf("%s %-22s %s", e.At.Format("15:04:05.000"), e.Process, e.Text), " ")
}

func (s *screen) event(e Event) { s.print(formatEvent(e)) }

// print adds lines above the table.
func (s *screen) print(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	below := s.drawn
	s.draw(nil)
	fmt.Fprintln(s.out, text)
	s.draw(below)
}

// draw replaces the table at the bottom.
func (s *screen) draw(lines []string) {
	if !s.live {
		return
	}
	var b strings.Builder
	if n := len(s.drawn); n > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", n) // up n lines, then clear all below
	}
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	_, _ = io.WriteString(s.out, b.String())
	s.drawn = lines
}

// watch shows the cluster until the context ends or somebody asks for its end.
func (s *screen) watch(ctx context.Context, c *Cluster) {
	ticks := time.NewTicker(redrawEvery)
	defer ticks.Stop()
	for {
		s.mu.Lock()
		s.draw(append(table(c.Processes()), "Ctrl-C stops all of it."))
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-c.Asked():
		case <-ticks.C:
			continue
		}
		s.mu.Lock()
		s.draw(nil)
		s.mu.Unlock()
		return
	}
}

// table lists processes for people.
func table(processes []Status) []string {
	const row = "%-22s %-13s %-9s %8s %9s %9s  %s"
	lines := []string{fmt.Sprintf(row, "PROCESS", "KIND", "STATE", "PID", "UP", "RESTARTS", "ADDRESS")}
	for _, p := range processes {
		pid, up := "-", "-"
		if p.PID != 0 {
			pid, up = strconv.Itoa(p.PID), time.Since(p.Since).Round(time.Second).String()
		}
		lines = append(lines, fmt.Sprintf(row, p.Name, p.Kind, p.State, pid, up, strconv.Itoa(p.Restarts), p.Address))
	}
	return lines
}
