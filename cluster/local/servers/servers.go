// Package servers gives integration tests real MariaDB and Redis servers: one set
// per checkout, under .lockstep/test, on free ports and with production's durable
// settings.
//
// The first test that asks starts the set, under a file lock; all later tests and
// test processes use it. The servers belong to a keeper, a small program of its
// own (cluster/local/servers/keeper): a test process ends too early to own them,
// and a test binary cannot be asked to become one without code in its TestMain.
// It is built on demand, so a plain `go test ./...` needs nothing beforehand. Each
// user holds a shared lock on a file; when nobody has held it for ten minutes, the
// keeper takes it alone and ends. `keeper stop` ends it at once.
package servers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lockstep/cluster/local/process"
)

// Servers is the shared set. Addresses are host:port.
type Servers struct {
	SourceAddr  string   `json:"source_addr"`
	ReplicaAddr string   `json:"replica_addr"`
	RedisAddrs  []string `json:"redis_addrs"` // three

	// Admin and AdminReplica are DSNs of root, without a schema after the slash.
	Admin        string `json:"admin"`
	AdminReplica string `json:"admin_replica"`

	// DSNs of the accounts that nodes use. Their rights cover the databases of
	// tests only, and there what production grants.
	Source  string `json:"source"`
	Replica string `json:"replica"`
	Migrate string `json:"migrate"`
}

// Ready is the line that a keeper prints when its servers can be used.
const Ready = "ready"

// Place names the files that keeper and users share.
type Place string

// Here is the place of the checkout around the working directory.
func Here() (Place, error) {
	root, err := checkout()
	return Place(filepath.Join(root, ".lockstep", "test")), err
}

// checkout is the nearest directory upwards that holds go.mod.
func checkout() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the checkout: no go.mod here or above")
		}
	}
}

// Users is locked, shared, by whoever uses the servers; its time of change says
// when somebody last began or ended.
func (p Place) Users() string { return filepath.Join(string(p), "users.lock") }

// Cluster is the directory of the servers' own cluster.
func (p Place) Cluster() string { return filepath.Join(string(p), "cluster") }

// PID is the keeper's pid file.
func (p Place) PID() string { return filepath.Join(string(p), "keeper.pid") }

// State is the file that describes the servers, present while they can be used.
func (p Place) State() string { return filepath.Join(string(p), "state.json") }

func (p Place) log() string { return filepath.Join(string(p), "keeper.log") }

// Build compiles a program of the module, with its fault points, and tells where it is. It stays in the place, so that the
// next test that needs it, of whatever package, finds it up to date.
func (p Place) Build(name, pkg string, flags ...string) (path string, err error) {
	path = filepath.Join(string(p), "bin", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("make a place for programs: %w", err)
	}
	lock, err := process.LockWait(filepath.Join(filepath.Dir(path), "lock")) // one builds, the next finds it done
	if err != nil {
		return "", err
	}
	defer lock.Close()
	args := append([]string{"build", "-tags", "faults", "-o", path}, flags...)
	if out, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil { //nolint:noctx // a minute at most
		return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// Shared returns the checkout's servers, starting them if they do not run. They
// stay up at least until the test ends. What hinders them fails the test, a server
// that is not installed among it.
func Shared(tb testing.TB) *Servers {
	tb.Helper()
	place, err := Here()
	if err != nil {
		tb.Fatalf("test servers: %v", err)
	}
	if err := place.use(tb); err != nil {
		tb.Fatalf("test servers: %v", err)
	}
	servers, err := place.ensure(tb)
	if err != nil {
		tb.Fatalf("test servers: %v", err)
	}
	return servers
}

// use keeps the servers up until the test ends.
func (p Place) use(tb testing.TB) error {
	if err := os.MkdirAll(string(p), 0o755); err != nil {
		return fmt.Errorf("make their directory: %w", err)
	}
	lock, err := process.LockShared(p.Users()) // waits out a keeper that is ending
	if err != nil {
		return err
	}
	touch := func() { _ = os.Chtimes(p.Users(), time.Time{}, time.Now()) }
	touch()
	tb.Cleanup(func() {
		touch()
		_ = lock.Close()
	})
	return nil
}

// ensure reads where the servers are, and has them started once.
func (p Place) ensure(tb testing.TB) (*Servers, error) {
	lock, err := process.LockWait(filepath.Join(string(p), "start.lock"))
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if p.kept() {
		if servers, err := p.read(); err == nil {
			return servers, nil
		}
	}
	tb.Log("starting the test servers under .lockstep/test")
	if err := p.startKeeper(tb.Context()); err != nil {
		return nil, err
	}
	return p.read()
}

// kept tells whether a keeper lives: it holds the lock of its cluster.
func (p Place) kept() bool {
	lock, err := process.Lock(filepath.Join(p.Cluster(), "lock"))
	if err == nil {
		_ = lock.Close()
	}
	return errors.Is(err, process.ErrLocked)
}

func (p Place) read() (*Servers, error) {
	text, err := os.ReadFile(p.State())
	if err != nil {
		return nil, fmt.Errorf("read where they are: %w", err)
	}
	var servers Servers
	if err := json.Unmarshal(text, &servers); err != nil {
		return nil, fmt.Errorf("read where they are: %w", err)
	}
	return &servers, nil
}

// startKeeper runs a keeper that outlives us and waits for its word.
func (p Place) startKeeper(ctx context.Context) error {
	if _, err := process.Reap(p.PID(), stopGrace); err != nil { // one that lost its state file
		return err
	}
	if err := os.Remove(p.State()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("forget the servers of a keeper that was killed: %w", err)
	}
	program := filepath.Join(string(p), "keeper")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "lockstep/cluster/local/servers/keeper")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build their keeper: %w: %s", err, out)
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open the keeper's log: %w", err)
	}
	defer log.Close()
	keeper := exec.Command(program, "run", string(p)) //nolint:noctx // it outlives the test
	keeper.Stderr = log
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	said, err := keeper.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start their keeper: %w", err)
	}
	if err := keeper.Start(); err != nil {
		return fmt.Errorf("start their keeper: %w", err)
	}
	return awaitReady(keeper, said)
}

// awaitReady passes on why a keeper gave up. It leaves one that is ready alone:
// nobody waits for it, so that no goroutine of a test outlives the test.
func awaitReady(keeper *exec.Cmd, said io.ReadCloser) error {
	defer said.Close()
	var lines []string
	scanner := bufio.NewScanner(said)
	for scanner.Scan() {
		if scanner.Text() == Ready {
			return keeper.Process.Release()
		}
		lines = append(lines, scanner.Text())
	}
	err := keeper.Wait()
	return fmt.Errorf("their keeper ended (%w): %s", err, strings.Join(lines, "\n"))
}

// stopGrace is what a keeper gets to stop its servers in order.
const stopGrace = 90 * time.Second

// Stop ends the servers of the place, whoever uses them. It reports whether there
// were any.
func (p Place) Stop() (bool, error) { return process.Reap(p.PID(), stopGrace) }
