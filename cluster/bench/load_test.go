package bench_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/cluster/bench"
)

// server answers every transfer with 201 but the failing ones, counted from 1, and keeps the keys that it saw.
type server struct {
	*httptest.Server
	fails func(count int64) int // status
	seen  atomic.Int64
	keys  chan string
}

func newServer(t *testing.T, fails func(int64) int) *server {
	t.Helper()
	s := &server{fails: fails, keys: make(chan string, 1<<16)}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case s.keys <- r.Header.Get("Idempotency-Key") + " " + r.Header.Get("Cookie"):
	default:
	}
	w.WriteHeader(s.fails(s.seen.Add(1)))
	fmt.Fprint(w, `{"any":"body"}`)
}

func always(int64) int { return http.StatusCreated }

// The load counts every 201, spread over the nodes, and each request has a key of its own.
func TestALoadCountsWhatSucceeds(t *testing.T) {
	t.Parallel()
	nodes := []*server{newServer(t, always), newServer(t, always)}
	done, err := bench.Drive(t.Context(), []string{nodes[0].URL, nodes[1].URL}, 8, 300*time.Millisecond, nil)
	if err != nil {
		t.Fatal(err)
	}
	sent := nodes[0].seen.Load() + nodes[1].seen.Load()
	if int64(done) != sent || nodes[0].seen.Load() == 0 || nodes[1].seen.Load() == 0 {
		t.Errorf("%d successes, and the nodes saw %d and %d", done, nodes[0].seen.Load(), nodes[1].seen.Load())
	}
	keys := map[string]bool{}
	for _, node := range nodes {
		for len(node.keys) > 0 {
			line := <-node.keys
			key, authorization, _ := strings.Cut(line, " ")
			if keys[key] || key == "" || !strings.HasPrefix(authorization, "token=") {
				t.Fatalf("key %q was used before, or %q is no token", key, authorization)
			}
			keys[key] = true
		}
	}
	if len(keys) == 0 {
		t.Error("no key was seen")
	}
}

// One answer that is not the expected one ends the load with an error that shows it.
func TestAnUnexpectedAnswerFailsTheLoad(t *testing.T) {
	t.Parallel()
	node := newServer(t, func(count int64) int {
		if count == 50 {
			return http.StatusServiceUnavailable
		}
		return http.StatusCreated
	})
	_, err := bench.Drive(t.Context(), []string{node.URL}, 4, 5*time.Second, nil)
	if !errors.Is(err, bench.ErrAnswer) || !strings.Contains(err.Error(), `503 {"any":"body"}`) {
		t.Errorf("a load with a 503 ends with: %v", err)
	}
}

// A node that closes connections without an answer fails the load too, unless its judge accepts that; then it goes on.
func TestLostConnectionsAreForTheJudge(t *testing.T) {
	t.Parallel()
	cut := func(count int64) int {
		if count%5 == 0 {
			panic(http.ErrAbortHandler)
		}
		return http.StatusCreated
	}
	node := newServer(t, cut)
	if _, err := bench.Drive(t.Context(), []string{node.URL}, 2, 5*time.Second, nil); err == nil {
		t.Error("lost connections do not fail a load")
	}
	var lost atomic.Int64
	node = newServer(t, cut)
	done, err := bench.Drive(t.Context(), []string{node.URL}, 2, 300*time.Millisecond, func(status int, err error) error {
		if status != 0 || err == nil {
			return errors.Join(fmt.Errorf("judged %d", status), err)
		}
		lost.Add(1)
		return nil
	})
	if err != nil || done == 0 || lost.Load() == 0 || int64(done)+lost.Load() != node.seen.Load() {
		t.Errorf("%d done and %d lost of %d requests: %v", done, lost.Load(), node.seen.Load(), err)
	}
}

// A load ends soon after its context.
func TestALoadEndsWithItsContext(t *testing.T) {
	t.Parallel()
	node := newServer(t, always)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := bench.Drive(ctx, []string{node.URL}, 4, time.Hour, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a load whose context ended ends with: %v", err)
	}
}
