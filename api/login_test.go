package api_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"lockstep/api"
	"lockstep/api/auth"
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
		if page.status != c.status || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") || !strings.Contains(string(page.body), c.code) {
			t.Errorf("%s: a browser got %v %v", name, page, page.header)
		}
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
