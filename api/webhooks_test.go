package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// A webhook is its maker's alone, and its secret is in the first answer alone.
func TestAWebhookIsItsMakersAlone(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	key, body := uuid.NewString(), `{"url":"https://shop.example.com/hooks","events":["transfer.posted","account.opened"],"description":"the shop"}`
	first := e.do(t, "POST", "/v1/webhooks", body, as("alice", key)...).expect(t, 201, "")
	if !strings.HasPrefix(first.field("secret"), "whsec_") || first.field("events", "1") != "account.opened" {
		t.Errorf("got %v", first)
	}
	repeat := e.do(t, "POST", "/v1/webhooks", body, as("alice", key)...).expect(t, 201, "")
	if repeat.field("id") != first.field("id") || strings.Contains(string(repeat.body), "whsec_") || repeat.field("notice") == "" {
		t.Errorf("the repeat got %v", repeat)
	}
	id := first.field("id")
	e.open(t, "alice", "")
	log := e.get(t, "alice", "/v1/webhooks/"+id+"/deliveries").expect(t, 200, "")
	delivery := log.field("deliveries", "0", "id")
	if log.field("deliveries", "0", "type") != "account.opened" || log.field("deliveries", "0", "payload", "type") != "account.opened" {
		t.Errorf("the log is %v", log)
	}
	replay := fmt.Sprintf("/v1/webhooks/%s/deliveries/%s/replay", id, delivery)
	for _, c := range []struct{ method, path string }{
		{"GET", "/v1/webhooks/" + id + "/deliveries"},
		{"DELETE", "/v1/webhooks/" + id},
		{"POST", replay},
		{"GET", "/v1/webhooks/x/deliveries"},
		{"DELETE", "/v1/webhooks/" + uuid.NewString()},
		{"POST", strings.Replace(replay, delivery, "1", 1)},
	} {
		e.do(t, c.method, c.path, "", as("bob", uuid.NewString())...).expect(t, 404, "not_found")
	}
	if got := e.get(t, "bob", "/v1/webhooks").expect(t, 200, ""); strings.Contains(string(got.body), id) {
		t.Errorf("a stranger sees %v", got)
	}
	if got := e.get(t, "alice", "/v1/webhooks").expect(t, 200, ""); got.field("webhooks", "0", "id") != id || strings.Contains(string(got.body), "secret") {
		t.Errorf("its maker sees %v", got)
	}
	e.post(t, "alice", replay, "").expect(t, 200, "")
	if got := e.get(t, "alice", "/v1/webhooks/"+id+"/deliveries?state=pending").expect(t, 200, ""); got.field("deliveries", "0", "id") != delivery {
		t.Errorf("after its replay the log is %v", got)
	}
	e.do(t, "DELETE", "/v1/webhooks/"+id, "", as("alice", "")...).expect(t, 204, "")
	e.do(t, "DELETE", "/v1/webhooks/"+id, "", as("alice", "")...).expect(t, 404, "not_found")
	if strings.Contains(e.logs.String(), "whsec_") {
		t.Error("a secret is in the log")
	}
}

func TestAWebhookThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for _, bad := range []string{
		`{}`, `{"url":"http://shop.example.com"}`, `{"url":"https://x","events":["transfer.flown"]}`, `{"url":"https://x","secret":"whsec_x"}`,
		`{"url":"https://x","events":["hold.posted","hold.posted"]}`, `{"url":"https://x","description":"` + strings.Repeat("x", 101) + `"}`,
	} {
		e.post(t, "alice", "/v1/webhooks", bad).expect(t, 400, "invalid_request")
	}
	e.get(t, "alice", "/v1/webhooks?cursor=x").expect(t, 400, "invalid_request")
}

// The webhooks of a client end with it.
func TestADeletedClientHearsNothingMore(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.post(t, "operator", "/v1/admin/clients", `{"client_id":"alice","name":"x","scopes":["money:read"]}`).expect(t, 201, "")
	e.post(t, "alice", "/v1/webhooks", `{"url":"https://shop.example.com"}`).expect(t, 201, "")
	e.do(t, "DELETE", "/v1/admin/clients/alice", "", as("operator", "")...).expect(t, 204, "")
	if got := e.get(t, "alice", "/v1/webhooks").expect(t, 200, ""); got.field("webhooks", "0", "id") != "" {
		t.Errorf("there is still %v", got)
	}
}
