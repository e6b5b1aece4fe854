package local_test

import (
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"go.uber.org/goleak"

	"lockstep/cluster/local"
	"lockstep/cluster/local/process"
)

// programs are built once for all tests of the package.
var programs struct{ standin, cli string }

// TestMain lets more tests run at once than there are cores, for they wait for servers most of the time.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil { // the command line is read later
		panic(err)
	}
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

// options is a small cluster with stand-in nodes, in a directory of its own: one as
// awkward as they get, with blanks, and too long for the path of a socket.
func options(t *testing.T) local.Options {
	return local.Options{
		Dir: filepath.Join(t.TempDir(), strings.Repeat("a b ", 25)+"c"), Systems: []string{"alpha"}, Guests: []string{"guest"}, Nodes: 2, Binary: programs.standin, BufferPoolMB: 32,
		Progress: func(e local.Event) { t.Log(e.At.Format("15:04:05.000"), e.Process, e.Text) },
	}
}

// start starts a cluster. When its test fails, what its processes said last is shown: their logs go with the test's directory.
func start(t *testing.T, o local.Options) *local.Cluster {
	t.Helper()
	cluster, err := local.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		const lines = 12
		for _, p := range cluster.Processes() {
			t.Logf("%s is %s after %d restarts, and said:\n%s", p.Name, p.State, p.Restarts, process.LogTail(filepath.Join(o.Dir, "logs", p.Name+".log"), lines))
		}
	})
	return cluster
}

// patience bounds every wait of the tests; how soon something has to come is asserted where it matters.
const patience = 30 * time.Second

// await polls until the condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so after %s: %s", patience, what)
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

// natsPassword is that of alpha.
func natsPassword(t *testing.T, o local.Options) string {
	t.Helper()
	var secrets struct {
		Systems map[string]struct {
			NATS string `json:"nats"`
		} `json:"systems"`
	}
	text, err := os.ReadFile(filepath.Join(o.Dir, "secrets.json"))
	if err != nil || json.Unmarshal(text, &secrets) != nil {
		t.Fatalf("read the secrets: %v", err)
	}
	return secrets.Systems["alpha"].NATS
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
