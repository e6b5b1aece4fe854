package events_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"lockstep/cluster/events"
)

func TestWhatCannotBePublishedIsRefused(t *testing.T) {
	t.Parallel()
	alpha, _ := pair(t)
	for what, m := range map[string]events.Message{
		"another's transfer":   {Subject: events.Transfer("beta", "alpha", "committed"), ID: "x"},
		"another's own event":  {Subject: events.Own("beta", "account.opened"), ID: "x"},
		"no known subject":     {Subject: "lockstep.alpha.beta.other.x", ID: "x"},
		"a dead letter":        {Subject: "lockstep.dead.alpha.x", ID: "x"},
		"a pattern":            {Subject: "lockstep.alpha.beta.transfer.*", ID: "x"},
		"a blank":              {Subject: "lockstep.alpha.beta.transfer.a b", ID: "x"},
		"a message without ID": {Subject: committed},
		"too much":             {Subject: committed, ID: "x", Data: make([]byte, 1<<20+1)},
	} {
		if err := alpha.Publish(t.Context(), m); !errors.Is(err, events.ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, m := range []events.Message{
		{Subject: events.Own("alpha", "account.opened"), ID: "1"},
		{Subject: events.Own("alpha", "transfer.posted"), ID: "3"},
		{Subject: committed, ID: "2", Data: make([]byte, 1<<20)},
	} {
		if err := alpha.Publish(t.Context(), m); err != nil {
			t.Errorf("%s: %v", m.Subject, err)
		}
	}
}

func TestAReceiverWithoutAStreamIsUnavailable(t *testing.T) {
	t.Parallel()
	alpha := open(t, serve(t, brokerConfig(t)).URL(), "alpha")
	awaitLayout(t, alpha)
	if err := alpha.Publish(t.Context(), events.Message{Subject: committed, ID: "x"}); !errors.Is(err, events.ErrUnavailable) || errors.Is(err, events.ErrDisconnected) {
		t.Errorf("Publish says %v", err)
	}
}

// Its acknowledgement would only say that somebody else has the message.
func TestAnotherStreamOnTheSubjectDoesNotCount(t *testing.T) {
	t.Parallel()
	url := serve(t, brokerConfig(t)).URL()
	if _, err := raw(t, url, "beta").CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{committed}}); err != nil {
		t.Fatal(err)
	}
	alpha := open(t, url, "alpha")
	awaitLayout(t, alpha)
	if err := alpha.Publish(t.Context(), events.Message{Subject: committed, ID: "x"}); !errors.Is(err, events.ErrUnavailable) {
		t.Errorf("Publish says %v", err)
	}
}

func TestFaultsStandForCrashesAroundAPublication(t *testing.T) {
	t.Parallel()
	crash := errors.New("injected")
	for point, arrives := range map[string]uint64{events.FaultBeforePublish: 0, events.FaultAfterPublish: 1} {
		alpha, beta := pair(t, func(c *events.Config) {
			c.Fault = func(at string) error {
				if at == point {
					return crash
				}
				return nil
			}
		})
		if err := alpha.Publish(t.Context(), events.Message{Subject: committed, ID: "x"}); !errors.Is(err, crash) || !errors.Is(err, events.ErrUnavailable) {
			t.Errorf("%s: Publish says %v", point, err)
		}
		if n := backlog(t, beta).Pending; n != arrives {
			t.Errorf("%s: %d messages are there, want %d", point, n, arrives)
		}
	}
}

func TestBadConfigurationsAreRefusedByName(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*events.Config){
		"URL":          func(c *events.Config) { c.URL = "" },
		"system":       func(c *events.Config) { c.System = "a.b" },
		"replicas":     func(c *events.Config) { c.Replicas = 2 },
		"max age":      func(c *events.Config) { c.MaxAge = time.Second },
		"ack wait":     func(c *events.Config) { c.AckWait = 0 },
		"publish wait": func(c *events.Config) { c.PublishWait = time.Hour },
		"max deliver":  func(c *events.Config) { c.MaxDeliver = 0 },
		"back-off":     func(c *events.Config) { c.BackOff = nil },
	} {
		c := events.Default()
		c.URL, c.System = "nats://127.0.0.1:1", "alpha"
		change(&c)
		if _, err := events.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: Open says %v", want, err)
		}
	}
}
