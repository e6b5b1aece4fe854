package sim_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/cluster/local/servers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/remit/sim"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
	"lockstep/node/verify"
)

// setupMax bounds what is done around a simulation.
const setupMax = time.Minute

// real is a system on a database of the test's own.
type real struct {
	*sim.Real
	database servers.Database
	name     string
	peer     string
}

func openReal(t *testing.T, name, peer string) real {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupMax)
	defer cancel()
	database := storetest.Migrated(t, name)
	admin, err := sql.Open("mysql", database.Admin+"?parseTime=true&loc=UTC&interpolateParams=true")
	must(t, err)
	t.Cleanup(func() { _ = admin.Close() })
	config := store.Default()
	config.System, config.Source, config.Logger = name, database.Source, slog.New(slog.DiscardHandler)
	opened, err := sim.OpenReal(ctx, config, admin, config.Logger)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), setupMax)
		defer cancel()
		must(t, opened.Close(ctx))
	})
	return real{opened, database, name, peer}
}

// reset empties the database, and gives back the rows that a system in memory begins with to be the same.
func (r real) reset(t *testing.T) sim.Rows {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupMax)
	defer cancel()
	must(t, r.Reset(ctx, sim.Fixture(r.name, true), r.peer))
	rows, err := r.Rows()
	must(t, err)
	return rows
}

// verify requires that the program's own check of a database agrees with the auditor.
func (r real) verify(t *testing.T, seed uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupMax)
	defer cancel()
	report, err := verify.Run(ctx, r.database.Admin, nil)
	must(t, err)
	for _, breach := range report.Breaches {
		t.Errorf("seed %d: breach of %s at %s: %s", seed, breach.Invariant, breach.Place, breach.Detail)
	}
}

// The real engine on MariaDB and the one in memory, given the same seed, end with the same rows; so what holds in memory
// over many seeds holds for the program.
func TestMariaDBEndsWithTheRowsOfMemory(t *testing.T) {
	alpha, beta := openReal(t, sim.Alpha, sim.Beta), openReal(t, sim.Beta, sim.Alpha)
	posted := 0
	for seed := *first; seed < *first+*mariadb; seed++ {
		options := sim.Options{Seed: seed, Trace: tracer()}
		options.Systems[0] = sim.NewMemory(sim.Alpha, alpha.Lane(), alpha.reset(t), sim.Beta)
		options.Systems[1] = sim.NewMemory(sim.Beta, beta.Lane(), beta.reset(t), sim.Alpha)
		inMemory, err := sim.Run(options)
		if err != nil {
			t.Fatalf("seed %d in memory: %v", seed, err)
		}
		options.Systems = [2]sim.System{alpha, beta}
		onServers, err := sim.Run(options)
		if err != nil {
			t.Fatalf("seed %d on MariaDB: %v", seed, err)
		}
		for _, breach := range onServers.Breaches {
			t.Errorf("seed %d: %s", seed, breach)
		}
		for i := range options.Systems {
			if want, got := text(t, inMemory.Rows[i]), text(t, onServers.Rows[i]); want != got {
				want, got = difference(want, got)
				t.Errorf("seed %d, system %d: memory ends with\n%s\nand MariaDB with\n%s", seed, i, want, got)
			}
		}
		if posted += onServers.Posted; t.Failed() {
			t.Fatalf("replay it with -sim.first=%d -sim.mariadb=1 -sim.trace", seed)
		}
		if seed%10 == 0 {
			alpha.verify(t, seed)
			beta.verify(t, seed)
		}
	}
	t.Logf("%d transfers were posted", posted)
}

// A close waits for a prepare that has not committed yet, and then finds the promise: no tombstone stands beside it.
func TestACloseWaitsForAPrepareThatIsUnderWay(t *testing.T) {
	beta := openReal(t, sim.Beta, sim.Alpha)
	beta.reset(t)
	ctx, cancel := context.WithTimeout(context.Background(), setupMax)
	defer cancel()
	reached, resumed := make(chan struct{}), make(chan struct{})
	resume := sync.OnceFunc(func() { close(resumed) })
	reach := sync.OnceFunc(func() { close(reached) })
	other := beta.another(ctx, t, func(point string) error {
		if point == "before_commit" {
			reach()
			<-resumed
		}
		return nil
	})
	t.Cleanup(resume) // a test that fails must end
	p := newPair(t)
	prepared, closed := make(chan posting.Outcome, 1), make(chan *ledger.Error, 1)
	go func() {
		outcome, _ := other.Submit(ctx, posting.Command{Operation: p.prepare()})
		prepared <- outcome
	}()
	<-reached
	var found ledger.Result
	go func() {
		result, refusal, err := beta.Submit(p.closing(), time.Now().UTC().Truncate(time.Microsecond), sim.Commits)
		if err != nil {
			refusal = ledger.Refuse(ledger.Internal, "%v", err)
		}
		found = result
		closed <- refusal
	}()
	beta.awaitWaiter(ctx, t)
	resume()
	if outcome := <-prepared; outcome.Result.Remittance == nil || outcome.Result.Remittance.State != ledger.Pending {
		t.Fatalf("the prepare came to %+v", outcome)
	}
	if refusal := <-closed; refusal != nil || found.Remittance.State != ledger.Pending {
		t.Fatalf("the close came to %v %+v", refusal, found.Remittance)
	}
	rows, err := beta.Rows()
	must(t, err)
	if len(rows.Remittances) != 1 || rows.Remittances[0].State != ledger.Pending || rows.Remittances[0].Transfer == nil {
		t.Errorf("the rows are %+v", rows.Remittances)
	}
}

// another opens a second node's engine on the database.
func (r real) another(ctx context.Context, t *testing.T, fault func(string) error) *posting.Engine {
	t.Helper()
	config := store.Default()
	config.System, config.Source, config.Logger = r.name, r.database.Source, slog.New(slog.DiscardHandler)
	opened := storetest.OpenWith(t, config)
	lease, err := opened.LeaseNode(ctx, "127.0.0.1:0", "sim", 1)
	must(t, err)
	t.Cleanup(func() { _ = lease.Close() })
	engine := posting.DefaultConfig()
	engine.Fault = fault
	identity := posting.Identity{Node: lease.ID, Incarnation: lease.Incarnation}
	running, err := posting.Open(ctx, engine, opened, nil, identity, prometheus.NewRegistry(), config.Logger)
	must(t, err)
	t.Cleanup(func() { must(t, running.Close(context.Background())) })
	return running
}

// awaitWaiter waits until a transaction has asked for the remittance's row and got no answer. The list of sessions is read,
// and not that of transactions: InnoDB shows whoever asks often an old one.
func (r real) awaitWaiter(ctx context.Context, t *testing.T) {
	t.Helper()
	admin, err := sql.Open("mysql", r.database.Admin)
	must(t, err)
	defer admin.Close()
	const waits = `SELECT COUNT(*) FROM information_schema.processlist WHERE db = ? AND time_ms > 50 AND info LIKE 'SELECT r.id,%FOR UPDATE'`
	for waiting := 0; waiting == 0; {
		must(t, admin.QueryRowContext(ctx, waits, r.database.Name).Scan(&waiting))
	}
}

func text(t *testing.T, rows sim.Rows) string {
	t.Helper()
	content, err := json.MarshalIndent(rows, "", " ")
	must(t, err)
	return string(content)
}

// difference cuts two texts to the lines around the first one that differs.
func difference(a, b string) (string, string) {
	const around = 8
	one, other := strings.Split(a, "\n"), strings.Split(b, "\n")
	at := 0
	for at < min(len(one), len(other)) && one[at] == other[at] {
		at++
	}
	cut := func(lines []string) string {
		return strings.Join(lines[max(0, min(at, len(lines))-around):min(len(lines), at+around)], "\n")
	}
	return cut(one), cut(other)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
