package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"

	"lockstep/api"
	"lockstep/cluster/events"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/saga"
)

// closed makes every object of the file refuse what it does not name, so that a field that is answered and not
// described fails the tests. The file itself leaves answers open: fields may be added.
func closed(value any) {
	switch inside := value.(type) {
	case map[string]any:
		if _, open := inside["additionalProperties"]; inside["type"] == "object" && !open {
			inside["additionalProperties"] = false
		}
		for _, one := range inside {
			closed(one)
		}
	case []any:
		for _, one := range inside {
			closed(one)
		}
	}
}

func loadOpenAPI(tb testing.TB) *openapi3.T {
	tb.Helper()
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	var file map[string]any
	if err := yaml.Unmarshal(text, &file); err != nil {
		tb.Fatal(err)
	}
	closed(file)
	if text, err = yaml.Marshal(file); err != nil {
		tb.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		tb.Fatal(err)
	}
	return doc
}

func TestOpenAPIFileIsValid(t *testing.T) {
	t.Parallel()
	doc := loadOpenAPI(t)
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("it is OpenAPI %s", doc.OpenAPI)
	}
}

// Routes and keys of the code and of the file are the same, one by one. Scopes stand in the file alone.
func TestOpenAPIFileHasTheRoutesOfTheCode(t *testing.T) {
	t.Parallel()
	doc := loadOpenAPI(t)
	var inCode, inFile []string
	for _, r := range api.RouteFacts() {
		inCode = append(inCode, fmt.Sprintf("%s %s key=%t", r.Method, r.Path, r.Keyed))
	}
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			key := operation.Parameters.GetByInAndName("header", "Idempotency-Key")
			inFile = append(inFile, fmt.Sprintf("%s %s key=%t", method, path, key != nil && key.Required))
		}
	}
	slices.Sort(inCode)
	slices.Sort(inFile)
	if !slices.Equal(inCode, inFile) {
		for _, line := range inCode {
			if !slices.Contains(inFile, line) {
				t.Errorf("only in the code: %s", line)
			}
		}
		for _, line := range inFile {
			if !slices.Contains(inCode, line) {
				t.Errorf("only in the file: %s", line)
			}
		}
	}
}

// The problem table and the list of codes in the file are those of the code.
func TestOpenAPIFilePrintsTheProblemTable(t *testing.T) {
	t.Parallel()
	doc := loadOpenAPI(t)
	inCode, inFile, codes := map[string]string{}, map[string]string{}, []string{}
	for _, rule := range api.RuleFacts() {
		inCode[rule.Code] = fmt.Sprint(rule.Status, rule.Outcome, rule.Retry)
	}
	for _, line := range doc.Extensions["x-problems"].([]any) {
		fields := line.(map[string]any)
		inFile[fields["code"].(string)] = fmt.Sprint(fields["status"], fields["outcome"], fields["retry"])
	}
	if !maps.Equal(inCode, inFile) {
		t.Errorf("the code has %v\nthe file has %v", inCode, inFile)
	}
	for _, code := range doc.Components.Schemas["Code"].Value.Enum {
		codes = append(codes, code.(string))
	}
	slices.Sort(codes)
	if want := slices.Sorted(maps.Keys(inCode)); !slices.Equal(codes, want) {
		t.Errorf("the file lists %v, the code has %v", codes, want)
	}
}

// checker sends requests as the file describes them and holds every answer against the file.
type checker struct {
	*peered
	router  routers.Router
	covered map[string]bool // method, path template and status
}

func newChecker(t *testing.T) *checker {
	router, err := legacy.NewRouter(loadOpenAPI(t))
	if err != nil {
		t.Fatal(err)
	}
	return &checker{peered: newPeered(t), router: router, covered: map[string]bool{}}
}

// exchange is a request and its answer; a request of which the edge is expected to complain is not validated.
func (c *checker) exchange(t *testing.T, status int, method, path, body string, headers ...string) answer {
	t.Helper()
	request, err := http.NewRequest(method, "http://x"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	request.URL.Scheme, request.URL.Host, request.Host = "", "", ""
	route, parameters, err := c.router.FindRoute(request)
	if err != nil {
		t.Fatalf("%s %s is not in the file: %v", method, path, err)
	}
	input := &openapi3filter.RequestValidationInput{
		Request: request, PathParams: parameters, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true, MultiError: true},
	}
	if status < 400 {
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			t.Errorf("request %s %s: %v", method, path, err)
		}
	}
	got := c.do(t, method, path, body, headers...).expect(t, status, "")
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: got.status, Header: got.header, Body: io.NopCloser(bytes.NewReader(got.body)), Options: input.Options,
	})
	if err != nil {
		t.Errorf("answer to %s %s: %.2000v\n%.2000v", method, path, err, got)
	}
	c.covered[fmt.Sprintf("%s %s %d", method, route.Path, status)] = true
	return got
}

// Every route answers a real request with what the file says, fields that the file does not name included.
func TestRequestsAndAnswersAreThoseOfTheFile(t *testing.T) {
	t.Parallel()
	c := newChecker(t)
	c.payments(t)
	c.administration(t)
	c.transfersToPeers(t)
	c.peers(t)
	c.operations(t)
	c.webhooks(t)
	c.provider(t)
	c.persons(t)
	c.wallet(t)
	c.system(t)
	for _, r := range api.RouteFacts() {
		good := false
		for _, status := range []int{200, 201, 204, 302} {
			good = good || c.covered[fmt.Sprintf("%s %s %d", r.Method, r.Path, status)]
		}
		if !good {
			t.Errorf("%s %s was never answered well", r.Method, r.Path)
		}
		if r.Scope != "" && !c.covered[fmt.Sprintf("%s %s 403", r.Method, r.Path)] {
			c.exchange(t, 403, r.Method, sample(r.Path), "{}", as(withoutScope(r.Scope), uuid.NewString())...)
		}
		if r.Scope != "" {
			c.exchange(t, 401, r.Method, sample(r.Path), "{}")
		}
		if r.Keyed {
			c.exchange(t, 400, r.Method, sample(r.Path), "{}", as("operator", "")...)
		}
	}
}

// withoutScope names a caller that lacks the scope.
func withoutScope(scope string) string {
	if scope == "accounts:read" {
		return "blind"
	}
	return "limited"
}

// sample fills a path's parts.
func sample(path string) string {
	return strings.NewReplacer("{number}", string(ledger.NewNumber("alpha", 1000)), "{id}", uuid.NewString(), "{delivery}", uuid.NewString()).Replace(path)
}

func (c *checker) payments(t *testing.T) {
	t.Helper()
	post := func(status int, path, body string, more ...string) answer {
		t.Helper()
		return c.exchange(t, status, "POST", path, body, as("alice", uuid.NewString(), more...)...)
	}
	get := func(status int, path string) answer {
		t.Helper()
		return c.exchange(t, status, "GET", path, "", "Authorization", "Bearer alice")
	}
	alice := post(201, "/v1/accounts", `{"currency":"KRW","label":"살림"}`).field("number")
	bob := post(201, "/v1/accounts", `{"currency":"KRW"}`).field("number")
	post(201, "/v1/deposits", fmt.Sprintf(`{"account":%q,"amount":"1000","currency":"KRW","description":"d","reference":"r"}`, alice))
	post(201, "/v1/withdrawals", fmt.Sprintf(`{"account":%q,"amount":"10","currency":"KRW"}`, alice))
	transfer := fmt.Sprintf(`{"from":%q,"to":%q,"amount":"10","currency":"KRW"}`, alice, bob)
	id := post(201, "/v1/transfers", transfer, "Prefer", "wait=3", "Accept-Language", "ko").field("id")
	post(422, "/v1/transfers", strings.Replace(transfer, `"10"`, `"5000"`, 1), "Accept-Language", "ko")
	post(201, "/v1/batches", fmt.Sprintf(`{"atomic":false,"transfers":[%s,%s]}`, transfer, strings.Replace(transfer, `"10"`, `"5000"`, 1)))
	held := fmt.Sprintf(`{"account":%q,"amount":"10","currency":"KRW","to":%q,"expires_in_seconds":60}`, alice, bob)
	first, second := post(201, "/v1/holds", held).field("id"), post(201, "/v1/holds", held).field("id")
	get(200, "/v1/holds/"+first)
	post(200, "/v1/holds/"+first+"/capture", `{"amount":"4"}`)
	post(200, "/v1/holds/"+second+"/void", "{}")
	post(409, "/v1/holds/"+second+"/void", "{}")
	get(200, "/v1/accounts?limit=1")
	get(200, "/v1/accounts/"+alice)
	get(200, "/v1/accounts/"+alice+"/entries?limit=2&created_from=2026-01-01T00:00:00Z")
	get(200, "/v1/transfers?account="+alice+"&kind=transfer&state=posted&limit=1")
	get(200, "/v1/transfers/"+id)
	get(404, "/v1/transfers/"+uuid.NewString())
	get(200, "/v1/payees/"+bob)
	get(200, "/v1/proofs/trial-balance")
	c.exchange(t, 200, "PATCH", "/v1/accounts/"+alice, `{"label":"new"}`, as("alice", "")...)
	c.exchange(t, 403, "PATCH", "/v1/accounts/"+alice, `{"status":"frozen"}`, as("alice", "")...)
}

// transfersToPeers pays another system: posted, pending, refused and given up.
func (c *checker) transfersToPeers(t *testing.T) {
	t.Helper()
	from := c.open(t, "alice", "100")
	body := fmt.Sprintf(`{"from":%q,"to":%q,"amount":"10","currency":"KRW"}`, from, account("beta", 1000))
	pay := func(status int, key string) answer {
		t.Helper()
		return c.exchange(t, status, "POST", "/v1/transfers", body, as("alice", key, "Prefer", "wait=1")...)
	}
	id := pay(201, uuid.NewString()).field("id")
	c.exchange(t, 200, "GET", "/v1/transfers/"+id, "", as("alice", "")...)
	c.asker.says(func(context.Context) (peers.PrepareResult, error) {
		return peers.PrepareResult{State: peers.Refused, Code: "peer_cap_exceeded"}, nil
	})
	pay(422, uuid.NewString())
	c.asker.says(func(context.Context) (peers.PrepareResult, error) { return peers.PrepareResult{}, peers.ErrUnavailable })
	key := uuid.NewString()
	id = pay(202, key).field("id")
	c.exchange(t, 200, "GET", "/v1/admin/sagas?state=pending&limit=1", "", as("operator", "")...)
	abort := "/v1/admin/sagas/" + id + "/abort"
	c.exchange(t, 200, "POST", "/v1/admin/sagas/"+id+"/retry", "", as("operator", uuid.NewString())...)
	c.exchange(t, 200, "POST", abort, "{}", as("operator", uuid.NewString())...)
	c.exchange(t, 409, "POST", strings.Replace(abort, "abort", "retry", 1), "{}", as("operator", uuid.NewString())...)
	pay(503, key)
	c.exchange(t, 200, "GET", "/v1/transfers/"+id, "", as("alice", "")...)
	c.exchange(t, 200, "GET", "/v1/transfers?limit=10", "", as("alice", "")...)
}

// peers does what a peer asks for.
func (c *checker) peers(t *testing.T) {
	t.Helper()
	ask := func(status int, method, path, body string) answer {
		t.Helper()
		request, _ := c.signed(t, "beta", method, path, body)
		return c.exchange(t, status, method, path, body, headersOf(request)...)
	}
	payee, id := c.open(t, "bob", ""), uuid.NewString()
	prepare := fmt.Sprintf(`{"epoch":1,"transfers":[{"id":%q,"payer":{"account":%q},"payee":{"account":%q},"amount":"5","currency":"KRW","expires_in_ms":20000,"description":"d"},
		{"id":%q,"payer":{"account":%q},"payee":{"account":%q},"amount":"5","currency":"USD","expires_in_ms":20000}]}`,
		id, account("beta", 1000), payee, uuid.NewString(), account("beta", 1000), payee)
	ask(200, "POST", "/peer/v1/transfers", prepare)
	ask(400, "POST", "/peer/v1/transfers", `{"epoch":1,"transfers":[]}`)
	ask(200, "POST", "/peer/v1/inquiries", fmt.Sprintf(`{"epoch":1,"payer":"beta","ids":[%q],"if_unknown":"report"}`, id))
	ask(403, "POST", "/peer/v1/inquiries", fmt.Sprintf(`{"epoch":1,"payer":"gamma","ids":[%q],"if_unknown":"close"}`, id))
	ask(200, "GET", "/peer/v1/transfers/beta/"+id, "")
	ask(200, "GET", "/peer/v1/transfers?payer=beta&limit=2", "")
	ask(403, "GET", "/peer/v1/transfers?payer=gamma", "")
	ask(400, "GET", "/peer/v1/transfers?payer=beta&limit=0", "")
	ask(200, "GET", "/peer/v1/digest?payer=beta&until="+id, "")
	ask(403, "GET", "/peer/v1/digest?payer=gamma&until="+id, "")
	ask(400, "GET", "/peer/v1/digest?payer=beta&after="+id, "")
	ask(400, "GET", "/peer/v1/digest?payer=beta&after=x&until="+id, "")
	ask(404, "GET", "/peer/v1/transfers/beta/"+uuid.NewString(), "")
	ask(200, "POST", "/peer/v1/epoch", `{"epoch":2}`)
	ask(200, "GET", "/peer/v1/payees/"+payee, "")
	ask(404, "GET", "/peer/v1/payees/"+account("alpha", 999999), "")
	c.exchange(t, 401, "POST", "/peer/v1/epoch", `{"epoch":2}`, "Content-Type", "application/json")
	c.exchange(t, 200, "GET", "/peer/v1/jwks.json", "")
}

// operations is what an operator does about other systems.
func (c *checker) operations(t *testing.T) {
	t.Helper()
	c.letters.list = []events.DeadLetter{{ID: "0a1b", Subject: "lockstep.beta.alpha.transfer.committed", Data: []byte("{"), Reason: "no batch", At: c.bank.now()}}
	c.parked.list = []saga.ParkedMessage{{
		Message:  saga.Message{ID: uuid.NewString(), Destination: "beta", Events: []byte(`{"told":[{"type":"transfer.aborted","ids":["x"]}]}`)},
		ParkedAt: c.bank.now(), Reason: "no broker",
	}}
	for _, path := range []string{"/v1/admin/peers", "/v1/admin/sagas?state=done", "/v1/admin/dead-letters?limit=5"} {
		c.exchange(t, 200, "GET", path, "", as("operator", "")...)
	}
	replay := "/v1/admin/dead-letters/0a1b/replay"
	c.exchange(t, 200, "POST", replay, "", as("operator", uuid.NewString())...)
	c.exchange(t, 404, "POST", replay, "{}", as("operator", uuid.NewString())...)
}

func (c *checker) administration(t *testing.T) {
	t.Helper()
	key := uuid.NewString()
	create := `{"client_id":"shop","name":"The shop","scopes":["money:read"],"owner":"user:dora"}`
	for range 2 { // the second shows no secret
		c.exchange(t, 201, "POST", "/v1/admin/clients", create, as("operator", key)...)
	}
	key = uuid.NewString()
	for range 2 {
		c.exchange(t, 200, "POST", "/v1/admin/clients/shop/rotate", "{}", as("operator", key)...)
	}
	for _, path := range []string{"/v1/admin/clients?limit=1", "/v1/admin/nodes", "/v1/admin/locks"} {
		c.exchange(t, 200, "GET", path, "", "Authorization", "Bearer operator")
	}
	c.exchange(t, 204, "DELETE", "/v1/admin/clients/shop", "", "Authorization", "Bearer operator")
	c.exchange(t, 404, "DELETE", "/v1/admin/clients/shop", "", "Authorization", "Bearer operator")
}

// webhooks makes one, which hears of an account.
func (c *checker) webhooks(t *testing.T) {
	t.Helper()
	key := uuid.NewString()
	var id string
	for range 2 { // the second shows no secret
		id = c.exchange(t, 201, "POST", "/v1/webhooks", `{"url":"https://shop.example.com/hooks","events":["account.opened"],"description":"d"}`, as("alice", key)...).field("id")
	}
	c.open(t, "alice", "")
	c.exchange(t, 200, "GET", "/v1/webhooks?limit=1", "", as("alice", "")...)
	log := c.exchange(t, 200, "GET", "/v1/webhooks/"+id+"/deliveries?limit=5&state=failed", "", as("alice", "")...)
	replay := "/v1/webhooks/" + id + "/deliveries/" + log.field("deliveries", "0", "id") + "/replay"
	c.exchange(t, 200, "POST", replay, "{}", as("alice", uuid.NewString())...)
	c.exchange(t, 200, "GET", "/v1/webhooks/"+id+"/deliveries", "", as("alice", "")...)
	c.exchange(t, 204, "DELETE", "/v1/webhooks/"+id, "", as("alice", "")...)
	c.exchange(t, 404, "GET", "/v1/webhooks/"+id+"/deliveries", "", as("alice", "")...)
}

// wallet reads every page once.
func (c *checker) wallet(t *testing.T) {
	t.Helper()
	number := c.open(t, "alice", "100")
	id := c.post(t, "alice", "/v1/withdrawals", fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, number)).field("id")
	form := "?form=" + uuid.NewString()
	for _, path := range []string{
		"/", "/wallet", "/wallet/open" + form, "/wallet/deposit" + form, "/wallet/withdraw" + form, "/wallet/send" + form, "/wallet/settings",
		"/wallet/accounts/" + number, "/wallet/accounts/" + number + "/statement.csv?kind=deposit", "/wallet/transfers/" + id, "/wallet/transfers/" + id + "/events",
	} {
		c.exchange(t, 200, "GET", path, "", "Authorization", "Bearer alice")
	}
	signIn := c.exchange(t, 200, "GET", "/wallet/sign-in?next=/wallet", "")
	_, asset, _ := strings.Cut(string(signIn.body), `src="/wallet/assets/`)
	asset, _, _ = strings.Cut(asset, `"`)
	c.exchange(t, 200, "GET", "/wallet/assets/"+asset, "")
	c.exchange(t, 200, "GET", "/wallet/register", "")
}

func (c *checker) system(t *testing.T) {
	t.Helper()
	form := []string{"Content-Type", "application/x-www-form-urlencoded"}
	c.exchange(t, 200, "POST", "/v1/oauth/token", "grant_type=client_credentials&client_id=shop&client_secret=s3cret%2B%25", form...)
	c.exchange(t, 401, "POST", "/v1/oauth/token", "grant_type=client_credentials&client_id=shop&client_secret=x", form...)
	c.exchange(t, 400, "POST", "/v1/oauth/token", "client_id=shop", form...)
	for _, path := range []string{"/livez", "/readyz", "/openapi.yaml", "/docs", "/problems/overloaded", "/.well-known/jwks.json", "/.well-known/lockstep"} {
		c.exchange(t, 200, "GET", path, "")
	}
	c.health.Lease = false
	c.exchange(t, 503, "GET", "/readyz", "")
}
