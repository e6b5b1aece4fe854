package events_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"lockstep/cluster/broker"
	"lockstep/cluster/events"
	"lockstep/cluster/local/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "-a-password-for-tests"

func brokerConfig(t *testing.T) broker.Config {
	c := broker.Default()
	c.Port, c.StoreDir = -1, t.TempDir()
	for _, id := range []string{"alpha", "beta"} {
		c.Systems = append(c.Systems, broker.System{ID: id, Password: id + password})
	}
	return c
}

// serve starts a broker that ends with the test, unless it ends before.
func serve(t *testing.T, c broker.Config) *broker.Broker {
	t.Helper()
	b, err := broker.Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// freePort is one that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// open connects a system, with short delays.
func open(t *testing.T, url, system string, change ...func(*events.Config)) *events.Bus {
	t.Helper()
	c := events.Default()
	c.URL, c.User, c.Password, c.System = url, system, system+password, system
	c.BackOff, c.PublishWait = []time.Duration{20 * time.Millisecond}, 2*time.Second
	c.Log = slog.New(slog.NewTextHandler(testLog{t}, nil))
	for _, change := range change {
		change(&c)
	}
	b, err := events.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// pair is alpha, which sends, and beta, which receives, with their streams.
func pair(t *testing.T, change ...func(*events.Config)) (alpha, beta *events.Bus) {
	t.Helper()
	alpha, beta, _ = pairAt(t, change...)
	return alpha, beta
}

// pairAt tells the broker's URL as well.
func pairAt(t *testing.T, change ...func(*events.Config)) (alpha, beta *events.Bus, url string) {
	t.Helper()
	url = serve(t, brokerConfig(t)).URL()
	alpha, beta = open(t, url, "alpha", change...), open(t, url, "beta", change...)
	awaitLayout(t, alpha)
	awaitLayout(t, beta)
	return alpha, beta, url
}

func awaitLayout(t *testing.T, b *events.Bus) {
	t.Helper()
	await(t, "the streams are there", func() bool { return b.Stats().Layout == nil })
}

// patience bounds what a test waits for. A pull that began on a stream which is just being deleted hears nothing for two
// heartbeats of 5 s, and so may the next.
const patience = 45 * time.Second

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}

var committed = events.Transfer("alpha", "beta", "committed")

func send(t *testing.T, b *events.Bus, id string) {
	t.Helper()
	m := events.Message{Subject: committed, ID: id, Data: []byte("data of " + id), Headers: map[string]string{"traceparent": "00-" + id}}
	if err := b.Publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
}

// record keeps what a handler saw.
type record struct {
	mu   sync.Mutex
	seen []events.Delivery
	at   []time.Time
}

// answering is a handler that records, and answers each message by how often the handler has seen its ID.
func (r *record) answering(verdict func(d events.Delivery, times int) events.Verdict) events.Handler {
	return func(_ context.Context, d events.Delivery) events.Verdict {
		r.mu.Lock()
		r.seen, r.at = append(r.seen, d), append(r.at, time.Now())
		times := 0
		for _, other := range r.seen {
			if other.ID == d.ID {
				times++
			}
		}
		r.mu.Unlock()
		return verdict(d, times)
	}
}

func (r *record) all() []events.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]events.Delivery(nil), r.seen...)
}

// ids are those that were seen at least once.
func (r *record) ids() map[string]int {
	ids := map[string]int{}
	for _, d := range r.all() {
		ids[d.ID]++
	}
	return ids
}

func consume(t *testing.T, b *events.Bus, handler events.Handler, options events.Options) {
	t.Helper()
	if err := b.Consume(handler, options); err != nil {
		t.Fatal(err)
	}
}

func done(events.Delivery, int) events.Verdict { return events.Done() }

func backlog(t *testing.T, b *events.Bus) events.Backlog {
	t.Helper()
	found, err := b.Backlog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func letters(t *testing.T, b *events.Bus) []events.DeadLetter {
	t.Helper()
	found, err := b.DeadLetters(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// awaitLetter waits for the only dead letter.
func awaitLetter(t *testing.T, b *events.Bus) events.DeadLetter {
	t.Helper()
	var found []events.DeadLetter
	await(t, "there is one dead letter", func() bool {
		found = letters(t, b)
		return len(found) == 1
	})
	return found[0]
}

// raw is a system's connection past the Bus.
func raw(t *testing.T, url, system string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url, nats.UserInfo(system, system+password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func number(i int) string { return fmt.Sprintf("m-%d", i) }
