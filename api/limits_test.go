package api_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"lockstep/api"
	"lockstep/api/ratelimit"
)

// Every caller has each route to itself, up to a limit of which all answers tell; refused credentials and routes that are
// open to everybody count by address.
func TestCallersAreHeldToTheirLimits(t *testing.T) {
	t.Parallel()
	limiter, err := ratelimit.Open(ratelimit.Config{Prefix: "alpha", Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	e := newEdge(t, func(deps *api.Deps) {
		deps.Limits = api.Limits{
			Limiter: limiter, Client: ratelimit.Limit{Rate: 1, Burst: 3}, Person: ratelimit.Limit{Rate: 1, Burst: 2}, Address: ratelimit.Limit{Rate: 1, Burst: 5},
		}
	})
	// admitted asks until it is told to wait.
	admitted := func(who, method, path string) (n int) {
		t.Helper()
		for ; n < 50; n++ {
			got := e.do(t, method, path, "", as(who, "")...)
			switch got.status {
			case http.StatusTooManyRequests:
				if after, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || after < 1 || got.field("code") != "rate_limited" {
					t.Errorf("%s %s of %s: got %v, to be asked again after %d", method, path, who, got, after)
				}
				return n
			case http.StatusUnauthorized, http.StatusOK, http.StatusNotFound, http.StatusForbidden:
			default:
				t.Fatalf("got %v", got)
			}
			if got.header.Get("RateLimit") == "" || got.header.Get("RateLimit-Policy") == "" {
				t.Errorf("the answer says %v", got.header)
			}
		}
		return n
	}
	first := e.do(t, "GET", "/v1/accounts", "", as("alice", "")...).expect(t, 200, "")
	if policy, left := first.header.Get("RateLimit-Policy"), first.header.Get("RateLimit"); policy != `"client";q=3;w=3` || left != `"client";r=2;t=1` {
		t.Errorf("the first answer says %s and %s", policy, left)
	}
	for _, c := range []struct {
		who, method, path string
		want              int
	}{
		{"alice", "GET", "/v1/accounts", 2},
		{"alice", "GET", "/v1/accounts/alpha-00000000100042", 3}, // whatever account
		{"alice", "GET", "/v1/accounts/alpha-00000000100139", 0},
		{"bob", "GET", "/v1/accounts", 3},
		{"carol", "GET", "/v1/accounts", 2},
		{"alice", "GET", "/v1/admin/nodes", 3}, // what is forbidden counts, too
		{"nobody", "GET", "/v1/accounts", 5},
		{"nobody", "GET", "/v1/transfers", 0}, // all routes together
		{"anybody", "GET", "/problems/overloaded", 5},
		{"", "GET", "/problems/overloaded", 0},
	} {
		if n := admitted(c.who, c.method, c.path); n != c.want {
			t.Errorf("%s %s of %s: %d were admitted, want %d", c.method, c.path, c.who, n, c.want)
		}
	}
	for range 20 {
		e.do(t, "GET", "/livez", "").expect(t, 200, "")
	}
}

// Credentials that are refused count by address, and those of one IPv6 network together: one machine has as many as it likes.
func TestANetworkOfIPv6IsOneCaller(t *testing.T) {
	t.Parallel()
	limiter, err := ratelimit.Open(ratelimit.Config{Prefix: "alpha", Clock: func() time.Time { return time.Unix(1_800_000_000, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	e := newEdge(t, func(deps *api.Deps) {
		deps.Limits = api.Limits{Limiter: limiter, Address: ratelimit.Limit{Rate: 1, Burst: 5}}
		deps.Web.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	admitted := func(form string) (n int) {
		for i := range 20 {
			headers := append(as("nobody", ""), "X-Forwarded-For", fmt.Sprintf(form, i))
			if got := e.do(t, "GET", "/v1/accounts", "", headers...); got.status == http.StatusUnauthorized {
				n++
			}
		}
		return n
	}
	if n := admitted("2001:db8:0:1::%d"); n != 5 {
		t.Errorf("from one network %d were admitted, want 5", n)
	}
	if n := admitted("2001:db8:0:%d::1"); n != 19 { // all but the network of above
		t.Errorf("from 20 networks %d were admitted, want 19", n)
	}
	if n := admitted("198.51.100.%d"); n != 20 {
		t.Errorf("from 20 addresses %d were admitted, want 20", n)
	}
}
