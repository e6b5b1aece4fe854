package e2e_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
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
