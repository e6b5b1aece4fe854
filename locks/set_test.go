package locks_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
	"lockstep/locks"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Whatever order and however often a caller names them, each server is sent the
// distinct names in canonical order.
func TestNamesReachServersInCanonicalOrder(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	l := open(t, config(servers))
	for _, s := range servers {
		lines := s.monitor()
		set := acquire(t, l, "c", "a", "b", "a", "c")
		want := []string{"test:a", "test:b", "test:c"}
		if got := takenKeys(t, lines.Scan, lines.Text); !slices.Equal(got, want) {
			t.Errorf("server was sent the names in the order %v, want canonical order %v", got, want)
		}
		if got := set.Held(); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("Held() = %v", got)
		}
		release(t, set)
	}
}

// takenKeys finds the next script call in a MONITOR and reads its keys.
func takenKeys(t *testing.T, scan func() bool, text func() string) []string {
	t.Helper()
	script := regexp.MustCompile(`(?i)"evalsha"`)
	for scan() {
		if script.MatchString(text()) {
			return regexp.MustCompile(`test:[a-z]+`).FindAllString(text(), -1)
		}
	}
	t.Fatal("MONITOR ended without a script")
	return nil
}

func TestSetTakesOneRoundTripPerServer(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	l := open(t, config(servers))
	before := make([]int, len(servers))
	for i, s := range servers {
		before[i] = s.calls("evalsha") + s.calls("eval")
	}
	for i, step := range []func(*locks.Set){
		func(set *locks.Set) {},
		func(set *locks.Set) {
			if err := set.Extend(t.Context()); err != nil {
				t.Error(err)
			}
		},
	} {
		set := acquire(t, l, numbered(512)...)
		if got := len(set.Held()); got != 512 {
			t.Fatalf("held %d of 512 names", got)
		}
		step(set)
		release(t, set)
		for n, s := range servers {
			trips := s.calls("evalsha") + s.calls("eval") - before[n]
			if want := 2 + i; trips != want {
				t.Errorf("server %d carried out %d scripts for a set of 512 names, want %d", n, trips, want)
			}
			before[n] += trips
		}
	}
}

func numbered(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("alpha-%012d%02d", i*7919%n, i%97)
	}
	return names
}

// A holder whose time ran out releases late, when the name is another's.
func TestLateReleaseLeavesTheNextOwnersLock(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	cfg := config(servers)
	cfg.Timeout, cfg.TTL = time.Second/2, 2*time.Second
	late := acquire(t, open(t, cfg), "a", "b")
	eventually(t, "the first owner's lock ends by its TTL", func() bool { return servers[0].owner("a") == "" })
	next := open(t, config(servers))
	var current *locks.Set
	eventually(t, "the next owner gets the name", func() bool {
		current = acquire(t, next, "a")
		return current.Grant("a") == locks.Held
	})
	if lost := release(t, late); lost != 2 {
		t.Errorf("late release counted %d lost names, want 2", lost)
	}
	for i, s := range servers {
		if s.owner("a") == "" {
			t.Errorf("server %d: a late release deleted the next owner's lock", i)
		}
	}
	if lost := release(t, current); lost != 0 {
		t.Errorf("the next owner lost %d names", lost)
	}
}

func TestNameInAnothersHandsIsBusy(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	first, second := open(t, config(servers)), open(t, config(servers))
	held := acquire(t, first, "a", "b")
	set := acquire(t, second, "b", "c")
	expectGrants(t, set, map[string]locks.Grant{"b": locks.Busy, "c": locks.Held})
	release(t, held)
	release(t, set)
	again := acquire(t, second, "a", "b", "c")
	expectGrants(t, again, map[string]locks.Grant{"a": locks.Held, "b": locks.Held, "c": locks.Held})
	release(t, again)
	if got, want := second.Stats(), (locks.Stats{Sets: 2, Held: 4, Busy: 1}); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
}

func expectGrants(t *testing.T, set *locks.Set, want map[string]locks.Grant) {
	t.Helper()
	for name, grant := range want {
		if got := set.Grant(name); got != grant {
			t.Errorf("Grant(%q) = %v, want %v", name, got, grant)
		}
	}
}

// Three takers that got one server each all see two refusals. None of them holds
// the name, so none may be told that somebody does.
func TestNameWithoutAnyQuorumIsSplitAndGivenBack(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	l := open(t, config(servers))
	servers[0].plant("a", "one")
	servers[1].plant("a", "two")
	set := acquire(t, l, "a", "b")
	expectGrants(t, set, map[string]locks.Grant{"a": locks.Split, "b": locks.Held})
	if owner := servers[2].owner("a"); owner != "" {
		t.Errorf("a minority grant stayed behind in the hands of %q", owner)
	}
	if servers[2].owner("b") == "" {
		t.Error("a held name went back with the minority grants")
	}
	if lost := release(t, set); lost != 0 {
		t.Errorf("lost %d names", lost)
	}
	if got, want := l.Stats(), (locks.Stats{Sets: 1, Held: 1, Split: 1, Minorities: 1}); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
}

// Whatever each server has in whose hands, a grant follows the count of the
// servers, and after the release every server is as it was.
func TestGrantsFollowTheServersVotes(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	l := open(t, config(servers))
	names := []string{"a", "b", "c", "d"}
	rapid.Check(t, func(rt *rapid.T) {
		for _, s := range servers {
			s.flush()
		}
		want := map[string]locks.Grant{}
		for _, name := range names {
			owners := rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "x", "y"}), 3, 3).Draw(rt, name)
			count := map[string]int{}
			for i, owner := range owners {
				count[owner]++
				if owner != "" {
					servers[i].plant(name, owner)
				}
			}
			switch {
			case count[""] >= 2:
				want[name] = locks.Held
			case count["x"] >= 2 || count["y"] >= 2:
				want[name] = locks.Busy
			default:
				want[name] = locks.Split
			}
		}
		before := snapshot(servers, names)
		set := acquire(t, l, names...)
		for name, grant := range want {
			if got := set.Grant(name); got != grant {
				rt.Fatalf("Grant(%q) = %v, want %v with %v", name, got, grant, before)
			}
		}
		if lost := release(t, set); lost != 0 {
			rt.Fatalf("lost %d names with %v", lost, before)
		}
		if after := snapshot(servers, names); !slices.Equal(after, before) {
			rt.Fatalf("after the release the servers have %v, before %v", after, before)
		}
	})
}

// snapshot is who holds what, whoever wants it.
func snapshot(servers []*redisServer, names []string) []string {
	var owners []string
	for _, s := range servers {
		for _, name := range names {
			owners = append(owners, s.owner(name))
		}
	}
	return owners
}

func TestFlushedServersCountAsLostLocks(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	l := open(t, config(servers))
	for flushed, want := range []int{0, 0, 2, 2} { // a quorum of the three still had them when one is flushed
		set := acquire(t, l, "a", "b")
		for _, s := range servers[:flushed] {
			s.flush()
		}
		if lost := release(t, set); lost != want {
			t.Errorf("%d servers flushed: Release lost %d names, want %d", flushed, lost, want)
		}
		if grant := set.Grant("a"); (grant == locks.Lost) != (want > 0) {
			t.Errorf("%d servers flushed: Grant is %v", flushed, grant)
		}
		if lost, err := set.Release(t.Context()); lost != 0 || err != nil {
			t.Errorf("a second Release = %d, %v", lost, err)
		}
	}
	if got := l.Stats().Lost; got != 4 {
		t.Errorf("Stats().Lost = %d, want 4", got)
	}
}

// Two sets held a name at once when one was flushed away and the next got it before the first gave it back: that is counted,
// apart from names that are only gone, and the second keeps its lock.
func TestNamesThatTwoHeldAtOnceAreCounted(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	first, second := open(t, config(servers)), open(t, config(servers))
	for flushed, want := range []uint64{0, 0, 1, 2} {
		set := acquire(t, first, "a", "b")
		for _, s := range servers[:flushed] {
			s.flush()
		}
		next := acquire(t, second, "a")
		if lost := release(t, set); lost > 0 != (flushed > 1) {
			t.Errorf("%d servers flushed: Release lost %d names", flushed, lost)
		}
		if got := first.Stats().Overtaken; got != want {
			t.Errorf("%d servers flushed: Stats().Overtaken = %d, want %d", flushed, got, want)
		}
		if lost := release(t, next); lost != 0 {
			t.Errorf("%d servers flushed: the second lost %d names", flushed, lost)
		}
	}
}

func TestExtendProlongsAndNeverRevives(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	l := open(t, config(servers))
	set := acquire(t, l, "a", "b")
	valid := set.Valid()
	for _, s := range servers {
		s.client.PExpire(t.Context(), s.setTime("a"), time.Second)
	}
	if err := set.Extend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := servers[0].client.PTTL(t.Context(), servers[0].setTime("a")).Val(); left < 30*time.Second {
		t.Errorf("%v left after Extend, want about a minute", left)
	}
	if !set.Valid().After(valid) {
		t.Error("Extend left Valid where it was")
	}
	for _, s := range servers[:2] {
		s.client.Del(t.Context(), "test:b")
	}
	if err := set.Extend(t.Context()); !errors.Is(err, locks.ErrLost) {
		t.Errorf("Extend of a deleted lock = %v, want ErrLost", err)
	}
	expectGrants(t, set, map[string]locks.Grant{"a": locks.Held, "b": locks.Lost})
	if owner := servers[0].owner("b"); owner != "" {
		t.Errorf("Extend revived a lost lock for %q", owner)
	}
	if lost := release(t, set); lost != 1 {
		t.Errorf("Release lost %d names, want 1", lost)
	}
	if owner := servers[2].owner("b"); owner != "" {
		t.Error("the rest of a lost lock stayed behind")
	}
	if err := set.Extend(t.Context()); !errors.Is(err, locks.ErrReleased) {
		t.Errorf("Extend after Release = %v, want ErrReleased", err)
	}
}

// The caller that gave up must not leave its names blocked for a TTL.
func TestReleaseGoesOutWhenTheCallerIsGone(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	l := open(t, config(servers))
	ctx, cancel := context.WithCancel(t.Context())
	set, err := l.Acquire(ctx, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := set.Release(ctx); err != nil {
		t.Errorf("Release with a cancelled context: %v", err)
	}
	for i, s := range servers {
		if s.owner("a") != "" {
			t.Errorf("server %d: the name stays blocked after a cancelled caller's release", i)
		}
	}
	if _, err := l.Acquire(ctx, []string{"a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Acquire with a cancelled context = %v", err)
	}
}

func TestEmptySetNeedsNoServer(t *testing.T) {
	t.Parallel()
	cfg := locks.Default()
	cfg.Addrs = []string{freeAddr(t)}
	l := open(t, cfg)
	set := acquire(t, l)
	if held := set.Held(); held != nil || set.Grant("a") != locks.Split || !set.Valid().IsZero() {
		t.Errorf("an empty set holds %v until %v", held, set.Valid())
	}
	release(t, set)
}
