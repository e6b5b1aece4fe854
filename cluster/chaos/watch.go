package chaos

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lockstep/cluster/local"
)

// Figure is something that nodes count themselves.
type Figure struct {
	Meaning string  `json:"meaning"`
	Series  string  `json:"series"` // the beginning of the metric's line
	Lock    bool    `json:"lock"`   // it must have happened when Redis was lost throughout
	Value   float64 `json:"value"`
}

func figures() []Figure {
	return []Figure{
		{Meaning: "two nodes held the lock of one account at once", Series: `lockstep_locks_names_total{grant="overtaken"}`, Lock: true},
		{Meaning: "a lock was gone when its node gave it back", Series: `lockstep_locks_names_total{grant="lost"}`, Lock: true},
		{Meaning: "a batch went without locks, for want of a quorum of lock servers", Series: "lockstep_posting_degraded_batches_total", Lock: true},
		{Meaning: "the outcome of a COMMIT was unknown and had to be asked", Series: "lockstep_posting_unknown_commits_total"},
		{Meaning: "a transaction failed before its COMMIT", Series: "lockstep_posting_failures_total"},
		{Meaning: "a command was sent back because another transaction kept one of its rows", Series: "lockstep_posting_skipped_total"},
		{Meaning: "a transfer between the systems was asked about, for want of an event", Series: "lockstep_remit_inquiries_total"},
	}
}

const (
	firstTriesMax = 20

	watchPause = 500 * time.Millisecond
	watchMax   = time.Second // a stopped node does not answer
)

// watch adds up what nodes count, through their restarts.
type watch struct {
	http  http.Client
	nodes []string // admin addresses
	last  map[string]float64
	sum   []Figure
}

// newWatch looks at every node once: what was counted before the load is not of it.
func newWatch(ctx context.Context, systems []local.SystemCredentials) (*watch, error) {
	w := &watch{http: http.Client{Timeout: watchMax}, last: map[string]float64{}, sum: figures()}
	for _, system := range systems {
		w.nodes = append(w.nodes, system.AdminURLs...)
	}
	for _, node := range w.nodes {
		counted, err := w.read(ctx, node)
		for tries := 1; err != nil && tries < firstTriesMax && sleep(ctx, watchPause); tries++ {
			counted, err = w.read(ctx, node)
		}
		if err != nil {
			return nil, err
		}
		for i, value := range counted {
			w.last[node+w.sum[i].Series] = value
		}
	}
	return w, nil
}

func (w *watch) run(ctx context.Context) {
	defer w.http.CloseIdleConnections()
	for sleep(ctx, watchPause) {
		w.look(ctx)
	}
	w.look(context.WithoutCancel(ctx))
}

func (w *watch) look(ctx context.Context) {
	for _, node := range w.nodes {
		counted, err := w.read(ctx, node)
		if err != nil {
			continue // it is down, or stopped
		}
		for i, value := range counted {
			key := node + w.sum[i].Series
			if value < w.last[key] {
				w.last[key] = 0 // another process counts from the start
			}
			w.sum[i].Value += value - w.last[key]
			w.last[key] = value
		}
	}
}

func (w *watch) figures() []Figure { return w.sum }

// read returns what a node has counted, in the order of the figures.
func (w *watch) read(ctx context.Context, node string) ([]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, node+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("read the metrics of %s: %w", node, err)
	}
	response, err := w.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read the metrics of %s: %w", node, err)
	}
	defer response.Body.Close()
	counted := make([]float64, len(w.sum))
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		series, value, _ := strings.Cut(lines.Text(), " ")
		for i, figure := range w.sum {
			if !strings.HasPrefix(series, figure.Series) {
				continue
			}
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return nil, fmt.Errorf("read the metrics of %s: %w", node, err)
			}
			counted[i] += number
		}
	}
	return counted, lines.Err()
}
