package locks_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"lockstep/locks"
)

// patience bounds every wait of the tests; a machine that is busy with other
// things needs more of it than the code does.
const patience = 20 * time.Second

// redisServer is a redis-server process of the test's own, on a free loopback
// port, which the test may stop, kill and start again.
type redisServer struct {
	tb     testing.TB
	addr   string
	dir    string
	client *redis.Client
	cmd    *exec.Cmd
	guard  *exec.Cmd
}

// startRedis starts n servers and waits until they answer.
func startRedis(tb testing.TB, n int) []*redisServer {
	tb.Helper()
	if testing.Short() {
		tb.Skip("needs redis-server")
	}
	servers := make([]*redisServer, n)
	for i := range servers {
		s := &redisServer{tb: tb, dir: tb.TempDir(), addr: freeAddr(tb)}
		s.client = redis.NewClient(&redis.Options{Addr: s.addr, Protocol: 2, DisableIdentity: true, PoolSize: 4})
		tb.Cleanup(func() {
			s.kill()
			if err := s.client.Close(); err != nil {
				tb.Errorf("close client: %v", err)
			}
		})
		s.start()
		servers[i] = s
	}
	return servers
}

// ports counts the ports handed out, so that parallel tests never get the same.
var ports atomic.Int64

// freeAddr stays below the ports that the kernel gives to outgoing connections:
// one of those could take the port of a server that is down for a moment.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	const first, last = 20_000, 32_000
	for range last - first {
		port := first + (int64(os.Getpid())*41+ports.Add(1))%(last-first)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			defer listener.Close()
			return listener.Addr().String()
		}
	}
	tb.Fatalf("no free port from %d to %d", first, last)
	return ""
}

// start runs the server, empty, on its old port.
func (s *redisServer) start() {
	s.tb.Helper()
	log, err := os.Create(filepath.Join(s.dir, "redis.log"))
	if err != nil {
		s.tb.Fatal(err)
	}
	defer log.Close()
	host, port, _ := net.SplitHostPort(s.addr)
	s.cmd = exec.Command("redis-server", "--bind", host, "--port", port, "--dir", s.dir, "--save", "", "--appendonly", "no")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatalf("start redis-server: %v (deploy/install.sh installs it)", err)
	}
	s.startGuard()
	eventually(s.tb, "redis-server at "+s.addr+" answers", func() bool {
		return s.client.Ping(s.tb.Context()).Err() == nil
	})
}

// startGuard runs a process that kills the server when the test binary dies
// without its cleanups (a timeout, a panic): then the pipe between them ends.
func (s *redisServer) startGuard() {
	s.guard = exec.Command("sh", "-c", fmt.Sprintf("cat >/dev/null; kill -9 %d", s.cmd.Process.Pid))
	if _, err := s.guard.StdinPipe(); err != nil {
		s.tb.Fatal(err)
	}
	s.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.guard.Start(); err != nil {
		s.tb.Fatalf("start the guard: %v", err)
	}
}

// kill ends the server as a crash would; its data is gone.
func (s *redisServer) kill() {
	if s.cmd == nil {
		return
	}
	_ = syscall.Kill(-s.guard.Process.Pid, syscall.SIGKILL)
	_ = s.guard.Wait()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// freeze stops the server as a swapped-out or paused machine would be: its
// kernel still accepts connections and data.
func (s *redisServer) freeze() { s.signal(syscall.SIGSTOP) }
func (s *redisServer) thaw()   { s.signal(syscall.SIGCONT) }

func (s *redisServer) signal(signal syscall.Signal) {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.tb.Fatalf("%v to redis-server: %v", signal, err)
	}
}

// calls reads how often the server has carried out a command.
func (s *redisServer) calls(command string) int {
	s.tb.Helper()
	info, err := s.client.Info(s.tb.Context(), "commandstats").Result()
	if err != nil {
		s.tb.Fatal(err)
	}
	for line := range strings.Lines(info) {
		var n int
		if _, err := fmt.Sscanf(line, "cmdstat_"+command+":calls=%d", &n); err == nil {
			return n
		}
	}
	return 0
}

// monitor writes down what the server is sent, until the test ends.
func (s *redisServer) monitor() *bufio.Scanner {
	s.tb.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.tb.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		s.tb.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	if !lines.Scan() || lines.Text() != "+OK" {
		s.tb.Fatalf("MONITOR: %q %v", lines.Text(), lines.Err())
	}
	return lines
}

// plant puts a name into another's hands on this server alone.
func (s *redisServer) plant(name, owner string) {
	s.tb.Helper()
	if err := s.client.MSet(s.tb.Context(), "test:"+name, owner, "test#"+owner, "").Err(); err != nil {
		s.tb.Fatal(err)
	}
}

// owner reads in whose hands this server has a name, unless that set's time is over.
func (s *redisServer) owner(name string) string {
	s.tb.Helper()
	owner, err := s.client.Get(s.tb.Context(), "test:"+name).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.tb.Fatal(err)
	}
	owner, _, _ = strings.Cut(owner, "|")
	if s.client.Exists(s.tb.Context(), "test#"+owner).Val() == 0 {
		return ""
	}
	return owner
}

// setTime names the key with the time of the set that holds the name.
func (s *redisServer) setTime(name string) string {
	s.tb.Helper()
	return "test#" + s.owner(name)
}

// flush empties the server.
func (s *redisServer) flush() {
	s.tb.Helper()
	if err := s.client.FlushAll(s.tb.Context()).Err(); err != nil {
		s.tb.Fatal(err)
	}
}

// config has a timeout that a busy machine keeps, and probes too rare to show in
// the counts; tests that need others say so.
func config(servers []*redisServer) locks.Config {
	cfg := locks.Default()
	cfg.Prefix = "test"
	cfg.Timeout = 2 * time.Second
	cfg.TTL = time.Minute
	cfg.Probe = time.Hour
	for _, s := range servers {
		cfg.Addrs = append(cfg.Addrs, s.addr)
	}
	return cfg
}

func open(tb testing.TB, cfg locks.Config) *locks.Locker {
	tb.Helper()
	l, err := locks.Open(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Errorf("close locker: %v", err)
		}
	})
	return l
}

func acquire(tb testing.TB, l *locks.Locker, names ...string) *locks.Set {
	tb.Helper()
	set, err := l.Acquire(tb.Context(), names)
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

func release(tb testing.TB, set *locks.Set) (lost int) {
	tb.Helper()
	lost, err := set.Release(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return lost
}

// eventually polls until what is said is so.
func eventually(tb testing.TB, what string, so func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !so(); {
		if time.Now().After(deadline) {
			tb.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
