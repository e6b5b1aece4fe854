package node_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"lockstep/api/client"
	"lockstep/cluster/broker"
	"lockstep/cluster/local/process"
	"lockstep/cluster/local/servers"
	"lockstep/node"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
	"lockstep/node/verify"
)

const (
	krw = "KRW"
	// patience bounds what a test waits for.
	patience = time.Minute
	secret   = "a secret of the tests, longer than 32 characters"
)

// TestMain lets more tests run at once than there are cores, for they wait for servers most of the time.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "3"); err != nil { // the command line is read later
		panic(err)
	}
	os.Exit(m.Run())
}

// world is two systems that know one another, over one broker.
type world struct {
	testing.TB
	broker *broker.Broker
	alpha  *system
	beta   *system
	keys   map[string]any // of every node's configuration, beside the usual ones
}

// system is one payment system with one node, as production starts it.
type system struct {
	*world
	id       string
	dir      string
	listen   string
	admin    string // address of the metrics
	database servers.Database
	root     *sql.DB
	client   *client.Client
	seen     seen

	candidates []string // that may be the source

	end  context.CancelFunc
	done chan error
}

// seen keeps the codes of problems that the client was told.
type seen struct {
	mu    sync.Mutex
	codes map[string]int
}

func (s *seen) observe(a client.Attempt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[fmt.Sprint(a.Status, " ", a.Code)]++
}

func (s *seen) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.codes[what]
}

func newWorld(tb testing.TB) *world { return newWorldWith(tb, nil) }

// newWorldWith adds keys to the nodes' configurations.
func newWorldWith(tb testing.TB, keys map[string]any) *world {
	tb.Helper()
	w := &world{TB: tb, keys: keys}
	config := broker.Default()
	config.Port, config.StoreDir = -1, tb.TempDir()
	for _, id := range []string{"alpha", "beta"} {
		config.Systems = append(config.Systems, broker.System{ID: id, Password: secret})
	}
	var err error
	w.broker, err = broker.Open(config, slog.New(slog.DiscardHandler))
	must(tb, err)
	tb.Cleanup(w.broker.Close)
	w.alpha, w.beta = w.system("alpha"), w.system("beta")
	w.alpha.meet(w.beta)
	w.beta.meet(w.alpha)
	w.alpha.start()
	w.beta.start()
	return w
}

func (w *world) system(id string) *system {
	w.Helper()
	s := &system{
		world: w, id: id, dir: w.TempDir(), listen: freeAddress(w), admin: freeAddress(w), database: storetest.Migrated(w, id),
		seen: seen{codes: map[string]int{}},
	}
	s.configure()
	var err error
	s.root, err = sql.Open("mysql", s.database.Admin)
	must(w, err)
	w.Cleanup(func() { _ = s.root.Close() })
	must(w, (&node.MigrateCommand{ConfigFlags: s.flags()}).Run(s.context()))
	must(w, (&node.KeygenCommand{ConfigFlags: s.flags(), Out: s.path("keys.json")}).Run(s.context(), io.Discard))
	must(w, os.WriteFile(s.path("client"), []byte(secret), 0o600))
	must(w, (&node.AddClientCommand{
		ConfigFlags: s.flags(), ID: "tester", Name: "Tester", SecretFile: s.path("client"),
		Scopes: "accounts:read accounts:write money:deposit money:withdraw money:transfer money:read webhooks:write",
	}).Run(s.context(), io.Discard))
	s.client, err = client.New(client.Config{BaseURL: "http://" + s.listen, ClientID: "tester", ClientSecret: secret, Observe: s.seen.observe})
	must(w, err)
	w.Cleanup(s.client.Close)
	w.Cleanup(s.stop)
	return s
}

// freeAddress is one that nobody listens on for the moment.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	address, err := process.FreeAddress()
	must(tb, err)
	return address
}

func (s *system) configure() {
	s.Helper()
	mysql := map[string]any{"source": s.database.Source, "migrate": s.database.Migrate, "candidates": s.candidates}
	if s.keys["reads"] == "replica" {
		mysql["replicas"] = []string{s.database.Replica}
	}
	config := map[string]any{
		"system": s.id, "listen": s.listen, "admin_listen": s.admin, "secret": secret, "locks": "off", "reads": "source", "drain": "0s",
		"log_level": "error", "mysql": mysql,
		"nats":  map[string]any{"url": s.broker.URL(), "user": s.id, "password": secret},
		"peers": map[string]any{"authorities": []string{s.listen}, "look_after": "1s", "expires_in": "20s", "ask_after": "3s"},
	}
	maps.Copy(config, s.keys)
	text, err := yaml.Marshal(config)
	must(s, err)
	must(s, os.WriteFile(s.path("node.yaml"), text, 0o600))
}

func (s *system) path(name string) string { return filepath.Join(s.dir, name) }

func (s *system) flags() node.ConfigFlags { return node.ConfigFlags{Config: s.path("node.yaml")} }

func (s *system) meet(other *system, caps ...string) {
	s.Helper()
	limits := map[string]string{}
	for _, amount := range caps {
		limits[krw] = amount
	}
	must(s, (&node.AddPeerCommand{
		ConfigFlags: s.flags(), ID: other.id, URL: "http://" + other.listen, JWKSFile: other.path("keys.json"), Cap: limits,
	}).Run(s.context(), io.Discard))
}

// context bounds one thing that a test does. Unlike the test's own context it is there in clean-ups too.
func (w *world) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.Cleanup(cancel)
	return ctx
}

func (s *system) start() {
	s.Helper()
	config, err := node.Load(s.path("node.yaml"), nil)
	must(s, err)
	running, end := context.WithCancel(context.Background())
	s.end, s.done = end, make(chan error, 1)
	opened, err := node.Open(s.context(), config, "test", slog.New(slog.NewTextHandler(s.Output(), &slog.HandlerOptions{Level: slog.LevelError})))
	must(s, err)
	go func() { s.done <- opened.Run(running) }()
	s.eventually(s.id+" is ready", func() bool {
		answer, err := http.Get("http://" + s.listen + "/readyz")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
}

// stop ends the node in good order; it may be called twice.
func (s *system) stop() {
	s.Helper()
	if s.end == nil {
		return
	}
	s.end()
	if err := <-s.done; err != nil {
		s.Errorf("%s: %v", s.id, err)
	}
	s.end = nil
}

// backup writes the system's data into a file.
func (s *system) backup() string {
	s.Helper()
	path := s.path(fmt.Sprintf("backup-%d.sql", time.Now().UnixNano()))
	must(s, (&node.BackupCommand{ConfigFlags: s.flags(), Out: path}).Run(s.context(), io.Discard))
	return path
}

// restore replaces the data while the node is down, and starts it again. A node that could not say at its end that it ends, on
// a busy machine, is known to be gone when its lease is over.
func (s *system) restore(path string) {
	s.Helper()
	s.stop()
	var err error
	s.eventually(s.id+" has no node", func() bool {
		err = (&node.RestoreCommand{ConfigFlags: s.flags(), In: path}).Run(s.context(), io.Discard)
		return !errors.Is(err, store.ErrNodesAlive)
	})
	must(s, err)
	s.start()
}

// reconcile runs the command and returns what it says.
func (s *system) reconcile(ctx context.Context) (string, error) {
	var said bytes.Buffer
	err := (&node.ReconcileCommand{ConfigFlags: s.flags()}).Run(ctx, &said, "test")
	s.Logf("%s: %s", s.id, strings.TrimSpace(said.String()))
	return said.String(), err
}

func (s *system) reconciles(says ...string) {
	s.Helper()
	said, err := s.reconcile(s.context())
	must(s, err)
	for _, part := range says {
		if !strings.Contains(said, part) {
			s.Errorf("reconcile of %s does not say %q", s.id, part)
		}
	}
}

// funded opens an account with money.
func (s *system) funded(amount string) string {
	s.Helper()
	account, err := s.client.OpenAccount(s.context(), client.NewAccount{Currency: krw})
	must(s, err)
	_, err = s.client.Deposit(s.context(), client.Cash{Account: account.Number, Amount: amount, Currency: krw})
	must(s, err)
	return account.Number
}

func (s *system) posted(account string) string {
	s.Helper()
	found, err := s.client.Account(s.context(), account, client.Fresh())
	must(s, err)
	return found.Balance.Posted
}

// number asks for one integer by SQL.
func (s *system) number(query string, args ...any) int64 {
	s.Helper()
	var n sql.NullInt64
	must(s, s.root.QueryRowContext(s.context(), query, args...).Scan(&n))
	return n.Int64
}

// settle waits until no transfer between the two systems is open and every credit was told to its payer.
func (w *world) settle() {
	w.Helper()
	for _, s := range []*system{w.alpha, w.beta} {
		w.eventually("transfers of "+s.id+" are settled", func() bool {
			return s.number(`SELECT COUNT(*) FROM remittances WHERE state = 'pending' OR
				state = 'posted' AND payer_system = ? AND credited_at IS NULL`, s.id) == 0
		})
	}
}

// verify requires that every invariant of both books holds, and that the two agree about what one owes the other.
func (w *world) verify() {
	w.Helper()
	for _, s := range []*system{w.alpha, w.beta} {
		report, err := verify.Run(w.context(), s.database.Admin, nil)
		must(w, err)
		for _, breach := range report.Breaches {
			w.Errorf("%s: breach of %s at %s: %s", s.id, breach.Invariant, breach.Place, breach.Detail)
		}
	}
	const settlements = "SELECT SUM(posted) FROM accounts WHERE system_account >= 10"
	if a, b := w.alpha.number(settlements), w.beta.number(settlements); a != -b {
		w.Errorf("alpha owes beta %d, and beta says %d", a, -b)
	}
}

// metric reads one of the node's metrics.
func (s *system) metric(line string) string {
	s.Helper()
	answer, err := http.Get("http://" + s.admin + "/metrics")
	must(s, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(s, err)
	_, rest, _ := strings.Cut(string(text), line+" ")
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			w.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// together does something count times, by a few at once.
func (w *world) together(count int, do func(i int) error) {
	w.Helper()
	failed := make(chan error, count)
	slots := make(chan struct{}, 8)
	for i := range count {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			failed <- do(i)
		}()
	}
	var failure error
	for range count {
		failure = errors.Join(failure, <-failed)
	}
	must(w, failure)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
