package locks_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lockstep/locks"
)

// quick is a configuration whose probes are frequent and whose timeout is short
// enough to be waited for.
func quick(servers []*redisServer) locks.Config {
	cfg := config(servers)
	cfg.Timeout = 800 * time.Millisecond
	cfg.Probe = 20 * time.Millisecond
	return cfg
}

func TestOneDeadServerLeavesAQuorum(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	l := open(t, quick(servers))
	set := acquire(t, l, "a", "b")
	servers[1].kill()
	if lost := release(t, set); lost != 0 {
		t.Errorf("lost %d names with one server dead", lost)
	}
	set = acquire(t, l, "a", "b")
	if held := set.Held(); len(held) != 2 {
		t.Errorf("held %v with one server dead, want both names", held)
	}
	if lost := release(t, set); lost != 0 {
		t.Errorf("lost %d names with one server dead", lost)
	}
	eventually(t, "the dead server is seen", func() bool { return !l.Servers()[1].Up })
	if state := l.Servers()[1]; state.Err == nil || state.Faults != 1 || state.Addr != servers[1].addr {
		t.Errorf("the dead server's state is %+v", state)
	}
	if l.Degraded() {
		t.Error("degraded with two of three servers")
	}
	servers[1].start()
	eventually(t, "the restarted server is admitted", func() bool { return l.Servers()[1].Up })
	set = acquire(t, l, "a")
	if servers[1].owner("a") == "" {
		t.Error("a restarted server takes no part in the next set")
	}
	release(t, set)
}

// A frozen server costs one timeout, once; what it was sent before it froze does
// not block the names after it thaws.
func TestFrozenServerCostsOneTimeoutAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	cfg := quick(servers)
	l := open(t, cfg)
	release(t, acquire(t, l, "warm"))
	servers[2].freeze()
	begin := time.Now()
	const sets = 20
	for range sets {
		set := acquire(t, l, "a", "b")
		if held := set.Held(); len(held) != 2 {
			t.Errorf("held %v with one server frozen", held)
		}
		release(t, set)
	}
	if took := time.Since(begin); took > sets*cfg.Timeout/4 {
		t.Errorf("%d sets took %v with one server frozen: the breaker did not skip it", sets, took)
	}
	servers[2].thaw()
	eventually(t, "the thawed server is admitted", func() bool { return l.Servers()[2].Up })
	eventually(t, "the thawed server hears the releases it missed", func() bool {
		return servers[2].owner("a") == "" && servers[2].owner("b") == ""
	})
}

// Two of three servers freeze: the third one's grants go back at once, no set
// after the first waits for anything.
func TestWithoutQuorumAcquireFailsAtOnce(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	cfg := quick(servers)
	var changes atomic.Int64
	cfg.OnChange = func(locks.ServerState) { changes.Add(1) }
	cfg.Probe = time.Hour // the first set has to notice by itself
	l := open(t, cfg)
	servers[0].freeze()
	servers[1].freeze()
	_, err := l.Acquire(t.Context(), []string{"a"})
	if !errors.Is(err, locks.ErrUnavailable) {
		t.Errorf("Acquire with one of three servers = %v, want ErrUnavailable", err)
	}
	if owner := servers[2].owner("a"); owner != "" {
		t.Errorf("a set without quorum left its grant behind in the hands of %q", owner)
	}
	if !l.Degraded() {
		t.Error("not degraded with one of three servers")
	}
	before := servers[2].calls("evalsha")
	begin := time.Now()
	for range 100 {
		if _, err := l.Acquire(t.Context(), []string{"a"}); !errors.Is(err, locks.ErrUnavailable) {
			t.Fatalf("Acquire = %v, want ErrUnavailable", err)
		}
	}
	if took := time.Since(begin); took > cfg.Timeout {
		t.Errorf("100 refusals took %v", took)
	}
	if n := servers[2].calls("evalsha") - before; n != 0 {
		t.Errorf("a degraded locker sent %d scripts", n)
	}
	if got := l.Stats().Unavailable; got != 101 {
		t.Errorf("Stats().Unavailable = %d, want 101", got)
	}
	if got := changes.Load(); got != 5 { // three came up, two went down
		t.Errorf("OnChange heard %d changes, want 5", got)
	}
}

// Who hears of a server that it did not answer in time hears, once, why, when that is known later.
func TestTheCauseOfASilenceIsToldLater(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	cfg := quick(servers)
	told := make(chan locks.ServerState, 100)
	cfg.OnChange = func(s locks.ServerState) {
		if s.Addr == servers[0].addr && !s.Up {
			told <- s
		}
	}
	l := open(t, cfg)
	hear := func(what string) (s locks.ServerState) {
		t.Helper()
		select {
		case s = <-told:
		case <-time.After(patience):
			t.Fatalf("nobody was told that %s", what)
		}
		return s
	}
	eventually(t, "the server is up", func() bool { return l.Servers()[0].Up })
	servers[0].freeze()
	hear("the server does not answer")
	servers[0].kill()
	if s := hear("it is gone"); s.Faults != 1 || !errors.Is(s.Err, syscall.ECONNREFUSED) && !errors.Is(s.Err, syscall.ECONNRESET) && !errors.Is(s.Err, io.EOF) {
		t.Errorf("it was told of %d faults, of which the last is: %v", s.Faults, s.Err)
	}
	time.Sleep(10 * cfg.Probe)
	if len(told) != 0 {
		t.Errorf("it was told %d times more", len(told))
	}
}

func TestAllServersDeadAndBack(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	l := open(t, quick(servers))
	set := acquire(t, l, "a")
	for _, s := range servers {
		s.kill()
	}
	if _, err := set.Release(t.Context()); !errors.Is(err, locks.ErrUnavailable) {
		t.Errorf("Release with all servers dead = %v, want ErrUnavailable", err)
	}
	if _, err := l.Acquire(t.Context(), []string{"a"}); !errors.Is(err, locks.ErrUnavailable) {
		t.Errorf("Acquire with all servers dead = %v, want ErrUnavailable", err)
	}
	if !l.Degraded() {
		t.Error("not degraded with all servers dead")
	}
	for _, s := range servers {
		s.start()
	}
	eventually(t, "the locker recovers", func() bool { return !l.Degraded() })
	set = acquire(t, l, "a")
	if held := set.Held(); !slices.Equal(held, []string{"a"}) {
		t.Errorf("held %v after the recovery", held)
	}
	release(t, set)
}

// An idle system must notice, too: readiness is asked when nobody locks.
func TestProbesFindADeadServerWithoutTraffic(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 1)
	l := open(t, quick(servers))
	if l.Degraded() {
		t.Fatal("degraded with its server up")
	}
	servers[0].kill()
	eventually(t, "the dead server shows without traffic", l.Degraded)
}

// A server that cannot write answers PING all the same.
func TestServerThatRefusesToWriteIsNotAdmitted(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 1)
	cfg := quick(servers)
	var faults atomic.Int64
	cfg.OnChange = func(s locks.ServerState) { faults.Store(int64(s.Faults)) }
	l := open(t, cfg)
	if err := servers[0].client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Acquire(t.Context(), []string{"a"}); !errors.Is(err, locks.ErrUnavailable) {
		t.Errorf("Acquire at a server out of memory = %v, want ErrUnavailable", err)
	}
	probes := servers[0].calls("evalsha")
	eventually(t, "a few probes pass", func() bool { return servers[0].calls("evalsha") > probes+3 })
	if l.Servers()[0].Up || faults.Load() != 1 {
		t.Errorf("a server out of memory was admitted: %d faults", faults.Load())
	}
	servers[0].client.ConfigSet(t.Context(), "maxmemory", "0")
	eventually(t, "the server is admitted when it can write", func() bool { return !l.Degraded() })
}

func TestServerThatForgotItsScriptsIsTaughtThem(t *testing.T) {
	t.Parallel()
	servers := startRedis(t, 3)
	l := open(t, config(servers))
	for _, s := range servers {
		if err := s.client.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set := acquire(t, l, "a")
	if grant := set.Grant("a"); grant != locks.Held {
		t.Errorf("Grant = %v at servers without scripts", grant)
	}
	release(t, set)
	for i, state := range l.Servers() {
		if !state.Up {
			t.Errorf("server %d is down: %v", i, state.Err)
		}
	}
}

// Two lockers, several goroutines each, take overlapping sets in random order:
// nobody shares a name, and both get on.
func TestStormKeepsNamesExclusiveAndMakesProgress(t *testing.T) {
	t.Parallel()
	const (
		names    = 12
		perSet   = 4
		workers  = 3 // of each locker
		heldWant = 300
	)
	servers := startRedis(t, 3)
	var (
		holders [names]atomic.Int32
		held    [2]atomic.Int64
		work    sync.WaitGroup
	)
	deadline := time.Now().Add(patience)
	done := func() bool {
		return held[0].Load() >= heldWant && held[1].Load() >= heldWant || time.Now().After(deadline)
	}
	for node := range held {
		l := open(t, config(servers))
		for range workers {
			work.Go(func() {
				for !done() {
					held[node].Add(storm(t, l, rand.Perm(names)[:perSet], holders[:]))
				}
			})
		}
	}
	work.Wait()
	for node := range held {
		got := held[node].Load()
		t.Logf("locker %d held %d names", node, got)
		if got < heldWant {
			t.Errorf("locker %d held %d names in %v, want %d", node, got, patience, heldWant)
		}
	}
}

// storm takes one set and counts, for each name it holds, who else does.
func storm(t *testing.T, l *locks.Locker, numbers []int, holders []atomic.Int32) int64 {
	names := make([]string, len(numbers))
	for i, number := range numbers {
		names[i] = fmt.Sprintf("name-%02d", number)
	}
	set, err := l.Acquire(t.Context(), names)
	if err != nil {
		t.Error(err)
		return 0
	}
	var held []int
	for i, name := range names {
		if set.Grant(name) == locks.Held {
			held = append(held, numbers[i])
		}
	}
	for _, number := range held {
		if n := holders[number].Add(1); n != 1 {
			t.Errorf("name-%02d has %d holders at once", number, n)
		}
	}
	runtime.Gosched() // let others meet us, if they can
	for _, number := range held {
		holders[number].Add(-1)
	}
	if lost, err := set.Release(t.Context()); lost != 0 || err != nil {
		t.Errorf("Release = %d, %v", lost, err)
	}
	return int64(len(held))
}

func TestClosedLockerRefuses(t *testing.T) {
	t.Parallel()
	l := open(t, config(startRedis(t, 3)))
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Acquire(t.Context(), []string{"a"}); !errors.Is(err, locks.ErrClosed) {
		t.Errorf("Acquire after Close = %v, want ErrClosed", err)
	}
}

func TestLargestSetIsTakenAndOneMoreIsRefused(t *testing.T) {
	t.Parallel()
	const largest = 2048
	l := open(t, config(startRedis(t, 3)))
	set := acquire(t, l, numbered(largest)...)
	if err := set.Extend(t.Context()); err != nil {
		t.Error(err)
	}
	if held, lost := len(set.Held()), release(t, set); held != largest || lost != 0 {
		t.Errorf("held %d names of the largest set and lost %d, want %d and 0", held, lost, largest)
	}
	_, err := l.Acquire(t.Context(), numbered(largest+1))
	if err == nil || errors.Is(err, locks.ErrUnavailable) {
		t.Errorf("Acquire of one name too many = %v, want a refusal of its own", err)
	}
}

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	good := locks.Default()
	good.Addrs = []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}
	if err := good.Validate(); err != nil {
		t.Fatalf("the default configuration: %v", err)
	}
	for fault, spoil := range map[string]func(*locks.Config){
		"no servers":           func(c *locks.Config) { c.Addrs = nil },
		"no port":              func(c *locks.Config) { c.Addrs = []string{"127.0.0.1"} },
		"one server twice":     func(c *locks.Config) { c.Addrs = []string{"a:1", "b:1", "a:1"} },
		"no prefix":            func(c *locks.Config) { c.Prefix = "" },
		"no timeout":           func(c *locks.Config) { c.Timeout = 0 },
		"TTL below the trips":  func(c *locks.Config) { c.TTL = 2 * c.Timeout },
		"probes without pause": func(c *locks.Config) { c.Probe = 0 },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := locks.Open(cfg); err == nil {
			t.Errorf("%s: accepted", fault)
		}
	}
}

// BenchmarkSet512 takes and releases the largest set of a batch.
func BenchmarkSet512(b *testing.B) { benchmarkSet(b, 512) }

// BenchmarkSet4 is a lone transfer: two accounts, a key, a stripe.
func BenchmarkSet4(b *testing.B) { benchmarkSet(b, 4) }

func benchmarkSet(b *testing.B, size int) {
	cfg := config(startRedis(b, 3))
	l := open(b, cfg)
	names := numbered(size)
	b.ReportAllocs()
	for b.Loop() {
		set := acquire(b, l, names...)
		if len(set.Held()) != size {
			b.Fatalf("held %d of %d names", len(set.Held()), size)
		}
		release(b, set)
	}
}
