package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
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
	kindApart    = "mysql-apart" // was the source, and is no replica yet
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

	databases []*database // any of them may be the source
	roles     *roles
	choosing  sync.RWMutex    // held while a source is chosen, and shared while a server joins it
	fenced    map[string]bool // servers that are down because we killed them; the guard's own
	told      string          // what hindered a failover; the guard's own
	spare     atomic.Bool     // each replica has all that it ever acknowledged
	left      bool            // the replicas have left the source, and no other is chosen; the guard's own

	redisMembers []*member
	nodeMembers  []*member
	balancer     []*member // one, or none
}

// database is one of a system's MariaDB servers.
type database struct {
	*mariadb
	name   string // below the system's directory; that of the first source stays mysql-source, whoever is the source
	member *member
	told   string // what hindered its return; the guard's own

	catching catching // the guard's own
	pointing sync.Mutex
	pointed  time.Time // at a source, the last time

	hindered string // its taking of writes, as it was told; its member's own
}

func newSystem(c *Cluster, index int) (*system, error) {
	id := c.options.Systems[index]
	s := &system{
		cluster: c, id: id, index: index, ports: c.layout.systems[index],
		secrets: c.secrets.Systems[id], dir: c.path(id), fenced: map[string]bool{},
	}
	var err error
	if s.roles, err = loadRoles(s.dir, kindSource); err != nil {
		return nil, err
	}
	s.addDatabases()
	if source, _ := s.servers(); source == nil {
		return nil, fmt.Errorf("the source of %s is %s since a failover, and so few replicas leave it out: start more (--replicas)", id, s.roles.get().Source)
	}
	for n, port := range s.ports.redis {
		s.redisMembers = append(s.redisMembers, s.redis(n+1, port))
	}
	if !c.options.ServersOnly {
		for n := range s.ports.nodes {
			s.nodeMembers = append(s.nodeMembers, s.node(n+1))
		}
		s.balancer = []*member{s.loadBalancer()}
	}
	return s, nil
}

func (s *system) addDatabases() {
	for n, port := range append([]int{s.ports.source}, s.ports.replicas...) {
		name := kindSource
		if n > 0 {
			name = fmt.Sprintf("mysql-replica-%d", n)
		}
		s.databases = append(s.databases, s.database(name, port))
	}
	source, _ := s.servers()
	for _, db := range s.databases {
		db.config.Supervised = s.cluster.options.failsOver()
		db.config.Replica = db != source
	}
	s.nameKinds()
}

func (s *system) database(name string, port int) *database {
	const logFileMB = 128
	db := &database{name: name, mariadb: &mariadb{
		dir: filepath.Join(s.dir, name), secrets: s.secrets, schemas: s.cluster.options.Schemas,
		config: deploy.MariaDB{
			Port: port, Domain: s.index + 1,
			Replicas: len(s.ports.replicas), BufferPoolMB: s.cluster.options.BufferPoolMB, LogFileMB: logFileMB,
		},
	}}
	s.number(db)
	m := s.member(name, "", port)
	m.prepare, m.clear, m.probe, m.grace = db.prepare, db.forgetSource, db.probe, 30*time.Second
	m.spec.Path, m.spec.Args = "mariadbd", []string{"--defaults-file=" + filepath.Join(db.dir, "my.cnf")}
	db.member = m
	return db
}

// number gives a server its id, which is another one each time it begins anew.
func (s *system) number(db *database) {
	const serversPerDomain, domainsMax = 10, 100
	number := 1
	_, _ = fmt.Sscanf(db.name, "mysql-replica-%d", &number)
	if db.name != kindSource {
		number++
	}
	db.config.ServerID = s.roles.get().Rebuilt[db.name]*serversPerDomain*domainsMax + (s.index+1)*serversPerDomain + number
}

// servers are the source, as things stand, and all others.
func (s *system) servers() (source *database, others []*database) {
	name := s.roles.get().Source
	for _, db := range s.databases {
		if db.name == name {
			source = db
			continue
		}
		others = append(others, db)
	}
	return source, others
}

// joinedOf leaves out servers that are apart.
func (s *system) joinedOf(all []*database) (joined []*database) {
	now := s.roles.get()
	for _, db := range all {
		if !now.apart(db.name) {
			joined = append(joined, db)
		}
	}
	return joined
}

// nameKinds shows who is what.
func (s *system) nameKinds() {
	now := s.roles.get()
	for _, db := range s.databases {
		switch {
		case db.name == now.Source:
			db.member.setKind(kindSource)
		case now.apart(db.name):
			db.member.setKind(kindApart)
		default:
			db.member.setKind(kindReplica)
		}
	}
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

// tiers start in this order and stop in the reverse one.
func (s *system) tiers() [][]*member {
	source, others := s.servers()
	replicas := make([]*member, len(others))
	for i, db := range others {
		replicas[i] = db.member
	}
	return [][]*member{{source.member}, replicas, s.redisMembers, s.nodeMembers, s.balancer}
}

// start brings the system's servers up, and sets it up. All servers start at once, for they wait for nobody;
// replicas join when the source answers; what needs servers comes after them.
func (s *system) start(ctx context.Context) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of %s: %w", s.id, err)
	}
	group, starting := errgroup.WithContext(ctx)
	for _, m := range slices.Concat(s.tiers()[:3]...) {
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
// for them at each commit, and takes writes.
func (s *system) replicate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cluster.options.StartWait)
	defer cancel()
	source, others := s.servers()
	followers := s.joinedOf(others)
	supervised := source.config.Supervised
	if supervised {
		if err := source.exec(ctx, semiSync); err != nil {
			return err
		}
	}
	for _, f := range followers {
		if err := f.follow(ctx, source); err != nil {
			return err
		}
	}
	for _, db := range s.databases { // for when it was restarted
		if supervised || db != source {
			db.member.joined = func(ctx context.Context) error { return s.join(ctx, db) }
		}
	}
	if err := source.awaitAcknowledged(ctx, len(followers)); err != nil || !supervised {
		return err
	}
	if s.roles.get().Promoting {
		return s.promoteChosen(ctx)
	}
	return retry(ctx, func() error { return s.lead(ctx, source) })
}

// awaitAcknowledged returns when so many replicas answer for commits.
func (d *database) awaitAcknowledged(ctx context.Context, replicas int) error {
	if replicas == 0 {
		return nil
	}
	return retry(ctx, func() error { return d.acknowledged(ctx, replicas) })
}

// retry does it until it succeeds or the context ends.
func retry(ctx context.Context, do func() error) error {
	for {
		err := do()
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
