package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Secrets that were seen on the wire are kept to be looked for in the logs: so many, the others are of the same kinds.
const (
	secretsKeptMax = 200
	secretCharsMin = 16 // of what is looked for: shorter words may be in a log by chance
)

// canaries are the secrets that went over the wire between the tests and a cluster.
type canaries struct {
	next http.RoundTripper

	mu   sync.Mutex
	seen map[string]string // what it is
}

// RoundTrip notes tokens, cookies, codes and passwords on their way.
func (c *canaries) RoundTrip(request *http.Request) (*http.Response, error) {
	_, token, _ := strings.Cut(request.Header.Get("Authorization"), " ")
	c.note("a token in a request", token)
	for _, name := range []string{"code", "state"} {
		c.note("the "+name+" of a sign-in", request.URL.Query().Get(name))
	}
	answer, err := c.next.RoundTrip(request)
	if err == nil {
		for _, cookie := range answer.Cookies() {
			c.note("the cookie "+cookie.Name, cookie.Value)
		}
	}
	return answer, err
}

// CloseIdleConnections is what the client's own method looks for.
func (c *canaries) CloseIdleConnections() {
	if idle, ok := c.next.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
}

func (c *canaries) note(what, secret string) {
	if len(secret) < secretCharsMin || strings.HasPrefix(what, "the cookie wallet_") {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) < secretsKeptMax {
		c.seen[secret] = what
	}
}

// kept are the secrets that a cluster was made with: every password, client secret and sealing key, which the DSNs hold too.
func kept(dir string) (map[string]string, error) {
	found := map[string]string{}
	for _, name := range []string{"secrets.json", "credentials.json", filepath.Join("idp", "config.json")} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var content any
		if err == nil {
			err = json.Unmarshal(text, &content)
		}
		if err != nil {
			return nil, fmt.Errorf("read a cluster's secrets: %w", err)
		}
		collect(found, name, "", content)
	}
	return found, nil
}

// public are members of those files that are no secrets.
var public = regexp.MustCompile(`(?i)(^|_)(url|urls|uris|issuer|id|name|username|addrs|nodes|email|sub|picture)$`)

func collect(into map[string]string, file, name string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for member, inside := range value {
			if !public.MatchString(member) {
				collect(into, file, member, inside)
			}
		}
	case []any:
		for _, inside := range value {
			collect(into, file, name, inside)
		}
	case string:
		if len(value) >= secretCharsMin {
			into[value] = name + " of " + file
		}
	}
}

// tokenForm is how every JWT begins.
var tokenForm = regexp.MustCompile(`eyJ[\w-]{10,}\.[\w-]{10,}`)

// leaks names what stands in a text and should not, without saying it again.
func leaks(text string, secrets map[string]string) (found []string) {
	for secret, what := range secrets {
		if strings.Contains(text, secret) {
			found = append(found, what)
		}
	}
	if tokenForm.MatchString(text) {
		found = append(found, "a token")
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// leaked reads all that the processes of a cluster have logged. It fails where it finds nothing to read or to look for, for
// then it has become blind.
func (s *site) leaked() error {
	secrets, err := kept(s.options.Dir)
	if err != nil {
		return err
	}
	if len(secrets) < 10 {
		return fmt.Errorf("a cluster has %d secrets; more are known", len(secrets))
	}
	s.canaries.mu.Lock()
	for secret, what := range s.canaries.seen {
		secrets[secret] = what
	}
	s.canaries.mu.Unlock()
	files, err := filepath.Glob(filepath.Join(s.options.Dir, "logs", "*"))
	if err != nil || len(files) < 5 {
		return fmt.Errorf("a cluster has %d logs; more are known: %w", len(files), err)
	}
	var failures []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read a log: %w", err)
		}
		for _, what := range leaks(string(text), secrets) {
			failures = append(failures, fmt.Errorf("%s has a secret in it: %s", file, what))
		}
	}
	return errors.Join(failures...)
}

// What looks for secrets finds them.
func TestSecretsAreFoundInLogs(t *testing.T) {
	t.Parallel()
	secrets := map[string]string{"0123456789abcdef": "a password"}
	for text, want := range map[string]int{
		"nothing to see": 0, "user:0123456789abcdef@tcp(db)/x": 1, "Bearer eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2ln": 1,
		"0123456789abcdef eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0": 2,
	} {
		if got := leaks(text, secrets); len(got) != want {
			t.Errorf("in %q are %v, want %d", text, got, want)
		}
	}
}

// Every way of signing in, well and badly, and a database that goes away leave no token, no password and no DSN in any log of
// the cluster, though it logs all that it can.
func TestNoSecretIsLogged(t *testing.T) {
	t.Parallel()
	s := shared(t)
	alice := s.people()[0]
	s.enter(t, alice)
	b := s.browser(t)
	b.send(http.MethodPost, "/v1/auth/login", object{"username": alice.Username, "password": alice.Password + "x"}).expect(t, http.StatusBadRequest, "invalid_credentials")
	b.send(http.MethodPost, "/v1/auth/refresh", object{}, "Cookie", "lockstep_alpha_refresh="+alice.Password).expect(t, http.StatusUnauthorized, "unauthenticated")
	client := s.as(t, s.client)
	for _, authorization := range []string{"Bearer " + s.token(t, s.client) + "x", "Basic " + s.client.ClientSecret, "Bearer " + alice.Password} {
		client.call(http.MethodGet, "/v1/accounts", nil, "Authorization", authorization).expect(t, http.StatusUnauthorized, "unauthenticated")
	}
	s.signIn(s.balancer, s.client, "nonsense").expect(t, http.StatusBadRequest, "")
	s.provider.Lock()
	defer s.provider.Unlock()
	v := s.traveller(t)
	back := v.signIn(alice, "consent")
	v.visit(http.MethodGet, back+"x", nil).expect(t, http.StatusBadRequest, "login_refused")
	if len(s.canaries.seen) < 5 {
		t.Errorf("only %d secrets were seen on the wire", len(s.canaries.seen))
	}
	if err := s.leaked(); err != nil {
		t.Error(err)
	}
}
