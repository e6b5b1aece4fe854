package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/cluster/local/process"
)

// ErrRunning says that a cluster already runs in the directory.
var ErrRunning = errors.New("a cluster already runs here")

// The files of a supervisor: the one that it holds locked while it runs, and the one
// that tells its process.
const (
	lockName      = "lock"
	supervisorPID = "supervisor.pid"
)

// reapGrace is what the processes of a crashed supervisor get to end in order.
const reapGrace = 15 * time.Second

// Cluster is a local cluster that runs until Close.
type Cluster struct {
	options Options
	secrets secrets
	layout  layout
	systems []*system
	control *control

	natsMember *member // nil without one
	idpMember  *member // nil without one

	lock    *process.FileLock // held as long as we run in the directory
	free    *freePorts        // nil with fixed ports
	cancel  context.CancelFunc
	guards  sync.WaitGroup
	writing sync.Mutex // of credentials.json
	closing sync.Once

	reporting sync.Mutex
	asked     chan struct{} // closed when somebody asked for the end
	asking    sync.Once
}

// Start starts a cluster and returns when all of it is ready. It refuses with
// ErrRunning where one runs already, with process.ErrMissing when a server is not
// installed, and names a port that is taken. Data and secrets of an earlier start
// in the same directory are kept. On an error nothing is left running.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	options, err := options.complete()
	if err != nil {
		return nil, err
	}
	c := &Cluster{options: options, asked: make(chan struct{})}
	if err := c.claim(); err != nil {
		c.release()
		return nil, err
	}
	supervision, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	if err := c.start(ctx, supervision); err != nil {
		c.Close()
		return nil, err
	}
	c.event("", "all is ready")
	return c, nil
}

// claim makes the directory ours and clears what a crashed supervisor left.
func (c *Cluster) claim() error {
	for _, dir := range []string{c.options.Dir, c.path("logs"), c.path("run")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make the cluster's directory: %w", err)
		}
	}
	lock, err := process.Lock(c.path(lockName))
	if errors.Is(err, process.ErrLocked) {
		return fmt.Errorf("%w, in %s: stop it with 'lockstep down', or use another --dir", ErrRunning, c.options.Dir)
	}
	if err != nil {
		return err
	}
	c.lock = lock
	if err := process.WritePIDFile(c.path(supervisorPID), os.Getpid()); err != nil {
		return err
	}
	if err := findPrograms(c.options); err != nil {
		return err
	}
	if err := c.reap(); err != nil {
		return err
	}
	if c.secrets, err = loadSecrets(c.options.Dir, c.options.Systems, c.options.Guests); err != nil {
		return err
	}
	return c.choosePorts()
}

func findPrograms(o Options) error {
	programs := []string{"mariadbd", "mariadb-install-db", "redis-server"}
	if !o.ServersOnly {
		programs = append(programs, "haproxy")
	}
	for _, program := range programs {
		if _, err := process.Find(program); err != nil {
			return err
		}
	}
	return nil
}

// reap ends what still runs of an earlier cluster whose supervisor was killed.
func (c *Cluster) reap() error { return reapDir(c.options.Dir, c.event) }

// reapDir ends all at once, for each may take its time; report hears of them one by one.
func reapDir(dir string, report func(process, text string)) error {
	files, err := filepath.Glob(filepath.Join(dir, "run", "*.pid"))
	if err != nil {
		return fmt.Errorf("look for processes left behind: %w", err)
	}
	var group errgroup.Group
	var telling sync.Mutex
	for _, file := range files {
		group.Go(func() error {
			found, err := process.Reap(file, reapGrace)
			if found {
				telling.Lock()
				defer telling.Unlock()
				report(strings.TrimSuffix(filepath.Base(file), ".pid"), "left by a crashed supervisor, stopped")
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("stop processes left behind: %w", err)
	}
	return nil
}

func (c *Cluster) choosePorts() error {
	if c.options.PortBase != 0 {
		c.layout = fixedLayout(c.options)
		return nil
	}
	free, err := newFreePorts()
	if err != nil {
		return err
	}
	c.free = free
	c.layout, err = freeLayout(c.options, free.next)
	return err
}

func (c *Cluster) start(ctx, supervision context.Context) error {
	if c.options.Binary != "" {
		c.natsMember = c.nats()
	}
	if c.options.IDP != IDPNone && !c.options.ServersOnly {
		c.idpMember = c.provider()
	}
	for i := range c.options.Systems {
		s, err := newSystem(c, i)
		if err != nil {
			return err
		}
		c.systems = append(c.systems, s)
	}
	if err := c.checkPorts(ctx); err != nil {
		return err
	}
	if c.natsMember != nil {
		if err := c.natsMember.start(ctx, c.options.StartWait); err != nil {
			return err
		}
	}
	group, starting := errgroup.WithContext(ctx)
	if c.idpMember != nil {
		group.Go(func() error { return c.idpMember.start(starting, c.options.StartWait) })
	}
	for _, s := range c.systems {
		group.Go(func() error { return s.start(starting) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := c.startNodes(ctx); err != nil {
		return err
	}
	for _, m := range c.members() {
		m.supervise(supervision)
	}
	if err := c.announce(); err != nil || !c.options.failsOver() {
		return err
	}
	for _, s := range c.systems {
		c.guards.Go(func() { s.guard(supervision) })
		c.guards.Go(func() { s.reconcile(supervision) })
	}
	return nil
}

// checkPorts fails early and by name, for a server's own complaint about its port
// is hidden in a log.
func (c *Cluster) checkPorts(ctx context.Context) error {
	taken := func(name string, port int) error {
		return fmt.Errorf("port %d, for %s, is taken: stop what listens there, or move the cluster, as with --port-base %d",
			port, name, portBaseExample)
	}
	for _, m := range c.members() {
		for _, port := range m.ports {
			listener, err := listen(ctx, port)
			if err != nil {
				return taken(m.name, port)
			}
			_ = listener.Close()
		}
	}
	listener, err := listen(ctx, c.layout.control)
	if err != nil {
		return taken("the control address", c.layout.control)
	}
	c.control = newControl(c, listener)
	return nil
}

// members lists all processes in the order in which they start.
func (c *Cluster) members() []*member {
	var all []*member
	if c.natsMember != nil {
		all = append(all, c.natsMember)
	}
	if c.idpMember != nil {
		all = append(all, c.idpMember)
	}
	for _, s := range c.systems {
		all = append(all, s.members()...)
	}
	return all
}

// Close stops every process in reverse order: balancers, nodes, which drain,
// Redis, replicas, sources, and NATS and the OpenID provider at last. It may be called twice.
func (c *Cluster) Close() {
	c.closing.Do(func() {
		c.cancel()
		c.guards.Wait()
		var stopping sync.WaitGroup
		for _, s := range c.systems {
			stopping.Go(s.stop)
		}
		stopping.Wait()
		if c.idpMember != nil {
			c.idpMember.end()
		}
		if c.natsMember != nil {
			c.natsMember.end()
		}
		if c.control != nil {
			c.control.close()
		}
		c.release()
	})
}

func (c *Cluster) release() {
	if c.free != nil {
		c.free.Close()
	}
	if c.lock != nil {
		_ = os.Remove(c.path(supervisorPID)) // while it is ours
		_ = c.lock.Close()
	}
}

// Asked is closed when somebody asked over the control address for the end. The
// owner of the cluster then calls Close.
func (c *Cluster) Asked() <-chan struct{} { return c.asked }

func (c *Cluster) askForEnd() { c.asking.Do(func() { close(c.asked) }) }

// Processes tells the state of every process, in the order in which they start.
func (c *Cluster) Processes() []Status {
	var all []Status
	for _, m := range c.members() {
		all = append(all, m.snapshot())
	}
	return all
}

// Kill sends SIGKILL and returns when the process is gone. The supervisor starts it
// again within 2 s, or with down set only when StartProcess asks.
func (c *Cluster) Kill(name string, down bool) error {
	return c.with(name, func(m *member) error { return m.kill(down) })
}

// Stop freezes the process by SIGSTOP: it keeps its connections, and answers nobody.
func (c *Cluster) Stop(name string) error { return c.with(name, (*member).freeze) }

// Continue lets a frozen process go on.
func (c *Cluster) Continue(name string) error { return c.with(name, (*member).thaw) }

// StartProcess ends a Kill with down, or a Stop, and returns when the process is
// ready. For one that runs it does nothing.
func (c *Cluster) StartProcess(ctx context.Context, name string) error {
	return c.with(name, func(m *member) error { return m.wantUp(ctx) })
}

// Restart ends a process that runs in good order, as an upgrade would, and returns when its successor is ready.
func (c *Cluster) Restart(ctx context.Context, name string) error {
	return c.with(name, func(m *member) error {
		if state := m.snapshot().State; state != Running {
			return fmt.Errorf("%s is %s, so it cannot be restarted", name, state)
		}
		return m.recycle(ctx, startWaitMax)
	})
}

// Flush makes a Redis server forget all locks.
func (c *Cluster) Flush(ctx context.Context, name string) error {
	return c.with(name, func(m *member) error {
		if m.kind != kindRedis {
			return fmt.Errorf("%s is not a Redis server", name)
		}
		return redisCommand(ctx, m.address, "FLUSHALL", "+OK")
	})
}

// ErrNoProcess says that the cluster has no process of that name.
var ErrNoProcess = errors.New("no such process")

func (c *Cluster) with(name string, work func(*member) error) error {
	all := c.members()
	at := slices.IndexFunc(all, func(m *member) bool { return m.name == name })
	if at < 0 {
		names := make([]string, len(all))
		for i, m := range all {
			names[i] = m.name
		}
		return fmt.Errorf("%w: %q; there are %s", ErrNoProcess, name, strings.Join(names, ", "))
	}
	return work(all[at])
}

func (c *Cluster) event(process, text string) {
	c.reporting.Lock()
	defer c.reporting.Unlock()
	if c.options.Progress != nil {
		c.options.Progress(Event{At: time.Now(), Process: process, Text: text})
	}
}

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.options.Dir}, parts...)...)
}
