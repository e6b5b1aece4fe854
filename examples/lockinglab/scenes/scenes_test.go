package scenes_test

import (
	"encoding/json"
	"os"
	"os/exec"
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

// shortLoads is enough for faults to show; what is fast is not asked here.
const shortLoads = 500 * time.Millisecond

// Every way goes through every load over real servers: updates are lost, transactions deadlock and money is made where it
// is due, and nowhere else.
func TestEachWayShowsWhatItMust(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	defer goleak.VerifyNone(t)
	dir := place(t)
	lockstep, program := build(t, dir, "lockstep", "lockstep"), build(t, dir, "lockinglab", "lockstep/examples/lockinglab")
	credentials := start(t, dir, lockstep)
	out := filepath.Join(dir, "out")
	result, err := scenes.Play(t.Context(), scenes.Options{
		Credentials: credentials, Program: program, Dir: out, Loads: shortLoads, Out: t.Output(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range result.Findings {
		t.Error(finding)
	}
	asDue(t, result)
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

func build(t *testing.T, dir, name, path string) string {
	t.Helper()
	program := filepath.Join(dir, name)
	if out, err := exec.Command("go", "build", "-tags", "faults", "-o", program, path).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", path, err, out)
	}
	return program
}

// start starts two systems, and reads the file of their credentials as the lab does.
func start(t *testing.T, dir, program string) scenes.Credentials {
	t.Helper()
	options := local.Default()
	options.Dir, options.PortBase, options.Binary, options.IDP = filepath.Join(dir, "cluster"), 0, program, local.IDPNone
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
func asDue(t *testing.T, result report.Report) {
	t.Helper()
	seen := map[string]map[string]lab.Result{} // load -> way
	for _, section := range result.Sections {
		seen[section.Title] = map[string]lab.Result{}
		for _, r := range section.Results {
			seen[section.Title][r.Way] = r
			t.Logf("%+v", r)
			careful := strings.HasPrefix(r.Way, "Lockstep") || r.Way == "pessimistic, ordered" || r.Way == "redsync + pessimistic"
			if careful && (!r.Correct() || r.Deadlocks != 0 || r.Done == 0) {
				t.Errorf("%s, %s: %+v", section.Title, r.Way, r)
			}
		}
	}
	points := seen["One database: 200 uses of 100 from 10,000, 10 workers"]
	if len(points) != 7 {
		t.Fatalf("the historic experiment went %d ways instead of 7", len(points))
	}
	for way, r := range points {
		switch {
		case way == "no lock":
			if r.Lost == 0 || r.Done <= 100 {
				t.Errorf("without a lock no update was lost: %+v", r)
			}
		case way != "optimistic version" && (r.Done != 100 || r.Refused != 100):
			t.Errorf("%s: %d uses were granted and %d refused, instead of 100 each", way, r.Done, r.Refused)
		case r.Done > 100:
			t.Errorf("%s: %d uses of 100 were granted from 10,000", way, r.Done)
		}
	}
	opposite := seen["One database: 200 opposite transfers between two accounts, 10 workers"]
	for _, way := range []string{"foreign key + plain update", "pessimistic, unordered"} {
		if opposite[way].Deadlocks == 0 {
			t.Errorf("%s: opposite transfers had no deadlock: %+v", way, opposite[way])
		}
	}
	apart := seen["Two databases: 40 opposite transfers between two accounts, 10 workers"]
	if own := apart["own row first, then call"]; own.Timeouts == 0 || own.Deadlocks != 0 {
		t.Errorf("a circle over two databases was not ended by a timeout alone: %+v", own)
	}
	crashed := seen["Two databases: a process of the payer's side is killed in the middle, 10 workers"]
	if remote := crashed["call first, then own row"]; remote.Made <= 0 || remote.Halves == 0 {
		t.Errorf("a crash between credit and debit made no money: %+v", remote)
	}
	if saga := crashed["Lockstep's saga"]; saga.Unknown != 0 || saga.Done != 200 {
		t.Errorf("a node was killed, and of 200 transfers %d were done and %d unknown", saga.Done, saga.Unknown)
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
	if rows := strings.Count(string(table), " ms |\n"); err != nil || rows != ways {
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
