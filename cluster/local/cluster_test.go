package local_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"lockstep/cluster/local"
)

// programs are built once for all tests of the package.
var programs struct{ standin, cli string }

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lockstep-local")
	if err != nil {
		panic(err)
	}
	programs.standin, programs.cli = filepath.Join(dir, "standin"), filepath.Join(dir, "cli")
	for program, source := range map[string]string{programs.standin: "./testdata/standin", programs.cli: "./testdata/cli"} {
		if out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", source, err, out)
			os.Exit(1)
		}
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// options is a small cluster with stand-in nodes, in a directory of its own.
func options(t *testing.T) local.Options {
	return local.Options{
		Dir: t.TempDir(), Systems: []string{"alpha"}, Nodes: 2, Binary: programs.standin, BufferPoolMB: 32,
		Progress: func(e local.Event) { t.Log(e.At.Format("15:04:05.000"), e.Process, e.Text) },
	}
}

func start(t *testing.T, o local.Options) *local.Cluster {
	t.Helper()
	cluster, err := local.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// await polls until the condition holds.
func await(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after %s: %s", limit, what)
		}
	}
}

func status(t *testing.T, c *local.Cluster, name string) local.Status {
	t.Helper()
	for _, p := range c.Processes() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no process %s", name)
	return local.Status{}
}

// get fetches a page on a connection of its own.
func get(t *testing.T, url string) (int, string, error) {
	t.Helper()
	return send(t, http.MethodGet, url, nil)
}

func send(t *testing.T, method, url string, body io.Reader) (int, string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// query reads one value as a string.
func query(t *testing.T, dsn, statement string) (string, error) {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var value string
	err = db.QueryRowContext(t.Context(), statement).Scan(&value)
	return value, err
}

func address(t *testing.T, dsn string) string {
	t.Helper()
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return config.Addr
}

func mustExec(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range statements {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

func listening(address string) bool {
	conn, err := net.Dial("tcp", address)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

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

func TestCredentialsAreForTheOwnerAloneAndAsTheContractSays(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Nodes, o.Replicas = 1, 1
	cluster := start(t, o)
	path := filepath.Join(o.Dir, "credentials.json")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode of credentials.json is %v (%v), want 0600", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var content struct {
		Systems []map[string]json.RawMessage `json:"systems"`
	}
	if err := json.Unmarshal(text, &content); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"id", "base_url", "nodes", "operator", "client", "admin_urls", "users",
		"mysql_source_dsn", "mysql_replica_dsns", "redis_addrs",
	} {
		if _, ok := content.Systems[0][key]; !ok {
			t.Errorf("credentials.json lacks %s", key)
		}
	}
	read, err := local.ReadCredentials(o.Dir)
	if err != nil || read.ControlToken == "" || read.ControlURL != cluster.Credentials().ControlURL {
		t.Errorf("read back %+v, %v", read, err)
	}
	secrets, _ := filepath.Glob(filepath.Join(o.Dir, "alpha", "*.yaml"))
	for _, path := range append(secrets, filepath.Join(o.Dir, "secrets.json"), filepath.Join(o.Dir, "alpha", "operator.secret")) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s is readable for others: %v %v", path, info.Mode(), err)
		}
	}
}

func TestASecondStartKeepsDataAndSecrets(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Nodes, o.Replicas = 1, 1
	first := start(t, o)
	before := first.Credentials().Systems[0]
	mustExec(t, first.DSNs("alpha").Migrate+"lockstep",
		"CREATE TABLE kept (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO kept VALUES (42)")
	first.Close()

	second := start(t, o) // on other ports: the replica must find its source there
	after := second.Credentials().Systems[0]
	if after.Operator != before.Operator || after.Client != before.Client {
		t.Error("the clients' secrets have changed")
	}
	if value, err := query(t, second.DSNs("alpha").Source+"lockstep", "SELECT id FROM kept"); value != "42" {
		t.Errorf("the row is %q, %v", value, err)
	}
	mustExec(t, second.DSNs("alpha").Source+"lockstep", "INSERT INTO kept VALUES (43)")
	await(t, 10*time.Second, "the replica follows", func() bool {
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
		await(t, 10*time.Second, p.Name+" runs again", func() bool {
			now := status(t, cluster, p.Name)
			return now.State == local.Running && now.PID != p.PID && now.Restarts == 1
		})
		if back := status(t, cluster, p.Name).Since.Sub(killed); back > 2*time.Second {
			t.Errorf("%s was started again after %s", p.Name, back)
		}
	}
	await(t, 10*time.Second, "the killed replica acknowledges to the killed source", func() bool {
		value, _ := query(t, cluster.DSNs("alpha").Admin,
			"SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME='Rpl_semi_sync_master_clients'")
		return value == "1"
	})
	await(t, 10*time.Second, "the balancer serves", func() bool {
		code, _, _ := get(t, cluster.Credentials().Systems[0].BaseURL)
		return code == http.StatusOK
	})
}

func TestAProcessKilledDownStaysDownUntilStart(t *testing.T) {
	t.Parallel()
	o := options(t)
	cluster := start(t, o)
	if err := cluster.Kill("alpha-node-1", true); err != nil {
		t.Fatal(err)
	}
	const longerThanARestart = 700 * time.Millisecond
	for end := time.Now().Add(longerThanARestart); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if listening(status(t, cluster, "alpha-node-1").Address) {
			t.Fatal("it listens although it is kept down")
		}
	}
	if s := status(t, cluster, "alpha-node-1"); s.State != local.Down || s.PID != 0 {
		t.Errorf("its status is %+v", s)
	}
	for range 2 { // the second time it runs already
		if err := cluster.StartProcess(t.Context(), "alpha-node-1"); err != nil {
			t.Fatal(err)
		}
	}
	if s := status(t, cluster, "alpha-node-1"); s.State != local.Running || s.Restarts != 1 {
		t.Errorf("its status is %+v", s)
	}
}

func TestAStoppedProcessIsSilentUntilCont(t *testing.T) {
	t.Parallel()
	cluster := start(t, options(t))
	node := cluster.Credentials().Systems[0].Nodes[0]
	silent := func() bool {
		client := http.Client{Timeout: 200 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Get(node)
		if err == nil {
			_ = answer.Body.Close()
		}
		return err != nil
	}
	if err := cluster.Stop("alpha-node-1"); err != nil || !silent() {
		t.Errorf("a stopped node answers (%v)", err)
	}
	if s := status(t, cluster, "alpha-node-1"); s.State != local.Frozen {
		t.Errorf("its status is %+v", s)
	}
	if err := cluster.Continue("alpha-node-1"); err != nil || silent() {
		t.Errorf("a continued node does not answer (%v)", err)
	}
	if err := cluster.Stop("alpha-node-2"); err != nil {
		t.Fatal(err)
	}
	cluster.Close() // must not hang on the frozen one
}

func TestFlushForgetsLocks(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.ServersOnly = true
	cluster := start(t, o)
	redis := func(command string) string {
		conn, err := net.Dial("tcp", cluster.Credentials().Systems[0].RedisAddrs[1])
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s\r\n", command)
		answer := make([]byte, 64)
		n, _ := conn.Read(answer)
		return strings.TrimSpace(string(answer[:n]))
	}
	redis("SET a b")
	if got := redis("DBSIZE"); got != ":1" {
		t.Fatalf("DBSIZE is %q", got)
	}
	if err := cluster.Flush(t.Context(), "alpha-redis-2"); err != nil || redis("DBSIZE") != ":0" {
		t.Errorf("after a flush DBSIZE is %q (%v)", redis("DBSIZE"), err)
	}
	if err := cluster.Flush(t.Context(), "alpha-mysql-source"); err == nil {
		t.Error("MariaDB was flushed")
	}
}

func TestATakenPortIsNamedAndNothingStarts(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.PortBase = 9480
	taken, err := net.Listen("tcp", "127.0.0.1:9482")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, err = local.Start(t.Context(), o)
	if err == nil || !strings.HasPrefix(err.Error(), "port 9482, for alpha-node-2, is taken") ||
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
		o.Nodes, o.PortBase = 1, 9580+100*i
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

func TestASecondClusterInTheSameDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.ServersOnly = true
	start(t, o)
	if _, err := local.Start(t.Context(), o); !errors.Is(err, local.ErrRunning) {
		t.Errorf("Start says: %v", err)
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
	dir := t.TempDir()
	up := func() (string, error) {
		out, err := exec.Command(programs.cli, "up", "--detach", "--dir", dir, "--systems=1", "--nodes=1",
			"--replicas=0", "--port-base=9780", "--binary", programs.standin).CombinedOutput()
		return string(out), err
	}
	t.Cleanup(func() { _ = exec.Command(programs.cli, "down", "--dir", dir).Run() })
	if out, err := up(); err != nil || !strings.Contains(out, "ready in ") {
		t.Fatalf("up: %v\n%s", err, out)
	}
	crash(t, dir)
	if !listening("127.0.0.1:9781") {
		t.Fatal("the node died with its supervisor, so this test shows nothing")
	}
	out, err := up()
	if err != nil || !strings.Contains(out, "left by a crashed supervisor, stopped") {
		t.Fatalf("up after a crash: %v\n%s", err, out)
	}
	crash(t, dir)
	down, err := exec.Command(programs.cli, "down", "--dir", dir).CombinedOutput()
	if err != nil || listening("127.0.0.1:9781") || listening("127.0.0.1:29780") {
		t.Errorf("down after a crash left processes: %v\n%s", err, down)
	}
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
	await(t, 5*time.Second, "the supervisor is dead", func() bool {
		return !listening(strings.TrimPrefix(control.ControlURL, "http://"))
	})
}

func TestCtlControlsARunningClusterFromOutside(t *testing.T) {
	t.Parallel()
	o := options(t)
	cluster := start(t, o)
	ctl := func(args ...string) string {
		out, err := exec.Command(programs.cli, append(append([]string{"ctl"}, args...), "--dir", o.Dir)...).CombinedOutput()
		return fmt.Sprint(strings.TrimSpace(string(out)), " ", err)
	}
	if out := ctl("ps"); !strings.Contains(out, "alpha-node-2") || !strings.Contains(out, "running") {
		t.Errorf("ps: %s", out)
	}
	before := status(t, cluster, "alpha-node-2").PID
	for _, step := range []struct {
		args  []string
		state local.State
	}{
		{[]string{"kill", "--down", "alpha-node-2"}, local.Down},
		{[]string{"start", "alpha-node-2"}, local.Running},
		{[]string{"stop", "alpha-node-2"}, local.Frozen},
		{[]string{"cont", "alpha-node-2"}, local.Running},
		{[]string{"flush", "alpha-redis-1"}, local.Running},
	} {
		if out := ctl(step.args...); !strings.HasSuffix(out, "done <nil>") {
			t.Errorf("%v: %s", step.args, out)
		}
		if now := status(t, cluster, "alpha-node-2").State; now != step.state {
			t.Errorf("after %v the node is %s", step.args, now)
		}
	}
	if status(t, cluster, "alpha-node-2").PID == before {
		t.Error("the killed node is still the same process")
	}
	if out := ctl("kill", "alpha-node-7"); !strings.Contains(out, "no such process") || !strings.Contains(out, "exit status 1") {
		t.Errorf("kill of a process that is not there: %s", out)
	}
	if code, _, _ := send(t, http.MethodPost, cluster.Credentials().ControlURL+"/shutdown", nil); code != http.StatusUnauthorized {
		t.Errorf("without the token the control address answers %d", code)
	}
	if err := cluster.Credentials().Control().Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	select {
	case <-cluster.Asked():
	default:
		t.Error("the cluster was not asked to end")
	}
}
