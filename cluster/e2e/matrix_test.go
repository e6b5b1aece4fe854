package e2e_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
)

// belongings are what one person has: an id of each kind that a request can name.
type belongings struct {
	account, second string // account numbers
	transfer        string // from the first account to the second
	hold            string // pending, on the first account
	principal       string
	client          string // of an operator, for all that is about no person
}

// trial is a request that names something of its owner's in one parameter, and what becomes of it.
type trial struct {
	path  string        // with {number}, {id} and so on as the file has them; parameters of queries behind
	body  func() object // nil: none
	owner int           // what the owner is answered: proof that the id is one and the request a good one
	other int           // what another person is answered
	code  string        // the problem of that
	blind bool          // the other's page is there, and knows nothing of the account
}

// trials has each route by each parameter that names something: a route that is not here, or a parameter of one, fails the
// test. Those of one's own need none, and "free" says why.
func trials(h belongings) map[string]map[string]trial {
	missing := func(path, code string) trial { return trial{path: path, owner: 200, other: 404, code: code} }
	body := func(o object) func() object { return func() object { return o } }
	pay := payment(h.account, h.second, "1", "KRW")
	return map[string]map[string]trial{
		"GET /wallet/deposit":                         {"query:account": {path: "?account=" + h.account, owner: 200, other: 200, blind: true}},
		"GET /wallet/withdraw":                        {"query:account": {path: "?account=" + h.account, owner: 200, other: 200, blind: true}},
		"GET /wallet/send":                            {"query:account": {path: "?account=" + h.account, owner: 200, other: 200, blind: true}},
		"GET /wallet/accounts/{number}":               {"path:number": {path: h.account, owner: 200, other: 404}},
		"GET /wallet/accounts/{number}/statement.csv": {"path:number": {path: h.account, owner: 200, other: 404}},
		"GET /wallet/transfers/{id}":                  {"path:id": {path: h.transfer, owner: 200, other: 404}},
		"GET /wallet/transfers/{id}/events":           {"path:id": {path: h.transfer, owner: 200, other: 404}},

		"POST /v1/accounts":                 {"body:owner": {body: body(object{"currency": "KRW", "owner": h.principal}), owner: 403, other: 403, code: "forbidden"}},
		"GET /v1/accounts":                  {"query:owner": {path: "?owner=" + h.principal, owner: 200, other: 403, code: "forbidden"}},
		"GET /v1/accounts/{number}":         {"path:number": missing(h.account, "account_not_found")},
		"GET /v1/accounts/{number}/entries": {"path:number": missing(h.account, "account_not_found")},
		"PATCH /v1/accounts/{number}": {
			"path:number": {path: h.account, body: body(object{"label": "mine"}), owner: 200, other: 404, code: "account_not_found"},
			"body:owner":  {path: h.account, body: body(object{"owner": "user:thief"}), owner: 403, other: 404, code: "account_not_found"},
		},
		"GET /v1/payees/{number}": {"path:number": {path: h.account, owner: 200, other: 200}}, // a payer sees a masked name
		"POST /v1/deposits":       {"body:account": {body: body(cash(h.account, "1", "KRW")), owner: 201, other: 404, code: "account_not_found"}},
		"POST /v1/withdrawals":    {"body:account": {body: body(cash(h.account, "1", "KRW")), owner: 201, other: 404, code: "account_not_found"}},
		"POST /v1/transfers": {
			"body:from": {body: body(pay), owner: 201, other: 404, code: "account_not_found"},
			"body:to":   {body: body(payment(h.account, h.second, "1", "KRW")), owner: 201, other: 404, code: "account_not_found"},
		},
		"GET /v1/transfers":      {"query:account": {path: "?account=" + h.account, owner: 200, other: 404, code: "account_not_found"}},
		"GET /v1/transfers/{id}": {"path:id": missing(h.transfer, "transfer_not_found")},
		"POST /v1/batches": {
			"body:transfers.from": {body: body(object{"transfers": []object{pay}}), owner: 201, other: 404, code: "account_not_found"},
			"body:transfers.to":   {body: body(object{"transfers": []object{pay}}), owner: 201, other: 404, code: "account_not_found"},
		},
		"POST /v1/holds": {
			"body:account": {body: body(cash(h.account, "1", "KRW")), owner: 201, other: 404, code: "account_not_found"},
			"body:to": {body: func() object {
				held := cash(h.account, "1", "KRW")
				held["to"] = h.second
				return held
			}, owner: 201, other: 404, code: "account_not_found"},
		},
		"GET /v1/holds/{id}": {"path:id": missing(h.hold, "hold_not_found")},
		"POST /v1/holds/{id}/capture": {
			"path:id": {path: h.hold, body: body(object{"amount": "5000"}), owner: 422, other: 404, code: "hold_not_found"}, // more than the hold
			"body:to": {path: h.hold, body: body(object{"amount": "5000", "to": h.second}), owner: 422, other: 404, code: "hold_not_found"},
		},
		"POST /v1/holds/{id}/void": {"path:id": {path: h.hold, owner: 200, other: 404, code: "hold_not_found"}},

		"DELETE /v1/webhooks/{id}":         {"path:id": forbidden(h.transfer)}, // which are programs' alone
		"GET /v1/webhooks/{id}/deliveries": {"path:id": forbidden(h.transfer)},
		"POST /v1/webhooks/{id}/deliveries/{delivery}/replay": {
			"path:id": forbidden(h.transfer + "/" + h.transfer), "path:delivery": forbidden(h.transfer + "/" + h.transfer),
		},

		"POST /v1/admin/sagas/{id}/retry":         {"path:id": forbidden(h.transfer)},
		"POST /v1/admin/sagas/{id}/abort":         {"path:id": forbidden(h.transfer)},
		"POST /v1/admin/dead-letters/{id}/replay": {"path:id": forbidden(h.transfer)},
		"POST /v1/admin/clients":                  {"body:owner": {body: body(object{"name": "x", "scopes": []string{"admin"}, "owner": h.principal}), owner: 403, other: 403, code: "forbidden"}},
		"DELETE /v1/admin/clients/{id}":           {"path:id": forbidden(h.client)},
		"POST /v1/admin/clients/{id}/rotate":      {"path:id": forbidden(h.client)},

		"POST /peer/v1/transfers": {"body:transfers.id": {body: body(object{"epoch": 1, "transfers": []object{{"id": h.transfer}}}), owner: 401, other: 401, code: "signature_invalid"}},
		"GET /peer/v1/transfers":  {"query:payer": unsigned("?payer=alpha")},
		"GET /peer/v1/digest": {
			"query:payer": unsigned("?payer=alpha&until=" + h.transfer), "query:after": unsigned("?payer=alpha&until=" + h.transfer + "&after=" + h.transfer),
			"query:until": unsigned("?payer=alpha&until=" + h.transfer),
		},
		"GET /peer/v1/transfers/{payer}/{id}": {"path:payer": unsigned("alpha/" + h.transfer), "path:id": unsigned("alpha/" + h.transfer)},
		"GET /peer/v1/payees/{number}":        {"path:number": unsigned(h.account)},
	}
}

func forbidden(path string) trial {
	return trial{path: path, owner: 403, other: 403, code: "forbidden"}
}

func unsigned(path string) trial {
	return trial{path: path, owner: 401, other: 401, code: "signature_invalid"}
}

// withoutIDs are the routes that name nothing of anybody: what everybody sees, and what is the caller's own.
var withoutIDs = strings.Fields(`GET/livez GET/readyz GET/openapi.yaml GET/docs GET/problems/{code} GET/.well-known/jwks.json GET/.well-known/lockstep
	GET/ GET/wallet GET/wallet/sign-in GET/wallet/register GET/wallet/open GET/wallet/settings GET/wallet/assets/{name}
	POST/v1/oauth/token GET/v1/auth/google/login GET/v1/auth/google/callback POST/v1/auth/register POST/v1/auth/login POST/v1/auth/refresh
	POST/v1/auth/logout POST/v1/auth/password GET/v1/me GET/v1/me/sessions DELETE/v1/me/sessions GET/peer/v1/jwks.json
	GET/v1/proofs/trial-balance GET/v1/admin/nodes GET/v1/admin/locks GET/v1/admin/peers GET/v1/admin/sagas GET/v1/admin/dead-letters
	GET/v1/webhooks POST/v1/webhooks GET/v1/admin/clients POST/peer/v1/inquiries POST/peer/v1/epoch`)

// notIDs are parameters that filter, page or prefill, and name nothing that anybody has.
var notIDs = strings.Fields(`limit cursor reference state kind created_from created_to from to before next form code iss error name`)

// named lists what an operation's parameters name, as the file describes them.
func named(item *openapi3.PathItem, operation *openapi3.Operation) (names []string) {
	for _, parameters := range []openapi3.Parameters{item.Parameters, operation.Parameters} {
		for _, p := range parameters {
			if p.Value.In != "header" && !slices.Contains(notIDs, p.Value.Name) {
				names = append(names, p.Value.In+":"+p.Value.Name)
			}
		}
	}
	var walk func(prefix string, schema *openapi3.Schema)
	walk = func(prefix string, schema *openapi3.Schema) {
		for name, property := range schema.Properties {
			of := property.Ref[strings.LastIndexByte(property.Ref, '/')+1:]
			if of == "AccountNumber" || of == "ID" || of == "Principal" {
				names = append(names, "body:"+prefix+name)
			}
			if property.Value.Items != nil {
				walk(prefix+name+".", property.Value.Items.Value)
			}
		}
	}
	if operation.RequestBody != nil {
		for _, content := range operation.RequestBody.Value.Content {
			walk("", content.Schema.Value)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Every route by every parameter that names something: what is one person's is answered to them, and does not exist for
// another. What is an operator's or a peer's is neither's. A route or a parameter that this test does not know fails it.
func TestEveryRouteKeepsPeopleApart(t *testing.T) {
	t.Parallel()
	s := shared(t)
	file, err := s.contract.of(s)
	if err != nil {
		t.Fatal(err)
	}
	alice, bob := s.enter(t, s.people()[0]), s.enter(t, s.people()[1])
	his := alice.has(t, s)
	theirs := bob.has(t, s)
	known := trials(his)
	offered := `value="` + his.account + `"` // to be chosen in a form
	asked := map[string]bool{}
	for path, item := range file.Paths.Map() {
		for method, operation := range item.Operations() {
			route := method + " " + path
			names := named(item, operation)
			if slices.Contains(withoutIDs, method+path) {
				if len(names) > 0 {
					t.Errorf("%s names %v, and no trial", route, names)
				}
				continue
			}
			if want := slices.Sorted(maps.Keys(known[route])); !slices.Equal(names, want) {
				t.Errorf("%s names %v, there are trials of %v", route, names, want)
			}
			for name, try := range known[route] {
				asked[route] = true
				address := tryPath(path, try.path)
				for _, base := range s.nodes {
					got := bob.via(base).try(method, address, try)
					if try.blind && strings.Contains(string(got.body), offered) {
						t.Errorf("%s by %s of another person shows the account", route, name)
					}
					if got.status != try.other || try.code != "" && got.field("code") != try.code {
						t.Errorf("%s by %s of another person: got %v, want %d %s", route, name, got, try.other, try.code)
					}
				}
			}
		}
	}
	for route := range known {
		if !asked[route] {
			t.Errorf("there is no route %s", route)
		}
	}
	if now := alice.state(t, his); now != "10000 posted, 100 held, 9900 available; 0 posted, 0 held, 0 available" {
		t.Errorf("after another person's trials the accounts have %s", now)
	}
	// The same requests are good ones in their owner's hands; voiding the hold comes last.
	for _, last := range []bool{false, true} {
		for route, tries := range known {
			method, path, _ := strings.Cut(route, " ")
			for name, try := range tries {
				if strings.HasSuffix(route, "/void") != last {
					continue
				}
				got := alice.via(s.balancer).try(method, tryPath(path, try.path), try)
				if try.blind && !strings.Contains(string(got.body), offered) {
					t.Errorf("%s does not offer its owner the account", route)
				}
				if got.status != try.owner {
					t.Errorf("%s by %s of its owner: got %v, want %d", route, name, got, try.owner)
				}
			}
		}
	}
	if now := bob.state(t, theirs); now != "10000 posted, 100 held, 9900 available; 0 posted, 0 held, 0 available" {
		t.Errorf("the other person's accounts have %s", now)
	}
}

// tryPath fills the parts of a path, or adds a query.
func tryPath(path, value string) string {
	if strings.HasPrefix(value, "?") {
		return path + value
	}
	parts := strings.Split(value, "/")
	for strings.Contains(path, "{") && len(parts) > 0 {
		begin, end := strings.IndexByte(path, '{'), strings.IndexByte(path, '}')
		path = path[:begin] + parts[0] + path[end+1:]
		parts = parts[1:]
	}
	return path
}

func (b *browser) try(method, path string, try trial) answer {
	b.Helper()
	var body any
	if try.body != nil {
		body = try.body()
	}
	other := *b
	other.quick = true // streams and pages are held against the file elsewhere
	return other.send(method, path, body, "Cache-Control", "no-cache")
}

// has makes what the person has.
func (b *browser) has(t *testing.T, s *site) belongings {
	t.Helper()
	open := func() string {
		return b.send(http.MethodPost, "/v1/accounts", object{"currency": "KRW"}).expect(t, 201, "").field("number")
	}
	h := belongings{account: open(), second: open(), client: s.client.ClientID}
	b.send(http.MethodPost, "/v1/deposits", cash(h.account, "10000", "KRW")).expect(t, 201, "")
	h.transfer = b.send(http.MethodPost, "/v1/withdrawals", cash(h.account, "1", "KRW")).expect(t, 201, "").field("id")
	b.send(http.MethodPost, "/v1/deposits", cash(h.account, "1", "KRW")).expect(t, 201, "")
	held := cash(h.account, "100", "KRW")
	held["to"] = h.second
	h.hold = b.send(http.MethodPost, "/v1/holds", held).expect(t, 201, "").field("id")
	h.principal = b.send(http.MethodGet, "/v1/accounts/"+h.account, nil, "Cache-Control", "no-cache").expect(t, 200, "").field("owner")
	if !strings.HasPrefix(h.principal, "user:") {
		t.Fatalf("the account is %s's", h.principal)
	}
	return h
}

func (b *browser) state(t *testing.T, h belongings) string {
	t.Helper()
	var both []string
	for _, number := range []string{h.account, h.second} {
		got := b.send(http.MethodGet, "/v1/accounts/"+number, nil, "Cache-Control", "no-cache").expect(t, 200, "")
		both = append(both, fmt.Sprintf("%s posted, %s held, %s available",
			got.field("balance", "posted"), got.field("balance", "pending_debit"), got.field("balance", "available")))
	}
	return strings.Join(both, "; ")
}

// Properties that are not a person's to set are refused in every body, at every place, and change nothing.
func TestExtraPropertiesAreRefused(t *testing.T) {
	t.Parallel()
	s := shared(t)
	file, err := s.contract.of(s)
	if err != nil {
		t.Fatal(err)
	}
	alice := s.enter(t, s.people()[0])
	h := alice.has(t, s)
	extras := object{"owner": "user:thief", "balance": object{"posted": "999999"}, "status": "closed", "limits": object{"daily_out": "none"}}
	good := trials(h)
	tried := 0
	for path, item := range file.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.RequestBody == nil || operation.RequestBody.Value.Content["application/json"] == nil || strings.HasPrefix(path, "/peer/") {
				continue
			}
			bodies := []object{{}}
			address := tryPath(path, uuid.NewString())
			for _, try := range good[method+" "+path] {
				address = tryPath(path, try.path)
				if try.body != nil {
					bodies = append(bodies, try.body())
				}
			}
			for name, value := range extras {
				for _, body := range bodies {
					outside := maps.Clone(body)
					outside[name] = value
					variants := []object{outside}
					if list, is := body["transfers"].([]object); is {
						inside := maps.Clone(list[0])
						inside[name] = value
						variants = append(variants, object{"transfers": []object{inside}})
					}
					for _, variant := range variants {
						tried++
						other := *alice
						other.quick = true
						if got := other.send(method, address, variant); got.status != http.StatusBadRequest && got.status != http.StatusForbidden {
							t.Errorf("%s %s with %s: got %v", method, path, name, got)
						}
					}
				}
			}
		}
	}
	if tried < 60 {
		t.Errorf("only %d bodies were tried", tried)
	}
	if now := alice.state(t, h); now != "10000 posted, 100 held, 9900 available; 0 posted, 0 held, 0 available" {
		t.Errorf("after them the accounts have %s", now)
	}
	got := alice.send(http.MethodGet, "/v1/accounts/"+h.account, nil, "Cache-Control", "no-cache").expect(t, 200, "")
	if got.field("owner") != h.principal || got.field("status") != "open" || got.field("limits") != "" {
		t.Errorf("after them the account is %v", got)
	}
}

// Who may read everything reads what is anybody's and what is the system's, and can change nothing at all.
func TestAuditorsReadAllAndChangeNothing(t *testing.T) {
	t.Parallel()
	s := shared(t)
	file, err := s.contract.of(s)
	if err != nil {
		t.Fatal(err)
	}
	h := s.enter(t, s.people()[0]).has(t, s)
	auditor := s.as(t, s.newClient(t, "accounts:read money:read proofs:read admin:read"))
	for _, path := range []string{
		"/v1/accounts?owner=" + h.principal, "/v1/accounts/" + h.account, "/v1/accounts/" + h.account + "/entries", "/v1/transfers/" + h.transfer,
		"/v1/transfers?account=" + h.account, "/v1/holds/" + h.hold, "/v1/admin/nodes", "/v1/admin/clients", "/v1/admin/locks", "/v1/proofs/trial-balance",
	} {
		auditor.fresh(path)
	}
	refused := 0
	for path, item := range file.Paths.Map() {
		for method, operation := range item.Operations() {
			if method == http.MethodGet || operation.Security == nil || len(*operation.Security) == 0 || strings.HasPrefix(path, "/peer/") {
				continue
			}
			auditor.inHaste().call(method, tryPath(path, h.hold), object{}, "Idempotency-Key", uuid.NewString()).expect(t, http.StatusForbidden, "forbidden")
			refused++
		}
	}
	if refused < 15 {
		t.Errorf("only %d routes that change something were tried", refused)
	}
}
