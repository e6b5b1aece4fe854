package broker_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"lockstep/cluster/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const password = "-a-password-for-tests"

func config(t *testing.T) broker.Config {
	c := broker.Default()
	c.Port, c.StoreDir = -1, t.TempDir()
	for _, id := range []string{"alpha", "beta", "gamma"} {
		c.Systems = append(c.Systems, broker.System{ID: id, Password: id + password})
	}
	return c
}

func start(t *testing.T, c broker.Config) *broker.Broker {
	t.Helper()
	b, err := broker.Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// client is a system's connection; denied gets what the broker forbids it.
type client struct {
	*nats.Conn
	js     jetstream.JetStream
	denied chan error
}

func connect(t *testing.T, url, system string) client {
	t.Helper()
	denied := make(chan error, 100)
	conn, err := nats.Connect(url, nats.UserInfo(system, system+password), nats.ErrorHandler(
		func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return client{conn, js, denied}
}

// receive makes the stream of what a system is sent.
func (c client) receive(t *testing.T, system string) jetstream.Stream {
	t.Helper()
	stream, err := c.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "IN-" + system, Subjects: []string{"lockstep.*." + system + ".transfer.*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func count(t *testing.T, stream jetstream.Stream) uint64 {
	t.Helper()
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Msgs
}

func TestASystemReachesTheStreamOfAnotherAndHearsItsAcknowledgement(t *testing.T) {
	t.Parallel()
	b := start(t, config(t))
	alpha, beta := connect(t, b.URL(), "alpha"), connect(t, b.URL(), "beta")
	stream := beta.receive(t, "beta")
	for range 2 {
		ack, err := alpha.js.Publish(t.Context(), "lockstep.alpha.beta.transfer.committed", []byte("1"), jetstream.WithMsgID("x"))
		if err != nil || ack.Stream != "IN-beta" || ack.Sequence != 1 {
			t.Fatalf("acknowledged %+v, %v", ack, err)
		}
	}
	if n := count(t, stream); n != 1 {
		t.Errorf("%d messages of one id", n)
	}
}

func TestASystemCannotPublishAsAnother(t *testing.T) {
	t.Parallel()
	b := start(t, config(t))
	alpha := connect(t, b.URL(), "alpha")
	streams := map[string]jetstream.Stream{}
	for _, system := range []string{"beta", "gamma"} {
		streams[system] = connect(t, b.URL(), system).receive(t, system)
	}
	for subject, stream := range map[string]string{
		"lockstep.beta.gamma.transfer.committed": "gamma",
		"lockstep.gamma.beta.transfer.aborted":   "beta",
		"lockstep.beta.beta.transfer.committed":  "beta",
	} {
		if err := alpha.Publish(subject, []byte("forged")); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-alpha.denied:
			if !strings.Contains(err.Error(), subject) {
				t.Errorf("publishing to %s: %v", subject, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("nobody minds %s", subject)
		}
		if n := count(t, streams[stream]); n != 0 {
			t.Errorf("%s got %d forged messages", stream, n)
		}
	}
}

// JetStream sends what is pulled to any subject that the request names as its reply, and does not ask whether the client
// might publish there. So a system must have no way to the subjects of others, permitted or not.
func TestASystemCannotHaveTheBrokerPublishAsAnother(t *testing.T) {
	t.Parallel()
	b := start(t, config(t))
	alpha, gamma := connect(t, b.URL(), "alpha"), connect(t, b.URL(), "gamma")
	theirs, ours := gamma.receive(t, "gamma"), alpha.receive(t, "alpha")
	const target = "lockstep.beta.gamma.transfer.committed"
	if _, err := alpha.js.Publish(t.Context(), "lockstep.alpha.alpha.transfer.committed", []byte("forged")); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "pull", AckPolicy: jetstream.AckExplicitPolicy}); err != nil {
		t.Fatal(err)
	}
	if _, err := alpha.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "COPY", Subjects: []string{"lockstep.alpha.copy.x"}, RePublish: &jetstream.RePublish{Source: "lockstep.alpha.copy.x", Destination: target},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := alpha.js.Publish(t.Context(), "lockstep.alpha.copy.x", []byte("forged")); err != nil {
		t.Fatal(err)
	}
	// The second pull shows that this way works as such, and that the broker had its time for the first.
	for _, reply := range []string{target, "lockstep.alpha.alpha.transfer.copied"} {
		if err := alpha.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.IN-alpha.pull", reply, []byte(`{"batch":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "the second pull was delivered to a subject", func() bool { return count(t, ours) == 2 })
	if n := count(t, theirs); n != 0 {
		t.Errorf("gamma got %d forged messages", n)
	}
}

func TestASystemCannotReadOrHarmTheStreamOfAnother(t *testing.T) {
	t.Parallel()
	b := start(t, config(t))
	alpha, beta, gamma := connect(t, b.URL(), "alpha"), connect(t, b.URL(), "beta"), connect(t, b.URL(), "gamma")
	stream := beta.receive(t, "beta")
	if _, err := stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "inbound"}); err != nil {
		t.Fatal(err)
	}
	if _, err := gamma.js.Publish(t.Context(), "lockstep.gamma.beta.transfer.committed", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]func(ctx context.Context) error{
		"read":    func(ctx context.Context) error { _, err := alpha.js.Stream(ctx, "IN-beta"); return err },
		"consume": func(ctx context.Context) error { _, err := alpha.js.Consumer(ctx, "IN-beta", "inbound"); return err },
		"delete":  func(ctx context.Context) error { return alpha.js.DeleteStream(ctx, "IN-beta") },
		"purge": func(ctx context.Context) error {
			_, err := alpha.RequestWithContext(ctx, "$JS.API.STREAM.PURGE.IN-beta", nil)
			return orRefusal(t, alpha, "$JS.API.STREAM.PURGE.IN-beta", err)
		},
		"pull": func(ctx context.Context) error {
			_, err := alpha.RequestWithContext(ctx, "$JS.API.CONSUMER.MSG.NEXT.IN-beta.inbound", []byte(`{"batch":1,"no_wait":true}`))
			return err
		},
		"mirror": func(ctx context.Context) error {
			mirror, err := alpha.js.CreateStream(ctx, jetstream.StreamConfig{Name: "M", Mirror: &jetstream.StreamSource{Name: "IN-beta"}})
			if err == nil && count(t, mirror) == 0 {
				return nats.ErrNoResponders // a mirror of nothing
			}
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := try(ctx); err == nil {
			t.Errorf("alpha can %s beta's stream", what)
		}
		cancel()
	}
	for _, subject := range []string{"lockstep.gamma.beta.>", "lockstep.beta.events.>", "_INBOX_beta.>"} {
		if _, err := alpha.Subscribe(subject, func(*nats.Msg) { t.Error("alpha hears beta's messages") }); err != nil {
			t.Fatal(err)
		}
		if !alpha.isDenied(subject) {
			t.Errorf("alpha may subscribe to %s", subject)
		}
	}
	if n := count(t, stream); n != 1 {
		t.Errorf("beta's stream has %d messages, want 1", n)
	}
}

// isDenied waits for the broker's refusal of this subject, behind those of others.
func (c client) isDenied(subject string) bool {
	for over := time.After(5 * time.Second); ; {
		select {
		case err := <-c.denied:
			if strings.Contains(err.Error(), `"`+subject+`"`) {
				return true
			}
		case <-over:
			return false
		}
	}
}

// orRefusal turns an answer of the API that says no into an error.
func orRefusal(t *testing.T, c client, subject string, err error) error {
	t.Helper()
	if err != nil {
		return err
	}
	answer, err := c.Request(subject, nil, time.Second)
	if err == nil && strings.Contains(string(answer.Data), `"error"`) {
		return nats.ErrNoResponders
	}
	return err
}

func TestStrangersAndWrongPasswordsAreRefused(t *testing.T) {
	t.Parallel()
	b := start(t, config(t))
	for _, option := range []nats.Option{nats.UserInfo("", ""), nats.UserInfo("alpha", "beta"+password), nats.UserInfo("delta", password)} {
		if conn, err := nats.Connect(b.URL(), option); err == nil {
			conn.Close()
			t.Error("somebody came in")
		}
	}
}

func TestAnotherRunOnTheSameDirectoryKeepsTheStreams(t *testing.T) {
	t.Parallel()
	c := config(t)
	first := start(t, c)
	beta := connect(t, first.URL(), "beta")
	beta.receive(t, "beta")
	if _, err := connect(t, first.URL(), "alpha").js.Publish(t.Context(), "lockstep.alpha.beta.transfer.committed", nil); err != nil {
		t.Fatal(err)
	}
	first.Close()
	second := start(t, c)
	stream, err := connect(t, second.URL(), "beta").js.Stream(t.Context(), "IN-beta")
	if err != nil {
		t.Fatal(err)
	}
	if n := count(t, stream); n != 1 {
		t.Errorf("%d messages are left of 1", n)
	}
}

func TestAFullStoreRefusesInsteadOfForgetting(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.Systems[1].StoreMax = 64 << 10
	b := start(t, c)
	alpha, stream := connect(t, b.URL(), "alpha"), connect(t, b.URL(), "beta").receive(t, "beta")
	acknowledged := uint64(0)
	for range 100 {
		if _, err := alpha.js.Publish(t.Context(), "lockstep.alpha.beta.transfer.committed", make([]byte, 4<<10)); err == nil {
			acknowledged++
		}
	}
	if n := count(t, stream); acknowledged == 0 || acknowledged == 100 || n != acknowledged {
		t.Errorf("%d messages of 100 were acknowledged, %d are there", acknowledged, n)
	}
}

func TestATakenPortIsToldAsTheReason(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := config(t)
	c.Port = taken.Addr().(*net.TCPAddr).Port
	began := time.Now()
	if _, err := broker.Open(c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), strconv.Itoa(c.Port)) {
		t.Errorf("Open says: %v", err)
	}
	if took := time.Since(began); took > 8*time.Second { // a server that only becomes not ready takes ten
		t.Errorf("it took %v to say so", took)
	}
}

func TestThreeServersKeepThreeReplicas(t *testing.T) {
	t.Parallel()
	brokers := startCluster(t, 3)
	beta := connect(t, brokers[0].URL(), "beta")
	var stream jetstream.Stream
	await(t, "the cluster has a leader", func() bool {
		var err error
		stream, err = beta.js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{
			Name: "IN-beta", Subjects: []string{"lockstep.*.beta.transfer.*"}, Replicas: 3,
		})
		return err == nil
	})
	alpha := connect(t, brokers[1].URL(), "alpha")
	publish := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := alpha.js.Publish(ctx, "lockstep.alpha.beta.transfer.committed", nil)
		return err
	}
	await(t, "a message gets from server 2 to the stream", func() bool { return publish() == nil })
	before := count(t, stream)
	brokers[2].Close()
	await(t, "two of three servers go on", func() bool { return publish() == nil })
	if n := count(t, stream); n <= before {
		t.Errorf("%d messages, before the loss %d", n, before)
	}
}

func startCluster(t *testing.T, size int) []*broker.Broker {
	t.Helper()
	var listens, routes []string
	for range size {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close() // all at the end, so that they differ
		listens = append(listens, listener.Addr().String())
		routes = append(routes, "nats-route://route:route"+password+"@"+listener.Addr().String())
		_ = listener.Close()
	}
	var brokers []*broker.Broker
	for i, listen := range listens {
		c := config(t)
		c.Name = "nats-" + strconv.Itoa(i+1)
		c.Cluster = &broker.Cluster{Name: "test", Listen: listen, Routes: routes, User: "route", Password: "route" + password}
		brokers = append(brokers, start(t, c))
	}
	return brokers
}

func TestConfigurationFilesAreReadStrictly(t *testing.T) {
	t.Parallel()
	good := "store_dir: /tmp/x\nsystems:\n- {id: alpha, password: 0123456789abcdef}\n"
	for text, want := range map[string]string{
		good: "",
		`{"store_dir":"/x","port":4333,"systems":[{"id":"alpha","password":"0123456789abcdef"}]}`: "",
		good + "prot: 1\n": "prot",
		"systems:\n- {id: alpha, password: 0123456789abcdef}\n": "store_dir",
		"store_dir: x\n": "systems",
		strings.Replace(good, "alpha", "replay", 1):                 "reserved",
		strings.Replace(good, "alpha", "a.b", 1):                    "small letters",
		strings.Replace(good, "0123456789abcdef", "short", 1):       "password",
		good + "- {id: alpha, password: 0123456789abcdef}\n":        "twice",
		good + "cluster: {name: c, listen: 127.0.0.1:1, user: x}\n": "routes",
	} {
		path := filepath.Join(t.TempDir(), "broker.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := broker.Load(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s\nwas read with %v, want %q", text, err, want)
		}
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}
