package posting_test

import (
	"context"
	"database/sql"
	"flag"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"lockstep/cluster/local/servers"
	"lockstep/locks"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
	"lockstep/node/verify"
)

const (
	krw   = ledger.Currency("KRW")
	alice = "client:alice"
	// patience bounds what a test waits for.
	patience = time.Minute
)

// TestMain lets more tests run at once than there are cores, for they wait for servers most of the time. A failing
// sequence of commands is printed, not kept: its database is.
func TestMain(m *testing.M) {
	for name, value := range map[string]string{
		"test.parallel": "4", "rapid.checks": "60", "rapid.nofailfile": "true", "rapid.shrinktime": "10s",
	} {
		if err := flag.Set(name, value); err != nil { // the command line is read later
			panic(err)
		}
	}
	goleak.VerifyTestMain(m)
}

// world is a database of the test's own. Each node that is opened on it has a store, a lease and an engine of its own, as
// another process would have.
type world struct {
	testing.TB
	config   store.Config
	database servers.Database
	admin    *sql.DB // root
	setup    *store.Store
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	config, database := storetest.Database(tb)
	config.Replicas = nil
	admin, err := sql.Open("mysql", database.Admin)
	must(tb, err)
	tb.Cleanup(func() { _ = admin.Close() })
	w := &world{TB: tb, config: config, database: database, admin: admin}
	config.IdleTransactionMax = time.Minute // what it keeps from others is kept until the test gives it back
	w.setup = storetest.OpenWith(tb, config)
	return w
}

// patient has nodes wait for rows longer than a busy machine may rest, where the test counts what is given up.
func (w *world) patient() *world {
	w.config.LockWaitMax, w.config.StatementMax, w.config.ReadMax = 15*time.Second, 20*time.Second, 25*time.Second
	return w
}

// node is what runs in one process.
type node struct {
	*world
	store    *store.Store
	lease    *store.Lease
	engine   *posting.Engine
	registry *prometheus.Registry
	faults   *faults
	plug     ledger.Number
}

type options struct {
	store  store.Config
	engine posting.Config
	locker posting.Locker // nil: row locks alone
}

// open starts a node; it is closed when the test ends.
func (w *world) open(changes ...func(*options)) *node {
	w.Helper()
	o := options{store: w.config, engine: posting.DefaultConfig()}
	for _, change := range changes {
		change(&o)
	}
	n := &node{world: w, registry: prometheus.NewRegistry(), faults: &faults{points: map[string][]func() error{}}}
	if o.engine.Fault == nil {
		o.engine.Fault = n.faults.reach
	}
	n.store = storetest.OpenWith(w, o.store)
	ctx := w.context()
	var err error
	n.lease, err = n.store.LeaseNode(ctx, "127.0.0.1:0", "test", o.engine.Lanes)
	must(w, err)
	w.Cleanup(func() { _ = n.lease.Close() })
	identity := posting.Identity{Node: n.lease.ID, Incarnation: n.lease.Incarnation}
	n.engine, err = posting.Open(ctx, o.engine, n.store, o.locker, identity, n.registry, storetest.Logger(w))
	must(w, err)
	w.Cleanup(func() { must(w, n.engine.Close(w.context())) })
	n.plug = w.account(alice)
	return n
}

// context ends before the test's patience does. Unlike the test's own context it is there in clean-ups too.
func (w *world) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.Cleanup(cancel)
	return ctx
}

// account opens an empty account.
func (w *world) account(owner string) ledger.Number {
	w.Helper()
	return w.accounts(owner, 1)[0]
}

func (w *world) accounts(owner string, count int) []ledger.Number {
	w.Helper()
	tx, err := w.setup.Begin(w.context())
	must(w, err)
	defer tx.Rollback()
	var numbers []ledger.Number
	for range count {
		account, err := tx.CreateAccount(w.context(), ledger.Account{Owner: owner, Currency: krw, Status: ledger.Open})
		must(w, err)
		numbers = append(numbers, ledger.NewNumber(storetest.System, account.ID))
	}
	_, err = tx.Commit(w.context())
	must(w, err)
	return numbers
}

// funded opens an account with a balance.
func (n *node) funded(minor int64) ledger.Number {
	n.Helper()
	number := n.account(alice)
	n.succeed(deposit(number, minor))
	return number
}

// number asks for one integer by SQL.
func (w *world) number(query string, args ...any) int64 {
	w.Helper()
	var n sql.NullInt64
	must(w, w.admin.QueryRowContext(w.context(), query, args...).Scan(&n))
	return n.Int64
}

func (w *world) exec(query string, args ...any) {
	w.Helper()
	_, err := w.admin.ExecContext(w.context(), query, args...)
	must(w, err)
}

func (w *world) posted(number ledger.Number) int64 {
	w.Helper()
	return w.number("SELECT posted FROM accounts WHERE id = ?", number.Serial())
}

func (w *world) pendingDebit(number ledger.Number) int64 {
	w.Helper()
	return w.number("SELECT pending_debit FROM accounts WHERE id = ?", number.Serial())
}

// verify requires that every invariant of the books holds.
func (w *world) verify() {
	w.Helper()
	report, err := verify.Run(w.context(), w.database.Admin, nil)
	must(w, err)
	for _, breach := range report.Breaches {
		w.Errorf("breach of %s at %s: %s", breach.Invariant, breach.Place, breach.Detail)
	}
}

// combine makes one batch of the commands, in their order, by keeping the lane busy until all of them wait.
func (n *node) combine(commands ...posting.Command) []result {
	n.Helper()
	open := n.plugged()
	answers := n.queue(commands...)
	open()
	return receive(answers)
}

// plugged keeps the node's lane busy just before a COMMIT until open is called.
func (n *node) plugged() (open func()) {
	n.Helper()
	reached, resume := n.pause("before_commit")
	label := "plug"
	amend := ledger.Amend{Actor: ledger.Actor{Operator: true}, Number: n.plug, Label: &label}
	done := make(chan result, 1)
	go func() { done <- n.submit(posting.Command{Operation: amend}) }()
	n.await(reached, "the lane is busy")
	return func() {
		resume(nil)
		if r := <-done; r.err != nil {
			n.Errorf("plug: %v", r.err)
		}
	}
}

// pause stops the lane the next time that it reaches the point, until resume is called; the point then fails with what
// resume is given.
func (n *node) pause(point string) (reached <-chan struct{}, resume func(error)) {
	arrived, gate := make(chan struct{}), make(chan error, 1)
	n.faults.once(point, func() error { close(arrived); return <-gate })
	n.Cleanup(sync.OnceFunc(func() { close(gate) })) // a test that fails meanwhile must end
	return arrived, func(err error) { gate <- err }
}

// queue asks one after the other and waits until each is in the queue, while the lane is plugged.
func (n *node) queue(commands ...posting.Command) []<-chan result {
	n.Helper()
	var answers []<-chan result
	before := n.engine.Waiting()
	for i, command := range commands {
		answers = append(answers, n.start(command))
		n.eventually("the command waits", func() bool { return n.engine.Waiting() == before+i+1 })
	}
	return answers
}

func receive(answers []<-chan result) []result {
	var results []result
	for _, answer := range answers {
		results = append(results, <-answer)
	}
	return results
}

// metric is the sum over all labels of a metric of the engine; of a histogram, the number of observations.
func (n *node) metric(name string, labels ...string) float64 {
	n.Helper()
	families, err := n.registry.Gather()
	must(n, err)
	sum := 0.0
	for _, family := range families {
		if family.GetName() != "lockstep_posting_"+name {
			continue
		}
		for _, metric := range family.GetMetric() {
			if len(labels) == 1 && metric.GetLabel()[0].GetValue() != labels[0] {
				continue
			}
			sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() +
				float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// faults runs what a test wants to happen at the engine's fault points.
type faults struct {
	mu     sync.Mutex
	points map[string][]func() error
}

// once does something the next time that the point is reached.
func (f *faults) once(point string, do func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.points[point] = append(f.points[point], do)
}

func (f *faults) reach(point string) error {
	f.mu.Lock()
	waiting := f.points[point]
	if len(waiting) == 0 {
		f.mu.Unlock()
		return nil
	}
	f.points[point] = waiting[1:]
	f.mu.Unlock()
	return waiting[0]()
}

// lockTTL is how long the locks of the tests' nodes live: longer than those of others, as all takes longer here.
const lockTTL = 30 * time.Second

// locker takes locks on the shared Redis servers, under a prefix that its users share.
func (w *world) locker(prefix string, addrs ...string) *locks.Locker {
	w.Helper()
	config := locks.Default()
	config.Prefix, config.Addrs = prefix, addrs
	if len(addrs) == 0 {
		config.Addrs = servers.Shared(w).RedisAddrs
	}
	config.Timeout, config.TTL = 3*time.Second, lockTTL // a busy test machine is not a dead server
	locker, err := locks.Open(config)
	must(w, err)
	w.Cleanup(func() { _ = locker.Close() })
	return locker
}

func withLocker(locker posting.Locker) func(*options) {
	return func(o *options) { o.locker = locker }
}

func newPrefix() string { return "test" + strconv.FormatUint(rand.Uint64(), 36) }

func (w *world) await(signal <-chan struct{}, what string) {
	w.Helper()
	select {
	case <-signal:
	case <-time.After(patience):
		w.Fatalf("waited in vain: %s", what)
	}
}

func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			w.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
