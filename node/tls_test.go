package node_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/big"
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

	"github.com/go-sql-driver/mysql"
	"go.yaml.in/yaml/v3"

	"lockstep/cluster/broker"
	"lockstep/cluster/local/process"
	"lockstep/node"
)

// authority signs certificates for the servers of a test.
type authority struct {
	testing.TB
	file string // its own certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{TB: tb, file: filepath.Join(tb.TempDir(), "ca.pem")}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(tb, err)
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	must(tb, err)
	must(tb, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	return a
}

// sign makes a certificate for 127.0.0.1 and a name, as the files cert.pem and key.pem of a directory.
func (a *authority) sign(dir, name string) (cert, key string) {
	a.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &private.PublicKey, a.key)
	must(a, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	must(a, err)
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(a, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	must(a, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	return cert, key
}

// pool is what a client of the authority's servers believes.
func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	text, err := os.ReadFile(a.file)
	must(a, err)
	pool.AppendCertsFromPEM(text)
	return pool
}

// secured is the servers that a node needs, all of which take TLS only.
type secured struct {
	*authority
	mysql, redis string // host:port
	broker       *broker.Broker
}

func newSecured(tb testing.TB) *secured {
	tb.Helper()
	s := &secured{authority: newAuthority(tb), mysql: freeAddress(tb), redis: freeAddress(tb)}
	s.startMariaDB()
	s.startRedis()
	config := broker.Default()
	config.Port, config.StoreDir, config.TLS = -1, tb.TempDir(), &broker.TLS{}
	config.TLS.Cert, config.TLS.Key = s.sign(tb.TempDir(), "nats.test")
	for _, id := range []string{"alpha", "beta"} {
		config.Systems = append(config.Systems, broker.System{ID: id, Password: secret})
	}
	var err error
	s.broker, err = broker.Open(config, slog.New(slog.DiscardHandler))
	must(tb, err)
	tb.Cleanup(s.broker.Close)
	return s
}

// run starts a server that ends with the test.
func (s *secured) run(program string, args ...string) {
	s.Helper()
	path, err := process.Find(program)
	must(s, err)
	var said bytes.Buffer
	server := exec.Command(path, args...)
	server.Stdout, server.Stderr = &said, &said
	must(s, server.Start())
	s.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
		if s.Failed() {
			s.Logf("%s: %s", program, said.String())
		}
	})
}

func (s *secured) startMariaDB() {
	s.Helper()
	dir := s.TempDir()
	install, err := process.Find("mariadb-install-db")
	must(s, err)
	owner := []string{}
	if os.Getuid() == 0 {
		owner = []string{"--user=root"}
	}
	data := filepath.Join(dir, "data")
	args := append([]string{"--no-defaults", "--datadir=" + data, "--auth-root-authentication-method=normal", "--skip-test-db"}, owner...)
	out, err := exec.Command(install, args...).CombinedOutput()
	if err != nil {
		s.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	host, port, err := net.SplitHostPort(s.mysql)
	must(s, err)
	cert, key := s.sign(dir, "mysql.test")
	s.run("mariadbd", append([]string{
		"--no-defaults", "--datadir=" + data, "--bind-address=" + host, "--port=" + port, "--socket=mariadb.sock", "--skip-name-resolve",
		"--ssl-cert=" + cert, "--ssl-key=" + key, "--require-secure-transport=ON", "--log-bin=binlog", "--server-id=1",
		"--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0",
	}, owner...)...)
}

func (s *secured) startRedis() {
	s.Helper()
	dir := s.TempDir()
	_, port, err := net.SplitHostPort(s.redis)
	must(s, err)
	cert, key := s.sign(dir, "redis.test")
	s.run("redis-server", "--bind", "127.0.0.1", "--port", "0", "--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key,
		"--tls-auth-clients", "no", "--tls-ca-cert-file", s.file, "--requirepass", secret, "--save", "", "--dir", dir)
}

// dsn is the root account's, of a schema; what is no database yet gets made.
func (s *secured) dsn(schema string) string {
	s.Helper()
	connector, err := mysql.NewConnector(&mysql.Config{
		User: "root", Net: "tcp", Addr: s.mysql, TLS: &tls.Config{RootCAs: s.pool(), ServerName: "mysql.test"}, AllowNativePasswords: true,
		Logger: &mysql.NopLogger{},
	})
	must(s, err)
	db := sql.OpenDB(connector)
	defer db.Close()
	deadline := time.Now().Add(patience)
	for {
		_, err = db.Exec("CREATE DATABASE IF NOT EXISTS " + schema)
		if err == nil || time.Now().After(deadline) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	must(s, err)
	return "root@tcp(" + s.mysql + ")/" + schema
}

// section joins the keys of TLS to others.
func section(ca string, keys map[string]any) map[string]any {
	all := map[string]any{"tls": "on", "tls_ca": ca}
	maps.Copy(all, keys)
	return all
}

// config is a node's configuration file; change may break it.
func (s *secured) config(id, listen string, change func(config map[string]any)) string {
	s.Helper()
	dir, dsn := s.TempDir(), s.dsn(id)
	cert, key := s.sign(dir, id+".test")
	config := map[string]any{
		"system": id, "listen": listen, "admin_listen": freeAddress(s), "secret": secret, "drain": "0s", "allow_unsafe": true,
		"listen_tls": map[string]any{"cert": cert, "key": key},
		"mysql":      section(s.file, map[string]any{"source": dsn, "migrate": dsn, "replicas": []string{dsn}, "tls_server_name": "mysql.test"}),
		"redis":      []string{s.redis}, "redis_access": section(s.file, map[string]any{"password": secret}),
		"nats":  section(s.file, map[string]any{"url": s.broker.URL(), "user": id, "password": secret}),
		"peers": section(s.file, map[string]any{"authorities": []string{listen}}),
	}
	if change != nil {
		change(config)
	}
	text, err := yaml.Marshal(config)
	must(s, err)
	path := filepath.Join(dir, "node.yaml")
	must(s, os.WriteFile(path, text, 0o600))
	return path
}

// logged keeps what a node logs.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) has(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.SplitSeq(l.text.String(), "\n") {
		found := true
		for _, word := range words {
			found = found && strings.Contains(line, word)
		}
		if found {
			return true
		}
	}
	return false
}

// serve runs the node of a configuration until the test ends.
func (s *secured) serve(path string) *logged {
	s.Helper()
	config, err := node.Load(path, nil)
	must(s, err)
	said := &logged{}
	opened, err := node.Open(context.Background(), config, "test", slog.New(slog.NewTextHandler(said, nil)))
	must(s, err)
	running, end := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- opened.Run(running) }()
	s.Cleanup(func() {
		end()
		if err := <-done; err != nil {
			s.Errorf("the node ends: %v", err)
		}
	})
	return said
}

// ready is the part of readyz's answer that the tests look at.
type ready struct {
	Status   string
	Source   string
	Redis    []struct{ Status string }
	Replicas []struct{ Status string }
	Warnings []string
}

// ask reads readyz through TLS.
func (s *secured) ask(listen string) (answer ready, err error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.pool()}, DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Get("https://" + listen + "/readyz")
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	return answer, json.NewDecoder(response.Body).Decode(&answer)
}

func (s *secured) eventually(what string, is func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// A server that was promoted shows a certificate of its own, in which the name of the one that it replaced does not stand.
func TestANodeFollowsToAServerOfAnotherName(t *testing.T) {
	s := newSecured(t)
	_, port, err := net.SplitHostPort(freeAddress(t))
	must(t, err)
	listen := freeAddress(t)
	path := s.config("alpha", listen, func(config map[string]any) {
		database := config["mysql"].(map[string]any)
		delete(database, "tls_server_name")
		delete(database, "replicas")
		database["source"], database["candidates"] = "root@tcp(localhost:"+port+")/alpha", []string{s.mysql}
	})
	must(t, (&node.MigrateCommand{ConfigFlags: node.ConfigFlags{Config: path}}).Run(t.Context()))
	s.serve(path)
	s.eventually("the node serves with the source that took the place of one away", func() bool {
		answer, err := s.ask(listen)
		return err == nil && answer.Status == "ready" && answer.Source == "up"
	})
}

// Database, lock servers, broker, listener and peers: with servers that take nothing else, all of it works over TLS, and
// nothing of it when another authority is believed.
func TestANodeSpeaksTLSToAllAndBelievesOnlyItsAuthority(t *testing.T) {
	s := newSecured(t)
	strange := newAuthority(t)
	listen, others := freeAddress(t), freeAddress(t)
	sound, theirs := s.config("alpha", listen, nil), s.config("beta", others, nil)
	keys := map[string]string{sound: filepath.Join(t.TempDir(), "alpha"), theirs: filepath.Join(t.TempDir(), "beta")}
	for path, keyFile := range keys {
		flags := node.ConfigFlags{Config: path}
		must(t, (&node.MigrateCommand{ConfigFlags: flags}).Run(t.Context()))
		must(t, (&node.KeygenCommand{ConfigFlags: flags, Out: keyFile}).Run(t.Context(), io.Discard))
	}
	for path, peer := range map[string]node.AddPeerCommand{
		sound:  {ID: "beta", URL: "https://" + others, JWKSFile: keys[theirs]},
		theirs: {ID: "alpha", URL: "https://" + listen, JWKSFile: keys[sound]},
	} {
		peer.ConfigFlags.Config = path
		must(t, peer.Run(t.Context(), io.Discard))
	}
	s.serve(sound)
	s.serve(theirs)
	s.eventually("readyz tells that all servers are reached", func() bool {
		answer, err := s.ask(listen)
		return err == nil && answer.Status == "ready" && answer.Source == "up" && answer.Redis[0].Status == "up" &&
			!strings.Contains(strings.Join(answer.Warnings, " "), "nats")
	})
	if answer, err := http.Get("http://" + listen + "/readyz"); err == nil {
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			t.Error("the listener serves in clear as well")
		}
	}
	probe := node.ProbeCommand{URL: "https://" + listen + "/readyz", CA: s.file}
	if err := probe.Run(t.Context()); err != nil {
		t.Errorf("probing a healthy node: %v", err)
	}
	probe.CA = strange.file
	if err := probe.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("probing a node of another authority: %v", err)
	}
	probe.CA, probe.URL = s.file, "https://"+listen+"/nowhere"
	if err := probe.Run(t.Context()); !errors.Is(err, node.ErrUnhealthy) {
		t.Errorf("probing what answers 404: %v", err)
	}
	ask := func(path string) error {
		return (&node.TestPeerCommand{ConfigFlags: node.ConfigFlags{Config: path}, ID: "alpha"}).Run(t.Context(), io.Discard)
	}
	if err := ask(theirs); err != nil {
		t.Errorf("asking the peer over https: %v", err)
	}

	change := func(name, key string, value any) func(map[string]any) {
		return func(config map[string]any) { config[name].(map[string]any)[key] = value }
	}
	err := ask(s.config("beta", freeAddress(t), change("peers", "tls_ca", strange.file)))
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a peer of another authority is asked: %v", err)
	}
	for what, broken := range map[string]func(map[string]any){
		"authority": change("mysql", "tls_ca", strange.file),
		"name":      change("mysql", "tls_server_name", "elsewhere.test"),
	} {
		path := s.config("alpha", freeAddress(t), broken)
		err := (&node.MigrateCommand{ConfigFlags: node.ConfigFlags{Config: path}}).Run(t.Context())
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("a database of another %s is written to: %v", what, err)
		}
	}
	third := freeAddress(t)
	said := s.serve(s.config("alpha", third, func(config map[string]any) {
		change("redis_access", "tls_ca", strange.file)(config)
		change("nats", "tls_ca", strange.file)(config)
	}))
	s.eventually("the log tells which certificates are not believed", func() bool {
		return said.has("lock server", "certificate") && said.has("broker", "certificate")
	})
	s.eventually("readyz tells that neither lock server nor broker is reached, and serves on", func() bool {
		answer, err := s.ask(third)
		return err == nil && answer.Status == "ready" && answer.Redis[0].Status == "down" &&
			strings.Contains(strings.Join(answer.Warnings, " "), "nats: no broker")
	})
}

// A certificate that is renewed is shown to the next who connects, without a restart; half a renewal shows the one before.
func TestARenewedCertificateIsShownWithoutARestart(t *testing.T) {
	t.Parallel()
	a, dir := newAuthority(t), t.TempDir()
	cert, key := a.sign(dir, "first.test")
	path := write(t, "node.yaml", sound+fmt.Sprintf("listen: 127.0.0.1:0\nlisten_tls: {cert: %s, key: %s}\n", cert, key))
	config, err := node.Load(path, nil)
	must(t, err)
	listener, err := node.Listen(config)
	must(t, err)
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	shown := func() string {
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{RootCAs: a.pool()})
		must(t, err)
		name := conn.ConnectionState().PeerCertificates[0].DNSNames[0]
		must(t, conn.Close())
		return name
	}
	if name := shown(); name != "first.test" {
		t.Fatalf("the certificate is of %s", name)
	}
	other := t.TempDir()
	_, _ = a.sign(other, "second.test")
	later := time.Now().Add(time.Minute) // file systems with coarse times
	must(t, os.Rename(filepath.Join(other, "cert.pem"), cert))
	must(t, os.Chtimes(cert, later, later))
	if name := shown(); name != "first.test" {
		t.Errorf("with half a renewal the certificate is of %s", name)
	}
	must(t, os.Rename(filepath.Join(other, "key.pem"), key))
	if name := shown(); name != "second.test" {
		t.Errorf("after the renewal the certificate is of %s", name)
	}
}

// What cannot be kept secret as it is configured is refused at the start, by the name of the key.
func TestUnsoundTLSIsRefusedByName(t *testing.T) {
	t.Parallel()
	empty := write(t, "empty.pem", "nothing\n")
	for key, text := range map[string]string{
		"nats.tls_ca: ":            "nats: {tls: on, tls_ca: /nowhere/ca.pem}\n",
		"peers.tls_ca: ":           "peers: {tls: on, tls_ca: " + empty + "}\n",
		"redis_access.tls: is off": "redis_access: {tls_ca: " + empty + "}\n",
		"redis_access.tls: ":       "redis_access: {tls: perhaps}\n",
		"nats.tls_cert and":        "nats: {tls: on, tls_cert: " + empty + "}\n",
		"listen_tls: ":             "listen_tls: {cert: " + empty + "}\n",
	} {
		_, err := node.Load(write(t, "node.yaml", sound+text), nil)
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%q is refused with: %v", text, err)
		}
	}
}
