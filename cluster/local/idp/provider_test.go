package idp_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lockstep/cluster/local/idp"
)

const (
	back     = "http://127.0.0.1:1/callback"
	verifier = "a verifier that nobody guesses, long enough as it is"
)

// server is a provider, and the browser of somebody there.
type server struct {
	testing.TB
	url     string
	browser *http.Client
}

func open(t *testing.T) server {
	t.Helper()
	var provider *idp.Provider
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { provider.ServeHTTP(w, r) }))
	t.Cleanup(listener.Close)
	var err error
	provider, err = idp.New(idp.Config{
		Issuer:  listener.URL,
		Clients: []idp.Client{{ID: "shop", Secret: "s3cret/+", Name: "The <shop>", RedirectURIs: []string{back}}},
		Users:   []idp.User{{Subject: "1", Username: "alice", Passwords: []string{"one", "two"}, Name: "Alice", Email: "a@example.com"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := server{TB: t, url: listener.URL}
	s.browser = s.fresh()
	return s
}

// fresh is another browser, without cookies.
func (s server) fresh() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.Fatal(err)
	}
	return &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (s server) do(browser *http.Client, method, address string, form url.Values) (status int, to *url.URL, body string) {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Context(), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		s.Fatal(err)
	}
	if form.Has("code") {
		request.SetBasicAuth(url.QueryEscape("shop"), url.QueryEscape(form.Get("secret")))
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := browser.Do(request)
	if err != nil {
		s.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.Fatal(err)
	}
	to, _ = answer.Location()
	return answer.StatusCode, to, string(text)
}

func asking(change ...string) string {
	challenge := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"client_id": {"shop"}, "redirect_uri": {back}, "response_type": {"code"}, "scope": {"openid email"}, "state": {"s"}, "nonce": {"n"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}
	for i := 0; i+1 < len(change); i += 2 {
		query.Set(change[i], change[i+1])
	}
	return "/auth?" + query.Encode()
}

// code goes through the pages.
func (s server) code() string {
	s.Helper()
	_, page, _ := s.do(s.browser, "GET", s.url+asking(), nil)
	_, page, _ = s.do(s.browser, "POST", page.String()+"/login", url.Values{"username": {"alice"}, "password": {"two"}})
	_, to, _ := s.do(s.browser, "POST", page.String()+"/consent", nil)
	if to == nil || !strings.HasPrefix(to.String(), back) || to.Query().Get("state") != "s" || to.Query().Get("iss") != s.url {
		s.Fatalf("it leads back to %v", to)
	}
	return to.Query().Get("code")
}

func exchange(code string, change ...string) url.Values {
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {back}, "code_verifier": {verifier}, "secret": {"s3cret/+"}}
	for i := 0; i+1 < len(change); i += 2 {
		form.Set(change[i], change[i+1])
	}
	return form
}

// A code is good once, for the client, address and verifier that it was asked for.
func TestACodeIsGoodOnce(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, wrong := range [][]string{{"secret", "x"}, {"redirect_uri", back + "x"}, {"code_verifier", "x"}, {"grant_type", "password"}, {"code", "x"}} {
		if status, _, body := s.do(s.browser, "POST", s.url+"/token", exchange(s.code(), wrong...)); status != 400 || !strings.Contains(body, "invalid_grant") {
			t.Errorf("a wrong %s got %d %s", wrong[0], status, body)
		}
	}
	code := s.code()
	status, _, body := s.do(s.browser, "POST", s.url+"/token", exchange(code))
	var tokens struct {
		Access string `json:"access_token"`
		ID     string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(body), &tokens); err != nil || status != 200 || tokens.Access == "" || strings.Count(tokens.ID, ".") != 2 {
		t.Fatalf("got %d %s", status, body)
	}
	if status, _, body := s.do(s.browser, "POST", s.url+"/token", exchange(code)); status != 400 {
		t.Errorf("the same code again got %d %s", status, body)
	}
}

// Nobody is sent to an address that is not registered, and the pages are good in the browser that they were shown in alone.
func TestPagesKeepToTheirBrowser(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, wrong := range [][]string{{"client_id", "other"}, {"redirect_uri", "https://evil"}} {
		if status, to, _ := s.do(s.browser, "GET", s.url+asking(wrong...), nil); status != 400 || to != nil {
			t.Errorf("a wrong %s got %d, to %v", wrong[0], status, to)
		}
	}
	for _, wrong := range [][]string{{"response_type", "token"}, {"code_challenge_method", "plain"}, {"code_challenge", ""}, {"scope", "email"}} {
		if _, to, _ := s.do(s.browser, "GET", s.url+asking(wrong...), nil); to == nil || to.Query().Get("error") != "invalid_request" {
			t.Errorf("a wrong %s leads to %v", wrong[0], to)
		}
	}
	_, page, _ := s.do(s.browser, "GET", s.url+asking(), nil)
	if status, _, _ := s.do(s.fresh(), "GET", page.String(), nil); status != 400 {
		t.Errorf("another browser got %d", status)
	}
	if status, _, _ := s.do(s.browser, "POST", page.String()+"/consent", nil); status != 404 {
		t.Errorf("who agrees without signing in gets %d", status)
	}
	status, _, body := s.do(s.browser, "POST", page.String()+"/login", url.Values{"username": {"<alice>"}, "password": {"x"}})
	if status != 400 || !strings.Contains(body, "&lt;alice&gt;") || !strings.Contains(body, "The &lt;shop&gt;") || regexp.MustCompile(`%[A-Z]+%`).MatchString(body) {
		t.Errorf("a wrong password got %d %s", status, body)
	}
	if _, to, _ := s.do(s.browser, "POST", page.String()+"/cancel", nil); to == nil || to.Query().Get("error") != "access_denied" {
		t.Errorf("who cancels is led to %v", to)
	}
}

func TestTheScriptIsUnpacked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := idp.Unpack(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{idp.Script, "package.json", "package-lock.json", "login.html"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || len(text) == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(idp.Version()) != 16 {
		t.Errorf("the version is %q", idp.Version())
	}
}
