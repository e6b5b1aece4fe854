package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// lockFault is something that happens to lock servers.
type lockFault struct {
	name  string
	least float64 // of the healthy throughput
	begin func(ctx context.Context, s *stage, server string) error
	again bool                                                     // begin is repeated every second
	end   func(ctx context.Context, s *stage, server string) error // nil: there is nothing to end
	last  bool                                                     // strikes one server only
	shown string                                                   // the metric that tells of it
}

func killRedis(_ context.Context, s *stage, server string) error    { return s.Kill(server, true) }
func stopRedis(_ context.Context, s *stage, server string) error    { return s.Stop(server) }
func flushRedis(ctx context.Context, s *stage, server string) error { return s.Flush(ctx, server) }
func startRedis(ctx context.Context, s *stage, server string) error {
	return s.StartProcess(ctx, server)
}
func continueRedis(_ context.Context, s *stage, server string) error { return s.Continue(server) }

// degradedMetric counts batches that ran without locks, lostMetric locks that were gone at their release.
const (
	degradedMetric = "lockstep_posting_degraded_batches_total"
	lostMetric     = "lockstep_posting_locks_lost_total"
)

func lockFaults() []lockFault {
	return []lockFault{
		{name: "all killed", least: 0.5, begin: killRedis, end: startRedis, shown: degradedMetric},
		{name: "all stopped", least: 0.5, begin: stopRedis, end: continueRedis, shown: degradedMetric},
		{name: "all flushed every second", least: 0.5, begin: flushRedis, again: true, shown: lostMetric},
		{name: "one of three stopped", least: 0.8, begin: stopRedis, end: continueRedis, last: true},
	}
}

// calmMin is the shortest time without a fault before and after it.
const calmMin = 4 * time.Second

// redisLost holds what the cluster does while lock servers are away against what it did just before, in the same load.
func redisLost(ctx context.Context, e *env) error {
	s, err := e.open(ctx, nil)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.measure(ctx, load{name: "warm-up", conns: crowdConns, duration: calmMin, request: uniform}); err != nil {
		return err
	}
	for _, fault := range lockFaults() {
		if err := s.suffer(ctx, fault); err != nil {
			return fmt.Errorf("%s: %w", fault.name, err)
		}
	}
	return nil
}

// suffer lets the fault happen in the middle of a load.
func (s *stage) suffer(ctx context.Context, f lockFault) error {
	if err := errors.Join(s.settle(ctx), s.bank.renew(ctx)); err != nil {
		return err
	}
	before, err := s.both(ctx, f.shown)
	if err != nil {
		return err
	}
	var judge judge
	var probes readiness
	stop := probes.watch(ctx, s)
	defer stop()
	calm, began := max(s.duration/2, calmMin), time.Now()
	running := s.bank.begin(ctx, load{
		name: f.name, conns: crowdConns, duration: 2*calm + s.duration, request: uniform, accept: judge.accept,
	})
	sleep(ctx, calm)
	from := time.Since(began)
	fault := f.strike(ctx, s)
	to := time.Since(began)
	done := <-running
	if err := errors.Join(fault, done.err); err != nil {
		return err
	}
	r := done.result
	s.compare(f, r.between(calm/4, from), r.between(from, to), r.between(to+calm/4, to+calm))
	judge.tell(s.env, "with "+f.name)
	s.figure("readyz red with "+f.name, float64(probes.red.Load()), "", atMost(0))
	return errors.Join(s.shows(ctx, f, before), s.settle(ctx), s.verify(ctx))
}

// strike does to the servers what the fault is, for as long as a load takes.
func (f lockFault) strike(ctx context.Context, s *stage) error {
	servers := make([]string, len(s.system.RedisAddrs))
	for i := range servers {
		servers[i] = fmt.Sprintf("%s-redis-%d", s.system.ID, i+1)
	}
	if f.last {
		servers = servers[len(servers)-1:]
	}
	each := func(do func(context.Context, *stage, string) error) error {
		for _, server := range servers {
			if err := do(ctx, s, server); err != nil {
				return err
			}
		}
		return nil
	}
	for end := time.Now().Add(s.duration); ; {
		if err := each(f.begin); err != nil {
			return err
		}
		if !f.again {
			sleep(ctx, time.Until(end))
			break
		}
		if sleep(ctx, min(time.Second, time.Until(end))); !time.Now().Before(end) || ctx.Err() != nil {
			break
		}
	}
	if f.end == nil {
		return nil
	}
	return each(f.end)
}

// compare tells what a fault cost.
func (s *stage) compare(f lockFault, healthy, faulty, after result) {
	healthy.name, faulty.name, after.name = "before "+f.name, f.name, "after "+f.name
	for _, r := range []result{healthy, faulty, after} {
		s.record(r.load())
	}
	s.figure("throughput with "+f.name+" / before", faulty.perSecond()/healthy.perSecond(), "", atLeast(f.least))
	s.figure("p99 with "+f.name+" / before", float64(faulty.quantile(0.99))/float64(healthy.quantile(0.99)), "", atMost(3))
	s.figure("throughput after "+f.name+" / before", after.perSecond()/healthy.perSecond(), "")
}

// shows tells what the metrics say: of a fault that they must tell of, at least once; of a trouble that goes on, nothing.
func (s *stage) shows(ctx context.Context, f lockFault, before float64) error {
	if f.shown != "" {
		after, err := s.both(ctx, f.shown)
		if err != nil {
			return err
		}
		s.figure(f.shown+" with "+f.name, after-before, "", atLeast(1))
	}
	degraded, err := s.both(ctx, "lockstep_locks_degraded")
	if err != nil {
		return err
	}
	s.figure("nodes without locks after "+f.name, degraded, "", atMost(0))
	return nil
}

// both adds a metric up over all nodes.
func (s *stage) both(ctx context.Context, name string) (sum float64, err error) {
	for node := range s.system.AdminURLs {
		value, err := s.metric(ctx, node, name)
		if err != nil {
			return 0, err
		}
		sum += value
	}
	return sum, nil
}
