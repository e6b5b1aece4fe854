package api_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"lockstep/api"
	"lockstep/api/auth"
	"lockstep/api/auth/authtest"
	"lockstep/node/ledger"
)

// provider is what package auth makes of an OpenID provider.
type provider struct {
	begin  func(next string) (auth.Departure, error)
	finish func(sealed string, query url.Values) (auth.Arrival, error)
}

func (p provider) Begin(_ context.Context, next string) (auth.Departure, error) { return p.begin(next) }

func (p provider) Finish(_ context.Context, sealed string, query url.Values) (auth.Arrival, error) {
	return p.finish(sealed, query)
}

// newcomers are people whom a provider has named.
type newcomers struct {
	api.People // what logins do not need
	now        func() time.Time
	refuse     error
}

func (n newcomers) EnsureIdentity(_ context.Context, issuer, subject string, _ auth.Profile) (auth.User, bool, error) {
	return auth.User{ID: issuer + "-" + subject, Role: auth.RoleUser}, true, n.refuse
}

func (n newcomers) StartSession(_ context.Context, user auth.User, _ auth.From) (auth.Session, error) {
	return auth.Session{
		ID: "one", User: user, Access: "access-of-" + user.ID, Refresh: "refresh-of-" + user.ID,
		AccessUntil: n.now().Add(time.Minute), RefreshUntil: n.now().Add(time.Hour),
	}, nil
}

// withProvider gives the edge an honest provider; changes may make it another.
func withProvider(changes ...func(*provider, *newcomers)) func(*api.Deps) {
	return func(deps *api.Deps) {
		p := provider{
			begin: func(next string) (auth.Departure, error) {
				return auth.Departure{URL: "https://provider.example/authorize?state=s", Sealed: "sealed-" + next, Life: 10 * time.Minute}, nil
			},
			finish: func(sealed string, query url.Values) (auth.Arrival, error) {
				if sealed != "sealed-/accounts" || query.Get("state") != "s" || query.Get("code") != "c" {
					return auth.Arrival{}, ledger.Refuse(ledger.LoginRefused, "the state is not that of this browser's sign-in")
				}
				return auth.Arrival{Issuer: "google", Subject: "kim", Next: strings.TrimPrefix(sealed, "sealed-")}, nil
			},
		}
		n := newcomers{now: deps.Now}
		for _, change := range changes {
			change(&p, &n)
		}
		deps.Logins, deps.People = p, n
	}
}

// cookie finds a cookie that an answer sets.
func (a answer) cookie(tb testing.TB, name string) *http.Cookie {
	tb.Helper()
	for _, cookie := range (&http.Response{Header: a.header}).Cookies() {
		if cookie.Name == name {
			return cookie
		}
	}
	tb.Fatalf("no cookie %s is set by %v %v", name, a, a.header)
	return nil
}

func TestALoginLeadsToTheProviderAndBack(t *testing.T) {
	t.Parallel()
	e := newEdge(t, withProvider())
	begun := e.do(t, "GET", "/v1/auth/google/login?next=/accounts", "").expect(t, 302, "")
	if to := begun.header.Get("Location"); to != "https://provider.example/authorize?state=s" {
		t.Errorf("it leads to %s", to)
	}
	kept := begun.cookie(t, "__Host-lockstep_alpha_login")
	if kept.Value != "sealed-/accounts" || !kept.HttpOnly || !kept.Secure || kept.SameSite != http.SameSiteLaxMode || kept.Path != "/" || kept.MaxAge != 600 {
		t.Errorf("the cookie is %v", kept)
	}
	back := e.do(t, "GET", api.CallbackPath+"?state=s&code=c", "", "Cookie", kept.Name+"="+kept.Value).expect(t, 302, "")
	if to := back.header.Get("Location"); to != "/accounts" {
		t.Errorf("it leads to %s", to)
	}
	if got := back.cookie(t, "__Host-lockstep_alpha_access"); got.Value != "access-of-google-kim" || !got.HttpOnly || !got.Secure {
		t.Errorf("the cookie is %v", got)
	}
	back.cookie(t, "__Host-lockstep_alpha_refresh")
	if got := back.cookie(t, kept.Name); got.Value != "" || got.MaxAge >= 0 && got.Expires.After(time.Now()) {
		t.Errorf("the cookie of the login stays: %v", got)
	}
	for _, a := range []answer{begun, back} {
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("the headers are %v", a.header)
		}
	}
	for _, secret := range []string{"sealed-", "access-of", "refresh-of", "code=c", "state=s"} {
		if strings.Contains(e.logs.String(), secret) {
			t.Errorf("the log has %s", secret)
		}
	}
}

func TestARefusedLoginStartsNoSession(t *testing.T) {
	t.Parallel()
	shutOut := func(_ *provider, n *newcomers) { n.refuse = ledger.Refuse(ledger.Forbidden, "shut out") }
	away := func(p *provider, _ *newcomers) {
		p.begin = func(string) (auth.Departure, error) {
			return auth.Departure{}, ledger.Refuse(ledger.ProviderUnavailable, "it does not answer")
		}
	}
	good := []string{"Cookie", "__Host-lockstep_alpha_login=sealed-/accounts"}
	for name, c := range map[string]struct {
		change  func(*api.Deps)
		path    string
		headers []string
		status  int
		code    string
	}{
		"no provider":     {func(*api.Deps) {}, "/v1/auth/google/login", nil, 404, "not_found"},
		"no provider now": {func(*api.Deps) {}, api.CallbackPath + "?state=s&code=c", good, 404, "not_found"},
		"away":            {withProvider(away), "/v1/auth/google/login", nil, 503, "provider_unavailable"},
		"another state":   {withProvider(), api.CallbackPath + "?state=x&code=c", good, 400, "login_refused"},
		"another cookie":  {withProvider(), api.CallbackPath + "?state=s&code=c", []string{"Cookie", "__Host-lockstep_alpha_login=x"}, 400, "login_refused"},
		"no cookie":       {withProvider(), api.CallbackPath + "?state=s&code=c", nil, 400, "login_refused"},
		"two states":      {withProvider(), api.CallbackPath + "?state=s&code=c&state=s", good, 400, "invalid_request"},
		"no form":         {withProvider(), api.CallbackPath + "?state=s;code=c", good, 400, "invalid_request"},
		"two nexts":       {withProvider(), "/v1/auth/google/login?next=/&next=/", nil, 400, "invalid_request"},
		"shut out":        {withProvider(shutOut), api.CallbackPath + "?state=s&code=c", good, 403, "forbidden"},
	} {
		e := newEdge(t, c.change)
		got := e.do(t, "GET", c.path, "", c.headers...)
		if got.status != c.status || got.field("code") != c.code || strings.Contains(strings.Join(got.header.Values("Set-Cookie"), " "), "access-of") {
			t.Errorf("%s: got %v %v, want %d %s", name, got, got.header, c.status, c.code)
		}
		page := e.do(t, "GET", c.path, "", append([]string{"Accept", "text/html,*/*"}, c.headers...)...)
		if page.status != c.status || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: a browser got %v %v", name, page, page.header)
		}
	}
}

// withLogins gives a lobby's nodes a provider to sign in at.
func withLogins(t *testing.T, at *authtest.Provider, changes ...func(*api.Deps)) *lobby {
	t.Helper()
	l := newLobby(t, changes...)
	for _, node := range l.nodes {
		logins, err := auth.OpenLogins(auth.Config{
			System: "alpha", Secret: "the secret of a system in a test, long enough", DB: l.db.Source(), Clock: l.bank.now,
			Logger: slog.New(slog.NewJSONHandler(node.logs, nil)),
		}, auth.OIDCConfig{Issuer: at.Issuer, ClientID: authtest.ClientID, ClientSecret: authtest.ClientSecret, RedirectURL: "http://127.0.0.1:1" + api.CallbackPath})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(logins.Close)
		node.server.SetLogins(logins)
	}
	return l
}

// visit goes to the provider from one node and comes back to the other.
func (b *browser) visit(at *authtest.Provider) answer {
	b.Helper()
	begun := b.do(0, "GET", "/v1/auth/google/login?next=/wallet", "")
	begun.expect(b, 302, "")
	back := at.Visit(b, begun.header.Get("Location"))
	return b.do(1, "GET", api.CallbackPath+"?"+back.Encode(), "")
}

// Somebody new becomes a user, somebody known does not, and another person with the same e-mail address is another user.
func TestAPersonIsWhomTheProviderNames(t *testing.T) {
	t.Parallel()
	at := authtest.New(t)
	l := withLogins(t, at)
	users := func() (n int) {
		if err := l.db.Source().QueryRow("SELECT COUNT(*) FROM users").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	me := func(b *browser) string { return b.do(0, "GET", "/v1/me", "").expect(t, 200, "").field("id") }
	first, second, other := l.browser(t), l.browser(t), l.browser(t)
	if to := first.visit(at).expect(t, 302, "").header.Get("Location"); to != "/wallet" || users() != 1 {
		t.Errorf("it leads to %q, and there are %d users", to, users())
	}
	second.visit(at).expect(t, 302, "")
	if me(first) == "" || me(first) != me(second) || users() != 1 {
		t.Errorf("one person is %q and %q, and there are %d users", me(first), me(second), users())
	}
	at.SignIn("person-2")
	other.visit(at).expect(t, 302, "")
	if me(other) == me(first) || users() != 2 {
		t.Errorf("two people are %q and %q, and there are %d users", me(other), me(first), users())
	}
	at.Close()
	l.browser(t).do(0, "GET", "/v1/auth/google/login", "").expect(t, 503, "provider_unavailable")
	if me(first) == "" {
		t.Error("somebody who was signed in is not any more, now that the provider is away")
	}
}

// No lie that a provider tells gets anybody a cookie, and the log has no secret of it.
func TestALyingProviderGetsNobodyASession(t *testing.T) {
	t.Parallel()
	at := authtest.New(t)
	l := withLogins(t, at)
	for name, lies := range map[string]authtest.Lies{
		"state":    {Answer: map[string]string{"state": "x"}},
		"nonce":    {Claims: map[string]any{"nonce": "x"}},
		"issuer":   {Claims: map[string]any{"iss": "https://evil.example"}},
		"audience": {Claims: map[string]any{"aud": "another"}},
		"userinfo": {UserInfo: map[string]any{"sub": "person-2"}},
	} {
		at.Lie(lies)
		b := l.browser(t)
		if got := b.visit(at); got.status != 400 || got.field("code") != "login_refused" || b.has("access") != "" {
			t.Errorf("a lie about %s got %v", name, got)
		}
	}
	at.Lie(authtest.Lies{})
	b := l.browser(t)
	b.do(0, "GET", "/v1/auth/google/login?next=https://evil", "").expect(t, 400, "invalid_request")
	b.visit(at).expect(t, 302, "")
	for _, node := range l.nodes {
		for _, secret := range []string{authtest.ClientSecret, "eyJ", "code=", "person-1"} {
			if strings.Contains(node.logs.String(), secret) {
				t.Errorf("the log has %q", secret)
			}
		}
	}
}

// An answer of the provider that is played again, at another node too, starts no second session.
func TestACallbackStartsOneSession(t *testing.T) {
	t.Parallel()
	at := authtest.New(t)
	at.Lie(authtest.Lies{Reuse: true})
	l := withLogins(t, at)
	b := l.browser(t)
	begun := b.do(0, "GET", "/v1/auth/google/login", "").expect(t, 302, "")
	cookie, back := b.cookie(), api.CallbackPath+"?"+at.Visit(t, begun.header.Get("Location")).Encode()
	l.nodes[0].do(t, "GET", back, "", "Cookie", cookie).expect(t, 302, "")
	for _, node := range l.nodes {
		node.do(t, "GET", back, "", "Cookie", cookie).expect(t, 400, "login_refused")
	}
}

// provider goes the way of a browser through the file's routes.
func (c *checker) provider(t *testing.T) {
	t.Helper()
	on := &checker{peered: &peered{edge: newEdge(t, withProvider())}, router: c.router, covered: c.covered}
	kept := on.exchange(t, 302, "GET", "/v1/auth/google/login?next=/accounts", "").cookie(t, "__Host-lockstep_alpha_login")
	on.exchange(t, 302, "GET", api.CallbackPath+"?state=s&code=c", "", "Cookie", kept.Name+"="+kept.Value)
	on.exchange(t, 400, "GET", api.CallbackPath+"?state=s&code=c", "")
}
