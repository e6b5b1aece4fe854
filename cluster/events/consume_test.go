package events_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"lockstep/cluster/events"
)

func TestAMessageArrivesWholeAndIsAcknowledgedAfterItsHandler(t *testing.T) {
	t.Parallel()
	alpha, beta := pair(t)
	var seen record
	entered, leave := make(chan struct{}), make(chan struct{})
	consume(t, beta, seen.answering(func(events.Delivery, int) events.Verdict {
		close(entered)
		<-leave
		return events.Done()
	}), events.Options{})
	send(t, alpha, "a")
	<-entered
	if b := backlog(t, beta); b.InHand != 1 {
		t.Errorf("while the handler works %d messages are in hand, want 1", b.InHand)
	}
	close(leave)
	await(t, "it is acknowledged", func() bool { return beta.Stats().Done == 1 })
	if b := backlog(t, beta); b != (events.Backlog{}) {
		t.Errorf("left at the broker: %+v", b)
	}
	d := seen.all()[0]
	if d.Subject != committed || d.From() != "alpha" || d.ID != "a" || string(d.Data) != "data of a" ||
		d.Headers["traceparent"] != "00-a" || d.Delivered != 1 || d.Sequence != 1 || d.Replayed {
		t.Errorf("delivered was %+v", d)
	}
}

func TestRepeatsOfAnIDArriveOnce(t *testing.T) {
	t.Parallel()
	alpha, beta := pair(t)
	var seen record
	consume(t, beta, seen.answering(done), events.Options{})
	for range 3 {
		send(t, alpha, "a")
	}
	send(t, alpha, "b")
	await(t, "b has arrived", func() bool { return seen.ids()["b"] == 1 })
	if n := seen.ids()["a"]; n != 1 {
		t.Errorf("a arrived %d times", n)
	}
}

func TestLaterComesAgainAfterGrowingDelays(t *testing.T) {
	t.Parallel()
	delays := []time.Duration{50 * time.Millisecond, 200 * time.Millisecond, 600 * time.Millisecond}
	alpha, beta := pair(t, func(c *events.Config) { c.BackOff = delays })
	var seen record
	consume(t, beta, seen.answering(func(_ events.Delivery, times int) events.Verdict {
		if times <= len(delays) {
			return events.Later(errors.New("not now"))
		}
		return events.Done()
	}), events.Options{})
	send(t, alpha, "a")
	await(t, "it is done", func() bool { return beta.Stats().Done == 1 })
	for i, delay := range delays {
		waited, least, most := seen.at[i+1].Sub(seen.at[i]), delay*8/10, delay*12/10+2*time.Second
		if waited < least || waited > most {
			t.Errorf("delivery %d came after %v, want %v to %v", i+2, waited, least, most)
		}
		if n := seen.seen[i+1].Delivered; n != i+2 {
			t.Errorf("delivery %d counts %d", i+2, n)
		}
	}
	if s := beta.Stats(); s.Redelivered != 3 || s.Later != 3 {
		t.Errorf("counted was %+v", s)
	}
}

func TestNothingIsFetchedWhileNotReady(t *testing.T) {
	t.Parallel()
	alpha, beta := pair(t)
	var ready atomic.Bool
	var asked atomic.Int64
	var seen record
	consume(t, beta, seen.answering(done), events.Options{Ready: func() bool { asked.Add(1); return ready.Load() }})
	send(t, alpha, "a")
	await(t, "it was asked for readiness some times", func() bool { return asked.Load() > 8 })
	if b := backlog(t, beta); b.Pending != 1 || b.InHand != 0 {
		t.Errorf("at the broker is %+v", b)
	}
	ready.Store(true)
	await(t, "it is done", func() bool { return beta.Stats().Done == 1 })
	if d := seen.all()[0]; d.Delivered != 1 {
		t.Errorf("the wait has used up %d deliveries", d.Delivered-1)
	}
}

// Ready may turn while a pull waits: what comes then must not reach the handler.
func TestWhatComesAfterReadyTurnedGoesBack(t *testing.T) {
	t.Parallel()
	alpha, beta, url := pairAt(t)
	var ready atomic.Bool
	ready.Store(true)
	var seen record
	consume(t, beta, seen.answering(done), events.Options{Ready: ready.Load, Parallel: 1})
	send(t, alpha, "a")
	await(t, "a is done, so a pull waits", func() bool { return beta.Stats().Done == 1 })
	in, err := raw(t, url, "beta").Consumer(t.Context(), "IN-beta", "inbound")
	if err != nil {
		t.Fatal(err)
	}
	await(t, "a pull waits", func() bool {
		info, err := in.Info(t.Context())
		return err == nil && info.NumWaiting == 1
	})
	ready.Store(false)
	send(t, alpha, "b")
	await(t, "b was delivered", func() bool { return beta.Stats().Delivered == 2 })
	if seen.ids()["b"] != 0 {
		t.Error("the handler saw it")
	}
	ready.Store(true)
	await(t, "b is done", func() bool { return beta.Stats().Done == 2 })
}

func TestSeveralNodesShareTheMessages(t *testing.T) {
	t.Parallel()
	b := serve(t, brokerConfig(t))
	alpha := open(t, b.URL(), "alpha")
	var seen record
	nodes := []*events.Bus{open(t, b.URL(), "beta"), open(t, b.URL(), "beta")}
	for _, node := range nodes {
		awaitLayout(t, node)
		consume(t, node, seen.answering(done), events.Options{})
	}
	const messages = 200
	for i := range messages {
		send(t, alpha, number(i))
	}
	await(t, "all are done", func() bool { return nodes[0].Stats().Done+nodes[1].Stats().Done == messages })
	for i, node := range nodes {
		if node.Stats().Done == 0 {
			t.Errorf("node %d did nothing", i)
		}
	}
	if len(seen.all()) != messages {
		t.Errorf("%d deliveries of %d messages", len(seen.all()), messages)
	}
}

func TestAPanicOfAHandlerIsLater(t *testing.T) {
	t.Parallel()
	alpha, beta := pair(t)
	var seen record
	consume(t, beta, seen.answering(func(_ events.Delivery, times int) events.Verdict {
		if times == 1 {
			panic("poison")
		}
		return events.Done()
	}), events.Options{})
	send(t, alpha, "a")
	await(t, "it is done", func() bool { return beta.Stats().Done == 1 })
}

func TestAHandlersContextEndsWithTheAckWait(t *testing.T) {
	t.Parallel()
	alpha, beta := pair(t, func(c *events.Config) { c.AckWait = 200 * time.Millisecond })
	var first atomic.Bool
	consume(t, beta, func(ctx context.Context, _ events.Delivery) events.Verdict {
		if first.CompareAndSwap(false, true) {
			<-ctx.Done()
			return events.Later(ctx.Err())
		}
		return events.Done()
	}, events.Options{})
	send(t, alpha, "a")
	await(t, "it is done by another delivery", func() bool { return beta.Stats().Done == 1 })
}

func TestAnAcknowledgementThatIsLostBringsTheMessageBack(t *testing.T) {
	t.Parallel()
	var failed atomic.Bool
	alpha, beta := pair(t, func(c *events.Config) {
		c.AckWait = 200 * time.Millisecond
		c.Fault = func(point string) error {
			if point == events.FaultBeforeAck && failed.CompareAndSwap(false, true) {
				return errors.New("injected")
			}
			return nil
		}
	})
	var seen record
	consume(t, beta, seen.answering(done), events.Options{})
	send(t, alpha, "a")
	await(t, "it is done", func() bool { return beta.Stats().Done == 1 })
	if s := beta.Stats(); len(seen.all()) != 2 || s.Unacked != 1 {
		t.Errorf("the handler saw it %d times; counted was %+v", len(seen.all()), s)
	}
}

// Headers that name another origin are believed in replays only, which nobody else can publish.
func TestAPeerCannotPretendAnotherSubject(t *testing.T) {
	t.Parallel()
	_, beta, url := pairAt(t)
	var seen record
	consume(t, beta, seen.answering(done), events.Options{})
	forged := &nats.Msg{Subject: committed, Data: []byte("x"), Header: nats.Header{
		"Lockstep-Subject": {"lockstep.gamma.beta.transfer.committed"}, "Lockstep-Id": {"other"}, nats.MsgIdHdr: {"mine"},
	}}
	js := raw(t, url, "alpha")
	if _, err := js.PublishMsg(t.Context(), forged); err != nil {
		t.Fatal(err)
	}
	await(t, "it has arrived", func() bool { return len(seen.all()) == 1 })
	if d := seen.all()[0]; d.Subject != committed || d.ID != "mine" || d.Replayed {
		t.Errorf("delivered was %+v", d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := js.Publish(ctx, "lockstep.replay.beta.x", nil, jetstream.WithRetryAttempts(0)); err == nil {
		t.Error("alpha published a replay of beta")
	}
}

func TestCloseLetsTheHandlerEnd(t *testing.T) {
	t.Parallel()
	alpha, beta := pair(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	consume(t, beta, func(context.Context, events.Delivery) events.Verdict {
		close(entered)
		<-leave
		return events.Done()
	}, events.Options{})
	send(t, alpha, "a")
	<-entered
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		beta.Close()
	}()
	select {
	case <-closed:
		t.Error("Close did not wait for the handler")
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	<-closed
	if s := beta.Stats(); s.Done != 1 {
		t.Errorf("it was not acknowledged: %+v", s)
	}
	beta.Close()
	if err := beta.Publish(t.Context(), events.Message{Subject: events.Own("beta", "x"), ID: "x"}); !errors.Is(err, events.ErrClosed) {
		t.Errorf("Publish after Close says %v", err)
	}
	if err := beta.Consume(nil, events.Options{}); !errors.Is(err, events.ErrClosed) {
		t.Errorf("Consume after Close says %v", err)
	}
}

func TestASecondConsumeIsRefused(t *testing.T) {
	t.Parallel()
	_, beta := pair(t)
	var seen record
	consume(t, beta, seen.answering(done), events.Options{})
	if err := beta.Consume(seen.answering(done), events.Options{}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("Consume says %v", err)
	}
}
