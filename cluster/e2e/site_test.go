package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/local"
	"lockstep/node/verify"
)

// site is a running cluster with the eyes of a client: addresses, credentials, and a plain HTTP client that repeats
// nothing by itself.
type site struct {
	cluster  *local.Cluster
	balancer string
	nodes    []string
	operator local.ClientCredentials
	client   local.ClientCredentials
	source   string // DSN
	http     *http.Client

	mu     sync.Mutex
	tokens map[string]string
}

func newSite(cluster *local.Cluster) *site {
	alpha := cluster.Credentials().Systems[0]
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	return &site{
		cluster: cluster, balancer: alpha.BaseURL, nodes: alpha.Nodes, operator: alpha.Operator, client: alpha.Client,
		source: alpha.MySQLSourceDSN, http: &http.Client{Transport: transport, Timeout: 40 * time.Second},
		tokens: map[string]string{},
	}
}

// answer is what a client was told; status 0 is no answer.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// field reads a field of the JSON body; "" when it is not there.
func (a answer) field(path ...string) string {
	var value any
	if json.Unmarshal(a.body, &value) != nil {
		return ""
	}
	for _, name := range path {
		object, ok := value.(map[string]any)
		if !ok {
			return ""
		}
		value = object[name]
	}
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

func (a answer) String() string { return fmt.Sprintf("%d %s %v", a.status, a.body, a.err) }

// token signs a client in, once for all tests.
func (s *site) token(tb testing.TB, who local.ClientCredentials) string {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if token := s.tokens[who.ClientID]; token != "" {
		return token
	}
	request, err := http.NewRequest(http.MethodPost, s.balancer+"/v1/oauth/token", strings.NewReader(url.Values{"grant_type": {"client_credentials"}}.Encode()))
	if err != nil {
		tb.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(who.ClientID, who.ClientSecret)
	got := s.send(request)
	if got.status != http.StatusOK {
		tb.Fatalf("sign %s in: %v", who.ClientID, got)
	}
	s.tokens[who.ClientID] = got.field("access_token")
	return s.tokens[who.ClientID]
}

func (s *site) send(request *http.Request) answer {
	response, err := s.http.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return answer{status: response.StatusCode, header: response.Header, body: body, err: err}
}

// caller sends requests of one client to one address.
type caller struct {
	site *site
	base string
	auth string
}

// at makes a caller that is signed in as the operator, who owns what it opens.
func (s *site) at(tb testing.TB, base string) caller {
	tb.Helper()
	return caller{site: s, base: base, auth: "Bearer " + s.token(tb, s.operator)}
}

func (c caller) call(method, path string, body any, headers ...string) answer {
	var content []byte
	switch value := body.(type) {
	case nil:
	case string:
		content = []byte(value)
	default:
		content, _ = json.Marshal(body)
	}
	request, err := http.NewRequestWithContext(context.Background(), method, c.base+path, bytes.NewReader(content))
	if err != nil {
		return answer{err: err}
	}
	if c.auth != "" {
		request.Header.Set("Authorization", c.auth)
	}
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	return c.site.send(request)
}

// post sends a body under a key of its own.
func (c caller) post(path string, body any, headers ...string) answer {
	return c.call(http.MethodPost, path, body, append([]string{"Idempotency-Key", uuid.NewString()}, headers...)...)
}

func (c caller) get(path string, headers ...string) answer {
	return c.call(http.MethodGet, path, nil, headers...)
}

type object map[string]any

// account opens an account with money on it.
func (c caller) account(tb testing.TB, currency, amount string) string {
	tb.Helper()
	opened := c.post("/v1/accounts", object{"currency": currency})
	if opened.status != http.StatusCreated {
		tb.Fatalf("open an account: %v", opened)
	}
	number := opened.field("number")
	if amount != "0" {
		if paid := c.post("/v1/deposits", object{"account": number, "amount": amount, "currency": currency}); paid.status != http.StatusCreated {
			tb.Fatalf("deposit: %v", paid)
		}
	}
	return number
}

// posted reads an account's booked balance from the source.
func (c caller) posted(tb testing.TB, number string) string {
	tb.Helper()
	got := c.get("/v1/accounts/"+number, "Cache-Control", "no-cache")
	if got.status != http.StatusOK {
		tb.Fatalf("read account: %v", got)
	}
	return got.field("balance", "posted")
}

// verify requires that the books have no breach.
func (s *site) verify(tb testing.TB) {
	tb.Helper()
	report, err := verify.Run(context.Background(), s.source, nil)
	if err != nil {
		tb.Fatalf("verify: %v", err)
	}
	for _, breach := range report.Breaches {
		tb.Errorf("verify: %s: %s: %s", breach.Invariant, breach.Place, breach.Detail)
	}
}
