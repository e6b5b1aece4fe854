package bench

import (
	"context"
	"fmt"
)

// overlapAccounts are so few that most batches of one node share accounts with those of the other.
const overlapAccounts = 200

// trial is what one load came to under one variant of the locks, over all rounds.
type trial struct {
	rounds    []result
	waited    float64 // milliseconds for row locks
	waits     float64
	commands  []float64 // done, by node
	batches   []float64 // committed, by node
	transfers float64
}

func (t trial) waitPerTransfer() float64 { return t.waited / t.transfers }

// The variants of the locks.
const (
	locksOn = iota
	locksLate
	locksOff
)

// compareLocks shows what the Redis locks do for loads in which the nodes meet on the same accounts.
func compareLocks(ctx context.Context, e *env) error {
	s, err := e.open(ctx, nil)
	if err != nil {
		return err
	}
	defer s.close()
	variants := []variant{
		locksOn:   {"locks on", nil},
		locksLate: {"locks on, late release", map[string]any{"early_release": "off"}},
		locksOff:  {"locks off", map[string]any{"locks": "off"}},
	}
	loads := []load{
		{name: "hot", conns: manyConns, request: hotspot},
		{name: fmt.Sprintf("among %d accounts", overlapAccounts), conns: manyConns, request: among(overlapAccounts)},
	}
	trials := make([][]trial, len(loads))
	for i := range trials {
		trials[i] = make([]trial, len(variants))
	}
	err = s.inTurn(ctx, variants, func(v int) error {
		for i, l := range loads {
			l.name += ", " + variants[v].name
			if err := s.try(ctx, l, &trials[i][v]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, l := range loads {
		s.judgeLocks(l.name, variants, trials[i])
	}
	s.judgeShares(trials[0][locksOn])
	return nil
}

// try measures one round of a load, and what the servers and nodes counted in it.
func (s *stage) try(ctx context.Context, l load, into *trial) error {
	before, err := s.counters(ctx)
	if err != nil {
		return err
	}
	r, err := s.measure(ctx, l)
	if err != nil {
		return err
	}
	after, err := s.counters(ctx)
	if err != nil {
		return err
	}
	into.rounds = append(into.rounds, r)
	into.waited += after.waited - before.waited
	into.waits += after.waits - before.waits
	into.transfers += float64(len(r.samples))
	into.commands = grow(into.commands, before.commands, after.commands)
	into.batches = grow(into.batches, before.batches, after.batches)
	return nil
}

// grow adds to each sum what its counter gained.
func grow(sums, before, after []float64) []float64 {
	if sums == nil {
		sums = make([]float64, len(after))
	}
	for i := range after {
		sums[i] += after[i] - before[i]
	}
	return sums
}

// counters reads the source's counts of row lock waits and the nodes' counts of their work.
func (s *stage) counters(ctx context.Context) (t trial, err error) {
	for name, into := range map[string]*float64{"Innodb_row_lock_time": &t.waited, "Innodb_row_lock_waits": &t.waits} {
		value, err := globalStatus(ctx, s.source, name)
		if err != nil {
			return t, err
		}
		*into = float64(value)
	}
	for node := range s.system.Nodes {
		commands, err := s.metric(ctx, node, "lockstep_posting_commands_total", `outcome="ok"`)
		if err != nil {
			return t, err
		}
		batches, err := s.metric(ctx, node, "lockstep_posting_batch_commands_count")
		if err != nil {
			return t, err
		}
		t.commands, t.batches = append(t.commands, commands), append(t.batches, batches)
	}
	return t, nil
}

// judgeLocks compares the variants under one load.
func (s *stage) judgeLocks(name string, variants []variant, trials []trial) {
	all := make([]result, len(trials))
	for i, t := range trials {
		all[i] = join(t.rounds...)
		s.record(all[i].load())
		s.figure(name+", row lock wait per transfer, "+variants[i].name, t.waitPerTransfer(), "ms")
		s.figure(name+", row lock waits per transfer, "+variants[i].name, t.waits/t.transfers, "")
	}
	s.figure(name+", row lock wait, late release / locks off", trials[locksLate].waitPerTransfer()/trials[locksOff].waitPerTransfer(), "", atMost(0.5))
	s.figure(name+", row lock wait, locks on / locks off", trials[locksOn].waitPerTransfer()/trials[locksOff].waitPerTransfer(), "")
	s.figure(name+", throughput, locks on / locks off", all[locksOn].perSecond()/all[locksOff].perSecond(), "", atLeast(0.95))
	s.figure(name+", throughput, early release / late release", all[locksOn].perSecond()/all[locksLate].perSecond(), "")
	s.figure(name+", p99, early release / late release", float64(all[locksOn].quantile(0.99))/float64(all[locksLate].quantile(0.99)), "")
}

// judgeShares tells whether both nodes get their turn on the hot account.
func (s *stage) judgeShares(hot trial) {
	for _, count := range []struct {
		name  string
		parts []float64
	}{{"transfers", hot.commands}, {"batches", hot.batches}} {
		least, sum := count.parts[0], 0.0
		for _, part := range count.parts {
			least, sum = min(least, part), sum+part
		}
		s.figure("share of the hot account's "+count.name+" that the rarer node commits", least/sum, "", atLeast(0.3))
	}
}
