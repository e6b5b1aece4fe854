package e2e_test

import (
	"html"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"lockstep/cluster/local"
)

// traveller is a person's browser on its way between a system and the provider. Its cookies know no ports, as a browser's.
type traveller struct {
	testing.TB
	site *site
	http *http.Client
}

func (s *site) traveller(tb testing.TB) traveller {
	tb.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return traveller{tb, s, &http.Client{
		Transport: s.http.Transport, Timeout: s.http.Timeout, Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (v traveller) visit(method, address string, form url.Values) answer {
	v.Helper()
	request, err := http.NewRequestWithContext(v.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		v.Fatal(err)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	through := site{http: v.http}
	return through.send(request)
}

// follow goes where it is led, as far as the next page or an address that begins so.
func (v traveller) follow(got answer, at, until string) (answer, string) {
	v.Helper()
	for range 10 {
		if got.status < 300 || got.status > 399 {
			return got, at
		}
		base, err := url.Parse(at)
		if err != nil {
			v.Fatal(err)
		}
		to, err := base.Parse(got.header.Get("Location"))
		if err != nil {
			v.Fatal(err)
		}
		if at = to.String(); until != "" && strings.HasPrefix(at, until) {
			return answer{}, at
		}
		got = v.visit(http.MethodGet, at, nil)
	}
	v.Fatalf("there is no end of redirects at %s", at)
	return got, at
}

var formAction = regexp.MustCompile(`action="([^"]+/(login|consent|cancel))"`)

// form is the address to which a page's form of this name goes.
func (v traveller) form(page answer, at, name string) string {
	v.Helper()
	for _, found := range formAction.FindAllStringSubmatch(string(page.body), -1) {
		if found[2] == name {
			base, _ := url.Parse(at)
			to, err := base.Parse(html.UnescapeString(found[1]))
			if err != nil {
				v.Fatal(err)
			}
			return to.String()
		}
	}
	v.Fatalf("the page at %s has no form %s: %v", at, name, page)
	return ""
}

// signIn goes through the provider's pages, and returns the address of the callback to which the browser is sent.
func (v traveller) signIn(who local.UserCredentials, last string) string {
	v.Helper()
	begin := v.site.balancer + "/v1/auth/google/login?next=/wallet"
	page, at := v.follow(v.visit(http.MethodGet, begin, nil), begin, "")
	wrong := v.visit(http.MethodPost, v.form(page, at, "login"), url.Values{"username": {who.Username}, "password": {"wrong"}})
	if wrong.status != http.StatusBadRequest || !strings.Contains(string(wrong.body), "is wrong") {
		v.Fatalf("a wrong password got %v", wrong)
	}
	address := v.form(page, at, "login")
	page, at = v.follow(v.visit(http.MethodPost, address, url.Values{"username": {who.Username}, "password": {who.Password}}), address, "")
	if !strings.Contains(string(page.body), "Lockstep alpha wants to know") {
		v.Fatalf("the page to agree on is %v", page)
	}
	address = v.form(page, at, last)
	_, at = v.follow(v.visit(http.MethodPost, address, nil), address, v.site.balancer)
	return at
}

// Alice signs in at the provider of the cluster, through its pages, twice; she is one user. Bob, who cancels, is none. While the
// provider is away nobody can sign in there, and those who are signed in notice nothing.
func TestPeopleSignInAtTheProvider(t *testing.T) {
	t.Parallel()
	s := shared(t)
	s.provider.Lock()
	defer s.provider.Unlock()
	alice, bob := s.people()[0], s.people()[1]
	first := s.traveller(t)
	begun := first.visit(http.MethodGet, s.balancer+"/v1/auth/google/login", nil)
	to, err := url.Parse(begun.header.Get("Location"))
	if err != nil || begun.status != http.StatusFound || !strings.HasPrefix(to.String(), s.cluster.Credentials().IDPURL) {
		t.Fatalf("it leads to %v: %v", to, begun)
	}
	for _, name := range []string{"state", "response_type", "client_id", "scope", "redirect_uri", "code_challenge", "code_challenge_method", "nonce"} {
		if to.Query().Get(name) == "" {
			t.Errorf("the provider is not told the %s", name)
		}
	}
	me := func(v traveller) string {
		got := v.visit(http.MethodGet, s.nodes[1]+"/v1/me", nil).expect(t, http.StatusOK, "")
		if got.field("name") != "Alice Kim" || got.field("email") != "alice@example.com" {
			t.Errorf("the provider's profile is not hers: %v", got)
		}
		return got.field("id")
	}
	back := first.signIn(alice, "consent")
	if got := first.visit(http.MethodGet, back, nil); got.status != http.StatusFound || got.header.Get("Location") != "/wallet" {
		t.Fatalf("the way back ended with %v %v", got, got.header)
	}
	id := me(first)
	first.visit(http.MethodGet, back, nil).expect(t, http.StatusBadRequest, "login_refused") // once more
	second := s.traveller(t)
	second.visit(http.MethodGet, second.signIn(alice, "consent"), nil)
	if again := me(second); again != id || id == "" {
		t.Errorf("alice is %q and then %q", id, again)
	}
	third := s.traveller(t)
	cancelled := third.visit(http.MethodGet, third.signIn(bob, "cancel"), nil).expect(t, http.StatusBadRequest, "login_refused")
	if !strings.Contains(cancelled.field("detail"), "ancelled") {
		t.Errorf("it is not said that it was cancelled: %v", cancelled)
	}
	if got := third.visit(http.MethodGet, s.balancer+"/v1/me", nil); got.status != http.StatusUnauthorized {
		t.Errorf("who cancelled got %v", got)
	}
	if err := s.cluster.Kill("idp", true); err != nil {
		t.Fatal(err)
	}
	for _, base := range s.bases() {
		got := third.visit(http.MethodGet, base+"/v1/auth/google/login", nil).expect(t, http.StatusServiceUnavailable, "provider_unavailable")
		if got.header.Get("Retry-After") == "" {
			t.Errorf("it is not said when to come back: %v", got.header)
		}
	}
	if me(first) != id {
		t.Error("who is signed in has become another")
	}
	if err := s.cluster.StartProcess(t.Context(), "idp"); err != nil {
		t.Fatal(err)
	}
	if got := third.visit(http.MethodGet, s.balancer+"/v1/auth/google/login", nil); got.status != http.StatusFound {
		t.Errorf("the provider is back, and login got %v", got)
	}
	first.http.CloseIdleConnections()
}
