package deploy_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/pingcap/tidb/pkg/parser"
	_ "github.com/pingcap/tidb/pkg/parser/test_driver"
	"github.com/redis/go-redis/v9"
	"go.yaml.in/yaml/v3"

	"lockstep/cluster/broker"
	"lockstep/cluster/local/process"
	"lockstep/cluster/local/servers"
	"lockstep/deploy"
	"lockstep/node"
)

const patience = 20 * time.Second

var write = flag.Bool("write", false, "write the files that are made from templates, instead of only comparing them")

// project is what the tests look at in a compose file, as Compose itself understands it.
type project struct {
	Services map[string]service `json:"services"`
	Secrets  map[string]struct {
		File string `json:"file"`
	} `json:"secrets"`
	Configs map[string]struct {
		File string `json:"file"`
	} `json:"configs"`
}

type service struct {
	Image       string             `json:"image"`
	User        string             `json:"user"`
	Build       any                `json:"build"`
	Environment map[string]*string `json:"environment"`
	Restart     string             `json:"restart"`
	CapDrop     []string           `json:"cap_drop"`
	SecurityOpt []string           `json:"security_opt"`
	Ports       []struct {
		HostIP string `json:"host_ip"`
	} `json:"ports"`
	HealthCheck *struct {
		Test    []string `json:"test"`
		Disable bool     `json:"disable"`
	} `json:"healthcheck"`
	DependsOn map[string]struct {
		Condition string `json:"condition"`
	} `json:"depends_on"`
}

// tool compiles a program of deploy/tools, which stays in the checkout's place for tests.
func tool(t *testing.T, name string) string {
	t.Helper()
	place, err := servers.Here()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(string(place), "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := process.LockWait(filepath.Join(bin, "lock")) // one run builds, the next finds it done
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	path := filepath.Join(bin, name)
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = filepath.Join("tools", name)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return path
}

// composed is the compose file as Compose's own library reads it.
func composed(t *testing.T) project {
	t.Helper()
	var said bytes.Buffer
	read := exec.Command(tool(t, "compose"), "compose.yaml")
	read.Stderr = &said
	out, err := read.Output()
	if err != nil {
		t.Fatalf("compose.yaml: %v\n%s", err, said.String())
	}
	var p project
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestComposeKeepsItsPromises(t *testing.T) {
	t.Parallel()
	p := composed(t)
	for _, name := range []string{
		"mysql-source", "mysql-replica", "redis-1", "redis-2", "redis-3", "nats-1", "nats-2", "nats-3", "node-1", "node-2", "balancer",
		"prometheus", "grafana",
	} {
		s, there := p.Services[name]
		if !there || s.HealthCheck == nil || len(s.HealthCheck.Test) < 2 {
			t.Errorf("%s is missing, or has no health check: %+v", name, s)
		}
	}
	tagged := regexp.MustCompile(`^[a-z0-9/.-]+:[A-Za-z0-9][\w.-]+$`)
	for name, s := range p.Services {
		if !tagged.MatchString(s.Image) || strings.HasSuffix(s.Image, ":latest") {
			t.Errorf("%s has the image %q: a tag that moves, or none", name, s.Image)
		}
		if !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s keeps rights that it does not need", name)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s listens on %q of the machine", name, port.HostIP)
			}
		}
		for key, value := range s.Environment {
			secret := regexp.MustCompile(`PASSWORD|SECRET|TOKEN|_SOURCE|_MIGRATE`).MatchString(key)
			if secret && (!strings.HasSuffix(key, "_FILE") || value == nil || !strings.HasPrefix(*value, "/run/secrets/")) {
				t.Errorf("%s has the secret %s in its environment", name, key)
			}
		}
		for needed, how := range s.DependsOn {
			if how.Condition == "service_started" {
				t.Errorf("%s does not wait until %s serves", name, needed)
			}
		}
	}
	for _, name := range []string{"node-1", "node-2", "redis-1", "nats-1"} {
		if user := p.Services[name].User; user == "" || strings.HasPrefix(user, "0") {
			t.Errorf("%s runs as %q", name, user)
		}
	}
	for name, config := range p.Configs {
		state, err := os.Stat(config.File)
		if err != nil {
			t.Errorf("configuration %s: %v", name, err)
		} else if strings.HasSuffix(name, ".sh") && state.Mode()&0o111 == 0 {
			t.Errorf("%s cannot be executed", name)
		}
	}
	made := secrets(t)
	for name, secret := range p.Secrets {
		state, err := os.Stat(filepath.Join(made, filepath.Base(secret.File)))
		if err != nil || state.Size() < 16 {
			t.Errorf("secret %s is not made by secrets.sh: %v", name, err)
		}
		if !strings.Contains(secret.File, "/compose/secrets/") {
			t.Errorf("secret %s would stand in %s, which git does not ignore", name, secret.File)
		}
	}
}

// secretsOnce makes them in the checkout's place for tests, anew in each run.
var secretsOnce = sync.OnceValues(func() (string, error) {
	place, err := servers.Here()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(string(place), "compose-secrets")
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, exec.Command("compose/secrets.sh", dir).Run()
})

// secrets is a directory with what compose/secrets.sh makes.
func secrets(t *testing.T) string {
	t.Helper()
	dir, err := secretsOnce()
	if err != nil {
		t.Fatalf("compose/secrets.sh: %v", err)
	}
	return dir
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// here is a file of compose/ with its secrets where secrets.sh has put them, and more changed besides.
func here(t *testing.T, name string, changes ...string) string {
	t.Helper()
	changes = append(changes, "/run/secrets", secrets(t))
	path := filepath.Join(t.TempDir(), filepath.Base(name))
	if err := os.WriteFile(path, []byte(strings.NewReplacer(changes...).Replace(read(t, "compose/"+name))), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// authority is what clients of the compose file's servers believe.
func authority(t *testing.T) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(read(t, filepath.Join(secrets(t), "ca.crt")))) {
		t.Fatal("ca.crt has no certificate")
	}
	return pool
}

func TestSecretsAreMadeOnceAndCertificatesNameTheirServers(t *testing.T) {
	t.Parallel()
	dir := secrets(t)
	before := read(t, filepath.Join(dir, "seal")) + read(t, filepath.Join(dir, "nats.crt"))
	if out, err := exec.Command("compose/secrets.sh", dir).CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("secrets.sh for the second time: %v\n%s", err, out)
	}
	if before != read(t, filepath.Join(dir, "seal"))+read(t, filepath.Join(dir, "nats.crt")) {
		t.Error("what was there is made anew")
	}
	if state, err := os.Stat(dir); err != nil || state.Mode().Perm() != 0o700 {
		t.Errorf("the directory is open to others: %v, %v", state.Mode(), err)
	}
	for file, names := range map[string][]string{
		"mysql.crt": {"mysql-source", "mysql-replica"}, "redis.crt": {"redis-1", "redis-2", "redis-3"},
		"nats.crt": {"nats-1", "nats-2", "nats-3"}, "node.crt": {"node-1", "node-2", "localhost"}, "balancer.crt": {"localhost"},
	} {
		block, _ := pem.Decode([]byte(read(t, filepath.Join(dir, file))))
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if _, err := certificate.Verify(x509.VerifyOptions{Roots: authority(t), DNSName: name}); err != nil {
				t.Errorf("%s for %s: %v", file, name, err)
			}
		}
	}
}

// The file that is checked in is what the balancer's template makes, and HAProxy takes it.
func TestHAProxyAcceptsTheBalancerOfCompose(t *testing.T) {
	t.Parallel()
	config := deploy.HAProxy{
		System: "alpha", Listen: ":8443", Script: "/usr/local/etc/haproxy/too_large.lua", Nodes: []string{"node-1:8080", "node-2:8080"},
		Certificate: "/run/secrets/balancer.pem", NodesCA: "/run/secrets/ca.crt", Resolver: "127.0.0.11:53",
	}
	var text bytes.Buffer
	if err := config.Render(&text); err != nil {
		t.Fatal(err)
	}
	if *write {
		if err := os.WriteFile("compose/haproxy.cfg", text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text.String() != read(t, "compose/haproxy.cfg") {
		t.Error("compose/haproxy.cfg is not what haproxy.cfg.tmpl makes; go test ./deploy -run Compose -write writes it")
	}
	if n := strings.Count(text.String(), "verify required"); n != 2 {
		t.Errorf("the certificates of %d nodes are looked at", n)
	}
	script, err := filepath.Abs("too_large.lua")
	if err != nil {
		t.Fatal(err)
	}
	haproxy, err := process.Find("haproxy")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(haproxy, "-c", "-f", here(t, "haproxy.cfg", config.Script, script)).CombinedOutput()
	if err != nil || strings.Contains(string(out), "WARNING") {
		t.Errorf("haproxy -c: %v\n%s", err, out)
	}
}

// A node starts on the configuration of the compose file: each key is known, each file is there.
func TestANodeTakesTheConfigurationOfCompose(t *testing.T) {
	t.Parallel()
	config, err := node.Load(here(t, "node.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, on := range map[string]string{
		"mysql": config.MySQL.On, "redis": config.RedisAccess.On, "nats": config.NATS.On, "peers": config.Peers.On,
	} {
		if on != "on" {
			t.Errorf("%s is spoken to in clear", what)
		}
	}
	if config.ListenTLS.Cert == "" || config.RedisAccess.Password == "" || !strings.Contains(config.MySQL.Source, "mysql-source") {
		t.Errorf("the configuration lacks something: %+v", config)
	}
}

// redisServer starts a Redis server on the configuration of the compose file.
func redisServer(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	listener.Close()
	_, port, _ := net.SplitHostPort(address)
	path, err := process.Find("redis-server")
	if err != nil {
		t.Fatal(err)
	}
	redis := exec.Command(path, here(t, "redis.conf", "tls-port 6379", "bind 127.0.0.1\ntls-port "+port))
	if err := redis.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Process.Signal(syscall.SIGTERM); _ = redis.Wait() })
	return address
}

func TestRedisOfComposeTakesTLSAndThePasswordOnly(t *testing.T) {
	t.Parallel()
	address := redisServer(t)
	password := strings.TrimSpace(read(t, filepath.Join(secrets(t), "redis_password")))
	sound := &tls.Config{RootCAs: authority(t), ServerName: "redis-1"}
	ping := func(password string, config *tls.Config) error {
		client := redis.NewClient(&redis.Options{Addr: address, Password: password, TLSConfig: config, MaxRetries: -1, DialTimeout: time.Second})
		return errors.Join(client.Ping(t.Context()).Err(), client.Close())
	}
	deadline := time.Now().Add(patience)
	err := ping(password, sound)
	for ; err != nil && time.Now().Before(deadline); err = ping(password, sound) {
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := ping("", sound); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
		t.Errorf("without a password: %v", err)
	}
	if err := ping(password, nil); err == nil {
		t.Error("the server answers in clear")
	}
}

// natsOptions reads the configuration of the compose file as `nats-server -t` does.
func natsOptions(t *testing.T) *server.Options {
	t.Helper()
	t.Setenv("NATS_NAME", "nats-1")
	path := here(t, "nats.conf", "include ../../run/secrets", "include secrets", "/data", t.TempDir())
	if err := os.Symlink(secrets(t), filepath.Join(filepath.Dir(path), "secrets")); err != nil {
		t.Fatal(err)
	}
	options, err := server.ConfigureOptions(flag.NewFlagSet("nats-server", flag.ContinueOnError), []string{"-t", "-c", path}, nil, nil, nil)
	if err != nil {
		t.Fatalf("nats-server -t: %v", err)
	}
	return options
}

// The accounts are those that the built-in broker has, which is tested in full; and they work, over TLS alone.
func TestNATSOfComposeKeepsSystemsApart(t *testing.T) {
	options := natsOptions(t)
	ours := broker.Default()
	ours.StoreDir = t.TempDir()
	for _, id := range []string{"alpha", "beta"} {
		ours.Systems = append(ours.Systems, broker.System{ID: id, Password: strings.Repeat("x", 16)})
	}
	wanted, err := ours.Options()
	if err != nil {
		t.Fatal(err)
	}
	rights := func(o *server.Options) map[string]*server.Permissions {
		all := map[string]*server.Permissions{}
		for _, user := range o.Users {
			all[user.Account.Name+"/"+user.Username] = user.Permissions
		}
		return all
	}
	if !reflect.DeepEqual(rights(options), rights(wanted)) {
		t.Errorf("users may something else than the broker's own")
	}
	if !options.SyncAlways || options.MaxPayload != wanted.MaxPayload || options.JetStreamMaxMemory != wanted.JetStreamMaxMemory {
		t.Errorf("sync always %v, payload %d", options.SyncAlways, options.MaxPayload)
	}
	if len(options.Routes) != 3 || options.Cluster.TLSConfig == nil || options.Cluster.TLSConfig.ClientAuth != tls.RequireAndVerifyClientCert || options.Cluster.Password == "" {
		t.Errorf("servers are joined by %v, TLS %v", len(options.Routes), options.Cluster.TLSConfig != nil)
	}

	// One of the three, by itself and on a port of its own.
	options.Host, options.Port, options.HTTPPort, options.Routes, options.Cluster, options.NoSigs = "127.0.0.1", -1, 0, nil, server.ClusterOpts{}, true
	nats1, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	nats1.Start()
	t.Cleanup(func() { nats1.Shutdown(); nats1.WaitForShutdown() })
	if !nats1.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	address, err := url.Parse(nats1.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	dial := func(system string, roots *x509.CertPool, options ...nats.Option) (*nats.Conn, error) {
		password := strings.TrimSpace(read(t, filepath.Join(secrets(t), "nats_password_"+system)))
		options = append(options, nats.UserInfo(system, password), nats.Secure(&tls.Config{RootCAs: roots, ServerName: "nats-1"}))
		return nats.Connect("nats://"+address.Host, options...)
	}
	if conn, err := dial("alpha", x509.NewCertPool()); err == nil || !strings.Contains(err.Error(), "certificate") {
		conn.Close()
		t.Errorf("a client believes an authority that it does not know: %v", err)
	}
	denied := make(chan error, 1)
	alpha, err := dial("alpha", authority(t), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer alpha.Close()
	beta, err := dial("beta", authority(t))
	if err != nil {
		t.Fatal(err)
	}
	defer beta.Close()
	streams, err := beta.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := streams.AddStream(&nats.StreamConfig{Name: "IN-beta", Subjects: []string{"lockstep.*.beta.transfer.*"}}); err != nil {
		t.Fatal(err)
	}
	sender, err := alpha.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sender.Publish("lockstep.alpha.beta.transfer.committed", []byte("1")); err != nil {
		t.Errorf("alpha tells beta: %v", err)
	}
	if err := alpha.Publish("lockstep.beta.beta.transfer.committed", []byte("forged")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-denied:
		if !strings.Contains(err.Error(), "lockstep.beta.beta") {
			t.Errorf("alpha is told %v", err)
		}
	case <-time.After(patience):
		t.Error("nobody minds that alpha speaks as beta")
	}
}

// MySQL cannot be run here. What its first start executes is valid SQL of MySQL, but for the statements that the parser at
// hand does not know, which are listed; and each server gets its part.
func TestMySQLOfComposeGetsItsAccountsAndItsSource(t *testing.T) {
	t.Parallel()
	unknown := regexp.MustCompile(`^(RESET BINARY LOGS AND GTIDS|CHANGE REPLICATION SOURCE TO|SET PERSIST)\b`)
	for role, own := range map[string]string{"source": "CREATE DATABASE lockstep", "replica": "CHANGE REPLICATION SOURCE TO"} {
		bin := t.TempDir()
		taken := filepath.Join(bin, "taken.sql")
		if err := os.WriteFile(filepath.Join(bin, "mysql"), []byte("#!/bin/sh\ncat >"+taken+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		run := exec.Command("bash", here(t, "mysql/accounts.sh"))
		run.Env = append(os.Environ(), "ROLE="+role, "PATH="+bin+":"+os.Getenv("PATH"))
		if out, err := run.CombinedOutput(); err != nil {
			t.Fatalf("accounts.sh: %v\n%s", err, out)
		}
		text := regexp.MustCompile(`(?m)^--.*\n`).ReplaceAllString(read(t, taken), "")
		for statement := range strings.SplitSeq(text, ";\n") {
			if statement = strings.TrimSpace(statement); statement == "" || unknown.MatchString(statement) {
				continue
			}
			if _, _, err := parser.New().Parse(statement, "", ""); err != nil {
				t.Errorf("%s: %v in %s", role, err, statement)
			}
		}
		if !strings.Contains(text, own) || strings.Count(text, "REQUIRE SSL") != 4 || strings.Count(text, "CREATE DATABASE")+strings.Count(text, "CHANGE REPLICATION") != 1 {
			t.Errorf("the %s runs:\n%s", role, text)
		}
		for _, line := range strings.Split(text, "\n") {
			if strings.Contains(line, "TO 'lockstep'@") && line != "GRANT SELECT, INSERT, UPDATE, DELETE ON lockstep.* TO 'lockstep'@'%';" {
				t.Errorf("nodes get more rights than they need: %s", line)
			}
		}
	}
	for file, settings := range map[string][]string{
		"mysql.cnf":   {"require_secure_transport = ON", "sync_binlog = 1", "innodb_flush_log_at_trx_commit = 1", "gtid_mode = ON", "enforce_gtid_consistency = ON"},
		"source.cnf":  {"server_id = 1", "source_enabled = ON", "wait_point = AFTER_SYNC"},
		"replica.cnf": {"server_id = 2", "replica_enabled = ON", "read_only = ON", "relay_log_recovery = ON"},
	} {
		text := read(t, "compose/mysql/"+file)
		for _, setting := range settings {
			if !strings.Contains(text, setting+"\n") {
				t.Errorf("%s lacks %s", file, setting)
			}
		}
	}
}

// The alerts know a system by the name of its job: a job of another name would never raise one.
func TestPrometheusNamesItsJobsAsTheAlertsKnowThem(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("compose/prometheus.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Jobs []struct {
			Name string `yaml:"job_name"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil || len(config.Jobs) == 0 {
		t.Fatalf("no jobs in prometheus.yaml: %v", err)
	}
	for _, job := range config.Jobs {
		if system, known := strings.CutPrefix(job.Name, "lockstep-"); !known || system == "" {
			t.Errorf("no alert looks at the job %s", job.Name)
		}
	}
}
