package events_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"lockstep/cluster/events"
)

func TestWhatIsGivenUpCanBeReplayed(t *testing.T) {
	t.Parallel()
	alpha, beta := pair(t, func(c *events.Config) { c.MaxDeliver = 3 })
	var seen record
	consume(t, beta, seen.answering(func(_ events.Delivery, times int) events.Verdict {
		if times <= 3 {
			return events.Later(errors.New("source is down"))
		}
		return events.Done()
	}), events.Options{})
	send(t, alpha, "a")
	l := awaitLetter(t, beta)
	if l.Subject != committed || l.MessageID != "a" || string(l.Data) != "data of a" || l.Delivered != 3 ||
		l.Headers["traceparent"] != "00-a" || l.Reason != "gave up after 3 deliveries: source is down" || l.At.IsZero() {
		t.Errorf("the letter is %+v", l)
	}
	await(t, "the broker does not wait for it any more", func() bool { return backlog(t, beta).InHand == 0 })
	if err := beta.Replay(t.Context(), l.ID); err != nil {
		t.Fatal(err)
	}
	await(t, "it is done", func() bool { return beta.Stats().Done == 1 })
	all := seen.all()
	if d := all[len(all)-1]; len(all) != 4 || d.Subject != committed || d.ID != "a" || !d.Replayed || d.Delivered != 1 ||
		string(d.Data) != "data of a" || d.Headers["traceparent"] != "00-a" {
		t.Errorf("delivery %d was %+v", len(all), d)
	}
	if left := letters(t, beta); len(left) != 0 {
		t.Errorf("letters are left: %+v", left)
	}
	if err := beta.Replay(t.Context(), l.ID); !errors.Is(err, events.ErrNoLetter) {
		t.Errorf("another replay says %v", err)
	}
}

// Also within the time in which the broker drops repeats.
func TestAReplayThatDiesAgainIsTheSameLetter(t *testing.T) {
	t.Parallel()
	alpha, beta := pair(t)
	var seen record
	consume(t, beta, seen.answering(func(events.Delivery, int) events.Verdict { return events.Dead("bad signature") }), events.Options{})
	send(t, alpha, "a")
	first := awaitLetter(t, beta)
	for round := range 3 {
		if err := beta.Replay(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		await(t, "it died again", func() bool { return beta.Stats().Dead == uint64(round+2) })
		if again := awaitLetter(t, beta); again.ID != first.ID || again.Reason != "bad signature" {
			t.Errorf("the letter is now %+v", again)
		}
	}
}

func TestASettledLetterIsGone(t *testing.T) {
	t.Parallel()
	alpha, beta := pair(t)
	var seen record
	consume(t, beta, seen.answering(func(d events.Delivery, _ int) events.Verdict { return events.Dead("conflict " + d.ID) }), events.Options{})
	for _, id := range []string{"a", "b", "c"} {
		send(t, alpha, id)
		await(t, "it is dead", func() bool { return backlog(t, beta).DeadLetters == uint64(len(seen.ids())) && seen.ids()[id] == 1 })
	}
	all := letters(t, beta)
	if len(all) != 3 || all[0].MessageID != "a" || all[2].Reason != "conflict c" {
		t.Fatalf("letters are %+v", all)
	}
	if two, err := beta.DeadLetters(t.Context(), 2); err != nil || len(two) != 2 {
		t.Errorf("of two there are %d, %v", len(two), err)
	}
	if err := beta.Settle(t.Context(), all[1].ID); err != nil {
		t.Fatal(err)
	}
	if left := letters(t, beta); len(left) != 2 || left[0].ID != all[0].ID || left[1].ID != all[2].ID {
		t.Errorf("left are %+v", left)
	}
	for _, id := range []string{all[1].ID, "unknown", "", "*", ">", "a.b"} {
		if err := beta.Settle(t.Context(), id); !errors.Is(err, events.ErrNoLetter) {
			t.Errorf("settling %q says %v", id, err)
		}
	}
}

func TestOneBadEventIsParkedAlone(t *testing.T) {
	t.Parallel()
	alpha, beta := pair(t)
	packed, err := events.Pack([]events.Event{event("1"), event("2"), event("3")})
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(packed), `"specversion":"1.0","id":"2"`, `"specversion":"0.3","id":"2","unknown":7`, 1)
	var fine, replayed atomic.Int64
	consume(t, beta, func(ctx context.Context, d events.Delivery) events.Verdict {
		items, failures := events.Unpack(d.Data)
		for i, item := range items {
			switch {
			case d.Replayed:
				replayed.Add(int64(len(items)))
			case failures[i] == nil:
				fine.Add(1)
			default:
				if err := beta.Park(ctx, d, item, failures[i].Error()); err != nil {
					return events.Later(err)
				}
			}
		}
		return events.Done()
	}, events.Options{})
	if err := alpha.Publish(t.Context(), events.Message{Subject: committed, ID: "batch", Data: []byte(broken)}); err != nil {
		t.Fatal(err)
	}
	await(t, "the batch is done", func() bool { return beta.Stats().Done == 1 })
	l := awaitLetter(t, beta)
	if fine.Load() != 2 || l.EventID != "2" || l.MessageID != "batch" || l.Subject != committed ||
		!strings.Contains(string(l.Data), `"unknown":7`) || strings.Contains(string(l.Data), `"id":"1"`) {
		t.Errorf("%d events were fine; the letter is %+v with %s", fine.Load(), l, l.Data)
	}
	if err := beta.Replay(t.Context(), l.ID); err != nil {
		t.Fatal(err)
	}
	await(t, "it was replayed alone", func() bool { return replayed.Load() == 1 })
}

func TestALetterHoldsWhatIsNoBatchAtAll(t *testing.T) {
	t.Parallel()
	_, beta := pair(t)
	items, failures := events.Unpack([]byte("\xff not JSON"))
	if len(items) != 1 || failures[0] == nil {
		t.Fatalf("unpacked are %v, %v", items, failures)
	}
	d := events.Delivery{Subject: committed, ID: "a"}
	for range 2 { // once more, as after a crash
		if err := beta.Park(t.Context(), d, items[0], "no JSON\r\nNats-Msg-Id: forged"); err != nil {
			t.Fatal(err)
		}
	}
	l := awaitLetter(t, beta)
	if string(l.Data) != "\xff not JSON" || !strings.HasPrefix(l.Reason, "no JSON") {
		t.Errorf("the letter is %+v", l)
	}
	if _, forged := l.Headers[nats.MsgIdHdr]; forged {
		t.Error("the reason has become a header")
	}
}
