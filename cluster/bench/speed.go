package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	fewConns  = 4
	manyConns = 256

	batchTransfers = 100 // in one atomic batch, the most that the edge takes
	batchPause     = 500 * time.Millisecond
)

// yardstick is what SQL by hand reached, before and after our loads.
type yardstick struct {
	single, alone, many result // 32 connections; one connection; 256 transfers in a transaction
}

func (y yardstick) perSecond() float64 { return y.single.perSecond() }

func (y yardstick) combinedPerSecond() float64 { return combined * y.many.perSecond() }

// speed holds the engine against SQL by hand on the same servers in the same run.
func speed(ctx context.Context, e *env) error {
	s, err := e.open(ctx, nil)
	if err != nil {
		return err
	}
	defer s.close()
	baseline, err := openDirect(ctx, s.system.MySQLSourceDSN)
	if err != nil {
		return err
	}
	defer baseline.close()
	before, err := s.yardstick(ctx, baseline, "before")
	if err != nil {
		return err
	}
	loads, err := s.fourLoads(ctx)
	if err != nil {
		return err
	}
	worst, err := s.batchesOnTheHotAccount(ctx)
	if err != nil {
		return err
	}
	after, err := s.yardstick(ctx, baseline, "after")
	if err != nil {
		return err
	}
	s.judge(yardstick{
		single: join(before.single, after.single), alone: join(before.alone, after.alone), many: join(before.many, after.many),
	}, loads)
	s.figure("atomic batch of 100 on the hot account, worst", worst.Seconds(), "s", atMost(2))
	s.figure("largest node, peak of its resident memory", s.peak, "MiB", atMost(200))
	return nil
}

// yardstick measures SQL by hand.
func (s *stage) yardstick(ctx context.Context, d *direct, when string) (y yardstick, err error) {
	for _, step := range []struct {
		into     *result
		name     string
		conns    int
		duration time.Duration
		work     transaction
		each     float64 // transfers in a transaction
	}{
		{&y.single, "direct SQL", directConns, s.duration, d.single, 1},
		{&y.many, "256 per transaction", combinedConns, s.duration, d.many, combined},
		{&y.alone, "direct SQL alone", 1, s.duration / 2, d.single, 1},
	} {
		if err := s.settle(ctx); err != nil {
			return y, err
		}
		if *step.into, err = d.run(ctx, step.name+", "+when, step.conns, step.duration, step.work); err != nil {
			return y, err
		}
		row := step.into.load()
		row.PerSecond, row.Reference = row.PerSecond*step.each, step.name
		if step.into == &y.alone { // for its latency
			s.say("%s", row)
			continue
		}
		s.record(row)
	}
	return y, nil
}

// fourLoads are uniform and hot, at few and at many connections.
type fourLoads struct{ uniformFew, hotFew, uniform, hot result }

func (s *stage) fourLoads(ctx context.Context) (all fourLoads, err error) {
	for _, step := range []struct {
		into  *result
		name  string
		conns int
		make  maker
	}{
		{&all.uniformFew, "uniform", fewConns, uniform},
		{&all.hotFew, "hot", fewConns, hotspot},
		{&all.uniform, "uniform", manyConns, uniform},
		{&all.hot, "hot", manyConns, hotspot},
	} {
		if *step.into, err = s.measure(ctx, load{name: step.name, conns: step.conns, request: step.make}); err != nil {
			return all, err
		}
		s.record(step.into.load())
	}
	return all, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// judge holds the loads against SQL by hand and against one another.
func (s *stage) judge(sql yardstick, loads fourLoads) {
	uniform, hot := loads.uniform.perSecond(), loads.hot.perSecond()
	s.figure("uniform / direct SQL", uniform/sql.perSecond(), "", atLeast(4))
	s.figure("uniform / 256 per transaction", uniform/sql.combinedPerSecond(), "", atLeast(0.3))
	s.figure("hot / uniform", hot/uniform, "", atLeast(0.7))
	s.figure("uniform at 256 connections, p50", milliseconds(loads.uniform.quantile(0.5)), "ms")
	s.figure("uniform at 256 connections, p99", milliseconds(loads.uniform.quantile(0.99)), "ms", atMost(100))
	s.figure("hot at 256 connections, p50", milliseconds(loads.hot.quantile(0.5)), "ms")
	s.figure("hot at 256 connections, p99", milliseconds(loads.hot.quantile(0.99)), "ms", atMost(150))
	one := sql.alone.quantile(0.5)
	s.figure("one direct transaction, p50", milliseconds(one), "ms")
	s.figure("uniform at 4 connections, p50 / one direct transaction", float64(loads.uniformFew.quantile(0.5))/float64(one), "", atMost(3))
	s.figure("hot at 4 connections, p50 / one direct transaction", float64(loads.hotFew.quantile(0.5))/float64(one), "", atMost(3))
}

// batchesOnTheHotAccount sends atomic batches that pay out of the hot account while the hot load runs, and tells how
// long the slowest took.
func (s *stage) batchesOnTheHotAccount(ctx context.Context) (worst time.Duration, err error) {
	if err := s.settle(ctx); err != nil {
		return 0, err
	}
	if err := s.bank.renew(ctx); err != nil {
		return 0, err
	}
	beside, cancel := context.WithCancel(ctx)
	defer cancel()
	var sending sync.WaitGroup
	var times []time.Duration
	var failure error
	sending.Go(func() { times, failure = s.bank.sendBatches(beside) })
	r, err := s.bank.run(ctx, load{name: "hot, with atomic batches of 100", conns: manyConns, duration: s.duration, request: hotspot})
	cancel()
	sending.Wait()
	if err != nil || failure != nil {
		return 0, fmt.Errorf("hot load with batches: %w", firstOf(err, failure))
	}
	s.record(r.load())
	s.figure("atomic batches of 100 sent", float64(len(times)), "", atLeast(1))
	for _, took := range times {
		worst = max(worst, took)
	}
	return worst, s.verify(ctx)
}

func firstOf(one, other error) error {
	if one != nil {
		return one
	}
	return other
}

// sendBatches sends one batch after the other, to the nodes in turn, until the context ends.
func (b *bank) sendBatches(ctx context.Context) (times []time.Duration, err error) {
	wires := make([]*wire, len(b.nodes))
	for i, node := range b.nodes {
		wires[i] = newWire(node)
		defer wires[i].close()
	}
	for {
		select {
		case <-ctx.Done():
			return times, nil
		case <-time.After(batchPause):
		}
		items := make([]string, batchTransfers)
		for i := range items {
			items[i] = `{"from":"` + b.numbers[hotAccount] + `","to":"` + b.numbers[1+i] + `","amount":"1","currency":"` + currency + `"}`
		}
		began := time.Now()
		body := `{"atomic":true,"transfers":[` + strings.Join(items, ",") + `]}`
		if err := b.post(wires[len(times)%len(wires)], b.heads[hotAccount%principals], "/v1/batches", body, nil); err != nil {
			return times, err
		}
		times = append(times, time.Since(began))
	}
}
