package locks_test

import (
	"slices"
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

// A locker that was refused is told when its names are free: by a quorum of the servers, once, and only of what it wanted.
func TestALockerHearsThatAWantedNameIsFree(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	holder, wanting, other := open(t, config(servers)), open(t, config(servers)), open(t, config(servers))
	heard, strangers := make(chan []string, 10), make(chan []string, 10)
	wanting.OnFree(func(names []string) { heard <- names })
	other.OnFree(func(names []string) { strangers <- names })
	for _, s := range servers {
		eventually(t, "the lockers listen", func() bool {
			return len(s.client.PubSubChannels(t.Context(), "*!*").Val()) == 3
		})
	}
	const rounds = 3
	for range rounds {
		set := acquire(t, holder, "cold", "hot", "warm")
		release(t, acquire(t, wanting, "hot", "warm"))
		release(t, set)
		select {
		case names := <-heard:
			if !slices.Equal(names, []string{"hot", "warm"}) {
				t.Fatalf("it heard of %q, not of what it wanted", names)
			}
		case <-time.After(patience):
			t.Fatal("it did not hear that its names were free")
		}
		won := acquire(t, wanting, "hot", "warm")
		expectGrants(t, won, map[string]locks.Grant{"hot": locks.Held, "warm": locks.Held})
		release(t, won)
	}
	if len(heard)+len(strangers) != 0 {
		t.Errorf("%d messages too many, and others heard %d", len(heard), len(strangers))
	}
}

// One server's word is not enough: two may still have the name in another's hands.
func TestALockerWaitsForTheWordOfAQuorum(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	wanting := open(t, config(servers))
	heard := make(chan []string, 10)
	wanting.OnFree(func(names []string) { heard <- names })
	say := func(s *redisServer, token string) {
		t.Helper()
		eventually(t, "the locker listens", func() bool {
			channels := s.client.PubSubChannels(t.Context(), "*!*").Val()
			return len(channels) == 1 && s.client.Publish(t.Context(), channels[0], token+"\n"+config(servers).Prefix+":hot").Val() == 1
		})
	}
	say(servers[0], "first")
	say(servers[1], "second")
	say(servers[2], "third")
	select {
	case names := <-heard:
		t.Fatalf("one server each said that a set was given back, and it heard of %q", names)
	case <-time.After(100 * time.Millisecond):
	}
	say(servers[2], "second")
	select {
	case names := <-heard:
		if !slices.Equal(names, []string{"hot"}) {
			t.Errorf("it heard of %q", names)
		}
	case <-time.After(patience):
		t.Error("two servers said that a set was given back, and it did not hear of it")
	}
}

// A server that was away is listened to again.
func TestALockerListensAgain(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	cfg := config(servers)
	cfg.Probe = 10 * time.Millisecond
	holder, wanting := open(t, cfg), open(t, cfg)
	heard := make(chan []string, 100)
	wanting.OnFree(func(names []string) { heard <- names })
	for _, s := range servers[:2] {
		s.kill()
	}
	eventually(t, "the servers are missed", wanting.Degraded)
	for _, s := range servers[:2] {
		s.start()
	}
	eventually(t, "it hears again", func() bool {
		set, err := holder.Acquire(t.Context(), []string{"hot"})
		if err != nil {
			return false
		}
		if set, err := wanting.Acquire(t.Context(), []string{"hot"}); err == nil {
			release(t, set)
		}
		release(t, set)
		select {
		case <-heard:
			return true
		case <-time.After(50 * time.Millisecond):
			return false
		}
	})
}
