package e2e_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the eyes on the journal
	"github.com/google/uuid"

	"lockstep/cluster/local"
	"lockstep/node/verify"
)

// site is a running cluster with the eyes of a client: addresses, credentials, and an HTTP client that repeats nothing
// by itself.
type site struct {
	cluster  *local.Cluster
	options  local.Options
	balancer string
	nodes    []string
	operator local.ClientCredentials
	client   local.ClientCredentials
	source   string // DSN of the source's root
	http     *http.Client
	contract contract
	canaries *canaries // around http

	provider sync.Mutex // taken by who needs the OpenID provider, or takes it away

	mu     sync.Mutex
	tokens map[string]string
}

// newSite looks at a cluster's first system.
func newSite(cluster *local.Cluster, options local.Options) *site {
	return siteOf(cluster, options, cluster.Credentials().Systems[0])
}

func siteOf(cluster *local.Cluster, options local.Options, system local.SystemCredentials) *site {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 256
	watched := &canaries{next: transport, seen: map[string]string{}}
	return &site{
		canaries: watched,
		cluster:  cluster, options: options, balancer: system.BaseURL, nodes: system.Nodes,
		operator: system.Operator, client: system.Client, source: system.MySQLSourceDSN,
		http: &http.Client{Transport: watched, Timeout: 40 * time.Second}, tokens: map[string]string{},
	}
}

// bases are the addresses that answer requests: the balancer's and each node's own.
func (s *site) bases() []string { return append([]string{s.balancer}, s.nodes...) }

// answer is what a client was told; status 0 is no answer.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error
}

// field reads a part of the JSON body, by names and places in lists; "" when it is not there.
func (a answer) field(path ...string) string {
	var value any
	if json.Unmarshal(a.body, &value) != nil {
		return ""
	}
	for _, name := range path {
		switch inside := value.(type) {
		case map[string]any:
			value = inside[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i >= len(inside) {
				return ""
			}
			value = inside[i]
		default:
			return ""
		}
	}
	if value == nil {
		return ""
	}
	return fmt.Sprint(value)
}

func (a answer) String() string { return fmt.Sprintf("%d %.600s %v", a.status, a.body, a.err) }

// expect requires a status and, of a problem, the code.
func (a answer) expect(tb testing.TB, status int, code string) answer {
	tb.Helper()
	if a.status != status || a.field("code") != code {
		tb.Fatalf("got %v, want %d %s", a, status, code)
	}
	return a
}

// token signs a client in, once for all tests.
func (s *site) token(tb testing.TB, who local.ClientCredentials) string {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if token := s.tokens[who.ClientID]; token != "" {
		return token
	}
	got := s.signIn(s.balancer, who, "")
	if got.status != http.StatusOK {
		tb.Fatalf("sign %s in: %v", who.ClientID, got)
	}
	s.tokens[who.ClientID] = got.field("access_token")
	return s.tokens[who.ClientID]
}

// signIn asks for a token by HTTP Basic; an empty scope is all that the client may do.
func (s *site) signIn(base string, who local.ClientCredentials, scope string) answer {
	form := url.Values{"grant_type": {"client_credentials"}}
	if scope != "" {
		form.Set("scope", scope)
	}
	request, err := http.NewRequest(http.MethodPost, base+"/v1/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return answer{err: err}
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(url.QueryEscape(who.ClientID), url.QueryEscape(who.ClientSecret))
	return s.send(request)
}

func (s *site) send(request *http.Request) answer {
	request.GetBody = nil // net/http would send a POST with an Idempotency-Key again by itself, and nobody would know
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
	testing.TB
	site  *site
	base  string
	token string
	quick bool // answers are not held against the OpenAPI file: in storms that would be most of the load
}

// as makes a caller that goes through the balancer.
func (s *site) as(tb testing.TB, who local.ClientCredentials) caller {
	tb.Helper()
	return caller{TB: tb, site: s, base: s.balancer, token: s.token(tb, who)}
}

// at makes the same caller go to another address.
func (c caller) at(base string) caller {
	c.base = base
	return c
}

// inHaste makes the same caller for storms.
func (c caller) inHaste() caller {
	c.quick = true
	return c
}

type object map[string]any

// call sends a request; the body may be a string as it is, or a value for JSON. Headers are pairs of name and value; an
// empty value leaves out one that would be there by itself.
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
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if request.Header.Set(headers[i], headers[i+1]); headers[i+1] == "" {
			request.Header.Del(headers[i])
		}
	}
	got := c.site.send(request)
	if !c.quick && got.err == nil {
		c.site.contract.check(c.TB, c.site, request, got)
	}
	return got
}

// post sends a body under a key of its own.
func (c caller) post(path string, body any, headers ...string) answer {
	return c.call(http.MethodPost, path, body, append([]string{"Idempotency-Key", uuid.NewString()}, headers...)...)
}

func (c caller) get(path string, headers ...string) answer {
	return c.call(http.MethodGet, path, nil, headers...)
}

// fresh reads from the source.
func (c caller) fresh(path string) answer {
	c.Helper()
	return c.get(path, "Cache-Control", "no-cache").expect(c, http.StatusOK, "")
}

// account opens an account with money on it.
func (c caller) account(currency, amount string) string {
	c.Helper()
	number := c.post("/v1/accounts", object{"currency": currency}).expect(c, http.StatusCreated, "").field("number")
	if amount != "0" {
		c.post("/v1/deposits", cash(number, amount, currency)).expect(c, http.StatusCreated, "")
	}
	return number
}

func cash(account, amount, currency string) object {
	return object{"account": account, "amount": amount, "currency": currency}
}

func payment(from, to, amount, currency string) object {
	return object{"from": from, "to": to, "amount": amount, "currency": currency}
}

// posted reads an account's booked balance from the source.
func (c caller) posted(number string) string {
	c.Helper()
	return c.fresh("/v1/accounts/"+number).field("balance", "posted")
}

// balance reads what an account has: posted, held and available.
func (c caller) balance(number string) string {
	c.Helper()
	got := c.fresh("/v1/accounts/" + number)
	return fmt.Sprintf("%s posted, %s held, %s available",
		got.field("balance", "posted"), got.field("balance", "pending_debit"), got.field("balance", "available"))
}

// journal asks the source for one number, past the nodes.
func (s *site) journal(tb testing.TB, query string, args ...any) (count int64) {
	tb.Helper()
	db, err := sql.Open("mysql", s.source)
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(query, args...).Scan(&count); err != nil {
		tb.Fatalf("ask the journal: %v", err)
	}
	return count
}

// metric reads a counter of a node from its admin address; all label values together.
func (c caller) metric(name string) int64 {
	c.Helper()
	return c.metrics()[name]
}

// metrics reads all of them.
func (c caller) metrics() map[string]int64 {
	c.Helper()
	sums := map[string]int64{}
	got := c.get("/metrics").expect(c, http.StatusOK, "")
	for line := range strings.Lines(string(got.body)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimSpace(line)
		name, _, _ := strings.Cut(line, "{")
		name, _, _ = strings.Cut(name, " ")
		value := line[strings.LastIndexByte(line, ' ')+1:] // a label's value may have blanks
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			c.Fatalf("read metric %s: %v", line, err)
		}
		sums[name] += int64(number)
	}
	return sums
}

// verify requires that the books have no breach.
func (s *site) verify(tb testing.TB) {
	tb.Helper()
	began := time.Now()
	report, err := verify.Run(context.Background(), s.source, nil)
	if err != nil {
		tb.Fatalf("verify: %v", err)
	}
	for _, breach := range report.Breaches {
		tb.Errorf("verify: %s: %s: %s", breach.Invariant, breach.Place, breach.Detail)
	}
	tb.Logf("verify: %d invariants over %d transfers and %d entries in %v",
		len(report.Findings), report.Transfers, report.Entries, time.Since(began).Round(time.Millisecond))
}
