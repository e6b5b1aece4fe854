package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/cluster/events"
	"lockstep/cluster/local"
)

// One cluster serves all that leaves it as it found it: to start one takes longer
// than each of these.
func TestARunningCluster(t *testing.T) {
	t.Parallel()
	o := options(t)
	cluster := start(t, o)
	for _, fact := range []struct {
		name  string
		check func(*testing.T, *local.Cluster, local.Options)
	}{
		{"has credentials for its owner alone, as the contract says", credentials},
		{"is the only one in its directory", onlyOne},
		{"answers 413 to a body too large every time", tooLarge},
		{"sends a POST that reached a node to no other", noSecondNode},
		{"is overloaded without nodes", noNodes},
		{"keeps down what was killed down, until start", keptDown},
		{"lets a process that it restarts end in good order", restarted},
		{"is silent where a process was stopped, until cont", silent},
		{"forgets locks by flush", flush},
		{"carries events over a kill and a freeze of NATS", carriesEvents},
		{"is controlled by ctl from outside", controlled},
		{"ends when a process is frozen", endsFrozen},
	} {
		t.Run(fact.name, func(t *testing.T) { fact.check(t, cluster, o) })
	}
}

func credentials(t *testing.T, cluster *local.Cluster, o local.Options) {
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
		NATSURL string                       `json:"nats_url"`
		Systems []map[string]json.RawMessage `json:"systems"`
	}
	if err := json.Unmarshal(text, &content); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(content.NATSURL, "nats://127.0.0.1:") {
		t.Errorf("nats_url is %q", content.NATSURL)
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
	if len(read.Guests) != 1 || read.Guests[0].ID != "guest" || len(read.Guests[0].NATSPassword) < 32 {
		t.Errorf("the guests are %+v", read.Guests)
	}
	secrets, _ := filepath.Glob(filepath.Join(o.Dir, "alpha", "*.yaml"))
	secrets = append(secrets, filepath.Join(o.Dir, "nats-1", "broker.yaml"), filepath.Join(o.Dir, "secrets.json"), filepath.Join(o.Dir, "alpha", "operator.secret"))
	for _, path := range secrets {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s is readable for others: %v %v", path, info.Mode(), err)
		}
	}
}

func onlyOne(t *testing.T, _ *local.Cluster, o local.Options) {
	if _, err := local.Start(t.Context(), o); !errors.Is(err, local.ErrRunning) {
		t.Errorf("Start says: %v", err)
	}
}

func keptDown(t *testing.T, cluster *local.Cluster, _ local.Options) {
	const name = "alpha-redis-3" // which has not died before, so it would be back soon
	before := status(t, cluster, name)
	if err := cluster.Kill(name, true); err != nil {
		t.Fatal(err)
	}
	const longerThanARestart = 700 * time.Millisecond
	for end := time.Now().Add(longerThanARestart); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if listening(before.Address) {
			t.Fatal("it listens although it is kept down")
		}
	}
	if s := status(t, cluster, name); s.State != local.Down || s.PID != 0 {
		t.Errorf("its status is %+v", s)
	}
	for range 2 { // the second time it runs already
		if err := cluster.StartProcess(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if s := status(t, cluster, name); s.State != local.Running || s.Restarts != before.Restarts+1 {
		t.Errorf("its status is %+v", s)
	}
}

func restarted(t *testing.T, cluster *local.Cluster, o local.Options) {
	const name = "alpha-redis-2"
	before := status(t, cluster, name)
	if err := cluster.Credentials().Control().Do(t.Context(), "restart", name, false); err != nil {
		t.Fatal(err)
	}
	after := status(t, cluster, name)
	if after.State != local.Running || after.PID == before.PID || after.Restarts != before.Restarts+1 {
		t.Errorf("its status was %+v and is %+v", before, after)
	}
	log, err := os.ReadFile(filepath.Join(o.Dir, "logs", name+".log"))
	if err != nil || !strings.Contains(string(log), "Received SIGTERM") {
		t.Errorf("it did not end in good order (%v)", err)
	}
	if err := cluster.Kill(name, true); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Restart(t.Context(), name); err == nil || !strings.Contains(err.Error(), "is down") {
		t.Errorf("what is kept down is restarted: %v", err)
	}
	if err := cluster.StartProcess(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func silent(t *testing.T, cluster *local.Cluster, _ local.Options) {
	node := cluster.Credentials().Systems[0].Nodes[0]
	answers := func() bool {
		client := http.Client{Timeout: 300 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
		answer, err := client.Get(node)
		if err == nil {
			_ = answer.Body.Close()
		}
		return err == nil
	}
	if err := cluster.Stop("alpha-node-1"); err != nil || answers() {
		t.Errorf("a stopped node answers (%v)", err)
	}
	if s := status(t, cluster, "alpha-node-1"); s.State != local.Frozen {
		t.Errorf("its status is %+v", s)
	}
	if err := cluster.Continue("alpha-node-1"); err != nil {
		t.Error(err)
	}
	await(t, "a continued node answers", answers)
}

func flush(t *testing.T, cluster *local.Cluster, _ local.Options) {
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

func carriesEvents(t *testing.T, cluster *local.Cluster, o local.Options) {
	config := events.Default()
	config.URL, config.User, config.Password, config.System = cluster.Credentials().NATSURL, "alpha", natsPassword(t, o), "alpha"
	bus, err := events.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	published := 0
	publish := func() {
		t.Helper()
		published++
		m := events.Message{Subject: events.Transfer("alpha", "alpha", "committed"), ID: fmt.Sprint(published)}
		await(t, "a message is published", func() bool { return bus.Publish(t.Context(), m) == nil })
	}
	publish()
	if err := cluster.Kill("nats-1", true); err != nil {
		t.Fatal(err)
	}
	if err := cluster.StartProcess(t.Context(), "nats-1"); err != nil {
		t.Fatal(err)
	}
	publish()
	if err := cluster.Stop("nats-1"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := bus.Publish(ctx, events.Message{Subject: events.Own("alpha", "x"), ID: "x"}); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("while NATS is frozen Publish says %v", err)
	}
	if err := cluster.Continue("nats-1"); err != nil {
		t.Fatal(err)
	}
	publish()
	await(t, "all of them are kept", func() bool {
		backlog, err := bus.Backlog(t.Context())
		return err == nil && backlog.Pending == 3
	})
}

func controlled(t *testing.T, cluster *local.Cluster, o local.Options) {
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
	code, _, _ := send(t, http.MethodPost, cluster.Credentials().ControlURL+"/shutdown", nil)
	if code != http.StatusUnauthorized {
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

func endsFrozen(t *testing.T, cluster *local.Cluster, _ local.Options) {
	if err := cluster.Stop("alpha-node-2"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	cluster.Close()
	if took := time.Since(began); took > 40*time.Second {
		t.Errorf("Close took %s", took)
	}
	if listening(cluster.Processes()[0].Address) {
		t.Error("something still listens")
	}
}
