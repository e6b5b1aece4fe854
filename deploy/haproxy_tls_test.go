package deploy_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"lockstep/cluster/local/process"
	"lockstep/deploy"
)

// nodeOverTLS answers as a healthy node does, with a node's certificate.
func nodeOverTLS(t *testing.T) (address string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(secrets(t), "node.crt"), filepath.Join(secrets(t), "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	node := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "a node") }))
	node.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	node.StartTLS()
	t.Cleanup(node.Close)
	_, port, _ := net.SplitHostPort(node.Listener.Addr().String())
	return "localhost:" + port
}

// balance starts HAProxy with TLS on both sides.
func balance(t *testing.T, node, nodesCA string) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	listener.Close()
	script, err := filepath.Abs("too_large.lua")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "haproxy.cfg")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	config := deploy.HAProxy{
		System: "alpha", Listen: address, Script: script, Nodes: []string{node},
		Certificate: filepath.Join(secrets(t), "balancer.pem"), NodesCA: nodesCA,
	}
	if err := config.Render(file); err != nil {
		t.Fatal(err)
	}
	program, err := process.Find("haproxy")
	if err != nil {
		t.Fatal(err)
	}
	haproxy := exec.Command(program, "-db", "-f", path)
	if err := haproxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = haproxy.Process.Signal(syscall.SIGTERM); _ = haproxy.Wait() })
	return address
}

// The balancer shows its certificate, and believes nodes of its authority only.
func TestTheBalancerSpeaksTLSToBothSides(t *testing.T) {
	t.Parallel()
	node := nodeOverTLS(t)
	strange := t.TempDir()
	if out, err := exec.Command("compose/secrets.sh", strange).CombinedOutput(); err != nil {
		t.Fatalf("secrets.sh: %v\n%s", err, out)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority(t), ServerName: "localhost"}, DisableKeepAlives: true}
	client := http.Client{Transport: transport, Timeout: patience}
	ask := func(address string) string {
		answer, err := client.Get("https://" + address + "/")
		if err != nil {
			return err.Error()
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		return string(text)
	}
	for ca, want := range map[string]string{
		filepath.Join(secrets(t), "ca.crt"): "a node", filepath.Join(strange, "ca.crt"): `"code":"overloaded"`,
	} {
		address := balance(t, node, ca)
		var body string
		for deadline := time.Now().Add(patience); !strings.Contains(body, want) && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			body = ask(address)
		}
		if !strings.Contains(body, want) {
			t.Errorf("with nodes of the authority %s the balancer answers %s, want %s", ca, body, want)
		}
	}
}
