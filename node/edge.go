package node

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/api"
	"lockstep/api/auth"
	"lockstep/api/ratelimit"
	"lockstep/node/audit"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// openEdge puts the REST server on top of the engine.
func (n *Node) openEdge(ctx context.Context, registry prometheus.Registerer, version Version) error {
	authority, err := openAuthority(ctx, n.config, n.store, n.log)
	if err != nil {
		return err
	}
	n.onClose(func(context.Context) error { authority.Close(); return nil })
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "lockstep_auth_password_checks_total", Help: "Passwords that were held against a hash; those refused for their number are not.",
	}, func() float64 { return float64(authority.Stats().PasswordChecks) }))
	logins, err := n.openLogins()
	if err != nil {
		return err
	}
	limits, err := n.openLimits(registry)
	if err != nil {
		return err
	}
	server, err := api.New(api.Deps{
		System: n.config.System, Version: string(version), Currencies: n.currencies(), Zone: n.config.zone(), RequestsMax: n.config.RequestsMax, Engine: n.engine,
		Store: api.Over(n.store), Peers: n.peers, Webhooks: n.webhooks, Authority: authority, People: authority, Logins: logins, Web: n.config.web(), Limits: limits, Audit: n.openAudit(ctx, registry), Health: n.health, Locks: n.locks,
		Now: n.store.Now, Clock: n.clock, NewID: newID, Traces: n.traces, Logger: n.log, Metrics: registry,
	})
	if err != nil {
		return fmt.Errorf("open the REST edge: %w", err)
	}
	n.server = server
	n.onClose(server.Shutdown)
	return nil
}

// openAudit begins to record who does what.
func (n *Node) openAudit(ctx context.Context, registry prometheus.Registerer) *audit.Log {
	log := audit.Open(ctx, n.store.Source(), n.lease.ID, n.log)
	n.onClose(log.Close)
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "lockstep_audit_records_total", Help: "Audit records that were written.",
	}, func() float64 { written, _ := log.Stats(); return float64(written) }), prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "lockstep_audit_lost_total", Help: "Audit records that were lost because the database took none for too long.",
	}, func() float64 { _, lost := log.Stats(); return float64(lost) }))
	return log
}

// openLogins is nil where no provider is configured: a true nil, which the edge looks for.
func (n *Node) openLogins() (api.Logins, error) {
	if n.config.OIDC.ClientID == "" {
		return nil, nil
	}
	logins, err := auth.OpenLogins(authConfig(n.config, n.store, n.log), n.config.oidc())
	if err != nil {
		return nil, err
	}
	n.onClose(func(context.Context) error { logins.Close(); return nil })
	return logins, nil
}

// openLimits counts requests in the lock servers, where they count anything; with locks off each node counts for itself.
func (n *Node) openLimits(registry prometheus.Registerer) (api.Limits, error) {
	config := ratelimit.Config{Prefix: "lockstep:" + n.config.System}
	if n.config.Locks == "on" {
		config.Addrs, config.Username, config.Password = n.config.Redis, n.config.RedisAccess.Username, n.config.RedisAccess.Password
	}
	var err error
	if config.TLS, err = n.config.RedisAccess.TLS.config(); err != nil {
		return api.Limits{}, fmt.Errorf("redis_access.%w", err)
	}
	limiter, err := ratelimit.Open(config)
	if err != nil {
		return api.Limits{}, err
	}
	n.onClose(func(context.Context) error { return limiter.Close() })
	for name, c := range map[string]struct {
		help  string
		count func(ratelimit.Stats) uint64
	}{
		"lockstep_ratelimit_refused_total": {"Requests refused because their caller sent too many.", func(s ratelimit.Stats) uint64 { return s.Refused }},
		"lockstep_ratelimit_alone_total":   {"Requests counted by this node alone, because no Redis server answered.", func(s ratelimit.Stats) uint64 { return s.Alone }},
		"lockstep_ratelimit_asked_total":   {"Questions to Redis, each for a number of requests in advance.", func(s ratelimit.Stats) uint64 { return s.Asked }},
	} {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: c.help}, func() float64 { return float64(c.count(limiter.Stats())) }))
	}
	rates, set := n.config.RateLimits, ratelimit.PerSecond
	return api.Limits{
		Limiter: limiter, Client: set(rates.Client), Person: set(rates.Person), Address: set(rates.Address),
	}, nil
}

// newID makes a UUIDv7 (RFC 9562, 5.7), so that ids sort by the time they were made.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

func (n *Node) currencies() []ledger.Currency {
	list := make([]ledger.Currency, len(n.config.Currencies))
	for i, code := range n.config.Currencies {
		list[i] = ledger.Currency(code)
	}
	return list
}

// health is what readyz and operators are told.
func (n *Node) health() api.Health {
	state := n.store.State()
	h := api.Health{
		Started: true, Lease: !ended(n.lease.Lost()) && !ended(n.engine.Lost()), Source: state.Source.OK,
		SemiSync: state.Source.SemiSync, ClockOffset: -state.ClockOffset, Warnings: n.warnings(state),
	}
	for _, replica := range state.Replicas {
		h.Replicas = append(h.Replicas, api.ReplicaHealth{Address: replica.Address, Serving: replica.Serving, Lag: replica.Behind})
	}
	for _, server := range n.locks().Servers {
		h.Redis = append(h.Redis, api.ServerHealth{Address: server.Address, Up: server.Up})
	}
	return h
}

func (n *Node) warnings(state store.State) []string {
	var warnings []string
	if state.Source.Problem != "" {
		warnings = append(warnings, "source: "+state.Source.Problem)
	}
	if !state.Reconciled {
		warnings = append(warnings, "reconcile: this system was restored; transfers between systems wait for `lockstep reconcile`")
	}
	for _, replica := range state.Replicas {
		if replica.Problem != "" {
			warnings = append(warnings, "replica "+replica.Address+": "+replica.Problem)
		}
	}
	if n.locker != nil && n.locker.Degraded() {
		warnings = append(warnings, "redis: no quorum of lock servers; row locks alone keep the order")
	}
	if warning := n.busWarning(); warning != "" {
		warnings = append(warnings, warning)
	}
	return warnings
}

func ended(signal <-chan struct{}) bool {
	select {
	case <-signal:
		return true
	default:
		return false
	}
}

// locks is what operators are told of the lock servers.
func (n *Node) locks() api.Locks {
	if n.locker == nil {
		return api.Locks{}
	}
	stats := n.locker.Stats()
	all := api.Locks{
		Enabled: true, Degraded: n.locker.Degraded(),
		Counts: api.LockCounts{
			Sets: stats.Sets, Unavailable: stats.Unavailable, Held: stats.Held, Busy: stats.Busy, Split: stats.Split, Lost: stats.Lost,
		},
	}
	for _, server := range n.locker.Servers() {
		all.Servers = append(all.Servers, api.LockServer{
			Address: server.Addr, Up: server.Up, Error: text(server.Err), Since: server.Since.UTC().Format(time.RFC3339), Faults: server.Faults,
		})
	}
	return all
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
