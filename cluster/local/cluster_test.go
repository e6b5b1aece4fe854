package local_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lockstep/cluster/local"
)

func TestTwoSystemsAnswerThroughTheirBalancersAndEndWithoutRest(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Systems, o.Replicas = local.SystemNames(2), 1
	cluster := start(t, o)
	for _, system := range cluster.Credentials().Systems {
		seen := map[string]bool{}
		for range 20 {
			if _, node, err := get(t, system.BaseURL); err == nil {
				seen["http://"+node] = true
			}
		}
		if len(seen) != 2 || !seen[system.Nodes[0]] || !seen[system.Nodes[1]] {
			t.Errorf("%s answers from %v, want from %v", system.ID, seen, system.Nodes)
		}
	}
	all := cluster.Processes()
	cluster.Close()
	for _, p := range all {
		if listening(p.Address) {
			t.Errorf("%s still listens after Close", p.Name)
		}
	}
	left, _ := filepath.Glob(filepath.Join(o.Dir, "run", "*"))
	if len(left) != 0 {
		t.Errorf("pid files are left: %v", left)
	}
}

func TestASecondStartKeepsDataAndSecrets(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Nodes, o.Replicas = 1, 1
	first := start(t, o)
	before := first.Credentials().Systems[0]
	passwordBefore := natsPassword(t, o)
	mustExec(t, first.DSNs("alpha").Migrate+"lockstep",
		"CREATE TABLE kept (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO kept VALUES (42)")
	first.Close()

	second := start(t, o) // on other ports: the replica must find its source there
	after := second.Credentials().Systems[0]
	if after.Operator != before.Operator || after.Client != before.Client {
		t.Error("the clients' secrets have changed")
	}
	if again := natsPassword(t, o); again == "" || again != passwordBefore {
		t.Error("the password at NATS has changed")
	}
	if value, err := query(t, second.DSNs("alpha").Source+"lockstep", "SELECT id FROM kept"); value != "42" {
		t.Errorf("the row is %q, %v", value, err)
	}
	mustExec(t, second.DSNs("alpha").Source+"lockstep", "INSERT INTO kept VALUES (43)")
	await(t, "the replica follows", func() bool {
		value, _ := query(t, second.DSNs("alpha").Replicas[0]+"lockstep", "SELECT MAX(id) FROM kept")
		return value == "43"
	})
}

func TestServersAreDurableAndAccountsHaveOnlyTheirRights(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.ServersOnly, o.Replicas = true, 2
	dsns := start(t, o).DSNs("alpha")
	for _, want := range []struct{ dsn, statement, value string }{
		{dsns.Admin, "SELECT @@sync_binlog", "1"},
		{dsns.Admin, "SELECT @@innodb_flush_log_at_trx_commit", "1"},
		{dsns.Admin, "SELECT @@binlog_format", "ROW"},
		{dsns.Admin, "SELECT @@rpl_semi_sync_master_wait_point", "AFTER_SYNC"},
		{dsns.Admin, "SELECT @@rpl_semi_sync_master_timeout > 1000000000", "1"}, // no fallback with two
		{dsns.AdminReplicas[1], "SELECT @@read_only", "1"},
		{dsns.AdminReplicas[0], "SELECT @@sync_binlog", "1"},
		{dsns.AdminReplicas[0], "SELECT @@gtid_domain_id", "1"},
	} {
		if value, err := query(t, want.dsn, want.statement); value != want.value {
			t.Errorf("%s is %q (%v), want %q", want.statement, value, err, want.value)
		}
	}
	mustExec(t, dsns.Migrate, "CREATE DATABASE lockstep", "CREATE TABLE lockstep.a (id INT PRIMARY KEY)")
	mustExec(t, dsns.Source+"lockstep", "INSERT INTO a VALUES (1)", "UPDATE a SET id=2", "DELETE FROM a")
	for account, refused := range map[string]string{
		dsns.Source:  "DROP TABLE lockstep.a",
		dsns.Migrate: "CREATE DATABASE other",
	} {
		if _, err := query(t, account, refused); err == nil || !strings.Contains(err.Error(), "denied") {
			t.Errorf("%s: %v, want denied", refused, err)
		}
	}
	mustExec(t, dsns.Replicas[0], "SHOW REPLICA STATUS")
	read := strings.Replace(dsns.Replicas[0], address(t, dsns.AdminReplicas[0]), address(t, dsns.Admin), 1)
	if _, err := query(t, read, "INSERT INTO lockstep.a VALUES (1)"); err == nil || !strings.Contains(err.Error(), "denied") {
		t.Errorf("the reading account wrote at the source: %v", err)
	}
}

func TestWhatDiesStartsAgainWithin2s(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Replicas = 1
	cluster := start(t, o)
	for _, p := range cluster.Processes() {
		killed := time.Now()
		if err := cluster.Kill(p.Name, false); err != nil {
			t.Errorf("kill %s: %v", p.Name, err)
		}
		await(t, p.Name+" runs again", func() bool {
			now := status(t, cluster, p.Name)
			return now.State == local.Running && now.PID != p.PID && now.Restarts == 1
		})
		if back := status(t, cluster, p.Name).Since.Sub(killed); back > 2*time.Second {
			t.Errorf("%s was started again after %s", p.Name, back)
		}
	}
	await(t, "the killed replica acknowledges to the killed source", func() bool {
		value, _ := query(t, cluster.DSNs("alpha").Admin,
			"SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='Rpl_semi_sync_master_clients'")
		return value == "1"
	})
	await(t, "the balancer serves", func() bool {
		code, _, _ := get(t, cluster.Credentials().Systems[0].BaseURL)
		return code == http.StatusOK
	})
}

func TestATakenPortIsNamedAndNothingStarts(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.PortBase = freeBase(t)
	taken, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", o.PortBase+2))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = local.Start(t.Context(), o)
	if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("port %d, for alpha-node-2, is taken", o.PortBase+2)) ||
		!strings.Contains(err.Error(), "--port-base") || strings.Contains(err.Error(), "\n") {
		t.Errorf("Start says: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, "alpha")); !errors.Is(err, os.ErrNotExist) {
		t.Error("something was started all the same")
	}
}

func TestTwoClustersRunSideBySideByPortBase(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		o := options(t)
		o.Nodes, o.PortBase = 1, freeBase(t) // the second one, beside the first
		system := start(t, o).Credentials().Systems[0]
		if want := fmt.Sprintf("http://127.0.0.1:%d", o.PortBase); system.BaseURL != want {
			t.Errorf("the balancer is at %s, want %s", system.BaseURL, want)
		}
		if want := fmt.Sprintf("http://127.0.0.1:%d", o.PortBase+1); system.Nodes[0] != want {
			t.Errorf("the node is at %s, want %s", system.Nodes[0], want)
		}
		if code, _, err := get(t, system.BaseURL); code != http.StatusOK {
			t.Errorf("cluster %d answers %d, %v", i, code, err)
		}
	}
}

func TestAFailedStartShowsTheLogAndLeavesNothing(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.NodeConfig = map[string]any{"fail": true}
	var started []string
	o.Progress = func(e local.Event) { started = append(started, e.Process+" "+e.Text) }
	_, err := local.Start(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "configuration refused: fail") || !strings.Contains(err.Error(), "alpha-node-") {
		t.Errorf("Start says: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(o.Dir, "run", "*")); len(left) != 0 {
		t.Errorf("still running: %v", left)
	}
	if !strings.Contains(strings.Join(started, "\n"), "alpha-redis-3 ready") {
		t.Errorf("progress was %v", started)
	}
}

func TestBadOptionsAreRefusedByName(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*local.Options){
		"--systems":   func(o *local.Options) { o.Systems = nil },
		"--nodes":     func(o *local.Options) { o.Nodes = 10 },
		"--replicas":  func(o *local.Options) { o.Replicas = -1 },
		"--port-base": func(o *local.Options) { o.PortBase = 60000 },
		"--dir":       func(o *local.Options) { o.Dir = "" },
	} {
		o := local.Default()
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate says %v, want it to name %s", err, want)
		}
	}
	if err := local.Default().Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
}

// A supervisor that is killed leaves its processes running; the next start ends them.
func TestWhatACrashedSupervisorLeftIsCleared(t *testing.T) {
	t.Parallel()
	dir, base := t.TempDir(), freeBase(t)
	node := fmt.Sprintf("127.0.0.1:%d", base+1)
	up := func() (string, error) {
		out, err := exec.Command(programs.cli, "up", "--detach", "--dir", dir, "--systems=1", "--nodes=1",
			"--replicas=0", fmt.Sprintf("--port-base=%d", base), "--binary", programs.standin).CombinedOutput()
		return string(out), err
	}
	t.Cleanup(func() { _ = exec.Command(programs.cli, "down", "--dir", dir).Run() })
	if out, err := up(); err != nil || !strings.Contains(out, "ready in ") {
		t.Fatalf("up: %v\n%s", err, out)
	}
	crash(t, dir)
	if !listening(node) {
		t.Fatal("the node died with its supervisor, so this test shows nothing")
	}
	out, err := up()
	if err != nil || !strings.Contains(out, "left by a crashed supervisor, stopped") {
		t.Fatalf("up after a crash: %v\n%s", err, out)
	}
	crash(t, dir)
	down, err := exec.Command(programs.cli, "down", "--dir", dir).CombinedOutput()
	if err != nil || listening(node) || listening(fmt.Sprintf("127.0.0.1:%d", base+20000)) {
		t.Errorf("down after a crash left processes: %v\n%s", err, down)
	}
}

func TestAClosedTerminalStopsTheCluster(t *testing.T) {
	t.Parallel()
	dir, base := t.TempDir(), freeBase(t)
	up := exec.Command(programs.cli, "up", "--dir", dir, "--systems=1", "--nodes=1", "--replicas=0",
		fmt.Sprintf("--port-base=%d", base), "--binary", programs.standin)
	said, err := up.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command(programs.cli, "down", "--dir", dir).Run() })
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "ready in ") {
	}
	if err := up.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	_ = said.Close() // as a terminal, which takes nothing more
	if err := up.Wait(); err != nil {
		t.Errorf("up ended with %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "run", "*.pid"))
	if len(left) != 0 || listening(fmt.Sprintf("127.0.0.1:%d", base+20_000)) {
		t.Errorf("still running: %v", left)
	}
}

// bases are the port bases that were given to tests.
var bases sync.Map

// freeBase finds a port base under which no cluster runs, nor will one of another test.
func freeBase(t *testing.T) int {
	t.Helper()
	for range 100 {
		base := 8200 + 10*rand.IntN(160)
		free := true
		for _, first := range []int{base, base + 5_000, base + 10_000, base + 20_000} {
			for port := first; port < first+10; port++ {
				free = free && !listening(fmt.Sprintf("127.0.0.1:%d", port))
			}
		}
		if _, taken := bases.LoadOrStore(base, true); free && !taken {
			return base
		}
	}
	t.Fatal("no port base is free")
	return 0
}

// crash kills the supervisor of a directory.
func crash(t *testing.T, dir string) {
	t.Helper()
	var record struct{ PID int }
	text, err := os.ReadFile(filepath.Join(dir, "supervisor.pid"))
	if err != nil || json.Unmarshal(text, &record) != nil {
		t.Fatalf("read the supervisor's pid: %v", err)
	}
	control, err := local.ReadCredentials(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(record.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the supervisor is dead", func() bool {
		return !listening(strings.TrimPrefix(control.ControlURL, "http://"))
	})
}
