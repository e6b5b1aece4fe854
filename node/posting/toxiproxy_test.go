package posting_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/cluster/local/process"
	"lockstep/cluster/local/servers"
	"lockstep/node/ledger"
)

// toxiproxy is a Toxiproxy server with one proxy, in front of a database. Unlike this package's own proxy it knows nothing
// of what it carries, and cuts by itself.
type toxiproxy struct {
	*world
	api    string // of its one proxy
	listen string
	http   http.Client
}

// toxiproxy builds the server at its first use, for it is no dependency of ours, and starts it.
func (w *world) toxiproxy(upstream string) *toxiproxy {
	w.Helper()
	host, port, err := net.SplitHostPort(w.freeAddress())
	must(w, err)
	cmd := exec.Command(w.toxiproxyServer(), "-host", host, "-port", port)
	cmd.Env = append(os.Environ(), "LOG_LEVEL=error") // it tells of every connection otherwise
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(w, cmd.Start())
	p := &toxiproxy{world: w, api: "http://" + net.JoinHostPort(host, port) + "/proxies", http: http.Client{Timeout: patience}}
	w.Cleanup(func() {
		p.http.CloseIdleConnections()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if w.Failed() {
			w.Logf("toxiproxy: %s", said.Bytes())
		}
	})
	w.eventually("toxiproxy answers", func() bool { return p.call(http.MethodGet, "", nil, nil) == nil })
	var made struct{ Listen string }
	must(w, p.call(http.MethodPost, "", map[string]any{"name": "source", "listen": "127.0.0.1:0", "upstream": upstream, "enabled": true}, &made))
	p.api, p.listen = p.api+"/source", made.Listen
	return p
}

// toxiproxyServer compiles the server, which stays in the checkout's place for tests.
func (w *world) toxiproxyServer() (path string) {
	w.Helper()
	place, err := servers.Here()
	must(w, err)
	bin := filepath.Join(string(place), "bin")
	must(w, os.MkdirAll(bin, 0o755))
	lock, err := process.LockWait(filepath.Join(bin, "lock")) // one run builds, the next finds it done
	must(w, err)
	defer lock.Close()
	path = filepath.Join(bin, "toxiproxy-server")
	cmd := exec.Command("go", "build", "-o", path, "tool")
	cmd.Dir = filepath.Join(string(place), "..", "..", "deploy", "tools", "toxiproxy")
	if out, err := cmd.CombinedOutput(); err != nil {
		w.Fatalf("build toxiproxy: %v\n%s", err, out)
	}
	return path
}

// freeAddress finds a port that nobody uses at the moment.
func (w *world) freeAddress() string {
	w.Helper()
	address, err := process.FreeAddress()
	must(w, err)
	return address
}

// through makes a node reach the database through the proxy.
func (p *toxiproxy) through(o *options) {
	dsn := p.database.Source
	o.store.Source = dsn[:strings.Index(dsn, "(")+1] + p.listen + dsn[strings.Index(dsn, ")"):]
}

// cutAnswers makes the proxy close each connection in place of the next bytes from the database.
func (p *toxiproxy) cutAnswers() error {
	return p.call(http.MethodPost, "/toxics", map[string]any{
		"name": "cut", "type": "limit_data", "stream": "downstream", "attributes": map[string]int{"bytes": 0},
	}, nil)
}

func (p *toxiproxy) carryAnswers() error { return p.call(http.MethodDelete, "/toxics/cut", nil, nil) }

// call asks the server's API below the proxy's address.
func (p *toxiproxy) call(method, path string, body, into any) error {
	content, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(context.Background(), method, p.api+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	response, err := p.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = fmt.Errorf("toxiproxy answers %d: %s", response.StatusCode, answer)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(answer, into)
	}
	return err
}

// The reply to COMMIT is cut 100 times, once for each of 100 deposits that make a batch of their own. All of them were
// made, and nearly every caller hears so within the time that the edge gives it; the others learn it by asking again.
func TestCutRepliesToCommitAreAnsweredDefinitely(t *testing.T) {
	t.Parallel()
	const cuts, definiteMin, deadline = 100, 95, 5 * time.Second
	w := newWorld(t)
	p := w.toxiproxy(servers.Shared(t).SourceAddr)
	var key atomic.Pointer[string] // of the deposit whose COMMIT loses its reply; nil: none does
	var made atomic.Int64          // COMMITs that had succeeded when their reply was lost
	n := w.open(p.through, func(o *options) {
		o.engine.Fault = func(point string) error {
			switch {
			case key.Load() == nil:
				return nil
			case point == "before_commit":
				return p.cutAnswers()
			}
			made.Add(w.number("SELECT COUNT(*) FROM transfers WHERE reference = ?", *key.Swap(nil)))
			return p.carryAnswers()
		}
	})
	account := n.funded(1)
	definite := 0
	for range cuts {
		operation := deposit(account, 10)
		operation.Reference = newID()
		command := asked(operation, operation.Reference)
		key.Store(&operation.Reference)
		switch first := n.within(deadline, command); {
		case first.ok():
			definite++
		case first.code() != ledger.OutcomeUnknown:
			t.Errorf("a COMMIT whose reply was cut was answered %q: %v", first.code(), first.err)
		default:
			if again := n.submit(command); !again.ok() {
				t.Errorf("the repeat of an unknown outcome: %q, %v", again.code(), again.err)
			}
		}
		if rows := w.number("SELECT COUNT(*) FROM transfers WHERE reference = ?", operation.Reference); rows != 1 {
			t.Errorf("a deposit is in the journal %d times", rows)
		}
	}
	lost := n.metric("unknown_commits_total")
	t.Logf("%d of %d callers got the definite answer; %v replies to COMMIT were lost, %d of those had succeeded", definite, cuts, lost, made.Load())
	if definite < definiteMin {
		t.Errorf("only %d of %d callers got the definite answer, want %d", definite, cuts, definiteMin)
	}
	if made.Load() != cuts || lost < cuts {
		t.Errorf("%d COMMITs succeeded and %v replies were lost, want %d", made.Load(), lost, cuts)
	}
	if balance := w.posted(account); balance != 1+10*cuts {
		t.Errorf("the balance is %d, want %d", balance, 1+10*cuts)
	}
	w.verify()
}
