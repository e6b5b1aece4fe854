package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/api"
	"lockstep/api/auth"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

// lobby is where people sign in: two nodes of one system, each with an authority of its own over one real database, and
// one bank in memory behind both. Its time is the bank's, which tests move.
type lobby struct {
	nodes       []*edge
	authorities []*auth.Authority
	db          *store.Store
	bank        *bank
}

const plainURL = "http://wallet.example"

func newLobby(tb testing.TB, changes ...func(*api.Deps)) *lobby {
	tb.Helper()
	l := &lobby{db: storetest.Open(tb), bank: newBank()}
	for range 2 {
		authority, err := auth.Open(tb.Context(), auth.Config{
			System: "alpha", Secret: "the secret of a system in a test, long enough", DB: l.db.Source(), Clock: l.bank.now, Logger: storetest.Logger(tb),
			PasswordKiB: 64,
		})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(authority.Close)
		l.authorities = append(l.authorities, authority)
		l.nodes = append(l.nodes, newEdgeOn(tb, l.bank, listen(tb), append([]func(*api.Deps){func(d *api.Deps) {
			d.Authority, d.People, d.Web = authority, authority, api.Web{PublicURL: plainURL}
		}}, changes...)...))
	}
	return l
}

// browser keeps the cookies of one person, as a browser does, and says where its pages are from. It is safe for many tabs.
type browser struct {
	testing.TB
	lobby *lobby

	mu      sync.Mutex
	cookies map[string]string
}

func (l *lobby) browser(tb testing.TB) *browser {
	return &browser{TB: tb, lobby: l, cookies: map[string]string{}}
}

// register makes a person of a random name and signs them in.
func (l *lobby) register(tb testing.TB) (b *browser, username string) {
	tb.Helper()
	b, username = l.browser(tb), "u"+uuid.NewString()[:18]
	b.do(0, "POST", "/v1/auth/register", credentials(username, goodPassword)).expect(tb, 201, "")
	return b, username
}

const goodPassword = "seven wide boats"

func credentials(username, password string) string {
	text, _ := json.Marshal(map[string]string{"username": username, "password": password})
	return string(text)
}

// do sends a request to a node with the cookies, and keeps those that it gets. A header of an empty value is left out.
func (b *browser) do(node int, method, path, body string, headers ...string) answer {
	b.Helper()
	all := map[string]string{"Origin": plainURL, "Content-Type": "application/json", "Idempotency-Key": uuid.NewString(), "Cookie": b.cookie()}
	for i := 0; i+1 < len(headers); i += 2 {
		all[headers[i]] = headers[i+1]
	}
	var pairs []string
	for name, value := range all {
		if value != "" {
			pairs = append(pairs, name, value)
		}
	}
	got := b.lobby.nodes[node].do(b, method, path, body, pairs...)
	b.keep(got)
	return got
}

func (b *browser) cookie() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var pairs []string
	for name, value := range b.cookies {
		pairs = append(pairs, name+"="+value)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "; ")
}

func (b *browser) keep(got answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, cookie := range setCookies(got) {
		if b.cookies[cookie.Name] = cookie.Value; cookie.MaxAge < 0 || cookie.Value == "" {
			delete(b.cookies, cookie.Name)
		}
	}
}

func (b *browser) has(kind string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cookies["lockstep_alpha_"+kind]
}

func (b *browser) set(kind, value string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cookies["lockstep_alpha_"+kind] = value
}

func setCookies(got answer) []*http.Cookie {
	return (&http.Response{Header: got.header}).Cookies()
}

// A person registers, is known at both nodes, signs out, and signs in again: the cookies are of the kind that scripts
// cannot read, and no answer has a token in it.
func TestPeopleSignInAndOut(t *testing.T) {
	t.Parallel()
	l := newLobby(t)
	b, name := l.register(t)
	for node := range l.nodes {
		me := b.do(node, "GET", "/v1/me", "").expect(t, 200, "")
		if me.field("username") != name || me.field("role") != "user" || me.field("principal") != "user:"+me.field("id") {
			t.Errorf("node %d says %v", node, me)
		}
	}
	got := b.do(1, "POST", "/v1/auth/login", credentials(" "+strings.ToUpper(name), goodPassword)).expect(t, 200, "")
	if got.field("expires_in") != "900" || strings.Contains(string(got.body), "token") {
		t.Errorf("signed in with %v", got)
	}
	cookies := setCookies(got)
	for _, cookie := range cookies {
		if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" || cookie.Secure || cookie.MaxAge < 900 {
			t.Errorf("the cookie is %v", cookie)
		}
	}
	if len(cookies) != 2 || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("there are %d cookies, and the headers %v", len(cookies), got.header)
	}
	sessions := b.do(0, "GET", "/v1/me/sessions", "").expect(t, 200, "")
	if sessions.field("sessions", "0", "current") == sessions.field("sessions", "1", "current") || sessions.field("sessions", "0", "address") != "127.0.0.1" {
		t.Errorf("the sessions are %v", sessions)
	}
	stale := b.cookie()
	b.do(0, "POST", "/v1/auth/logout", "").expect(t, 204, "")
	if left := b.cookie(); left != "" {
		t.Errorf("the cookies %q stay", left)
	}
	for node := range l.nodes {
		b.do(node, "GET", "/v1/me", "", "Cookie", stale).expect(t, 401, "unauthenticated")
		b.do(node, "POST", "/v1/auth/refresh", "", "Cookie", stale).expect(t, 401, "unauthenticated")
	}
	b.do(0, "POST", "/v1/auth/logout", "").expect(t, 204, "") // nothing is left to end
}

// On an https address the names bind the cookies to this host and to TLS.
func TestCookiesAreBoundToTheHostOverTLS(t *testing.T) {
	t.Parallel()
	l := newLobby(t, func(d *api.Deps) { d.Web = api.Web{PublicURL: "https://pay.example"} })
	login := func(origin string) answer {
		return l.nodes[0].do(t, "POST", "/v1/auth/register", credentials("u"+uuid.NewString()[:18], goodPassword), "Content-Type", "application/json", "Origin", origin)
	}
	for _, cookie := range setCookies(login("https://pay.example").expect(t, 201, "")) {
		if !strings.HasPrefix(cookie.Name, "__Host-lockstep_alpha_") || !cookie.Secure || cookie.Path != "/" || cookie.Domain != "" {
			t.Errorf("the cookie is %v", cookie)
		}
	}
	login("http://pay.example").expect(t, 403, "forbidden")
	login("https://"+strings.TrimPrefix(l.nodes[0].base, "http://")).expect(t, 403, "forbidden") // it is not what people type
}

// An access token that has ended is renewed on the way by every kind of route at every node, and the answer is the usual
// one; without a refresh token it is 401.
func TestSessionsAreRenewedOnTheWay(t *testing.T) {
	t.Parallel()
	l := newLobby(t)
	b, _ := l.register(t)
	number := b.do(0, "POST", "/v1/accounts", `{"currency":"KRW"}`).expect(t, 201, "").field("number")
	transfer := b.do(0, "POST", "/v1/deposits", `{"account":"`+number+`","amount":"100","currency":"KRW"}`).expect(t, 201, "").field("id")
	routes := []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/v1/accounts", "", 200},
		{"GET", "/v1/accounts/" + number, "", 200},
		{"GET", "/v1/accounts/" + number + "/entries", "", 200},
		{"GET", "/v1/transfers", "", 200},
		{"GET", "/v1/transfers/" + transfer, "", 200},
		{"GET", "/v1/transfers/" + uuid.NewString(), "", 404},
		{"GET", "/v1/me", "", 200},
		{"GET", "/v1/me/sessions", "", 200},
		{"GET", "/v1/admin/nodes", "", 403},
		{"PATCH", "/v1/accounts/" + number, `{"label":"mine"}`, 200},
		{"POST", "/v1/accounts", `{"currency":"USD"}`, 201},
		{"POST", "/v1/deposits", `{"account":"` + number + `","amount":"1","currency":"KRW"}`, 201},
		{"POST", "/v1/withdrawals", `{"account":"` + number + `","amount":"1000","currency":"KRW"}`, 422},
		{"POST", "/v1/holds", `{"account":"` + number + `","amount":"1","currency":"KRW"}`, 201},
		{"POST", "/v1/transfers", `{}`, 400},
		{"POST", "/v1/auth/refresh", "", 200},
		{"GET", "/", "", 200},
		{"GET", "/wallet/settings", "", 200},
		{"GET", "/wallet/accounts/" + number, "", 200},
		{"GET", "/wallet/accounts/" + number + "/statement.csv", "", 200},
		{"GET", "/wallet/transfers/" + transfer, "", 200},
		{"GET", "/wallet/transfers/" + transfer + "/events", "", 200},
	}
	for i, r := range routes {
		l.bank.pass(15*time.Minute + time.Minute) // the end of the access token, and what clocks may differ
		used := b.has("refresh")
		got := b.do(i%2, r.method, r.path, r.body)
		if got.status != r.status {
			t.Errorf("%s %s: got %v, want %d", r.method, r.path, got, r.status)
		}
		if renewed := b.has("refresh"); renewed == used || renewed == "" || len(setCookies(got)) != 2 {
			t.Errorf("%s %s: the session was not renewed: %v", r.method, r.path, got.header)
		}
		b.do((i+1)%2, "GET", "/v1/accounts", "").expect(t, 200, "")
	}
	old := b.has("access")
	l.bank.pass(20 * time.Minute)
	for node := range l.nodes {
		l.browser(t).do(node, "GET", "/v1/accounts", "", "Cookie", "lockstep_alpha_access="+old).expect(t, 401, "unauthenticated")
		l.browser(t).do(node, "GET", "/v1/accounts", "").expect(t, 401, "unauthenticated")
	}
	b.do(0, "GET", "/v1/accounts", "", "Cookie", "lockstep_alpha_refresh="+b.has("refresh")).expect(t, 200, "") // browsers drop ended cookies
	if sessions := b.do(0, "GET", "/v1/me/sessions", ""); sessions.field("sessions", "1", "id") != "" {
		t.Errorf("renewing has made sessions: %v", sessions)
	}
}

// Many tabs that refresh at once over both nodes get one successor, and nobody is signed out; the token used again after
// its grace ends the session on both nodes, whoever uses it.
func TestTabsThatRefreshAtOnceShareASuccessor(t *testing.T) {
	t.Parallel()
	l := newLobby(t)
	b, _ := l.register(t)
	stolen, first := b.has("refresh"), b.cookie()
	l.bank.pass(20 * time.Minute)
	successors, tabs := make([]string, 12), sync.WaitGroup{}
	for i := range successors {
		tabs.Go(func() {
			tab := l.browser(t)
			if got := tab.do(i%2, "GET", "/v1/me", "", "Cookie", first); got.status != 200 {
				t.Errorf("tab %d was signed out: %v", i, got)
			}
			successors[i] = tab.has("refresh")
		})
	}
	tabs.Wait()
	for _, successor := range successors {
		if successor != successors[0] || successor == stolen || successor == "" {
			t.Fatalf("the tabs got %q", successors)
		}
	}
	b.set("refresh", successors[0])
	l.bank.pass(20 * time.Minute)
	b.do(0, "GET", "/v1/me", "").expect(t, 200, "")
	b.do(1, "GET", "/v1/me", "").expect(t, 200, "")
	thief := l.browser(t)
	thief.do(1, "GET", "/v1/me", "", "Cookie", "lockstep_alpha_refresh="+stolen).expect(t, 401, "unauthenticated")
	for node := range l.nodes {
		l.eventually(t, "the session is dead", func() bool {
			return l.browser(t).do(node, "GET", "/v1/me", "", "Cookie", b.cookie()).status == 401
		})
		b.do(node, "POST", "/v1/auth/refresh", "", "Cookie", "lockstep_alpha_refresh="+b.has("refresh")).expect(t, 401, "unauthenticated")
	}
}

func (l *lobby) eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("waited in vain: %s", what)
		}
	}
}

// A request that lives on cookies and changes something has to come from a page of this system, with JSON; cookies and
// bearer token together are refused.
func TestPagesOfOtherSitesChangeNothing(t *testing.T) {
	t.Parallel()
	l := newLobby(t)
	b, name := l.register(t)
	open := func(headers ...string) answer {
		return b.do(0, "POST", "/v1/accounts", `{"currency":"KRW"}`, headers...)
	}
	open().expect(t, 201, "")
	open("Origin", l.nodes[0].base).expect(t, 201, "") // a node's own address, where cookies are plain
	open("Origin", "", "Sec-Fetch-Site", "same-origin").expect(t, 201, "")
	evil := [][]string{
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
		{"Origin", "https://wallet.example"},
		{"Origin", plainURL + ".evil.example"},
		{"Origin", ""},
		{"Origin", "", "Sec-Fetch-Site", "cross-site"},
		{"Origin", "", "Sec-Fetch-Site", "same-site"},
		{"Sec-Fetch-Site", "cross-site"},
	}
	for _, headers := range evil {
		open(headers...).expect(t, 403, "forbidden")
		b.do(0, "PATCH", "/v1/accounts/alpha-00000000100042", `{"label":"x"}`, headers...).expect(t, 403, "forbidden")
		b.do(0, "DELETE", "/v1/me/sessions", "", headers...).expect(t, 403, "forbidden")
		b.do(0, "POST", "/v1/auth/logout", "", headers...).expect(t, 403, "forbidden")
		b.do(0, "POST", "/v1/auth/refresh", "", headers...).expect(t, 403, "forbidden")
	}
	l.bank.pass(20 * time.Minute)
	before := b.cookie()
	open("Origin", "https://evil.example").expect(t, 403, "forbidden")
	if b.cookie() != before {
		t.Error("a page of another site has renewed the session")
	}
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", ""} {
		open("Content-Type", kind).expect(t, 415, "unsupported_media_type")
		b.do(0, "POST", "/v1/auth/login", credentials(name, goodPassword), "Content-Type", kind, "Cookie", "").expect(t, 415, "unsupported_media_type")
	}
	b.do(0, "POST", "/v1/auth/login", credentials(name, goodPassword), "Origin", "https://evil.example").expect(t, 403, "forbidden")
	open("Authorization", "Bearer "+b.has("access")).expect(t, 400, "invalid_request")
	b.do(0, "GET", "/v1/accounts", "", "Authorization", "Bearer "+b.has("access")).expect(t, 400, "invalid_request")
	b.do(0, "GET", "/v1/accounts", "", "Authorization", "Bearer "+b.has("access"), "Cookie", "").expect(t, 200, "")
	if got := b.do(0, "GET", "/v1/accounts", ""); got.field("accounts", "3", "number") != "" || got.field("accounts", "2", "number") == "" {
		t.Errorf("there are other accounts than the three: %v", got)
	}
}

// A new password ends the other sessions and not the one that changes it.
func TestAChangeOfPasswordSignsOutElsewhere(t *testing.T) {
	t.Parallel()
	l := newLobby(t)
	here, name := l.register(t)
	there := l.browser(t)
	there.do(1, "POST", "/v1/auth/login", credentials(name, goodPassword)).expect(t, 200, "")
	change := func(current, next string) answer {
		return here.do(0, "POST", "/v1/auth/password", `{"current_password":"`+current+`","new_password":"`+next+`"}`)
	}
	change("wrong wrong wrong", "eight narrow bridges").expect(t, 400, "invalid_credentials")
	for _, weak := range []string{"short", "aaaaaaaaaaaaaaa", name + "abc", strings.Repeat("long ", 40)} {
		change(goodPassword, weak).expect(t, 400, "invalid_request")
	}
	there.do(1, "GET", "/v1/me", "").expect(t, 200, "")
	change(goodPassword, "eight narrow bridges").expect(t, 204, "")
	here.do(1, "GET", "/v1/me", "").expect(t, 200, "")
	for node := range l.nodes {
		l.browser(t).do(node, "GET", "/v1/me", "", "Cookie", there.cookie()).expect(t, 401, "unauthenticated")
	}
	l.browser(t).do(0, "POST", "/v1/auth/login", credentials(name, goodPassword)).expect(t, 400, "invalid_credentials")
	third := l.browser(t)
	third.do(0, "POST", "/v1/auth/login", credentials(name, "eight narrow bridges")).expect(t, 200, "")
	third.do(0, "DELETE", "/v1/me/sessions", "").expect(t, 204, "")
	for node := range l.nodes {
		l.browser(t).do(node, "GET", "/v1/me", "", "Cookie", here.cookie()).expect(t, 401, "unauthenticated")
	}
}

// While the database is away those who are signed in go on until their access token ends, and nobody is signed out for it.
func TestSessionsOutliveAnOutage(t *testing.T) {
	t.Parallel()
	l := newLobby(t)
	b, name := l.register(t)
	if err := l.db.Source().Close(); err != nil {
		t.Fatal(err)
	}
	b.do(0, "GET", "/v1/accounts", "").expect(t, 200, "")
	b.do(0, "POST", "/v1/auth/login", credentials(name, goodPassword)).expect(t, 503, "source_unavailable")
	b.do(0, "POST", "/v1/auth/logout", "").expect(t, 503, "source_unavailable")
	l.bank.pass(20 * time.Minute)
	b.do(0, "GET", "/v1/accounts", "").expect(t, 503, "source_unavailable")
	if b.has("refresh") == "" {
		t.Error("the outage has signed the person out")
	}
}

// Where a session begins is who opened the connection; a balancer of ours, and nobody else, may name another one, by the
// last word of the header.
func TestOnlyTheBalancerSaysWhereARequestComesFrom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ proxy, want string }{
		"a balancer": {"127.0.0.0/8", "203.0.113.5"}, "a stranger": {"10.0.0.0/8", "127.0.0.1"},
	} {
		l := newLobby(t, func(d *api.Deps) { d.Web.Proxies = []netip.Prefix{netip.MustParsePrefix(c.proxy)} })
		b, _ := l.register(t)
		for _, headers := range [][]string{
			{"X-Forwarded-For", "198.51.100.1, 203.0.113.5"}, {"X-Forwarded-For", "198.51.100.1", "X-Forwarded-For", "203.0.113.5"},
		} {
			headers = append(headers, "Content-Type", "application/json")
			l.bank.pass(time.Second) // so that it is the newest
			user := b.do(0, "GET", "/v1/me", "").field("username")
			got := l.nodes[0].do(t, "POST", "/v1/auth/login", credentials(user, goodPassword), headers...).expect(t, 200, "")
			b.keep(got)
			if from := b.do(0, "GET", "/v1/me/sessions", "").field("sessions", "0", "address"); from != c.want {
				t.Errorf("behind %s the session is from %q, want %s", name, from, c.want)
			}
		}
	}
}

// Who registers gets a name of their own; what does not do is said before anything is made.
func TestRegistrationRefusesWhatDoesNotDo(t *testing.T) {
	t.Parallel()
	l := newLobby(t)
	_, taken := l.register(t)
	b := l.browser(t)
	b.do(1, "POST", "/v1/auth/register", credentials(taken, goodPassword)).expect(t, 409, "username_taken")
	for _, name := range []string{"", "ab", "Alice", "앨리스", "a b c", ".abc", strings.Repeat("a", 33)} {
		b.do(0, "POST", "/v1/auth/register", credentials(name, goodPassword)).expect(t, 400, "invalid_request")
	}
	b.do(0, "POST", "/v1/auth/register", `{"username":"somebody","password":"seven wide boats","role":"operator"}`).expect(t, 400, "invalid_request")
	if b.cookie() != "" {
		t.Errorf("got the cookies %s", b.cookie())
	}
	if log := l.nodes[0].logs.String() + l.nodes[1].logs.String(); strings.Contains(log, goodPassword) || strings.Contains(log, "lockstep_alpha_") {
		t.Error("a password or a cookie is in the log")
	}
}

// persons holds the routes of people against the file, on a lobby of its own.
func (c *checker) persons(t *testing.T) {
	t.Helper()
	l := newLobby(t)
	on := &checker{peered: &peered{edge: l.nodes[0]}, router: c.router, covered: c.covered}
	headers := func(b *browser) []string {
		pairs := []string{"Content-Type", "application/json", "Origin", plainURL}
		if cookie := b.cookie(); cookie != "" {
			pairs = append(pairs, "Cookie", cookie)
		}
		return pairs
	}
	b := l.browser(t)
	do := func(status int, method, path, body string) {
		t.Helper()
		b.keep(on.exchange(t, status, method, path, body, headers(b)...))
	}
	do(201, "POST", "/v1/auth/register", credentials("dora", goodPassword))
	do(409, "POST", "/v1/auth/register", credentials("dora", goodPassword))
	do(200, "POST", "/v1/auth/login", credentials("dora", goodPassword))
	do(400, "POST", "/v1/auth/login", credentials("dora", "wrong"))
	do(200, "POST", "/v1/auth/refresh", "{}")
	do(200, "GET", "/v1/me", "")
	do(200, "GET", "/v1/me/sessions", "")
	do(204, "POST", "/v1/auth/password", `{"current_password":"seven wide boats","new_password":"eight narrow bridges"}`)
	do(400, "POST", "/v1/auth/password", `{"current_password":"seven wide boats","new_password":"x"}`)
	do(204, "DELETE", "/v1/me/sessions", "")
	do(401, "POST", "/v1/auth/refresh", "{}")
	user, _, err := l.authorities[0].EnsureIdentity(context.Background(), "https://accounts.example", "1", auth.Profile{Name: "Emma", Email: "e@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	session, err := l.authorities[0].StartSession(context.Background(), user, auth.From{By: "https://accounts.example"})
	if err != nil {
		t.Fatal(err)
	}
	b.set("access", session.Access)
	do(409, "POST", "/v1/auth/password", `{"current_password":"","new_password":"eight narrow bridges"}`)
	do(204, "POST", "/v1/auth/logout", "{}")
}
