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
	const rounds = 20
	for round := range rounds {
		set := acquire(t, holder, "hot", "cold")
		for _, refused := range []*locks.Locker{first, second} {
			release(t, acquire(t, refused, "hot"))
		}
		if lost := release(t, set); lost != 0 {
			t.Fatalf("round %d: the holder lost %d names because they were wanted", round, lost)
		}
		expectGrants(t, acquire(t, holder, "hot"), map[string]locks.Grant{"hot": locks.Busy})
		expectGrants(t, acquire(t, second, "hot"), map[string]locks.Grant{"hot": locks.Busy})
		won := acquire(t, first, "hot")
		expectGrants(t, won, map[string]locks.Grant{"hot": locks.Held})
		release(t, won)
		for _, s := range servers {
			s.flush()
		}
	}
}

// Who wants a name and does not come keeps it from nobody for long.
func TestANameIsKeptForAMomentOnly(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	holder, wanting := open(t, config(servers)), open(t, config(servers))
	set := acquire(t, holder, "hot")
	release(t, acquire(t, wanting, "hot"))
	release(t, set)
	began := time.Now()
	eventually(t, "the name is free again", func() bool {
		again := acquire(t, holder, "hot")
		release(t, again)
		return again.Grant("hot") == locks.Held
	})
	if waited := time.Since(began); waited < 20*time.Millisecond {
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
		s.client.PExpire(t.Context(), "test:hot", time.Second)
	}
	if err := set.Extend(t.Context()); err != nil {
		t.Fatalf("Extend of a name that is wanted: %v", err)
	}
	for _, s := range servers {
		if left := s.client.PTTL(t.Context(), "test:hot").Val(); left <= time.Second {
			t.Errorf("the name ends in %v after Extend", left)
		}
	}
	release(t, set)
}
