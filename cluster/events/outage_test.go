package events_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"lockstep/cluster/broker"
	"lockstep/cluster/events"
)

func TestOpenReturnsWithoutABrokerAndMakesUpForIt(t *testing.T) {
	t.Parallel()
	c := brokerConfig(t)
	c.Port = freePort(t)
	url := fmt.Sprintf("nats://127.0.0.1:%d", c.Port)
	began := time.Now()
	alpha, beta := open(t, url, "alpha"), open(t, url, "beta")
	if took := time.Since(began); took > time.Second {
		t.Errorf("Open took %v", took)
	}
	var seen record
	consume(t, beta, seen.answering(done), events.Options{})
	m := events.Message{Subject: committed, ID: "a"}
	if err := alpha.Publish(t.Context(), m); !errors.Is(err, events.ErrUnavailable) || !errors.Is(err, events.ErrDisconnected) || alpha.Connected() {
		t.Errorf("without a broker Publish says %v", err)
	}
	if _, err := beta.Backlog(t.Context()); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("without a broker Backlog says %v", err)
	}
	serve(t, c)
	await(t, "it can be published", func() bool { return alpha.Publish(t.Context(), m) == nil })
	await(t, "it has arrived", func() bool { return seen.ids()["a"] == 1 })
}

func TestCloseWithoutABrokerReturns(t *testing.T) {
	t.Parallel()
	b := open(t, fmt.Sprintf("nats://127.0.0.1:%d", freePort(t)), "alpha")
	var seen record
	consume(t, b, seen.answering(done), events.Options{})
	closed := make(chan struct{})
	go func() { defer close(closed); b.Close() }()
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Fatal("Close does not return")
	}
}

// A wrong password is put right at the broker, not by a restart of every node.
func TestAWrongPasswordIsTriedAgain(t *testing.T) {
	t.Parallel()
	c := brokerConfig(t)
	c.Port = freePort(t)
	right := c.Systems[0].Password
	c.Systems = append([]broker.System(nil), c.Systems...)
	c.Systems[0].Password = "something-else-altogether"
	first := serve(t, c)
	alpha := open(t, first.URL(), "alpha")
	refusals := 0
	await(t, "it was refused some times", func() bool {
		if alpha.Publish(t.Context(), events.Message{Subject: events.Own("alpha", "x"), ID: "x"}) != nil {
			refusals++
		}
		return refusals > 200
	})
	first.Close()
	c.Systems[0].Password = right
	serve(t, c)
	awaitLayout(t, alpha)
}

func TestAWipedStoreIsMadeAgain(t *testing.T) {
	t.Parallel()
	c := brokerConfig(t)
	c.Port = freePort(t)
	first := serve(t, c)
	alpha, beta := open(t, first.URL(), "alpha"), open(t, first.URL(), "beta")
	var seen record
	consume(t, beta, seen.answering(done), events.Options{})
	publish := func(id string) {
		await(t, id+" is published", func() bool {
			return alpha.Publish(t.Context(), events.Message{Subject: committed, ID: id}) == nil
		})
		await(t, id+" has arrived", func() bool { return seen.ids()[id] > 0 })
	}
	publish("before")
	first.Close()
	if err := os.RemoveAll(c.StoreDir); err != nil {
		t.Fatal(err)
	}
	serve(t, c)
	publish("after")
}

func TestStreamsThatWereDeletedAreMadeAgain(t *testing.T) {
	t.Parallel()
	alpha, beta, url := pairAt(t)
	var seen record
	consume(t, beta, seen.answering(done), events.Options{})
	send(t, alpha, "before")
	await(t, "it has arrived", func() bool { return seen.ids()["before"] == 1 })
	js := raw(t, url, "beta")
	for _, stream := range []string{"IN-beta", "DEAD-beta", "EVENTS-beta"} {
		if err := js.DeleteStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "it can be published", func() bool {
		return alpha.Publish(t.Context(), events.Message{Subject: committed, ID: "after"}) == nil
	})
	await(t, "it has arrived", func() bool { return seen.ids()["after"] == 1 })
	if _, err := js.Stream(t.Context(), "EVENTS-beta"); err != nil {
		await(t, "the others are there again", func() bool { _, err = js.Stream(t.Context(), "EVENTS-beta"); return err == nil })
	}
}

// What was acknowledged must arrive, whatever becomes of the broker meanwhile.
func TestAcknowledgedMessagesSurviveKillsOfTheBroker(t *testing.T) {
	t.Parallel()
	p := newBrokerProcess(t)
	p.start(t)
	alpha, beta := open(t, p.url, "alpha"), open(t, p.url, "beta")
	var seen record
	consume(t, beta, seen.answering(done), events.Options{})

	ctx, stop := context.WithCancel(t.Context())
	var publishers sync.WaitGroup
	var mu sync.Mutex
	var acknowledged []string
	for n := range 4 {
		publishers.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				id := fmt.Sprintf("%d-%d", n, i)
				for alpha.Publish(ctx, events.Message{Subject: committed, ID: id, Data: []byte(id)}) != nil && ctx.Err() == nil {
					time.Sleep(5 * time.Millisecond)
				}
				if ctx.Err() == nil {
					mu.Lock()
					acknowledged = append(acknowledged, id)
					mu.Unlock()
				}
			}
		})
	}
	published := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	for range 3 {
		target := published() + 100
		await(t, "a hundred more are acknowledged", func() bool { return published() >= target })
		p.kill(t)
		p.start(t)
	}
	target := published() + 100
	await(t, "it goes on", func() bool { return published() >= target })
	stop()
	publishers.Wait()
	t.Logf("%d messages were acknowledged over 3 kills", published())
	missing := func() (lost []string) {
		ids := seen.ids()
		for _, id := range acknowledged {
			if ids[id] == 0 {
				lost = append(lost, id)
			}
		}
		return lost
	}
	await(t, "all acknowledged messages arrive", func() bool { return len(missing()) == 0 })
}

// A publication whose connection ends before it is acknowledged is nobody's failure but the broker's; one that is merely not
// acknowledged in time is another matter.
func TestAConnectionThatEndsIsToldApart(t *testing.T) {
	t.Parallel()
	p := newBrokerProcess(t)
	p.start(t)
	begun := make(chan struct{}, 1)
	alpha := open(t, p.url, "alpha", func(c *events.Config) {
		c.PublishWait = 50 * time.Second
		c.Fault = func(point string) error {
			if point == events.FaultBeforePublish {
				begun <- struct{}{}
			}
			return nil
		}
	})
	hasty := open(t, p.url, "alpha", func(c *events.Config) { c.PublishWait = 100 * time.Millisecond })
	awaitLayout(t, alpha)
	awaitLayout(t, hasty)
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	m := events.Message{Subject: events.Own("alpha", "x"), ID: "x"}
	if err := hasty.Publish(t.Context(), m); !errors.Is(err, events.ErrUnavailable) || errors.Is(err, events.ErrDisconnected) {
		t.Errorf("of a broker that does not acknowledge Publish says %v", err)
	}
	failed := make(chan error, 1)
	go func() { failed <- alpha.Publish(t.Context(), m) }()
	<-begun
	p.kill(t)
	if err := <-failed; !errors.Is(err, events.ErrDisconnected) {
		t.Errorf("of a broker that died Publish says %v", err)
	}
}

type brokerProcess struct {
	program, config, url string
	cmd                  *exec.Cmd
}

func newBrokerProcess(t *testing.T) *brokerProcess {
	t.Helper()
	dir := t.TempDir()
	p := &brokerProcess{program: filepath.Join(dir, "broker"), config: filepath.Join(dir, "broker.yaml")}
	if out, err := exec.Command("go", "build", "-o", p.program, "./testdata/broker").CombinedOutput(); err != nil {
		t.Fatalf("build the broker: %v\n%s", err, out)
	}
	c := brokerConfig(t)
	c.Port = freePort(t)
	p.url = fmt.Sprintf("nats://127.0.0.1:%d", c.Port)
	text, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *brokerProcess) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.program, p.config)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cmd := p.cmd
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	await(t, "the broker listens", func() bool {
		conn, err := net.Dial("tcp", p.url[len("nats://"):])
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func (p *brokerProcess) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait()
}
