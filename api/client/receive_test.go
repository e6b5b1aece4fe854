package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"lockstep/api/client"
)

const (
	oldSecret = "whsec_b2xkIHNlY3JldCBvZiB0d28="
	newSecret = "whsec_bmV3IHNlY3JldCBvZiB0d28="
)

// delivery is a request that was signed so long ago.
func delivery(t testing.TB, secret, body string, ago time.Duration) *http.Request {
	t.Helper()
	signer, err := standardwebhooks.NewWebhook(secret)
	must(t, err)
	at := time.Now().Add(-ago)
	signature, err := signer.Sign("delivery-1", at, []byte(body))
	must(t, err)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/hooks", strings.NewReader(body))
	r.Header.Set("webhook-id", "delivery-1")
	r.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	r.Header.Set("webhook-signature", signature)
	return r
}

const told = `{"type":"transfer.posted","timestamp":"2026-01-31T00:00:00.000000Z","data":{"id":"019a","state":"posted","reference":"order"}}`

// What no secret of the webhook has signed, or signed long ago, is nobody's word; it tells nothing, not even its id.
func TestOnlyASignedDeliveryIsRead(t *testing.T) {
	t.Parallel()
	for _, secrets := range [][]string{{newSecret}, {oldSecret, newSecret}} {
		event, err := client.ReadEvent(delivery(t, newSecret, told, 0), secrets...)
		must(t, err)
		transfer, err := event.Transfer()
		must(t, err)
		if event.ID != "delivery-1" || event.Type != "transfer.posted" || event.At.IsZero() || transfer.Reference != "order" {
			t.Errorf("read %+v about %+v", event, transfer)
		}
	}
	changed := delivery(t, newSecret, told, 0)
	changed.Header.Set("webhook-id", "delivery-2")
	unsigned := delivery(t, newSecret, told, 0)
	unsigned.Header.Del("webhook-signature")
	for name, forged := range map[string]struct {
		request *http.Request
		secrets []string
	}{
		"another's":               {delivery(t, oldSecret, told, 0), []string{newSecret}},
		"under another id":        {changed, []string{newSecret}},
		"not signed":              {unsigned, []string{newSecret}},
		"too old":                 {delivery(t, newSecret, told, 6*time.Minute), []string{newSecret}},
		"signed with nothing":     {delivery(t, "", told, 0), []string{""}},
		"signed with half of one": {delivery(t, "whsec_", told, 0), []string{"whsec_"}},
		"of no webhook":           {delivery(t, newSecret, told, 0), nil},
	} {
		if event, err := client.ReadEvent(forged.request, forged.secrets...); !errors.Is(err, client.ErrForged) || event.ID != "" {
			t.Errorf("a delivery %s was taken: %+v, %v", name, event, err)
		}
	}
	if _, err := client.ReadEvent(delivery(t, newSecret, strings.Repeat(" ", 300<<10)+told, 0), newSecret); err == nil || errors.Is(err, client.ErrForged) {
		t.Errorf("a delivery of 300 KiB: %v", err)
	}
}

// memory keeps one webhook, and lets another process be faster once.
type memory struct {
	kept    client.Webhook
	faster  client.Webhook
	refuses error
}

func (m *memory) Kept(context.Context, string) (client.Webhook, error) { return m.kept, nil }

func (m *memory) Replace(_ context.Context, old string, by client.Webhook) (bool, error) {
	if m.faster.ID != "" {
		m.kept, m.faster = m.faster, client.Webhook{}
	}
	if m.kept.ID != old {
		return false, nil
	}
	m.kept = by
	return true, m.refuses
}

func TestAURLHasOneWebhookWhoseSecretIsKept(t *testing.T) {
	t.Parallel()
	const (
		none  = `{"webhooks":[],"next_cursor":null}`
		a     = `{"id":"a","url":"http://shop/hooks","events":["hold.posted","hold.expired"]}`
		b     = `{"id":"b","url":"http://shop/hooks","events":["hold.expired","hold.posted"]}`
		other = `{"id":"c","url":"http://other/hooks","events":[]}`
		madeB = `{"id":"b","url":"http://shop/hooks","secret":"whsec_Qg=="}`
	)
	list := func(hooks ...string) step {
		return gives(200, `{"webhooks":[`+strings.Join(hooks, ",")+`],"next_cursor":null}`)
	}
	keptA := client.Webhook{ID: "a", URL: "http://shop/hooks", Secret: "whsec_QQ=="}
	keptB := client.Webhook{ID: "b", URL: "http://shop/hooks", Secret: "whsec_Qg=="}
	for name, c := range map[string]struct {
		memory memory
		steps  []step
		sent   string
		ends   string
	}{
		"the first start":                    {memory{}, []step{gives(200, none), gives(201, madeB)}, "GET POST", "b"},
		"a later start":                      {memory{kept: keptB}, []step{list(other, b)}, "GET", "b"},
		"on the second page":                 {memory{kept: keptB}, []step{gives(200, `{"webhooks":[],"next_cursor":"n"}`), list(b)}, "GET GET", "b"},
		"deleted by an operator":             {memory{kept: keptA}, []step{list(other), gives(201, madeB)}, "GET POST", "b"},
		"a secret that nobody kept":          {memory{}, []step{list(a), gives(201, madeB), gives(204, "")}, "GET POST DELETE/a", "b"},
		"another process is faster":          {memory{faster: keptA}, []step{gives(200, none), gives(201, madeB), gives(204, ""), list(a)}, "GET POST DELETE/b GET", "a"},
		"the first answer was lost":          {memory{}, []step{gives(200, none), gives(201, `{"id":"a","secret":null}`), gives(204, ""), gives(200, none), gives(201, madeB)}, "GET POST DELETE/a GET POST", "b"},
		"one too many, and somebody was by":  {memory{kept: keptB}, []step{list(a, b), says(404, "not_found", client.NotApplied, client.Never)}, "GET DELETE/a", "b"},
		"somebody asked for others' events ": {memory{kept: client.Webhook{ID: "c", Secret: "x"}}, []step{list(strings.ReplaceAll(other, "other", "shop")), gives(201, madeB), gives(204, "")}, "GET POST DELETE/c", "b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := play(t, c.steps...)
			hook, err := s.client().KeepWebhook(t.Context(), client.NewWebhook{URL: "http://shop/hooks", Events: []string{"hold.posted", "hold.expired"}}, &c.memory)
			if err != nil || hook.ID != c.ends || hook.Secret == "" || c.memory.kept.ID != c.ends {
				t.Errorf("there is %+v, kept is %+v: %v", hook, c.memory.kept, err)
			}
			var sent []string
			for _, r := range s.requests() {
				line := r.method
				if r.method == http.MethodDelete {
					line += strings.TrimPrefix(r.path, "/v1/webhooks")
				}
				if r.method == http.MethodGet && r.cache == "" {
					t.Error("a replica was asked")
				}
				sent = append(sent, line)
			}
			if strings.Join(sent, " ") != c.sent {
				t.Errorf("sent %q, wanted %s", sent, c.sent)
			}
			s.played()
		})
	}
}

// A keeper whose answer was lost may have kept it: the webhook stays for the next start to see.
func TestAWebhookOfAnUnknownKeepingStays(t *testing.T) {
	t.Parallel()
	s := play(t, gives(200, `{"webhooks":[],"next_cursor":null}`), gives(201, `{"id":"a","secret":"whsec_QQ=="}`))
	_, err := s.client().KeepWebhook(t.Context(), client.NewWebhook{URL: "http://shop/hooks"}, &memory{refuses: errors.New("lost")})
	if err == nil || slices.ContainsFunc(s.requests(), func(r seen) bool { return r.method == http.MethodDelete }) {
		t.Errorf("it ended with %v and %+v", err, s.requests())
	}
}
