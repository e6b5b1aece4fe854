package e2e_test

import (
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"

	"lockstep/cluster/local/process"
)

// extra is one more node of the shared cluster, started by a test itself, with a configuration of its own. The balancer
// does not know it.
type extra struct {
	*process.Process
	base  string
	admin string
}

// join starts an extra node: configured as the first node is, but for its addresses and what changes says.
func (s *site) join(t *testing.T, changes map[string]any) *extra {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.options.Dir, "alpha", "node-1.yaml"))
	config := map[string]any{}
	if err == nil {
		err = yaml.Unmarshal(text, &config)
	}
	if err != nil {
		t.Fatalf("read a node's configuration: %v", err)
	}
	listen, admin := freeAddress(t), freeAddress(t)
	config["listen"], config["admin_listen"] = listen, admin
	maps.Copy(config, changes)
	name := "extra-node-" + uuid.NewString()[:8]
	path := filepath.Join(s.options.Dir, "alpha", name+".yaml")
	if text, err = yaml.Marshal(config); err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatalf("configure a node: %v", err)
	}
	started, err := process.Start(process.Spec{
		Name: name, Path: program, Args: []string{"node", "--config", path}, Env: append(environment(), hasty),
		Log: filepath.Join(s.options.Dir, "logs", name+".log"), PIDFile: filepath.Join(s.options.Dir, "run", name+".pid"),
	})
	if err != nil {
		t.Fatal(err)
	}
	n := &extra{Process: started, base: "http://" + listen, admin: "http://" + admin}
	t.Cleanup(func() {
		n.Signal(syscall.SIGKILL)
		<-n.Done()
	})
	nobodys := caller{TB: t, site: s, base: n.base, quick: true}
	eventually(t, "the extra node is ready", func() bool {
		return n.gone() || nobodys.get("/readyz").status == http.StatusOK
	})
	return n
}

func (n *extra) gone() bool {
	select {
	case <-n.Done():
		return true
	default:
		return false
	}
}

// freeAddress finds a port that nobody uses at the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := process.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// A node is killed between COMMIT and the answer. Asked again through another node, the key has one effect and one
// answer, that of the transaction which nobody heard of; 50 who ask at once do not change that.
func TestKeyHasOneEffectWhenItsNodeIsKilledAfterCommit(t *testing.T) {
	s := shared(t)
	c := s.as(t, s.operator)
	alice, bob := c.account("KRW", "1000000"), c.account("KRW", "0")
	for _, kind := range []string{"transfer", "hold"} {
		path, body, count := onceRequests(c, alice, bob)[kind](uuid.NewString())
		before, key := count(), uuid.NewString()
		doomed := s.join(t, map[string]any{"faults": map[string]any{"kill_after_commit": 1.0}})
		answers := make([]answer, 50)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				answers[i] = c.at(doomed.base).call(http.MethodPost, path, body, "Idempotency-Key", key, "Prefer", "wait=30")
			})
		}
		wg.Wait()
		for _, got := range answers {
			if got.err == nil {
				t.Errorf("%s: the killed node answered %v", kind, got)
			}
		}
		eventually(t, "the node is gone", doomed.gone)
		if effects := count() - before; effects != 1 {
			t.Fatalf("%s: the killed node committed %d times, want once", kind, effects)
		}
		var first answer
		inProgress := 0
		eventually(t, "the other node knows the answer", func() bool {
			first = c.at(s.nodes[1]).call(http.MethodPost, path, body, "Idempotency-Key", key)
			if first.field("code") == "request_in_progress" {
				inProgress++ // the killed node's lock of the key lives on for a moment
				return false
			}
			return true
		})
		if first.status != http.StatusCreated || first.header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%s: after the kill the other node answers %v with %v", kind, first, first.header)
		}
		for i := range answers {
			wg.Go(func() { answers[i] = c.at(s.bases()[i%3]).call(http.MethodPost, path, body, "Idempotency-Key", key) })
		}
		wg.Wait()
		for _, got := range answers {
			if !same(got, first) && got.field("code") != "request_in_progress" {
				t.Errorf("%s: after the kill one answer is %v, another %v", kind, first, got)
			}
		}
		if effects := count() - before; effects != 1 {
			t.Errorf("%s: after the kill the key has %d effects, want 1", kind, effects)
		}
		t.Logf("%s: 50 requests lost their answer, 1 effect, %d repeats met request_in_progress", kind, inProgress)
	}
	s.verify(t)
}

// On a node that loses the answers to its COMMITs, before and after they act, every payment is made once and its answer
// is the one of the transaction that made it. Clients repeat what has no definite answer, here or elsewhere.
func TestPaymentsAreMadeOnceWhenCommitsLoseTheirAnswers(t *testing.T) {
	s := shared(t)
	c := s.as(t, s.operator).inHaste()
	faulty := s.join(t, map[string]any{"faults": map[string]any{"lose_before_commit": 0.25, "lose_after_commit": 0.25}})
	books := newRecord("KRW")
	var numbers []string
	for range 4 {
		numbers = append(numbers, books.open(c, "500"))
	}
	const clients, each = 16, 25
	var wg sync.WaitGroup
	var repeats atomic.Int64
	addresses := slices.Concat([]string{faulty.base, faulty.base}, s.nodes)
	for i := range clients {
		wg.Go(func() {
			for round := range each {
				from, to := numbers[i%4], numbers[(i+1+round%3)%4]
				reference := uuid.NewString()
				body := books.body(reference, from, to, "7")
				for base := addresses[(i+round)%len(addresses)]; ; base = addresses[rand.IntN(len(addresses))] {
					got := c.at(base).call(http.MethodPost, "/v1/transfers", body, "Idempotency-Key", reference)
					if books.note(t, reference, from, to, "7", got); got.status == http.StatusCreated || got.field("code") == "insufficient_funds" {
						break
					}
					if code := got.field("code"); code != "outcome_unknown" && code != "request_in_progress" {
						t.Errorf("a payment is answered with %v", got)
						return
					}
					repeats.Add(1)
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	lost := c.at(faulty.admin).metric("lockstep_posting_unknown_commits_total")
	t.Logf("%d COMMITs lost their answer, %d requests were repeated", lost, repeats.Load())
	if lost < 5 {
		t.Errorf("only %d COMMITs lost their answer", lost)
	}
	if made := len(books.posted) - 4; made+len(books.refused) != clients*each || made < clients*each/2 {
		t.Errorf("of %d payments %d were made and %d refused", clients*each, made, len(books.refused))
	}
	books.audit(c)
	s.verify(t)
}

// environment is ours without what nodes would take for their configuration.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "LOCKSTEP_") })
}
