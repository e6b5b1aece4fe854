package auth_test

import (
	"crypto/rand"
	"crypto/rsa"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"lockstep/api/auth"
	"lockstep/api/auth/authtest"
	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

const callback = "http://127.0.0.1:1/v1/auth/google/callback"

// signingIn is a system with a provider to sign in at.
type signingIn struct {
	*auth.Logins
	provider *authtest.Provider
	clock    *clock
	db       *store.Store
}

func openLogins(t testing.TB, db *store.Store, clock *clock, at auth.OIDCConfig) *auth.Logins {
	t.Helper()
	config := auth.Config{System: system, Secret: systemSecret, DB: db.Source(), Clock: clock.Now, Logger: storetest.Logger(t)}
	logins, err := auth.OpenLogins(config, at)
	must(t, err)
	t.Cleanup(logins.Close)
	return logins
}

func oidcConfig(p *authtest.Provider) auth.OIDCConfig {
	return auth.OIDCConfig{Issuer: p.Issuer, ClientID: authtest.ClientID, ClientSecret: authtest.ClientSecret, RedirectURL: callback}
}

func newSigningIn(t testing.TB) *signingIn {
	db, clock, provider := storetest.Open(t), newClock(), authtest.New(t)
	return &signingIn{Logins: openLogins(t, db, clock, oidcConfig(provider)), provider: provider, clock: clock, db: db}
}

func (s *signingIn) begin(t testing.TB, next string) auth.Departure {
	t.Helper()
	begun, err := s.Begin(t.Context(), next)
	must(t, err)
	return begun
}

// signIn goes all the way.
func (s *signingIn) signIn(t testing.TB) (auth.Arrival, error) {
	t.Helper()
	begun := s.begin(t, "/accounts?page=2")
	return s.Finish(t.Context(), begun.Sealed, s.provider.Visit(t, begun.URL))
}

// refusesAStolenCode goes all the way with the code of somebody else's login.
func (s *signingIn) refusesAStolenCode(t testing.TB) {
	t.Helper()
	victim, thief := s.begin(t, ""), s.begin(t, "")
	stolen, answer := s.provider.Visit(t, victim.URL), s.provider.Visit(t, thief.URL)
	answer.Set("code", stolen.Get("code"))
	_, err := s.Finish(t.Context(), thief.Sealed, answer)
	wantCode(t, err, ledger.LoginRefused)
}

func TestAPersonSignsInAtTheProvider(t *testing.T) {
	t.Parallel()
	s := newSigningIn(t)
	begun := s.begin(t, "/accounts?page=2")
	asked, err := url.Parse(begun.URL)
	must(t, err)
	for name, want := range map[string]string{
		"response_type": "code", "client_id": authtest.ClientID, "redirect_uri": callback, "scope": "openid email profile", "code_challenge_method": "S256",
	} {
		if got := asked.Query().Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		if len(asked.Query().Get(name)) != 43 {
			t.Errorf("%s is %q, want 256 random bits", name, asked.Query().Get(name))
		}
		if strings.Contains(begun.Sealed, asked.Query().Get(name)) {
			t.Errorf("%s can be read in the cookie", name)
		}
	}
	got, err := s.Finish(t.Context(), begun.Sealed, s.provider.Visit(t, begun.URL))
	must(t, err)
	want := auth.Arrival{
		Issuer: s.provider.Issuer, Subject: "person-1", Next: "/accounts?page=2",
		Profile: auth.Profile{Name: "Kim Minji", Email: "minji@example.com", Picture: s.provider.Issuer + "/minji.png"},
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if again := s.begin(t, ""); again.URL == begun.URL || again.Sealed == begun.Sealed {
		t.Error("two logins are alike")
	}
}

// Every lie that a provider, or somebody between it and the browser, can tell is the end of the login.
func TestALyingProviderSignsNobodyIn(t *testing.T) {
	t.Parallel()
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	claim := func(name string, value any) authtest.Lies { return authtest.Lies{Claims: map[string]any{name: value}} }
	sign := func(how func(*authtest.Provider, jwt.MapClaims) string) authtest.Lies {
		return authtest.Lies{Sign: how}
	}
	s := newSigningIn(t)
	for name, lies := range map[string]authtest.Lies{
		"wrong state":            {Answer: map[string]string{"state": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}},
		"no state":               {Answer: map[string]string{"state": ""}},
		"another issuer answers": {Answer: map[string]string{"iss": "https://evil.example"}},
		"no issuer answers":      {Answer: map[string]string{"iss": ""}},
		"no code":                {Answer: map[string]string{"code": ""}},
		"another code":           {Answer: map[string]string{"code": "stolen"}},
		"denied":                 {Answer: map[string]string{"error": "access_denied", "code": ""}},
		"an error and a code":    {Answer: map[string]string{"error": "server_error"}},
		"wrong nonce":            claim("nonce", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
		"no nonce":               claim("nonce", nil),
		"wrong issuer":           claim("iss", "https://evil.example"),
		"no issuer":              claim("iss", nil),
		"wrong audience":         claim("aud", "another-client"),
		"no audience":            claim("aud", nil),
		"another party":          claim("azp", "another-client"),
		"two audiences":          claim("aud", []string{authtest.ClientID, "another-client"}),
		"nobody":                 {Claims: map[string]any{"sub": nil}, UserInfo: map[string]any{"sub": nil}},
		"ended":                  claim("exp", time.Now().Add(-time.Minute).Unix()),
		"no end":                 claim("exp", nil),
		"another access token":   claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"),
		"another userinfo":       {UserInfo: map[string]any{"sub": "person-2"}},
		"userinfo of nobody":     {UserInfo: map[string]any{"sub": nil}},
		"userinfo refused":       {Status: map[string]int{"/userinfo": 401}},
		"no ID token":            {Token: map[string]any{"id_token": nil}},
		"no access token":        {Token: map[string]any{"access_token": nil}},
		"algorithm none": sign(func(_ *authtest.Provider, c jwt.MapClaims) string {
			return authtest.Sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, c)
		}),
		"HS256 with the public key": sign(func(p *authtest.Provider, c jwt.MapClaims) string {
			return authtest.Sign(jwt.SigningMethodHS256, p.PublicPEM(), c)
		}),
		"HS256 with the modulus": sign(func(p *authtest.Provider, c jwt.MapClaims) string {
			return authtest.Sign(jwt.SigningMethodHS256, p.Key.N.Bytes(), c)
		}),
		"HS256 with the client's secret": sign(func(_ *authtest.Provider, c jwt.MapClaims) string {
			return authtest.Sign(jwt.SigningMethodHS256, []byte(authtest.ClientSecret), c)
		}),
		"another key": sign(func(_ *authtest.Provider, c jwt.MapClaims) string {
			return authtest.Sign(jwt.SigningMethodRS256, other, c)
		}),
		"claims changed": sign(func(p *authtest.Provider, c jwt.MapClaims) string {
			good := strings.Split(authtest.Sign(jwt.SigningMethodRS256, p.Key, c), ".")
			c["sub"] = "person-2"
			return strings.Split(authtest.Sign(jwt.SigningMethodRS256, p.Key, c), ".")[1] + "." + good[1] + "." + good[2]
		}),
	} {
		s.provider.Lie(lies)
		got, err := s.signIn(t)
		if ledger.CodeOf(err) != ledger.LoginRefused || got.Subject != "" {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	s.provider.Lie(authtest.Lies{})
	_, err = s.signIn(t)
	must(t, err)
}

// The library that checks ID tokens leaves the nonce to its user: a token of another login is no good here, though all
// else about it is right.
func TestAnIDTokenOfAnotherLoginIsRefused(t *testing.T) {
	t.Parallel()
	s := newSigningIn(t)
	s.provider.Lie(authtest.Lies{NoPKCE: true})
	s.refusesAStolenCode(t)
	if s.provider.Exchanged() != 1 {
		t.Error("the code was not exchanged, so nothing was shown about the nonce")
	}
}

// A code that was stolen on its way is of no use without the verifier, which never left this system.
func TestACodeOfAnotherLoginIsRefused(t *testing.T) {
	t.Parallel()
	s := newSigningIn(t)
	s.refusesAStolenCode(t)
	if s.provider.Exchanged() != 0 {
		t.Error("the code was exchanged with the verifier of another login")
	}
}

// An attacker who makes a browser follow the attacker's own answer would have its owner work in the attacker's account.
func TestALoginEndsInTheBrowserThatBeganIt(t *testing.T) {
	t.Parallel()
	s := newSigningIn(t)
	mine, theirs := s.begin(t, ""), s.begin(t, "")
	answer := s.provider.Visit(t, theirs.URL)
	for name, sealed := range map[string]string{"another browser": mine.Sealed, "no cookie": "", "nonsense": "AAAA", "too long": strings.Repeat("A", 5000)} {
		if _, err := s.Finish(t.Context(), sealed, answer); ledger.CodeOf(err) != ledger.LoginRefused {
			t.Errorf("%s: got %v", name, err)
		}
	}
	elsewhere := openLogins(t, s.db, s.clock, auth.OIDCConfig{Issuer: "https://other.example", ClientID: "x", ClientSecret: "x", RedirectURL: callback})
	_, err := elsewhere.Finish(t.Context(), theirs.Sealed, answer)
	wantCode(t, err, ledger.LoginRefused)
	answer.Add("state", answer.Get("state"))
	_, err = s.Finish(t.Context(), theirs.Sealed, answer)
	wantCode(t, err, ledger.LoginRefused)
	answer.Set("state", answer.Get("state"))
	_, err = s.Finish(t.Context(), theirs.Sealed, answer)
	must(t, err)
}

func TestALoginEndsByItself(t *testing.T) {
	t.Parallel()
	s := newSigningIn(t)
	begun := s.begin(t, "")
	answer := s.provider.Visit(t, begun.URL)
	s.clock.Advance(begun.Life)
	_, err := s.Finish(t.Context(), begun.Sealed, answer)
	wantCode(t, err, ledger.LoginRefused)
	if s.provider.Exchanged() != 0 {
		t.Error("the code of a login that has ended was exchanged")
	}
}

// A provider that takes a code twice does not make us do so, whichever nodes are asked and however closely together.
func TestACodeSignsInOnce(t *testing.T) {
	t.Parallel()
	s := newSigningIn(t)
	s.provider.Lie(authtest.Lies{Reuse: true})
	other := openLogins(t, s.db, s.clock, oidcConfig(s.provider))
	begun := s.begin(t, "")
	answer := s.provider.Visit(t, begun.URL)
	var good atomic.Int32
	var asking sync.WaitGroup
	for i := range 8 {
		node := []*auth.Logins{s.Logins, other}[i%2]
		asking.Go(func() {
			switch _, err := node.Finish(t.Context(), begun.Sealed, answer); {
			case err == nil:
				good.Add(1)
			case ledger.CodeOf(err) != ledger.LoginRefused:
				t.Error(err)
			}
		})
	}
	asking.Wait()
	if good.Load() != 1 {
		t.Errorf("one answer signed in %d times", good.Load())
	}
	s.clock.Advance(time.Hour)
	later := s.begin(t, "")
	_, err := s.Finish(t.Context(), later.Sealed, s.provider.Visit(t, later.URL))
	wantCode(t, err, ledger.LoginRefused) // the provider's tokens have ended by our clock
	var left int
	must(t, s.db.Source().QueryRow("SELECT COUNT(*) FROM login_states").Scan(&left))
	if left != 1 {
		t.Errorf("%d states are kept, want the last one", left)
	}
}

func TestNobodyIsSentToAnotherSite(t *testing.T) {
	t.Parallel()
	s := newSigningIn(t)
	for _, evil := range []string{
		"https://evil", "//evil", "///evil", `/\evil`, `\/evil`, "javascript:alert(1)", "evil", "/\t/evil", "/\n/evil", "/ok\r\nSet-Cookie: a=b",
		"http:evil", "/a b", "/é", "?x", "#x", ".", " /", "/%zz", "/" + strings.Repeat("a", 600), "https:///evil", "/@evil:80/\x00",
	} {
		if _, err := s.Begin(t.Context(), evil); ledger.CodeOf(err) != ledger.InvalidRequest {
			t.Errorf("next=%q: %v", evil, err)
		}
	}
	for _, good := range []string{"/", "/accounts", "/accounts/alpha-0001?from=1&to=2#end", "/a/%EA%B3%84?next=https://evil", "/@evil"} {
		begun := s.begin(t, good)
		got, err := s.Finish(t.Context(), begun.Sealed, s.provider.Visit(t, begun.URL))
		if err != nil || got.Next != good {
			t.Errorf("next=%q: got %q, %v", good, got.Next, err)
		}
	}
}

// A provider that is away or broken is not the person's fault: they are told to come back.
func TestAProviderThatIsAwayIsSaidToBe(t *testing.T) {
	t.Parallel()
	s := newSigningIn(t)
	for _, broken := range []struct {
		path   string
		status int
	}{{"/token", 503}, {"/keys", 500}, {"/userinfo", 429}} { // in the order in which they are asked
		path, status := broken.path, broken.status
		begun := s.begin(t, "")
		answer := s.provider.Visit(t, begun.URL)
		s.provider.Lie(authtest.Lies{Status: map[string]int{path: status}})
		if _, err := s.Finish(t.Context(), begun.Sealed, answer); ledger.CodeOf(err) != ledger.ProviderUnavailable {
			t.Errorf("%s answers %d: got %v", path, status, err)
		}
		s.provider.Lie(authtest.Lies{})
	}
	begun := s.begin(t, "")
	answer := s.provider.Visit(t, begun.URL)
	s.provider.Close()
	_, err := s.Begin(t.Context(), "/")
	wantCode(t, err, ledger.ProviderUnavailable)
	_, err = s.Finish(t.Context(), begun.Sealed, answer)
	wantCode(t, err, ledger.ProviderUnavailable)
}

// Discovery may lead to the addresses of its own provider only by a private way, and has to be about it.
func TestAProviderIsNotTrustedWithEverything(t *testing.T) {
	t.Parallel()
	s := newSigningIn(t)
	for name, metadata := range map[string]map[string]any{
		"another issuer":      {"issuer": "https://evil.example"},
		"token in the clear":  {"token_endpoint": "http://example.com/token"},
		"keys in the clear":   {"jwks_uri": "http://example.com/keys"},
		"authorize elsewhere": {"authorization_endpoint": "javascript:alert(1)"},
		"no userinfo":         {"userinfo_endpoint": nil},
	} {
		s.provider.Lie(authtest.Lies{Metadata: metadata})
		if _, err := s.Begin(t.Context(), "/"); ledger.CodeOf(err) != ledger.ProviderUnavailable {
			t.Errorf("%s: got %v", name, err)
		}
	}
	good := oidcConfig(s.provider)
	for name, change := range map[string]func(*auth.OIDCConfig){
		"issuer":        func(c *auth.OIDCConfig) { c.Issuer = "http://accounts.example.com" },
		"client_id":     func(c *auth.OIDCConfig) { c.ClientID = "" },
		"client_secret": func(c *auth.OIDCConfig) { c.ClientSecret = "" },
		"redirect_url":  func(c *auth.OIDCConfig) { c.RedirectURL = "http://pay.example.com/v1/auth/google/callback" },
	} {
		bad := good
		change(&bad)
		if err := bad.Validate(); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
