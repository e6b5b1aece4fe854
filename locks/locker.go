package locks

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Locker takes sets of locks. It is safe for many goroutines.
type Locker struct {
	cfg     Config
	servers []*server
	counts  counts
	freed   freed
	onFree  atomic.Pointer[func(names []string)]
	closed  atomic.Bool
	stop    context.CancelFunc
	watches sync.WaitGroup
}

// Stats are counters since Open.
type Stats struct {
	Sets        uint64 // sets that a quorum answered
	Unavailable uint64 // sets that found no quorum
	Held        uint64 // names granted
	Busy        uint64 // names found in another's hands
	Split       uint64 // names without either quorum
	Lost        uint64 // names held and lost before their release
	Overtaken   uint64 // names lost that another set held as well before their release
	Minorities  uint64 // sets that gave minority grants back
}

type counts struct {
	sets, unavailable, held, busy, split, lost, overtaken, minorities atomic.Uint64
}

// Open refuses a bad configuration, then looks at every server once, for at
// most a few timeouts. Servers that are missing are no error: they are admitted
// when they come, and Degraded tells.
func Open(cfg Config) (*Locker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open locks: %w", err)
	}
	cfg.Addrs = slices.Clone(cfg.Addrs)
	ctx, stop := context.WithCancel(context.Background())
	l := &Locker{cfg: cfg, stop: stop}
	var first sync.WaitGroup
	locker := rand.Text()
	for _, addr := range cfg.Addrs {
		s := newServer(addr, locker, cfg)
		l.servers = append(l.servers, s)
		first.Go(func() { s.probe(ctx) })
	}
	first.Wait()
	for _, s := range l.servers {
		l.watches.Go(func() { s.watch(ctx, cfg.Probe) })
		l.watches.Go(func() { s.listen(ctx, cfg.Probe, l.hear) })
	}
	return l, nil
}

// Close ends the probes and the connections, and waits for them. Sets that were
// not released end by their TTL. It may be called twice.
func (l *Locker) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	l.stop()
	l.watches.Wait()
	for _, s := range l.servers {
		if err := s.client.Close(); err != nil {
			return fmt.Errorf("close lock server %s: %w", s.addr, err)
		}
	}
	return nil
}

// Acquire asks every server once for all names and never waits for a name;
// what became of each is in the Set, which the caller must Release also when
// nothing in it is Held. Repeated names count once; no names make an empty set
// without network.
//
// ErrUnavailable means that no quorum of the servers answered within the
// timeout, or was up in the first place: the caller goes on without locks. A
// ctx that is done on entry ends the call; after that the timeout bounds it, for
// a call cut short could leave names behind.
func (l *Locker) Acquire(ctx context.Context, names []string) (*Set, error) {
	if err := l.admit(ctx, names); err != nil {
		return nil, fmt.Errorf("acquire %d locks: %w", len(names), err)
	}
	set := newSet(l, names)
	if len(set.names) == 0 {
		return set, nil
	}
	if err := set.take(context.WithoutCancel(ctx)); err != nil {
		l.counts.unavailable.Add(1)
		return nil, unavailable("acquire locks", err)
	}
	l.count(set)
	return set, nil
}

func (l *Locker) admit(ctx context.Context, names []string) error {
	switch {
	case l.closed.Load():
		return ErrClosed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(names) > namesMax:
		return fmt.Errorf("a set has at most %d names", namesMax)
	case len(names) > 0 && l.Degraded():
		l.counts.unavailable.Add(1)
		return ErrUnavailable
	}
	return nil
}

// count adds a taken set to the counters.
func (l *Locker) count(set *Set) {
	var by [Lost + 1]uint64
	for _, grant := range set.grants {
		by[grant]++
	}
	l.counts.sets.Add(1)
	l.counts.held.Add(by[Held])
	l.counts.busy.Add(by[Busy])
	l.counts.split.Add(by[Split])
}

// quorum is the majority of the configured servers. It does not shrink with
// those that are up: two halves of a split network would both have it then.
func (l *Locker) quorum() int { return len(l.servers)/2 + 1 }

// Degraded says that no quorum of the servers is up, so that every Acquire
// fails at once with ErrUnavailable.
func (l *Locker) Degraded() bool {
	up := 0
	for _, s := range l.servers {
		if s.up.Load() {
			up++
		}
	}
	return up < l.quorum()
}

// Servers tells the health of each server, in the order of Config.Addrs.
func (l *Locker) Servers() []ServerState {
	states := make([]ServerState, len(l.servers))
	for i, s := range l.servers {
		states[i] = s.health()
	}
	return states
}

// Stats reads the counters.
func (l *Locker) Stats() Stats {
	return Stats{
		Sets:        l.counts.sets.Load(),
		Unavailable: l.counts.unavailable.Load(),
		Held:        l.counts.held.Load(),
		Busy:        l.counts.busy.Load(),
		Split:       l.counts.split.Load(),
		Lost:        l.counts.lost.Load(),
		Overtaken:   l.counts.overtaken.Load(),
		Minorities:  l.counts.minorities.Load(),
	}
}
