package locks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis"
)

// Set is what one Acquire took. Its methods may be called from several
// goroutines.
type Set struct {
	locker  *Locker
	names   []string // in canonical order, each once
	ballots []*ballot
	mutex   *redsync.Mutex

	mu       sync.Mutex // a redsync mutex and the ballots serve one call at a time
	grants   []Grant
	released bool
}

// newSet brings the names into canonical order: the order in which SQL locks the
// same accounts, and the one in which repeated names stand side by side and a
// name is found by halving.
func newSet(l *Locker, names []string) *Set {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = l.cfg.Prefix + ":" + name
	}
	s := &Set{locker: l, names: names, grants: make([]Grant, len(names))}
	pools := make([]redis.Pool, len(l.servers))
	for i, server := range l.servers {
		b := &ballot{server: server, keys: keys, votes: make([]vote, len(names)), wanted: s.any}
		s.ballots = append(s.ballots, b)
		pools[i] = b
	}
	s.mutex = redsync.New(pools...).NewMutex("set",
		redsync.WithTries(1),
		redsync.WithExpiry(l.cfg.TTL),
		redsync.WithTimeoutFactor(float64(l.cfg.Timeout)/float64(l.cfg.TTL)),
	)
	return s
}

func (s *Set) any(int) bool { return true }

// take asks every server once. When too few answer, redsync gives back at once
// what the others granted.
func (s *Set) take(ctx context.Context) error {
	if err := s.mutex.LockContext(ctx); err != nil {
		return err
	}
	stray := false
	for name := range s.names {
		s.grants[name] = s.judge(name)
		stray = stray || s.grants[name] != Held && s.touched(name)
	}
	if stray {
		s.giveBackMinorities(ctx)
	}
	return nil
}

// judge counts the servers' votes on a name. Refusals make it Busy only when a
// quorum of them names the same holder: three takers that each got one of three
// servers all see two refusals, and none of them may be told to give up for
// good.
func (s *Set) judge(name int) Grant {
	ours, theirs := 0, 0
	for _, b := range s.ballots {
		switch b.votes[name] {
		case granted:
			ours++
		case refused:
			theirs = max(theirs, s.refusedFor(name, b.holders[name]))
		}
	}
	switch quorum := s.locker.quorum(); {
	case ours >= quorum:
		return Held
	case theirs >= quorum:
		return Busy
	default:
		return Split
	}
}

func (s *Set) refusedFor(name int, holder string) int {
	n := 0
	for _, b := range s.ballots {
		if b.votes[name] == refused && b.holders[name] == holder {
			n++
		}
	}
	return n
}

// touched says whether any server has, or may have, the name in our hands.
func (s *Set) touched(name int) bool {
	return slices.ContainsFunc(s.ballots, func(b *ballot) bool {
		return b.votes[name] == granted || b.votes[name] == unknown
	})
}

// giveBackMinorities releases the names that too few servers gave us, before
// anybody waits for them. A server that cannot hear it is told when it is back.
func (s *Set) giveBackMinorities(ctx context.Context) {
	s.want(func(name int) bool { return s.grants[name] != Held })
	_, _ = s.unlock(ctx)
	s.want(s.any)
	s.locker.counts.minorities.Add(1)
}

func (s *Set) want(filter func(name int) bool) {
	for _, b := range s.ballots {
		b.wanted = filter
	}
}

// unlock sends one release per server. Each must go out even if the caller has
// given up meanwhile, or the names stay blocked for their TTL.
func (s *Set) unlock(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.locker.cfg.Timeout)
	defer cancel()
	return s.mutex.UnlockContext(ctx)
}

// Names lists the names that were asked for, in canonical order, each once.
func (s *Set) Names() []string { return slices.Clone(s.names) }

// Grant says what became of a name: what Acquire found, corrected by each
// Extend and by Release.
func (s *Set) Grant(name string) Grant {
	i, found := slices.BinarySearch(s.names, name)
	if !found {
		return Split
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grants[i]
}

// Held lists the names of the set that are Held, in canonical order.
func (s *Set) Held() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var held []string
	for i, name := range s.names {
		if s.grants[i] == Held {
			held = append(held, name)
		}
	}
	return held
}

// Valid is the time until which the held names are ours, the servers' clock
// drift allowed for; the zero time when nothing was asked for.
func (s *Set) Valid() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mutex.Until()
}

// Extend gives the held names another TTL from now, in one round trip per
// server. ErrLost says that some of them are not confirmed by a quorum any more
// (Grant tells which; the others are extended). ErrUnavailable says that no
// quorum answered: everything is held until the old Valid and no longer.
func (s *Set) Extend(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released {
		return fmt.Errorf("extend locks: %w", ErrReleased)
	}
	s.want(func(name int) bool { return s.grants[name] == Held })
	defer s.want(s.any)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.locker.cfg.Timeout)
	defer cancel()
	if ok, err := s.mutex.ExtendContext(ctx); !ok {
		return unavailable("extend locks", err)
	}
	lost := s.drop(func(name int) bool { return s.judge(name) != Held })
	if lost > 0 {
		return fmt.Errorf("extend locks: %w: %d of %d names", ErrLost, lost, len(s.names))
	}
	return nil
}

// Release gives everything back, in one round trip per server, even when ctx is
// done already. lost counts the names that were Held and that, as the servers
// now say, no quorum can have kept for us until the end: for a caller whose
// proof is elsewhere that is a figure, not a failure. ErrUnavailable says that
// no quorum answered; those servers hear of the release when they are back, or
// the TTL ends it. A second Release does nothing.
func (s *Set) Release(ctx context.Context) (lost int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released || len(s.names) == 0 {
		return 0, nil
	}
	s.released = true
	ok, err := s.unlock(ctx)
	s.countOvertaken()
	s.drop(s.slipped)
	for _, grant := range s.grants {
		if grant == Lost {
			lost++
		}
	}
	if !ok {
		return lost, unavailable("release locks", err)
	}
	return lost, nil
}

// slipped finds a name that fewer than a quorum of the servers
// still can have held for us when we gave it back. A server that did not answer
// speaks neither way, so it counts for us.
func (s *Set) slipped(name int) bool {
	ours := 0
	for _, b := range s.ballots {
		switch b.votes[name] {
		case returned, granted, unknown:
			ours++
		}
	}
	return ours < s.locker.quorum()
}

// countOvertaken counts the names that another set got from a quorum while we held
// them: for a moment both worked under the lock. One that was given back again
// before us leaves no trace, so the figure is a lower bound.
func (s *Set) countOvertaken() {
	for name, grant := range s.grants {
		theirs := 0
		for _, b := range s.ballots {
			if b.votes[name] == overtaken {
				theirs++
			}
		}
		if grant == Held && theirs >= s.locker.quorum() {
			s.locker.counts.overtaken.Add(1)
		}
	}
}

// drop turns the held names that isLost picks into Lost ones.
func (s *Set) drop(isLost func(name int) bool) int {
	lost := 0
	for name, grant := range s.grants {
		if grant == Held && isLost(name) {
			s.grants[name] = Lost
			lost++
		}
	}
	s.locker.counts.lost.Add(uint64(lost))
	return lost
}

// unavailable hides redsync's words behind ErrUnavailable and keeps the cause.
func unavailable(verb string, cause error) error {
	if cause == nil {
		cause = errors.New("the answers came too late")
	}
	return fmt.Errorf("%s: %w: %w", verb, ErrUnavailable, cause)
}
