package e2e_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"lockstep/api/client"
)

// hearer is a shop that hears of events, away at first and slow then.
type hearer struct {
	away     atomic.Bool
	mu       sync.Mutex
	verifier *standardwebhooks.Webhook
	states   map[string][]string // of each object, in the order of arrival
	seen     map[string]bool     // ids
	repeats  int
	unsigned int
}

func (h *hearer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	payload, err := io.ReadAll(r.Body)
	if h.away.Load() || err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	time.Sleep(50 * time.Millisecond) // so that some are under way when their node is killed
	h.mu.Lock()
	defer h.mu.Unlock()
	var message struct{ Data struct{ ID, State string } }
	if h.verifier == nil || h.verifier.Verify(payload, r.Header) != nil || json.Unmarshal(payload, &message) != nil {
		h.unsigned++
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	id := r.Header.Get("webhook-id")
	if h.seen[id] {
		h.repeats++
		return
	}
	h.seen[id] = true
	h.states[message.Data.ID] = append(h.states[message.Data.ID], message.Data.State)
}

// A receiver is away for a while, and nodes are killed under load with deliveries in hand: each event of each hold arrives all
// the same, signed and in order. What arrives twice has the id that it had before.
func TestEventsArriveThoughNodesAreKilled(t *testing.T) {
	const workersMax, killsMax = 6, 2
	s := shared(t)
	h := &hearer{states: map[string][]string{}, seen: map[string]bool{}}
	h.away.Store(true)
	receiver := httptest.NewServer(h)
	defer receiver.Close()
	ordinary, err := client.New(client.Config{BaseURL: s.balancer, ClientID: s.client.ClientID, ClientSecret: s.client.ClientSecret})
	if err != nil {
		t.Fatal(err)
	}
	defer ordinary.Close()
	hook, err := ordinary.CreateWebhook(t.Context(), client.NewWebhook{URL: receiver.URL, Events: []string{"hold.pending", "hold.posted", "hold.voided"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ordinary.DeleteWebhook(context.WithoutCancel(t.Context()), hook.ID) }()
	verifier, err := standardwebhooks.NewWebhook(hook.Secret)
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	h.verifier = verifier
	h.mu.Unlock()

	c := s.as(t, s.client)
	from, to := c.account("KRW", "1000000"), c.account("KRW", "0")
	ends := map[string]string{} // of each hold
	var mu sync.Mutex
	var workers sync.WaitGroup
	stop := make(chan struct{})
	for i := range workersMax {
		workers.Go(func() {
			for round := i; ; round++ {
				select {
				case <-stop:
					return
				default:
				}
				hold, err := ordinary.Hold(t.Context(), client.NewHold{Account: from, Amount: "2", Currency: "KRW"})
				end := "voided"
				switch {
				case err != nil:
				case round%2 == 0:
					_, err = ordinary.Void(t.Context(), hold.ID)
				default:
					end = "posted"
					_, err = ordinary.Capture(t.Context(), hold.ID, client.Capture{To: to})
				}
				if err != nil {
					t.Errorf("a hold has no end: %v", err)
					return
				}
				mu.Lock()
				ends[hold.ID] = end
				mu.Unlock()
			}
		})
	}
	for kill := range killsMax {
		s.killNode(t, kill%len(s.nodes), c)
		h.away.Store(false) // it was away before and during the first kill
	}
	close(stop)
	workers.Wait()
	inTime(t, time.Minute, "all is delivered", func() bool {
		return s.journal(t, "SELECT COUNT(*) FROM webhook_deliveries WHERE state <> 'delivered' AND webhook = ?", hook.ID) == 0
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, end := range ends {
		if got := h.states[id]; len(got) != 2 || got[0] != "pending" || got[1] != end {
			t.Errorf("of a hold that was %s the receiver heard %v", end, got)
		}
	}
	if len(ends) < 20 || h.unsigned > 0 {
		t.Errorf("%d holds were made, %d messages had no good signature", len(ends), h.unsigned)
	}
	t.Logf("%d holds, %d messages, %d of them again, %d kills", len(ends), len(h.seen)+h.repeats, h.repeats, killsMax)
	s.verify(t)
}
