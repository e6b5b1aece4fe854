package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"lockstep/api"
	"lockstep/api/auth"
	"lockstep/cluster/events"
	"lockstep/cluster/traces"
	"lockstep/locks"
	"lockstep/node/posting"
	"lockstep/node/remit"
	"lockstep/node/store"
	"lockstep/node/webhooks"
	"lockstep/rounds"
	"lockstep/saga"
)

// closeTimeout bounds what a node waits for at its end: requests in flight may wait for 30 s themselves.
const closeTimeout = 40 * time.Second

// ErrLost says that another process owns this node's id now.
var ErrLost = errors.New("another process has taken over this node's id; this one ends")

// Node is one running node.
type Node struct {
	config Config
	log    *slog.Logger
	clock  func() time.Time // of this machine
	store  *store.Store
	lease  *store.Lease
	locker *locks.Locker  // nil when locks are off
	traces *traces.Traces // nil is off
	engine *posting.Engine
	sagas  *saga.Log
	desk   *remit.Desk
	peers  *api.Peers
	bus    *events.Bus  // nil without a broker's address
	outbox *saga.Outbox // nil without a bus

	webhooks   *webhooks.Desk
	dispatcher *webhooks.Dispatcher

	server *api.Server
	admin  *http.Server
	failed chan error // a listener's end

	toPeers, toOwn chan saga.Message // committed, and not published yet

	background context.CancelFunc
	sweepers   sync.WaitGroup
	closers    []func(context.Context) error // in order of opening
}

// Open starts everything but the listeners. What was opened is closed again when something fails.
func Open(ctx context.Context, config Config, version Version, log *slog.Logger) (_ *Node, err error) {
	n := &Node{
		config: config, log: log.With("system", config.System), clock: faultClock(config.Faults), failed: make(chan error, 2),
		toPeers: make(chan saga.Message, announcedMax), toOwn: make(chan saga.Message, announcedMax),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := n.openStore(ctx, version); err != nil {
		return nil, err
	}
	registry.MustRegister(storeMetrics{n.store})
	if err := n.openTraces(ctx, registry, version); err != nil {
		return nil, err
	}
	if err := n.openWebhooks(ctx, registry); err != nil {
		return nil, err
	}
	if err := n.openEngine(ctx, registry); err != nil {
		return nil, err
	}
	if err := n.openPeers(ctx, registry); err != nil {
		return nil, err
	}
	n.openSweepers(ctx, registry)
	if err := n.openEdge(ctx, registry, version); err != nil {
		return nil, err
	}
	n.openAdmin(registry)
	return n, nil
}

func storeConfig(config Config, log *slog.Logger) store.Config {
	c := store.Default()
	c.System, c.Source, c.Replicas = config.System, config.MySQL.Source, config.MySQL.Replicas
	if config.Reads == "source" {
		c.Replicas = nil
	}
	c.Candidates = config.MySQL.Candidates
	c.AllowUnsafe, c.Logger = config.AllowUnsafe, log
	return c
}

func authConfig(config Config, db *store.Store, log *slog.Logger) auth.Config {
	return auth.Config{System: config.System, Secret: config.Secret, DB: db.Source(), Clock: db.Now, Logger: log, RegistrationsMax: config.Registrations}
}

func openAuthority(ctx context.Context, config Config, db *store.Store, log *slog.Logger) (*auth.Authority, error) {
	return auth.Open(ctx, authConfig(config, db, log))
}

func (n *Node) openStore(ctx context.Context, version Version) error {
	config := storeConfig(n.config, n.log)
	config.Clock = n.clock
	db, err := store.Open(ctx, config)
	if err != nil {
		return err
	}
	n.store = db
	n.onClose(func(context.Context) error { return db.Close() })
	if n.lease, err = db.LeaseNode(ctx, n.config.Listen, string(version), posting.DefaultConfig().Lanes); err != nil {
		return err
	}
	n.onClose(func(context.Context) error { return n.lease.Close() })
	n.log = n.log.With("node", n.lease.ID)
	return nil
}

func (n *Node) openEngine(ctx context.Context, registry prometheus.Registerer) error {
	var locker posting.Locker // stays a true nil when locks are off
	if n.config.Locks == "on" {
		config := locks.Default()
		config.Addrs, config.Prefix = n.config.Redis, "lockstep:"+n.config.System
		config.OnChange = func(state locks.ServerState) {
			n.log.Warn("lock server changed", "server", state.Addr, "up", state.Up, "error", state.Err)
		}
		config.Username, config.Password = n.config.RedisAccess.Username, n.config.RedisAccess.Password
		var err error
		if config.TLS, err = n.config.RedisAccess.TLS.config(); err != nil {
			return fmt.Errorf("redis_access.%w", err)
		}
		if n.locker, err = locks.Open(config); err != nil {
			return err
		}
		locker = n.locker
		registry.MustRegister(lockMetrics{n.locker})
		n.onClose(func(context.Context) error { return n.locker.Close() })
	}
	config := posting.DefaultConfig()
	config.LateRelease = n.config.EarlyRelease == "off"
	config.Fault, config.Announced = faultPoints(n.config.Faults), n.announced
	config.Zone = n.config.zone()
	n.tellWebhooks(&config)
	identity := posting.Identity{Node: n.lease.ID, Incarnation: n.lease.Incarnation}
	engine, err := posting.Open(ctx, config, n.store, locker, identity, registry, n.log)
	if err != nil {
		return err
	}
	n.engine = engine
	n.onClose(engine.Close)
	return nil
}

// openSweepers starts what works off what time has made due.
func (n *Node) openSweepers(ctx context.Context, registry prometheus.Registerer) {
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	n.background = cancel
	n.sweepers.Go(func() { n.engine.ExpireHolds(background) })
	n.sweepers.Go(func() { rounds.Make(background, cleanEvery, n.cleanUp) })
	cleaned := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "lockstep_store_keys_cleaned_total", Help: "Idempotency keys deleted after their retention.",
	})
	registry.MustRegister(cleaned)
	n.sweepers.Go(func() {
		n.store.CleanKeys(background, n.config.retention(), func(keys int) { cleaned.Add(float64(keys)) })
	})
	n.onClose(func(context.Context) error { cancel(); n.sweepers.Wait(); return nil })
}

func (n *Node) onClose(closer func(context.Context) error) { n.closers = append(n.closers, closer) }

// openAdmin prepares the private listener.
func (n *Node) openAdmin(registry *prometheus.Registry) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	n.admin = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
}

// Run listens and serves until ctx ends or the node loses its id; then it drains and closes.
func (n *Node) Run(ctx context.Context) error {
	public, err := n.config.listen()
	if err != nil {
		return errors.Join(fmt.Errorf("listen for REST: %w", err), n.Close())
	}
	admin, err := net.Listen("tcp", n.config.AdminListen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for metrics: %w", err), public.Close(), n.Close())
	}
	go func() { n.failed <- n.server.Serve(public) }()
	go func() { n.failed <- n.admin.Serve(admin) }()
	n.log.Info("serving", "listen", n.config.Listen, "admin", n.config.AdminListen)
	var cause error
	select {
	case <-ctx.Done():
		n.drain()
	case <-n.lease.Lost():
		cause = ErrLost
	case <-n.engine.Lost():
		cause = ErrLost
	case err := <-n.failed:
		cause = fmt.Errorf("serve: %w", err)
	}
	return errors.Join(cause, n.Close())
}

// drain turns readyz red and goes on serving until the balancer has noticed; then requests in flight are finished.
func (n *Node) drain() {
	n.log.Info("draining", "for", n.config.Drain)
	n.server.Drain()
	time.Sleep(n.config.Drain)
}

// Close stops everything in reverse order. It may be called twice.
func (n *Node) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var failures []error
	if n.admin != nil {
		failures = append(failures, n.admin.Close())
	}
	for i := len(n.closers) - 1; i >= 0; i-- {
		failures = append(failures, n.closers[i](ctx))
	}
	n.closers = nil
	return errors.Join(failures...)
}
