package scenes_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/cluster/local"
	"lockstep/cluster/local/servers"
	"lockstep/examples/lockinglab/lab"
	"lockstep/examples/lockinglab/report"
	"lockstep/examples/lockinglab/scenes"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Short loads are enough for faults to show; what is fast is not asked here. longEnv chooses those of the tables.
const (
	shortLoads    = 200 * time.Millisecond
	shortMoves    = 60
	shortAccounts = 40
	longEnv       = "LOCKINGLAB_LONG"
)

// size is that of the loads.
func size() (moves, accounts int, loads time.Duration) {
	if os.Getenv(longEnv) != "" {
		return scenes.Moves, scenes.Accounts, 5 * time.Second
	}
	return shortMoves, shortAccounts, shortLoads
}

// Every way goes through every load over real servers: updates are lost, transactions deadlock and money is made where it
// is due, and nowhere else.
func TestEachWayShowsWhatItMust(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	dir := place(t)
	lockstep, program := build(t, "lockstep", "lockstep"), build(t, "lockinglab", "lockstep/examples/lockinglab")
	credentials := start(t, dir, lockstep)
	out := filepath.Join(dir, "out")
	moves, accounts, loads := size()
	result, err := scenes.Play(t.Context(), scenes.Options{
		Credentials: credentials, Program: program, Dir: out, Moves: moves, Accounts: accounts, Loads: loads, Out: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range result.Findings {
		t.Error(finding)
	}
	asDue(t, result, moves)
	written(t, result, out)
}

// place is a directory of the checkout's place for tests.
func place(t *testing.T) string {
	t.Helper()
	here, err := servers.Here()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(string(here), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(string(here), "lockinglab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("everything is kept in", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

func build(t *testing.T, name, pkg string) string {
	t.Helper()
	place, err := servers.Here()
	if err != nil {
		t.Fatal(err)
	}
	program, err := place.Build(name, pkg)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// start starts two systems, and reads the file of their credentials as the lab does.
func start(t *testing.T, dir, program string) scenes.Credentials {
	t.Helper()
	options := local.Default()
	options.Dir, options.PortBase, options.Binary, options.IDP = filepath.Join(dir, "cluster"), 0, program, local.IDPNone
	options.NodeConfig = map[string]any{"drain": "0s"}
	cluster, err := local.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	credentials, err := scenes.ReadCredentials(filepath.Join(options.Dir, "credentials.json"))
	if err != nil {
		t.Fatal(err)
	}
	return credentials
}

// asDue says once more, by itself, what the table has to show.
func asDue(t *testing.T, result report.Report, moves int) {
	t.Helper()
	seen := map[string]map[string]lab.Result{} // load -> way
	for _, section := range result.Sections {
		seen[section.Title] = map[string]lab.Result{}
		for _, r := range section.Results {
			seen[section.Title][r.Way] = r
			queued := strings.HasPrefix(r.Way, "Lockstep") || r.Way == "pessimistic, ordered" // what has begun is done, however slowly
			if (queued || r.Way == "redsync + pessimistic") && (!r.Correct() || r.Deadlocks != 0 || queued && r.Done == 0) {
				t.Errorf("%s, %s: %+v", section.Title, r.Way, r)
			}
		}
	}
	points := seen[scenes.Points]
	if len(points) != 7 {
		t.Fatalf("the historic experiment went %d ways instead of 7", len(points))
	}
	for way, r := range points {
		switch {
		case way == "no lock":
			if r.Lost == 0 || r.Done <= moves/2 {
				t.Errorf("without a lock no update was lost: %+v", r)
			}
		case r.Done > moves/2, r.GaveUp == 0 && (r.Done != moves/2 || r.Refused != moves/2):
			t.Errorf("%s: %d uses were granted and %d refused, instead of %d each", way, r.Done, r.Refused, moves/2)
		case way != "optimistic version" && r.GaveUp > 0:
			t.Errorf("%s: %d uses were given up", way, r.GaveUp)
		}
	}
	for _, way := range []string{"foreign key + plain update", "pessimistic, unordered"} {
		if r := seen[scenes.Opposite][way]; r.Deadlocks == 0 {
			t.Errorf("%s: opposite transfers had no deadlock: %+v", way, r)
		}
	}
	if own := seen[scenes.Across]["own row first, then call"]; own.Timeouts == 0 || own.Deadlocks != 0 {
		t.Errorf("a circle over two databases was not ended by a timeout alone: %+v", own)
	}
	crashed := seen[scenes.Crash]
	if remote := crashed["call first, then own row"]; remote.Made <= 0 || remote.Halves == 0 {
		t.Errorf("a crash between credit and debit made no money: %+v", remote)
	}
	if saga := crashed["Lockstep's saga"]; saga.Unknown != 0 || saga.Done != moves || saga.Lost != 0 || saga.Made != 0 {
		t.Errorf("a node was killed, and of %d transfers: %+v", moves, saga)
	}
}

// written checks that the report says the same as the result.
func written(t *testing.T, result report.Report, dir string) {
	t.Helper()
	if err := result.Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var again report.Report
	if err := json.Unmarshal(text, &again); err != nil || len(again.Sections) != len(result.Sections) {
		t.Errorf("the report reads as %d sections instead of %d: %v", len(again.Sections), len(result.Sections), err)
	}
	ways := 0
	for _, section := range result.Sections {
		ways += len(section.Results)
	}
	table, err := os.ReadFile(filepath.Join(dir, "table.md"))
	if rows := strings.Count(string(table), "/s |"); err != nil || rows != ways {
		t.Errorf("the table has %d rows instead of %d: %v", rows, ways, err)
	}
	bars := 0
	for _, name := range []string{"one-database.svg", "two-databases.svg"} {
		chart, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		}
		bars += strings.Count(string(chart), "<rect ")
	}
	if bars != ways {
		t.Errorf("the charts have %d bars instead of %d", bars, ways)
	}
}
