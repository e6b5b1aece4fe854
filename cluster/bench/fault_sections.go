package bench

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// faultSections are the parts in which something is killed, stopped or flooded under load.
func faultSections() []section {
	return []section{
		{"redis", "all lock servers killed, stopped or flushed every second, and one of three stopped", redisLost},
		{"overload", "five times the load that a cluster carries", overload},
		{"stopped", "a node stopped inside a batch, and what the other one does meanwhile", nodeStopped},
	}
}

// judge counts the answers of a load that are no successes. It accepts them all: what became of a fault is a figure.
type judge struct {
	refusals, errors atomic.Int64
	mu               sync.Mutex
	first            string // error
}

func (j *judge) accept(a answer) error {
	if a.err == nil && a.status < http.StatusInternalServerError {
		j.refusals.Add(1)
		return nil
	}
	j.errors.Add(1)
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.first == "" {
		j.first = string(a.body)
		if a.err != nil {
			j.first = a.err.Error()
		}
	}
	return nil
}

// tell records what the judge has seen.
func (j *judge) tell(e *env, name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.first != "" {
		e.say("the first error %s: %s", name, j.first)
	}
	e.figure("errors "+name, float64(j.errors.Load()), "", atMost(0))
	if refusals := j.refusals.Load(); refusals > 0 {
		e.figure("refusals "+name, float64(refusals), "")
	}
}

// readiness asks the balancer and each node whether they are ready.
type readiness struct{ asked, red atomic.Int64 }

const readinessPause = 100 * time.Millisecond

// watch asks until stop is called.
func (r *readiness) watch(ctx context.Context, s *stage) (stop func()) {
	asking, cancel := context.WithCancel(ctx) // the last question is answered all the same
	client := &http.Client{Timeout: answerMax}
	var wg sync.WaitGroup
	for _, base := range append([]string{s.system.BaseURL}, s.system.Nodes...) {
		wg.Go(func() {
			for asking.Err() == nil {
				if !ready(ctx, client, base) {
					r.red.Add(1)
				}
				r.asked.Add(1)
				sleep(asking, readinessPause)
			}
		})
	}
	return func() { cancel(); wg.Wait(); client.CloseIdleConnections() }
}

func ready(ctx context.Context, client *http.Client, base string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// outcome is what a load that runs beside something else comes to.
type outcome struct {
	result result
	err    error
}

// begin runs a load beside what the caller does.
func (b *bank) begin(ctx context.Context, l load) chan outcome {
	done := make(chan outcome, 1)
	go func() {
		r, err := b.run(ctx, l)
		done <- outcome{r, err}
	}()
	return done
}
