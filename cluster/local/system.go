package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/cluster/local/process"
	"lockstep/deploy"
)

// The kinds of processes.
const (
	kindSource   = "mysql-source"
	kindReplica  = "mysql-replica"
	kindRedis    = "redis"
	kindNode     = "node"
	kindBalancer = "balancer"
)

// system is one payment system of the cluster.
type system struct {
	cluster *Cluster
	id      string
	index   int
	ports   ports
	secrets systemSecrets
	dir     string

	source   *mariadb
	replicas []*mariadb
	// The tiers start in this order and stop in the reverse one.
	sourceMember   *member
	replicaMembers []*member
	redisMembers   []*member
	nodeMembers    []*member
	balancer       []*member // one, or none
}

func newSystem(c *Cluster, index int) *system {
	id := c.options.Systems[index]
	s := &system{
		cluster: c, id: id, index: index, ports: c.layout.systems[index],
		secrets: c.secrets.Systems[id], dir: c.path(id),
	}
	s.addDatabases()
	for n, port := range s.ports.redis {
		s.redisMembers = append(s.redisMembers, s.redis(n+1, port))
	}
	if !c.options.ServersOnly {
		for n := range s.ports.nodes {
			s.nodeMembers = append(s.nodeMembers, s.node(n+1))
		}
		s.balancer = []*member{s.loadBalancer()}
	}
	return s
}

func (s *system) addDatabases() {
	s.source = s.database("mysql-source", 1, s.ports.source)
	s.sourceMember = s.databaseMember(s.source, "mysql-source", kindSource)
	for n, port := range s.ports.replicas {
		name := fmt.Sprintf("mysql-replica-%d", n+1)
		replica := s.database(name, n+2, port)
		replica.config.Replica = true
		s.replicas = append(s.replicas, replica)
		s.replicaMembers = append(s.replicaMembers, s.databaseMember(replica, name, kindReplica))
	}
}

func (s *system) database(name string, number, port int) *mariadb {
	const serversPerDomain, logFileMB = 10, 128
	domain := s.index + 1
	return &mariadb{
		dir: filepath.Join(s.dir, name), secrets: s.secrets, schemas: s.cluster.options.Schemas,
		config: deploy.MariaDB{
			Port: port, ServerID: domain*serversPerDomain + number, Domain: domain,
			Replicas: len(s.ports.replicas), BufferPoolMB: s.cluster.options.BufferPoolMB, LogFileMB: logFileMB,
		},
	}
}

func (s *system) databaseMember(db *mariadb, name, kind string) *member {
	m := s.member(name, kind, db.config.Port)
	m.prepare, m.probe, m.grace = db.prepare, db.probe, 30*time.Second
	m.spec.Path, m.spec.Args = "mariadbd", []string{"--defaults-file=" + filepath.Join(db.dir, "my.cnf")}
	return m
}

func (s *system) member(name, kind string, ports ...int) *member {
	return s.cluster.member(s.id+"-"+name, kind, s.dir, ports...)
}

// member fills in what all processes have alike.
func (c *Cluster) member(name, kind, dir string, ports ...int) *member {
	return &member{
		name: name, kind: kind, address: address(ports[0]), ports: ports,
		spec: process.Spec{
			Name: name, Dir: dir, Log: c.path("logs", name+".log"), PIDFile: c.path("run", name+".pid"),
		},
		stop: syscall.SIGTERM, grace: 10 * time.Second,
		report: c.event, wake: make(chan struct{}),
	}
}

func (s *system) members() []*member {
	var all []*member
	for _, tier := range s.tiers() {
		all = append(all, tier...)
	}
	return all
}

func (s *system) tiers() [][]*member {
	return [][]*member{{s.sourceMember}, s.replicaMembers, s.redisMembers, s.nodeMembers, s.balancer}
}

// start brings the system's servers up, and sets it up. All servers start at once, for they wait for nobody;
// replicas join when the source answers; what needs servers comes after them.
func (s *system) start(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of %s: %w", s.id, err)
	}
	group, starting := errgroup.WithContext(ctx)
	for _, m := range slices.Concat([]*member{s.sourceMember}, s.replicaMembers, s.redisMembers) {
		group.Go(func() error { return s.startMember(starting, m) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := s.replicate(ctx); err != nil {
		return fmt.Errorf("start replication of %s: %w", s.id, err)
	}
	if s.cluster.options.ServersOnly {
		return nil
	}
	return s.setUp(ctx)
}

func (s *system) startMember(ctx context.Context, m *member) error {
	return m.start(ctx, s.cluster.options.StartWait)
}

// replicate points the replicas at the source, now that both answer (one that tries
// too early waits a second until it tries again), and returns when the source waits
// for them at each commit.
func (s *system) replicate(ctx context.Context) error {
	if len(s.replicas) == 0 {
		return nil
	}
	for i, replica := range s.replicas {
		join := func(ctx context.Context) error { return replica.replicateFrom(ctx, s.source) }
		if err := join(ctx); err != nil {
			return err
		}
		s.replicaMembers[i].joined = join // for when it was restarted
	}
	ctx, cancel := context.WithTimeout(ctx, s.cluster.options.StartWait)
	defer cancel()
	for {
		err := s.source.acknowledged(ctx, len(s.replicas))
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(probePause):
		}
	}
}

func (s *system) startNodes(ctx context.Context) error {
	group, starting := errgroup.WithContext(ctx)
	for _, m := range s.nodeMembers {
		group.Go(func() error { return s.startMember(starting, m) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.startMember(ctx, s.balancer[0])
}

// stop ends the tiers in reverse order, the members of one tier together.
func (s *system) stop() {
	tiers := s.tiers()
	for i := len(tiers) - 1; i >= 0; i-- {
		var group errgroup.Group
		for _, m := range tiers[i] {
			group.Go(func() error { m.end(); return nil })
		}
		_ = group.Wait() // ending cannot fail
	}
}
