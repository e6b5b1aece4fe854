package store_test

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/cluster/local"
	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

// pair is a source and a replica of the test's own, which it may stop and break.
type pair struct {
	cluster        *local.Cluster
	config         store.Config
	admin, replica *sql.DB // root on each
}

// clock runs ahead of the machine's as far as it is told.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

func ownServers(t *testing.T) *pair {
	t.Helper()
	cluster, err := local.Start(testContext(t), local.Options{
		Dir: t.TempDir(), Systems: []string{"alpha"}, Replicas: 1, ServersOnly: true, BufferPoolMB: 64,
	})
	must(t, err)
	t.Cleanup(cluster.Close)
	dsns := cluster.DSNs("alpha")
	admin := open(t, dsns.Admin)
	_, err = admin.Exec("CREATE DATABASE lockstep CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
	must(t, err)
	must(t, store.Migrate(testContext(t), dsns.Migrate+"lockstep", "alpha", quiet()))
	p := &pair{cluster: cluster, admin: admin, replica: open(t, dsns.AdminReplicas[0])}
	p.config = store.Default()
	p.config.System, p.config.Source, p.config.Replicas = "alpha", dsns.Source+"lockstep", []string{dsns.Replicas[0] + "lockstep"}
	p.config.Logger, p.config.CheckEvery = quiet(), 100*time.Millisecond
	return p
}

// on runs statements as root.
func on(tb testing.TB, db *sql.DB, statements ...string) {
	tb.Helper()
	for _, statement := range statements {
		_, err := db.ExecContext(testContext(tb), statement)
		must(tb, err)
	}
}

func serving(s *store.Store) bool { return s.State().Replicas[0].Serving }

// balance reads an account's posted money, and tells from where.
func balance(s *store.Store, want store.Consistency, id ledger.AccountID) (posted int64, from store.ReadFrom, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), testMax)
	defer cancel()
	from, err = s.Read(ctx, want, func(ctx context.Context, q *store.Queries) error {
		account, err := q.Account(ctx, id)
		posted = account.Posted
		return err
	})
	return posted, from, err
}

type reading struct {
	posted int64
	from   store.ReadFrom
}

func wantBalance(tb testing.TB, s *store.Store, what string, want store.Consistency, id ledger.AccountID, wanted reading) {
	tb.Helper()
	posted, from, err := balance(s, want, id)
	if err != nil || (reading{posted, from}) != wanted {
		tb.Errorf("%s: %d from the %s, wanted %d from the %s (error %v)", what, posted, from, wanted.posted, wanted.from, err)
	}
}

// One pair of servers serves these tests in turn: each of them leaves it as it found it, but for the last.
func TestReadsOnServersThatFail(t *testing.T) {
	t.Parallel()
	p := ownServers(t)
	for _, each := range []struct {
		name string
		test func(*testing.T, *pair)
	}{
		{"OwnWrites", readYourWrites},
		{"StoppedThread", readWithStoppedThread},
		{"ForeignTokens", readWithForeignTokens},
		{"FarBehind", readWithLag},
		{"Misses", readMisses},
		{"NoReplica", readWithoutReplica},
		{"UnsafeSettings", refuseUnsafe},
		{"ReplacedSource", readWithReplacedSource},
		{"NoSource", readWithoutSource},
	} {
		t.Run(each.name, func(t *testing.T) { each.test(t, p) })
	}
}

func (p *pair) bank(t *testing.T) bank {
	t.Helper()
	b, _ := p.bankWithClock(t)
	return b
}

func (p *pair) bankWithClock(t *testing.T) (bank, *clock) {
	t.Helper()
	clock, config := &clock{}, p.config
	config.Clock, config.Logger = clock.Now, storetest.Logger(t)
	b := newBank(t, storetest.OpenWith(t, config))
	within(t, testMax, "the replica serves", func() bool { return serving(b.Store) })
	return b, clock
}

// awaitReplicated waits until the replica has an account's balance, however far behind it is and whatever the store asks
// it.
func (p *pair) awaitReplicated(tb testing.TB, id ledger.AccountID, want int64) {
	tb.Helper()
	within(tb, testMax, "the replica has the balance", func() bool {
		var posted int64
		err := p.replica.QueryRowContext(testContext(tb), "SELECT posted FROM lockstep.accounts WHERE id = ?", id).Scan(&posted)
		return err == nil && posted == want
	})
}

func readYourWrites(t *testing.T, p *pair) {
	b := p.bank(t)
	account := b.account(t, "client:a")
	const reads = 50
	fromReplica, end := 0, time.Now().Add(testMax)
	for i := int64(0); fromReplica < reads && time.Now().Before(end); i++ {
		_, token := b.deposit(t, account, 1)
		posted, from, err := balance(b.Store, store.Consistency{Token: token}, account.ID)
		if err != nil || posted != i+1 {
			t.Fatalf("read %d: %d from the %s, %v", i, posted, from, err)
		}
		if from == store.FromReplica {
			fromReplica++
		}
	}
	if fromReplica < reads {
		t.Errorf("%d reads with the token of the write just made came from the replica, wanted %d", fromReplica, reads)
	}
}

func readWithStoppedThread(t *testing.T, p *pair) {
	b := p.bank(t)
	account := b.account(t, "client:a")
	_, before := b.deposit(t, account, 100)
	p.awaitReplicated(t, account.ID, 100)
	wantBalance(t, b.Store, "before", store.Consistency{Token: before}, account.ID, reading{100, store.FromReplica})
	on(t, p.replica, "STOP SLAVE SQL_THREAD")
	_, token := b.deposit(t, account, 50)
	wantBalance(t, b.Store, "a read without a token", store.Consistency{}, account.ID, reading{100, store.FromReplica})
	wantBalance(t, b.Store, "a read with an older token", store.Consistency{Token: before}, account.ID, reading{100, store.FromReplica})
	wantBalance(t, b.Store, "a read with the token of the write", store.Consistency{Token: token}, account.ID, reading{150, store.FromSource})
	wantBalance(t, b.Store, "a read of the source", store.Consistency{Source: true}, account.ID, reading{150, store.FromSource})
	within(t, testMax, "the state shows the stopped thread", func() bool { return !b.State().Replicas[0].Apply })
	on(t, p.replica, "START SLAVE SQL_THREAD")
	within(t, testMax, "the replica catches up", func() bool {
		posted, from, err := balance(b.Store, store.Consistency{}, account.ID)
		return err == nil && posted == 150 && from == store.FromReplica
	})
}

func readWithForeignTokens(t *testing.T, p *pair) {
	b := p.bank(t)
	account := b.account(t, "client:a")
	_, token := b.deposit(t, account, 100)
	p.awaitReplicated(t, account.ID, 100)
	wantBalance(t, b.Store, "before", store.Consistency{Token: token}, account.ID, reading{100, store.FromReplica})
	on(t, p.replica, "STOP SLAVE SQL_THREAD")
	defer on(t, p.replica, "START SLAVE SQL_THREAD")
	_, later := b.deposit(t, account, 50)
	raw, err := base64.RawURLEncoding.DecodeString(string(later))
	must(t, err)
	reached, err := base64.RawURLEncoding.DecodeString(string(token)) // by the replica, were it this system's
	must(t, err)
	other := store.Token(base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(reached), "alpha", "gamma", 1))))
	broken := store.Token(base64.RawURLEncoding.EncodeToString(append(raw[:len(raw):len(raw)], "'; x"...)))
	wantBalance(t, b.Store, "no token", store.Consistency{}, account.ID, reading{100, store.FromReplica})
	for name, odd := range map[string]store.Token{
		"garbage": "garbage!", "another system's": other, "cut": token[:5], "overlong": store.Token(strings.Repeat("A", 1<<20)),
		"nonsensical": broken,
	} {
		wantBalance(t, b.Store, name+" token", store.Consistency{Token: odd}, account.ID, reading{150, store.FromSource})
	}
	if !serving(b.Store) {
		t.Error("a client's token took the replica out of service")
	}
	on(t, p.admin, "UPDATE lockstep.`system` SET epoch = epoch + 1")
	within(t, testMax, "the new epoch is seen", func() bool { return b.Epoch() == 2 })
	wantBalance(t, b.Store, "a token of an older epoch", store.Consistency{Token: token}, account.ID, reading{150, store.FromSource})
	on(t, p.admin, "UPDATE lockstep.`system` SET epoch = epoch - 1")
}

func readWithLag(t *testing.T, p *pair) {
	b, clock := p.bankWithClock(t)
	account := b.account(t, "client:a")
	_, token := b.deposit(t, account, 100)
	p.awaitReplicated(t, account.ID, 100)
	wantBalance(t, b.Store, "before", store.Consistency{Token: token}, account.ID, reading{100, store.FromReplica})
	on(t, p.replica, "STOP SLAVE SQL_THREAD")
	_, _ = b.deposit(t, account, 50)
	wantBalance(t, b.Store, "a read a moment later", store.Consistency{}, account.ID, reading{100, store.FromReplica})
	clock.advance(p.config.LagMax + time.Second)
	within(t, testMax, "the replica is taken out of service", func() bool { return !serving(b.Store) })
	wantBalance(t, b.Store, "a read when the replica is far behind", store.Consistency{}, account.ID, reading{150, store.FromSource})
	if state := b.State().Replicas[0]; state.Behind <= p.config.LagMax || !strings.Contains(state.Problem, "behind") {
		t.Errorf("the state of a replica that is far behind is %+v", state)
	}

	// A node that starts now cannot know how old the replica is.
	late := storetest.OpenWith(t, p.config)
	wantBalance(t, late, "a read of a node that starts late", store.Consistency{}, account.ID, reading{150, store.FromSource})
	on(t, p.replica, "START SLAVE SQL_THREAD")
	within(t, testMax, "the replica serves again", func() bool { return serving(b.Store) && serving(late) })
}

func readMisses(t *testing.T, p *pair) {
	b := p.bank(t)
	on(t, p.replica, "STOP SLAVE SQL_THREAD")
	defer on(t, p.replica, "START SLAVE SQL_THREAD")
	account := b.account(t, "client:a")
	wantBalance(t, b.Store, "an account that the replica misses", store.Consistency{}, account.ID, reading{0, store.FromSource})
	if _, from, err := balance(b.Store, store.Consistency{}, account.ID+1); !errors.Is(err, store.ErrMiss) || from != store.FromSource {
		t.Errorf("an account that nobody has: from the %s, %v", from, err)
	}
	refusal := ledger.Refuse(ledger.AccountNotFound, "not yours")
	runs := 0
	from, err := b.Read(testContext(t), store.Consistency{}, func(context.Context, *store.Queries) error { runs++; return refusal })
	if !errors.Is(err, refusal) || from != store.FromReplica || runs != 1 {
		t.Errorf("a refusal on the replica came from the %s after %d runs: %v", from, runs, err)
	}
}

func readWithoutReplica(t *testing.T, p *pair) {
	b := p.bank(t)
	account := b.account(t, "client:a")
	const name = "alpha-mysql-replica-1"
	must(t, p.cluster.Stop(name))
	start := time.Now()
	wantBalance(t, b.Store, "the first read when the replica hangs", store.Consistency{}, account.ID, reading{0, store.FromSource})
	if took := time.Since(start); took > p.config.ReplicaReadMax+time.Second {
		t.Errorf("a replica that hangs held a read for %s", took)
	}
	within(t, testMax, "the replica is out of service", func() bool { return !serving(b.Store) })
	must(t, p.cluster.Continue(name))
	within(t, testMax, "the replica serves again", func() bool { return serving(b.Store) })
	must(t, p.cluster.Kill(name, true))
	wantBalance(t, b.Store, "a read when the replica is dead", store.Consistency{}, account.ID, reading{0, store.FromSource})
	fresh := storetest.OpenWith(t, p.config)
	wantBalance(t, fresh, "a read of a node that starts without the replica", store.Consistency{}, account.ID, reading{0, store.FromSource})
	must(t, p.cluster.StartProcess(testContext(t), name))
	within(t, testMax, "the replica serves again", func() bool { return serving(b.Store) && serving(fresh) })
}

func refuseUnsafe(t *testing.T, p *pair) {
	for setting, values := range map[string][2]string{
		"sync_binlog": {"0", "1"}, "innodb_flush_log_at_trx_commit": {"2", "1"}, "read_only": {"1", "0"},
	} {
		on(t, p.admin, "SET GLOBAL "+setting+" = "+values[0])
		opened, err := store.Open(testContext(t), p.config)
		if err == nil {
			must(t, opened.Close())
			t.Errorf("a node started on a source with %s = %s", setting, values[0])
		} else if !strings.Contains(err.Error(), setting+" is ") {
			t.Errorf("the refusal of %s does not name it: %v", setting, err)
		}
		unsafe := p.config
		unsafe.AllowUnsafe = true
		storetest.OpenWith(t, unsafe)
		on(t, p.admin, "SET GLOBAL "+setting+" = "+values[1])
	}
	for _, skew := range []time.Duration{6 * time.Second, -6 * time.Second} {
		skewed := p.config
		skewed.Clock = func() time.Time { return time.Now().Add(skew) }
		if _, err := store.Open(testContext(t), skewed); err == nil || !strings.Contains(err.Error(), "clock") {
			t.Errorf("a node whose clock is %s off started: %v", skew, err)
		}
		skewed.Clock = func() time.Time { return time.Now().Add(skew / 2) }
		s := storetest.OpenWith(t, skewed)
		if off := time.Since(s.Now()).Abs(); off > time.Second {
			t.Errorf("with a clock %s off, Now is %s off the database's time", skew/2, off)
		}
	}
}

// A source that was replaced comes back read-only, with commits that nobody was told of; a node may not have followed yet. It
// reads nothing there, and so nothing that is older than a token of the next epoch.
func readWithReplacedSource(t *testing.T, p *pair) {
	b := p.bank(t)
	account := b.account(t, "client:a")
	_, token := b.deposit(t, account, 100)
	p.awaitReplicated(t, account.ID, 100)
	raw, err := base64.RawURLEncoding.DecodeString(string(token))
	must(t, err)
	epochAt := 2 + len("alpha")
	if raw[epochAt] != 2 { // 1, as a varint
		t.Fatalf("the token's epoch is %d", raw[epochAt])
	}
	raw[epochAt] += 2
	later := store.Token(base64.RawURLEncoding.EncodeToString(raw))
	on(t, p.admin, "SET GLOBAL read_only = 1")
	defer on(t, p.admin, "SET GLOBAL read_only = 0")
	wantBalance(t, b.Store, "a read with a token that the replica has", store.Consistency{Token: token}, account.ID, reading{100, store.FromReplica})
	for what, want := range map[string]store.Consistency{"the source": {Source: true}, "a miss": {}, "a token of the next epoch": {Token: later}} {
		id := account.ID
		if what == "a miss" {
			id++
		}
		if posted, from, err := balance(b.Store, want, id); ledger.CodeOf(err) != ledger.SourceUnavailable {
			t.Errorf("%s at a source that takes no writes reads %d from the %s: %v", what, posted, from, err)
		}
	}
}

func readWithoutSource(t *testing.T, p *pair) {
	b, clock := p.bankWithClock(t)
	account := b.account(t, "client:a")
	_, token := b.deposit(t, account, 100)
	p.awaitReplicated(t, account.ID, 100)
	wantBalance(t, b.Store, "before", store.Consistency{Token: token}, account.ID, reading{100, store.FromReplica})
	must(t, p.cluster.Kill("alpha-mysql-source", true))
	clock.advance(time.Hour) // the replica grows no older while nothing can be newer
	within(t, testMax, "the state shows that the source is gone", func() bool {
		state := b.State()
		return !state.Source.OK && !state.Replicas[0].IO
	})
	wantBalance(t, b.Store, "a read while the source is gone", store.Consistency{}, account.ID, reading{100, store.FromReplica})
	wantBalance(t, b.Store, "a read with a token that the replica has", store.Consistency{Token: token}, account.ID, reading{100, store.FromReplica})
	for name, want := range map[string]store.Consistency{"the source": {Source: true}, "a miss": {}} {
		id := account.ID
		if name == "a miss" {
			id++
		}
		if _, _, err := balance(b.Store, want, id); ledger.CodeOf(err) != ledger.SourceUnavailable {
			t.Errorf("a read of %s while the source is gone: %v", name, err)
		}
	}
	if _, _, _, err := b.Once(testContext(t), claim("k", "body"), nil); ledger.CodeOf(err) != ledger.SourceUnavailable {
		t.Errorf("a write while the source is gone: %v", err)
	}
	must(t, p.cluster.StartProcess(testContext(t), "alpha-mysql-source"))
	within(t, testMax, "the source is seen again", func() bool { return b.State().Source.OK })
	wantBalance(t, b.Store, "a read of the source that is back", store.Consistency{Source: true}, account.ID, reading{100, store.FromSource})
}
