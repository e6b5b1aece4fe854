package ratelimit_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/api/ratelimit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// redis starts a server and answers with its address and its process.
func redis(t *testing.T) (addr string, process *exec.Cmd) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = listener.Addr().String()
	_ = listener.Close()
	process = exec.Command("redis-server", "--bind", "127.0.0.1", "--port", addr[strings.LastIndexByte(addr, ':')+1:],
		"--save", "", "--appendonly", "no", "--dir", t.TempDir())
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		t.Fatalf("start redis-server: %v", err)
	}
	t.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return addr, process
		}
		if time.Now().After(deadline) {
			t.Fatalf("redis-server does not listen: %v", err)
		}
	}
}

// clock is moved by the test; Redis has its own, which the tests' limits are too slow for.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time       { return time.Unix(1_800_000_000, c.at.Load()) }
func (c *clock) pass(d time.Duration) { c.at.Add(int64(d)) }

// patient is how long a busy machine may take to answer where the test is not about that.
const patient = 10 * time.Second

func open(t *testing.T, c *clock, addrs ...string) *ratelimit.Limiter {
	t.Helper()
	return openHasty(t, c, patient, addrs...)
}

func openHasty(t *testing.T, c *clock, wait time.Duration, addrs ...string) *ratelimit.Limiter {
	t.Helper()
	l, err := ratelimit.Open(ratelimit.Config{Addrs: addrs, Prefix: "test", Clock: c.now, Wait: wait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// use counts how many of so many uses at once are admitted.
func use(l *ratelimit.Limiter, key string, limit ratelimit.Limit, times int) (admitted int) {
	for range times {
		if l.Use(context.Background(), key, limit).Allowed {
			admitted++
		}
	}
	return admitted
}

// By itself a node admits Burst at once and Rate a second, and says truly how much is left and when there is more.
func TestOneNodeKeepsTheLimit(t *testing.T) {
	t.Parallel()
	var c clock
	l, limit := open(t, &c), ratelimit.Limit{Rate: 10, Burst: 5}
	for left := 4; left >= 0; left-- {
		if d := l.Use(t.Context(), "a", limit); !d.Allowed || d.Remaining != left || d.Retry != 0 || d.Reset != time.Duration(5-left)*100*time.Millisecond {
			t.Errorf("with %d left: got %+v", left, d)
		}
	}
	if d := l.Use(t.Context(), "a", limit); d.Allowed || d.Remaining != 0 || d.Retry != 100*time.Millisecond || d.Reset != 500*time.Millisecond {
		t.Errorf("with nothing left: got %+v", d)
	}
	c.pass(250 * time.Millisecond)
	if n := use(l, "a", limit, 10); n != 2 {
		t.Errorf("after a quarter of a second %d were admitted, want 2", n)
	}
	if n := use(l, "b", limit, 10); n != 5 {
		t.Errorf("of another key %d were admitted, want 5", n)
	}
	if n := use(l, "a", ratelimit.Limit{}, 100); n != 100 {
		t.Errorf("without a limit %d were admitted, want 100", n)
	}
	c.pass(time.Hour)
	if n := use(l, "a", limit, 10); n != 5 {
		t.Errorf("after an hour %d were admitted, want 5", n)
	}
}

// Two nodes together admit what one would, and ask Redis far less often than they are asked.
func TestNodesShareOneLimit(t *testing.T) {
	t.Parallel()
	var c clock
	addr, _ := redis(t)
	limit := ratelimit.Limit{Rate: 1, Burst: 400} // comes back too slowly for the test to see
	nodes := []*ratelimit.Limiter{open(t, &c, addr), open(t, &c, addr)}
	var admitted atomic.Int64
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { admitted.Add(int64(use(nodes[i%2], "a", limit, 100))) })
	}
	all.Wait()
	if n := admitted.Load(); n < 360 || n > 420 { // an advance that is not used up, and the seconds that pass
		t.Errorf("two nodes admitted %d of 800, want 400", n)
	}
	few := ratelimit.Limit{Rate: 1, Burst: 4}
	if a, b := use(nodes[0], "b", few, 3), use(nodes[1], "b", few, 3); a != 3 || b > 2 {
		t.Errorf("they admitted %d and %d, want 3 and 1", a, b) // or 2 when a second passes
	}
	busy := ratelimit.PerSecond(1000)
	before := nodes[0].Stats().Asked
	if n := use(nodes[0], "c", busy, 1000); n != 1000 {
		t.Errorf("of a busy key %d were admitted, want 1000", n)
	}
	if asked := nodes[0].Stats().Asked - before; asked < 2 || asked > 40 {
		t.Errorf("for 1000 uses Redis was asked %d times", asked)
	}
}

// With a server killed or frozen each node goes on with its own count: neither open nor shut, and hardly slower.
func TestWithoutRedisEachNodeKeepsTheLimit(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(*exec.Cmd) error{
		"killed": func(p *exec.Cmd) error { return p.Process.Kill() },
		"frozen": func(p *exec.Cmd) error { return p.Process.Signal(syscall.SIGSTOP) },
	} {
		var c clock
		addr, process := redis(t)
		limit, nodes := ratelimit.Limit{Rate: 1, Burst: 50}, []*ratelimit.Limiter{openHasty(t, &c, 50*time.Millisecond, addr), openHasty(t, &c, 50*time.Millisecond, addr)}
		use(nodes[0], "warm", limit, 1)
		if err := lose(process); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for i, node := range nodes {
			for key := range 20 {
				if n := use(node, fmt.Sprint(key), limit, 100); n != 50 {
					t.Errorf("%s: node %d admitted %d, want 50", name, i, n)
				}
			}
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s: 4000 uses took %v", name, took)
		}
		if nodes[0].Stats().Alone == 0 {
			t.Errorf("%s: nothing was decided without Redis", name)
		}
	}
}

// A server that is back is asked again.
func TestRedisThatIsBackCountsAgain(t *testing.T) {
	t.Parallel()
	var c clock
	addr, process := redis(t)
	// Long enough for an answer on a busy machine, for it must not be taken for a frozen one.
	limit, nodes := ratelimit.Limit{Rate: 1, Burst: 4}, []*ratelimit.Limiter{openHasty(t, &c, time.Second, addr), openHasty(t, &c, time.Second, addr)}
	if err := process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		use(node, "a", limit, 1)
	}
	if err := process.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.pass(2 * time.Second)
	if a, b := use(nodes[0], "b", limit, 3), use(nodes[1], "b", limit, 3); a != 3 || b > 2 {
		t.Errorf("they admitted %d and %d, want 3 and 1 together", a, b)
	}
}

// The memory of keys has a bound, whoever invents them.
func TestInventedKeysTakeNoMemory(t *testing.T) {
	t.Parallel()
	var c clock
	l, limit := open(t, &c), ratelimit.Limit{Rate: 1000, Burst: 2}
	for key := range 300_000 {
		l.Use(t.Context(), fmt.Sprint(key), limit)
	}
	if most := ratelimit.KeysMax; l.Keys() > most {
		t.Errorf("it remembers %d keys, want at most %d", l.Keys(), most)
	}
}
