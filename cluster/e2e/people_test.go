package e2e_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/local"
)

// browser keeps the cookies of a person over all addresses of a system, as a browser does on 127.0.0.1.
type browser struct {
	caller
	cookies map[string]string
}

func (s *site) browser(tb testing.TB) *browser {
	return &browser{caller: caller{TB: tb, site: s, base: s.balancer}, cookies: map[string]string{}}
}

// enter signs one of the people in whom credentials.json names.
func (s *site) enter(tb testing.TB, who local.UserCredentials) *browser {
	tb.Helper()
	b := s.browser(tb)
	b.send(http.MethodPost, "/v1/auth/login", object{"username": who.Username, "password": who.Password}).expect(tb, http.StatusOK, "")
	return b
}

func (s *site) people() []local.UserCredentials { return s.cluster.Credentials().Systems[0].Users }

// send sends a request with the cookies, from a page of the address that it goes to, and keeps those that it gets.
func (b *browser) send(method, path string, body any, headers ...string) answer {
	b.Helper()
	var pairs []string
	for name, value := range b.cookies {
		pairs = append(pairs, name+"="+value)
	}
	got := b.call(method, path, body, append([]string{"Origin", b.base, "Idempotency-Key", uuid.NewString(), "Cookie", strings.Join(pairs, "; ")}, headers...)...)
	for _, cookie := range (&http.Response{Header: got.header}).Cookies() {
		if b.cookies[cookie.Name] = cookie.Value; cookie.MaxAge < 0 {
			delete(b.cookies, cookie.Name)
		}
	}
	return got
}

func (b *browser) via(base string) *browser {
	b.base = base
	return b
}

// copied is another browser with the same cookies.
func (b *browser) copied(base string) *browser {
	other := &browser{caller: b.at(base), cookies: map[string]string{}}
	for name, value := range b.cookies {
		other.cookies[name] = value
	}
	return other
}

const refreshCookie = "lockstep_alpha_refresh"

// A person of credentials.json signs in at the balancer, uses their own money through every address, and is refused by
// every node as soon as they have signed out: by cookie, and by the old access token.
func TestPeopleOfTheClusterSignInAndOut(t *testing.T) {
	t.Parallel()
	s := shared(t)
	alice, bob := s.enter(t, s.people()[0]), s.enter(t, s.people()[1])
	number := alice.send(http.MethodPost, "/v1/accounts", object{"currency": "KRW"}).expect(t, http.StatusCreated, "").field("number")
	alice.via(s.nodes[0]).send(http.MethodPost, "/v1/deposits", cash(number, "1000", "KRW")).expect(t, http.StatusCreated, "")
	alice.via(s.nodes[1]).send(http.MethodPost, "/v1/withdrawals", cash(number, "100", "KRW")).expect(t, http.StatusCreated, "")
	got := alice.via(s.balancer).send(http.MethodGet, "/v1/accounts/"+number, nil, "Cache-Control", "no-cache").expect(t, http.StatusOK, "")
	me := alice.send(http.MethodGet, "/v1/me", nil).expect(t, http.StatusOK, "")
	if got.field("balance", "posted") != "900" || got.field("owner") != me.field("principal") || me.field("username") != "alice" {
		t.Errorf("%v has %v", me, got)
	}
	bob.send(http.MethodGet, "/v1/accounts/"+number, nil, "Cache-Control", "no-cache").expect(t, http.StatusNotFound, "account_not_found")
	bob.send(http.MethodPost, "/v1/deposits", cash(number, "1", "KRW")).expect(t, http.StatusNotFound, "account_not_found")
	alice.send(http.MethodGet, "/v1/admin/nodes", nil).expect(t, http.StatusForbidden, "forbidden")
	alice.send(http.MethodPost, "/v1/accounts", object{"currency": "KRW"}, "Origin", "https://evil.example").expect(t, http.StatusForbidden, "forbidden")

	stale := alice.copied(s.balancer)
	token := caller{TB: t, site: s, token: alice.cookies["lockstep_alpha_access"]}
	for _, base := range s.bases() {
		token.at(base).get("/v1/me").expect(t, http.StatusOK, "")
	}
	alice.send(http.MethodPost, "/v1/auth/logout", nil).expect(t, http.StatusNoContent, "")
	for _, base := range s.bases() {
		token.at(base).get("/v1/me").expect(t, http.StatusUnauthorized, "unauthenticated")
		stale.copied(base).send(http.MethodGet, "/v1/accounts", nil).expect(t, http.StatusUnauthorized, "unauthenticated")
		stale.copied(base).send(http.MethodPost, "/v1/auth/refresh", nil).expect(t, http.StatusUnauthorized, "unauthenticated")
	}
	bob.send(http.MethodGet, "/v1/me", nil).expect(t, http.StatusOK, "")
}

// Tabs that refresh at once over both nodes get one successor, and nobody is signed out.
func TestTabsRefreshAtOnceOverBothNodes(t *testing.T) {
	t.Parallel()
	s := shared(t)
	bob := s.enter(t, s.people()[1])
	before := bob.cookies[refreshCookie]
	successors, tabs := make([]string, 8), sync.WaitGroup{}
	for i := range successors {
		tabs.Go(func() {
			tab := bob.copied(s.nodes[i%2])
			if got := tab.send(http.MethodPost, "/v1/auth/refresh", nil); got.status != http.StatusOK {
				t.Errorf("tab %d was signed out: %v", i, got)
			}
			successors[i] = tab.cookies[refreshCookie]
		})
	}
	tabs.Wait()
	for _, successor := range successors {
		if successor != successors[0] || successor == before || successor == "" {
			t.Fatalf("the tabs got %q, before it was %q", successors, before)
		}
	}
	bob.cookies = map[string]string{refreshCookie: successors[0]}
	for _, base := range s.bases() {
		bob.copied(base).send(http.MethodGet, "/v1/me", nil).expect(t, http.StatusOK, "")
	}
}

// from makes a client that connects from another address of this machine.
func from(t *testing.T, address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 40 * time.Second}
}

// Of a thousand failed logins in a minute, at the balancer and at both nodes, at most twenty reach the password check; the
// right password from elsewhere still works.
func TestAThousandFailedLoginsReachThePasswordTwentyTimes(t *testing.T) {
	t.Parallel()
	s := shared(t)
	who, attacker := local.UserCredentials{Username: "victim", Password: "seven wide boats"}, from(t, "127.0.0.77")
	s.browser(t).send(http.MethodPost, "/v1/auth/register", object{"username": who.Username, "password": who.Password}).expect(t, http.StatusCreated, "")
	login := func(client *http.Client, base, password string) (int, string) {
		body, _ := json.Marshal(object{"username": who.Username, "password": password})
		response, err := client.Post(base+"/v1/auth/login", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.StatusCode, response.Header.Get("Retry-After")
	}
	began := time.Now()
	var next, reached, refused atomic.Int64
	var guesses sync.WaitGroup
	for range 8 {
		guesses.Go(func() {
			for {
				i := next.Add(1)
				if i > 1000 {
					return
				}
				switch status, after := login(attacker, s.bases()[i%3], "wrong wrong wrong"); {
				case status == http.StatusBadRequest: // only a password that was checked is said to be wrong
					reached.Add(1)
				case status == http.StatusTooManyRequests && after != "":
					refused.Add(1)
				default:
					t.Errorf("guess %d got %d", i, status)
				}
			}
		})
	}
	guesses.Wait()
	t.Logf("1000 failed logins in %v: %d reached the password check", time.Since(began).Round(time.Millisecond), reached.Load())
	if reached.Load() > 20 || reached.Load() < 5 || refused.Load() != 1000-reached.Load() || time.Since(began) > time.Minute {
		t.Errorf("%d guesses reached the password check and %d were refused, in %v", reached.Load(), refused.Load(), time.Since(began))
	}
	if status, _ := login(attacker, s.balancer, who.Password); status != http.StatusTooManyRequests {
		t.Errorf("the right password from the attacker's address is answered with %d", status)
	}
	for _, base := range s.bases() {
		if status, _ := login(from(t, "127.0.0.88"), base, who.Password); status != http.StatusOK {
			t.Errorf("the right password from elsewhere is answered with %d", status)
		}
	}
}
