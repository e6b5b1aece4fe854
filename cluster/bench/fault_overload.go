package bench

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	crowdConns   = 256            // that a cluster carries at its peak
	crowdTimes   = 5              // as many again come in the overload
	recoveredMax = 10             // seconds until all is normal again
	comeBack     = time.Second    // what Retry-After says
	memoryMax    = 200            // MiB of a node
	probePause   = comeBack / 100 // between two looks at what a node says
)

// overload measures the peak, sends five times the connections that reached it, and then the first load again. In the
// first round clients that are refused come back when they were told to, in the second at once, as crowds do.
func overload(ctx context.Context, e *env) error {
	s, err := e.open(ctx, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.measure(ctx, load{name: "warm-up", conns: crowdConns, duration: calmMin, request: uniform}); err != nil {
		return err
	}
	for _, crowd := range []struct {
		name  string
		pause time.Duration
	}{{"clients that wait for Retry-After", comeBack}, {"clients that come back at once", 0}} {
		peak, err := s.measure(ctx, load{name: "before " + crowd.name, conns: crowdConns, request: uniform})
		if err != nil {
			return err
		}
		s.record(peak.load())
		if err := s.crowd(ctx, crowd.name, crowd.pause, peak); err != nil {
			return err
		}
	}
	s.figure("memory of a node", s.peak, "MiB", atMost(memoryMax))
	return nil
}

// flood is what an overload was told.
type flood struct {
	judge
	pause   time.Duration
	refused atomic.Int64
}

func (f *flood) accept(a answer) error {
	if a.status != http.StatusServiceUnavailable || !bytes.Contains(a.body, []byte(`"overloaded"`)) {
		return f.judge.accept(a)
	}
	f.refused.Add(1)
	time.Sleep(f.pause)
	return nil
}

// crowd overloads the cluster once, and holds it against its peak.
func (s *stage) crowd(ctx context.Context, name string, pause time.Duration, peak result) error {
	if err := s.bank.renew(ctx); err != nil {
		return err
	}
	flood := &flood{pause: pause}
	running := s.bank.begin(ctx, load{
		name: "5x: " + name, conns: crowdTimes * crowdConns, duration: s.duration, request: uniform, accept: flood.accept,
	})
	told, err := s.retryAfter(ctx, running)
	done := <-running
	if err := errors.Join(err, done.err); err != nil {
		return err
	}
	r := done.result.between(0, s.duration) // some still wait for their turn to come back
	s.record(r.load())
	s.figure("goodput / peak, "+name, r.perSecond()/peak.perSecond(), "", atLeast(0.8))
	s.figure("p99 of what was taken / peak, "+name, float64(r.quantile(0.99))/float64(peak.quantile(0.99)), "")
	s.figure("503 overloaded, "+name, float64(flood.refused.Load()), "", atLeast(1))
	s.figure("of those looked at, with Retry-After, "+name, told, "", atLeast(1))
	flood.tell(s.env, "with "+name)
	if err := s.noteMemory(ctx); err != nil {
		return err
	}
	return s.recover(ctx, name, peak)
}

// retryAfter looks at what a node says while a load runs: the share of its refusals that say when to come back. It asks
// without a token, which is looked at only when there is room. 0 when it saw no refusal.
func (s *stage) retryAfter(ctx context.Context, running chan outcome) (share float64, err error) {
	client := &http.Client{Timeout: answerMax}
	defer client.CloseIdleConnections()
	refused, told := 0, 0
	for len(running) == 0 && ctx.Err() == nil {
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.system.Nodes[0]+"/v1/transfers", http.NoBody)
		if err != nil {
			return 0, err
		}
		response, err := client.Do(request)
		if err != nil {
			return 0, err
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusServiceUnavailable {
			refused++
			if response.Header.Get("Retry-After") != "" {
				told++
			}
		}
		sleep(ctx, probePause)
	}
	if refused == 0 {
		return 0, nil
	}
	return float64(told) / float64(refused), nil
}

// recover sends the peak's load again right after the overload and finds the first second in which it is served nearly as
// it was.
func (s *stage) recover(ctx context.Context, name string, peak result) error {
	const nearly, slower = 0.8, 2
	r, err := s.bank.run(ctx, load{
		name: "after " + name, conns: crowdConns, duration: (recoveredMax + 1) * time.Second, request: uniform,
	})
	if err != nil {
		return err
	}
	s.record(r.load())
	took := -1.0
	for second := range recoveredMax {
		window := r.between(time.Duration(second)*time.Second, time.Duration(second+1)*time.Second)
		if window.perSecond() >= nearly*peak.perSecond() && window.quantile(0.99) <= slower*peak.quantile(0.99) {
			took = float64(second + 1)
			break
		}
	}
	if took < 0 {
		took = recoveredMax + 1
	}
	s.figure("normal again, after "+name, took, "s", atMost(recoveredMax))
	return errors.Join(s.settle(ctx), s.verify(ctx))
}
