package locks_test

import (
	"testing"
	"time"

	"lockstep/locks"
)

// A locker that was refused finds the name free at its next try, although the
// others try all the time.
func TestANameGoesToWhoWantedItFirst(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	holder, first, second := open(t, config(servers)), open(t, config(servers)), open(t, config(servers))
	const rounds, tries = 10, 200
	done := 0
	for try := 0; done < rounds && try < tries; try++ {
		for _, s := range servers {
			s.flush()
		}
		set := acquire(t, holder, "hot", "cold")
		for _, refused := range []*locks.Locker{first, second} {
			release(t, acquire(t, refused, "hot"))
		}
		began := time.Now()
		if lost := release(t, set); lost != 0 {
			t.Fatalf("the holder lost %d names because they were wanted", lost)
		}
		others := []*locks.Set{acquire(t, holder, "hot"), acquire(t, second, "hot")}
		won := acquire(t, first, "hot")
		if time.Since(began) > 40*time.Millisecond {
			continue // this machine was busy: the moment is over
		}
		done++
		for _, set := range others {
			expectGrants(t, set, map[string]locks.Grant{"hot": locks.Busy})
		}
		expectGrants(t, won, map[string]locks.Grant{"hot": locks.Held})
	}
	if done < rounds {
		t.Errorf("%d rounds were quick enough, want %d", done, rounds)
	}
}

// Who wants a name and does not come keeps it from nobody for long.
func TestANameIsKeptForAMomentOnly(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	holder, wanting := open(t, config(servers)), open(t, config(servers))
	set := acquire(t, holder, "hot")
	began := time.Now() // before it is wanted: how slow the machine is must not shorten the moment
	release(t, acquire(t, wanting, "hot"))
	release(t, set)
	eventually(t, "the name is free again", func() bool {
		again := acquire(t, holder, "hot")
		release(t, again)
		return again.Grant("hot") == locks.Held
	})
	if waited := time.Since(began); waited < 45*time.Millisecond {
		t.Errorf("the name was kept for %v only", waited)
	}
}

// A name that is wanted can be extended and is lost only when it is gone.
func TestAWantedNameIsExtended(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	holder, wanting := open(t, config(servers)), open(t, config(servers))
	set := acquire(t, holder, "hot")
	release(t, acquire(t, wanting, "hot"))
	for _, s := range servers {
		s.client.PExpire(t.Context(), s.setTime("hot"), time.Second)
	}
	if err := set.Extend(t.Context()); err != nil {
		t.Fatalf("Extend of a name that is wanted: %v", err)
	}
	for _, s := range servers {
		if left := s.client.PTTL(t.Context(), s.setTime("hot")).Val(); left <= time.Second {
			t.Errorf("the name ends in %v after Extend", left)
		}
	}
	release(t, set)
}
