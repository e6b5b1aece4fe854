package e2e_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
)

// A daily limit is reached exactly and never exceeded, whatever comes at once over both nodes. A refusal takes nothing.
func TestDailyLimitIsReachedExactlyAndNeverExceeded(t *testing.T) {
	t.Parallel()
	const withdrawals, each, fit = 100, 10, 37
	s := shared(t)
	c, operator := s.as(t, s.client), s.as(t, s.operator)
	number, other := c.account("KRW", "100000"), c.account("KRW", "0")
	set := object{"limits": object{"daily_out": fmt.Sprint(fit*each + each - 1)}}
	c.call(http.MethodPatch, "/v1/accounts/"+number, set).expect(t, http.StatusForbidden, "forbidden")
	limited := operator.call(http.MethodPatch, "/v1/accounts/"+number, set).expect(t, http.StatusOK, "")
	if limited.field("limits", "daily_out") != "379" || limited.field("limits", "daily_left") != "379" {
		t.Errorf("the account answers %v", limited)
	}
	var paid, refused atomic.Int64
	var all sync.WaitGroup
	for i := range withdrawals {
		all.Go(func() {
			at := c.at(s.nodes[i%len(s.nodes)])
			var got answer
			switch i % 4 {
			case 0:
				got = at.post("/v1/transfers", payment(number, other, fmt.Sprint(each), "KRW"))
			case 1:
				got = at.post("/v1/holds", cash(number, fmt.Sprint(each), "KRW"))
			default:
				got = at.post("/v1/withdrawals", cash(number, fmt.Sprint(each), "KRW"))
			}
			switch {
			case got.status == http.StatusCreated:
				paid.Add(1)
			case got.status == http.StatusUnprocessableEntity && got.field("code") == "limit_exceeded" && got.field("retry") == "new-key":
				refused.Add(1)
			default:
				t.Errorf("got %v", got)
			}
		})
	}
	all.Wait()
	if paid.Load() != fit || refused.Load() != withdrawals-fit {
		t.Errorf("%d were paid and %d refused, want %d and %d", paid.Load(), refused.Load(), fit, withdrawals-fit)
	}
	now := c.fresh("/v1/accounts/" + number)
	if left, available := now.field("limits", "daily_left"), now.field("balance", "available"); left != "9" || available != "99630" {
		t.Errorf("%s is left to pay out and %s available, want 9 and 99630", left, available)
	}
	c.post("/v1/withdrawals", cash(number, "9", "KRW")).expect(t, http.StatusCreated, "")
	c.post("/v1/withdrawals", cash(number, "1", "KRW"), "Accept-Language", "ko").expect(t, http.StatusUnprocessableEntity, "limit_exceeded")
	c.post("/v1/deposits", cash(number, "1", "KRW")).expect(t, http.StatusCreated, "")
	listed := c.get("/v1/accounts?limit=200", "Cache-Control", "no-cache").expect(t, http.StatusOK, "")
	if listed.field("accounts", "0", "number") == "" {
		t.Errorf("the list is %v", listed)
	}
	gone := operator.call(http.MethodPatch, "/v1/accounts/"+number, object{"limits": object{"daily_out": "none"}}).expect(t, http.StatusOK, "")
	if gone.field("limits") != "" {
		t.Errorf("without its limit the account answers %v", gone)
	}
	c.post("/v1/withdrawals", cash(number, "1000", "KRW")).expect(t, http.StatusCreated, "")
	for _, bad := range []object{{}, {"daily_out": "-1"}, {"daily_out": ""}, {"daily_out": 5}, {"daily_in": "5"}} {
		got := operator.call(http.MethodPatch, "/v1/accounts/"+number, object{"limits": bad})
		if got.status != http.StatusBadRequest {
			t.Errorf("limits %v: got %v", bad, got)
		}
	}
	s.verify(t)
}

// What an operator does is recorded before it is answered, and a payment soon after: who, what, to what, from where and
// with which outcome. The chain of records holds.
func TestWhatIsDoneIsRecorded(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c, operator := s.as(t, s.client), s.as(t, s.operator)
	number := c.account("KRW", "100")
	count := func(parts ...any) int64 {
		return s.journal(t, `SELECT COUNT(*) FROM audit WHERE records LIKE ?`, "%"+fmt.Sprint(parts...)+"%")
	}
	record := func(who, what, on string, status int, request string) string {
		return fmt.Sprintf(`"who":"%s","what":"%s","on":"%s","from":"127.0.0.1","status":%d,"request":"%s"}`, who, what, on, status, request)
	}
	frozen, refused, login := uuid.NewString(), uuid.NewString(), uuid.NewString()
	operator.call(http.MethodPatch, "/v1/accounts/"+number, object{"status": "frozen"}, "Request-Id", frozen).expect(t, http.StatusOK, "")
	if count(record("client:"+s.operator.ClientID, "PATCH /v1/accounts/{number}", "/v1/accounts/"+number, 200, frozen)) != 1 {
		t.Error("what the operator did was answered before it was recorded")
	}
	c.get("/v1/admin/nodes", "Request-Id", refused).expect(t, http.StatusForbidden, "forbidden")
	c.post("/v1/withdrawals", cash(number, "1", "KRW"), "Request-Id", frozen+"-w").expect(t, http.StatusUnprocessableEntity, "account_frozen")
	operator.call(http.MethodPatch, "/v1/accounts/"+number, object{"status": "open"}).expect(t, http.StatusOK, "")
	paid := c.post("/v1/withdrawals", cash(number, "1", "KRW"), "Request-Id", frozen+"-p").expect(t, http.StatusCreated, "").field("id")
	alice := s.browser(t)
	who := s.people()[0]
	alice.send(http.MethodPost, "/v1/auth/login", object{"username": who.Username, "password": who.Password}, "Request-Id", login).expect(t, http.StatusOK, "")
	for what, parts := range map[string]string{
		"a refused look at the nodes": record("client:"+s.client.ClientID, "GET /v1/admin/nodes", "/v1/admin/nodes", 403, refused),
		"a refused payment":           record("client:"+s.client.ClientID, "POST /v1/withdrawals", "/v1/withdrawals", 422, frozen+"-w"),
		"a payment":                   record("client:"+s.client.ClientID, "POST /v1/withdrawals", "/v1/transfers/"+paid, 201, frozen+"-p"),
		"a login":                     `"what":"POST /v1/auth/login","on":"/v1/auth/login","from":"127.0.0.1","status":200,"request":"` + login,
	} {
		deadline := time.Now().Add(10 * time.Second)
		for count(parts) != 1 {
			if time.Now().After(deadline) {
				t.Errorf("%s is recorded %d times: %s", what, count(parts), parts)
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	if got := c.get("/v1/accounts?limit=1"); got.header.Get("RateLimit-Policy") == "" || got.header.Get("RateLimit") == "" {
		t.Errorf("the answer tells no limit: %v", got.header)
	}
	s.verify(t)
}
