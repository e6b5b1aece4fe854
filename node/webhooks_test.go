package node_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"lockstep/api/client"
)

// receiver stands for a shop that hears of events.
type receiver struct {
	testing.TB
	*httptest.Server
	mu       sync.Mutex
	verifier *standardwebhooks.Webhook
	heard    []heard
	refused  int // messages whose signature was not good
}

// heard is one message, in the order of arrival.
type heard struct {
	ID, Type, Object, State string
	Payload                 []byte
}

func newReceiver(tb testing.TB) *receiver {
	tb.Helper()
	r := &receiver{TB: tb}
	r.Server = httptest.NewServer(r)
	tb.Cleanup(r.Close)
	return r
}

// trust makes the receiver verify with a secret.
func (r *receiver) trust(secret string) {
	r.Helper()
	verifier, err := standardwebhooks.NewWebhook(secret)
	must(r, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.verifier = verifier
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	payload, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.verifier == nil || r.verifier.Verify(payload, request.Header) != nil {
		r.refused++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var message struct {
		Type string
		Data struct{ ID, Number, State, Status string }
	}
	if err := json.Unmarshal(payload, &message); err != nil {
		r.Errorf("a message cannot be read: %v", err)
	}
	h := heard{request.Header.Get("webhook-id"), message.Type, message.Data.ID + message.Data.Number, message.Data.State + message.Data.Status, payload}
	r.heard = append(r.heard, h)
}

func (r *receiver) all() []heard {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.heard)
}

func (r *receiver) bad() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refused
}

// webhookKeys let messages go to this machine, with short pauses.
func webhookKeys() map[string]any {
	return map[string]any{"webhooks": map[string]any{"allow": []string{"127.0.0.1"}, "retry_min": "100ms", "retry_max": "500ms"}}
}

// hook makes a webhook of the receiver.
func (s *system) hook(r *receiver, events ...string) client.Webhook {
	s.Helper()
	made, err := s.client.CreateWebhook(s.context(), client.NewWebhook{URL: r.URL + "/hooks", Events: events})
	must(s, err)
	r.trust(made.Secret)
	return made
}

// What happens to one's accounts is told, signed, each thing once and about one object in order; what was before the webhook,
// and what happens to others, is not.
func TestAWebhookHearsWhatHappensToItsOwnersAccounts(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, webhookKeys())
	s, r := w.alpha, newReceiver(t)
	before := s.funded("1000")
	hook := s.hook(r)
	payee := s.funded("5")
	transfer, err := s.client.Transfer(s.context(), client.Payment{From: before, To: payee, Amount: "7", Currency: krw, Reference: "r1"})
	must(t, err)
	hold, err := s.client.Hold(s.context(), client.NewHold{Account: before, Amount: "9", Currency: krw})
	must(t, err)
	_, err = s.client.Capture(s.context(), hold.ID, client.Capture{To: payee})
	must(t, err)
	label := "renamed"
	_, err = s.client.ChangeAccount(s.context(), payee, client.AccountChange{Label: &label})
	must(t, err)
	abroad, err := s.client.Transfer(s.context(), client.Payment{From: before, To: w.beta.funded("1"), Amount: "11", Currency: krw})
	must(t, err)
	want := map[string][]string{
		payee: {"account.opened open", "account.changed open"}, transfer.ID: {"transfer.posted posted"},
		hold.ID: {"hold.pending pending", "hold.posted posted"}, abroad.ID: {"transfer.pending pending", "transfer.posted posted"},
	}
	s.eventually("the receiver hears", func() bool { return len(r.all()) >= 9 })
	got := map[string][]string{}
	for _, h := range r.all() {
		got[h.Object] = append(got[h.Object], h.Type+" "+h.State)
	}
	for object, events := range want {
		if !slices.Equal(got[object], events) {
			t.Errorf("of %s it heard %v, not %v", object, got[object], events)
		}
	}
	if len(r.all()) != 9 || r.bad() != 0 { // with the deposit to payee and the captured transfer
		t.Errorf("it heard %d messages, %d of them with a bad signature", len(r.all()), r.bad())
	}
	var log client.Deliveries
	s.eventually("the log has all of it", func() bool {
		log, err = s.client.Deliveries(s.context(), hook.ID, "delivered", client.Page{Limit: 100}, client.Fresh())
		must(t, err)
		return len(log.Deliveries) == 9
	})
	must(t, s.client.ReplayDelivery(s.context(), hook.ID, log.Deliveries[4].ID))
	s.eventually("the replay arrives", func() bool { return len(r.all()) == 10 })
	if again := r.all()[9]; again.ID != log.Deliveries[4].ID || !jsonEqual(again.Payload, log.Deliveries[4].Payload) {
		t.Errorf("the replay of %+v is %+v", log.Deliveries[4], again)
	}
	must(t, s.client.DeleteWebhook(s.context(), hook.ID))
	_, err = s.client.CreateWebhook(s.context(), client.NewWebhook{URL: "https://10.0.0.1/"})
	var problem *client.Problem
	if !errors.As(err, &problem) || problem.Code != "invalid_request" {
		t.Errorf("a webhook at a private address is %v", err)
	}
	s.funded("3")
	w.settle()
	w.verify()
	if list, err := s.client.Webhooks(s.context(), client.Page{}, client.Fresh()); err != nil || len(list.Webhooks) > 0 || len(r.all()) != 10 {
		t.Errorf("after its end there are %v (%v), and %d messages", list, err, len(r.all()))
	}
	if got := s.metric(`lockstep_webhooks_attempts_total{outcome="delivered"}`); got != "10" {
		t.Errorf("%s deliveries are counted", got)
	}
}

// jsonEqual compares texts that a log may have laid out anew.
func jsonEqual(a, b []byte) bool {
	var left, right bytes.Buffer
	return json.Compact(&left, a) == nil && json.Compact(&right, b) == nil && bytes.Equal(left.Bytes(), right.Bytes())
}
