package e2e_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"

	"lockstep/cluster/local"
)

// newClient makes an OAuth client of a test's own.
func (s *site) newClient(tb testing.TB, scopes string) local.ClientCredentials {
	tb.Helper()
	operator := s.as(tb, s.operator)
	body := object{"name": tb.Name(), "scopes": strings.Fields(scopes)}
	made := operator.post("/v1/admin/clients", body).expect(tb, http.StatusCreated, "")
	return local.ClientCredentials{ClientID: made.field("client_id"), ClientSecret: made.field("client_secret")}
}

const everydayScopes = "accounts:read accounts:write money:deposit money:withdraw money:transfer money:read"

// A client signs in by HTTP Basic or in the form; its token is good at every node, and says no more than was asked for.
func TestTokenComesByBasicOrFormAndIsGoodEverywhere(t *testing.T) {
	t.Parallel()
	s := shared(t)
	anonymous := caller{TB: t, site: s}
	form := func(base string, fields url.Values) answer {
		fields.Set("grant_type", "client_credentials")
		return anonymous.at(base).call(http.MethodPost, "/v1/oauth/token", fields.Encode(), "Content-Type", "application/x-www-form-urlencoded")
	}
	credentials := url.Values{"client_id": {s.client.ClientID}, "client_secret": {s.client.ClientSecret}}
	good := 0
	for _, base := range s.bases() {
		for _, got := range []answer{s.signIn(base, s.client, ""), form(base, credentials)} {
			got.expect(t, http.StatusOK, "")
			if got.field("token_type") != "Bearer" || got.field("expires_in") != "900" || got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("a token is answered with %v and %v", got, got.header)
			}
			for _, other := range s.bases() {
				c := caller{TB: t, site: s, base: other, token: got.field("access_token")}
				c.get("/v1/accounts?limit=1").expect(t, http.StatusOK, "")
				good++
			}
		}
	}
	if good != 18 {
		t.Errorf("tokens were good %d times, want 18", good)
	}
	narrow := s.signIn(s.balancer, s.client, "accounts:read money:read").expect(t, http.StatusOK, "")
	c := caller{TB: t, site: s, base: s.balancer, token: narrow.field("access_token")}
	c.get("/v1/accounts?limit=1").expect(t, http.StatusOK, "")
	c.get("/v1/transfers?limit=1").expect(t, http.StatusOK, "")
	c.post("/v1/accounts", object{"currency": "KRW"}).expect(t, http.StatusForbidden, "forbidden")
	c.get("/v1/admin/nodes").expect(t, http.StatusForbidden, "forbidden")
	for want, got := range map[string]answer{
		"400 invalid_scope":   s.signIn(s.balancer, s.client, "admin"),
		"401 invalid_client":  s.signIn(s.balancer, local.ClientCredentials{ClientID: s.client.ClientID, ClientSecret: "wrong"}, ""),
		"401 invalid_client ": s.signIn(s.balancer, local.ClientCredentials{ClientID: "nobody", ClientSecret: "wrong"}, ""),
		"400 unsupported_grant_type": anonymous.at(s.balancer).call(http.MethodPost, "/v1/oauth/token",
			"grant_type=password", "Content-Type", "application/x-www-form-urlencoded"),
		"400 invalid_request": anonymous.at(s.balancer).call(http.MethodPost, "/v1/oauth/token",
			"", "Content-Type", "application/x-www-form-urlencoded"),
	} {
		if fmt.Sprint(got.status, " ", got.field("error")) != strings.TrimSpace(want) {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}

// Every route that the OpenAPI file protects refuses a caller without a token, with a false one, and with one that lacks
// its scope.
func TestEveryProtectedRouteAsksForTokenAndScope(t *testing.T) {
	t.Parallel()
	s := shared(t)
	file, err := s.contract.of(s)
	if err != nil {
		t.Fatal(err)
	}
	nobodys := caller{TB: t, site: s, base: s.balancer}
	forged := nobodys
	forged.token = forge(s.token(t, s.operator))
	asked := 0
	for path, item := range file.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.Security != nil && len(*operation.Security) == 0 || strings.HasPrefix(path, "/peer/") {
				continue
			}
			scope := strings.Join((*operation.Security)[0]["oauth"], " ")
			address := strings.NewReplacer("{number}", nobody("alpha"), "{id}", uuid.NewString(), "{delivery}", uuid.NewString()).Replace(path)
			lacking := s.signIn(s.balancer, s.operator, otherThan(scope)).expect(t, http.StatusOK, "").field("access_token")
			poor := nobodys
			poor.token = lacking
			key := []string{"Idempotency-Key", uuid.NewString()}
			if strings.HasPrefix(path, "/wallet") { // pages say it to people
				nobodys.inHaste().call(method, address, nil).isPage(t, http.StatusUnauthorized)
				poor.inHaste().call(method, address, nil).isPage(t, http.StatusForbidden)
				asked++
				continue
			}
			missing := nobodys.call(method, address, "{}", key...).expect(t, http.StatusUnauthorized, "unauthenticated")
			forged.call(method, address, "{}", key...).expect(t, http.StatusUnauthorized, "unauthenticated")
			short := poor.call(method, address, "{}", key...).expect(t, http.StatusForbidden, "forbidden")
			if !strings.HasPrefix(missing.header.Get("WWW-Authenticate"), "Bearer") || !strings.Contains(short.header.Get("WWW-Authenticate"), scope) {
				t.Errorf("%s %s challenges with %q and %q", method, path, missing.header.Get("WWW-Authenticate"), short.header.Get("WWW-Authenticate"))
			}
			if missing.field("retry") != "same-key" || missing.field("outcome") != "not_applied" {
				t.Errorf("%s %s answers %v", method, path, missing)
			}
			asked++
		}
	}
	if asked < 23 {
		t.Errorf("%d routes are protected, want all 23 of them", asked)
	}
}

// isPage requires a status and HTML.
func (a answer) isPage(t *testing.T, status int) {
	t.Helper()
	if a.status != status || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
		t.Errorf("got %v, want a page with %d", a, status)
	}
}

// otherThan is a scope that is not this one.
func otherThan(scope string) string {
	if scope == "money:read" {
		return "accounts:read"
	}
	return "money:read"
}

// forge changes a token's contents and leaves its signature.
func forge(token string) string {
	parts := strings.Split(token, ".")
	middle := []byte(parts[1])
	middle[len(middle)/2] ^= 1
	return parts[0] + "." + string(middle) + "." + parts[2]
}

// To a stranger an account, its transfers and its holds do not exist; the payee of a transfer sees it; an operator sees
// all and moves nothing.
func TestStrangersSeeAndMoveNothing(t *testing.T) {
	t.Parallel()
	s := shared(t)
	alice, bob := s.as(t, s.client), s.as(t, s.newClient(t, everydayScopes))
	operator := s.as(t, s.operator)
	stranger := s.as(t, s.newClient(t, everydayScopes))
	hers, his := alice.account("KRW", "1000"), bob.account("KRW", "0")
	paid := alice.post("/v1/transfers", payment(hers, his, "100", "KRW")).expect(t, http.StatusCreated, "")
	own := alice.post("/v1/withdrawals", cash(hers, "1", "KRW")).expect(t, http.StatusCreated, "")
	held := alice.post("/v1/holds", object{"account": hers, "amount": "10", "currency": "KRW", "to": his}).expect(t, http.StatusCreated, "")
	account, hold := "/v1/accounts/"+hers, "/v1/holds/"+held.field("id")
	reads := []struct{ path, code string }{
		{account, "account_not_found"},
		{account + "/entries", "account_not_found"},
		{"/v1/transfers?account=" + hers, "account_not_found"},
		{"/v1/transfers/" + own.field("id"), "transfer_not_found"},
		{hold, "hold_not_found"},
	}
	refusals := 0
	for _, read := range reads {
		for _, other := range []caller{bob, stranger} {
			theirs := other.get(read.path, "Cache-Control", "no-cache").expect(t, http.StatusNotFound, read.code)
			missing := missingLike(read.path)
			none := other.get(missing, "Cache-Control", "no-cache")
			if blind(none, missing) != blind(theirs, read.path) {
				t.Errorf("%s answers %s, one that does not exist answers %s", read.path, theirs.body, none.body)
			}
			refusals++
		}
		operator.fresh(read.path)
	}
	bob.fresh("/v1/transfers/" + paid.field("id"))
	stranger.get("/v1/transfers/"+paid.field("id")).expect(t, http.StatusNotFound, "transfer_not_found")
	for _, other := range []caller{bob, stranger, operator} {
		other.post("/v1/withdrawals", cash(hers, "1", "KRW")).expect(t, http.StatusNotFound, "account_not_found")
		other.post("/v1/transfers", payment(hers, his, "1", "KRW")).expect(t, http.StatusNotFound, "account_not_found")
		other.post("/v1/holds", cash(hers, "1", "KRW")).expect(t, http.StatusNotFound, "account_not_found")
		other.post("/v1/batches", object{"transfers": []object{payment(hers, his, "1", "KRW")}}).expect(t, http.StatusNotFound, "account_not_found")
		other.post(hold+"/capture", object{}).expect(t, http.StatusNotFound, "hold_not_found")
		other.post(hold+"/void", nil).expect(t, http.StatusNotFound, "hold_not_found")
		refusals += 6
	}
	stranger.call(http.MethodPatch, account, object{"label": "mine"}).expect(t, http.StatusNotFound, "account_not_found")
	if got := alice.balance(hers); got != "899 posted, 10 held, 889 available" || refusals != 28 {
		t.Errorf("after %d refusals the account has %s", refusals, got)
	}
}

// missingLike names in a path what does not exist at all.
func missingLike(path string) string {
	for _, prefix := range []string{"/v1/transfers/", "/v1/holds/"} {
		if strings.HasPrefix(path, prefix) {
			return prefix + uuid.NewString()
		}
	}
	at := strings.Index(path, "alpha-")
	return path[:at] + nobody("alpha") + path[at+len(nobody("alpha")):]
}

// blind is an answer without what differs anyhow: the request's id and the name that was asked for.
func blind(a answer, path string) string {
	name := path[strings.LastIndexAny(path, "/=")+1:]
	if name == "entries" {
		name = strings.TrimSuffix(path, "/entries")
		name = name[strings.LastIndex(name, "/")+1:]
	}
	return strings.NewReplacer(a.field("request_id"), "", name, "").Replace(string(a.body))
}

// Clients are made, rotated and deleted by operators: the secret is shown once, the old one and the
// tokens of a deleted client end everywhere within seconds, and an agent acts for its owner.
func TestClientsAreMadeRotatedAndDeleted(t *testing.T) {
	t.Parallel()
	s := shared(t)
	operator := s.as(t, s.operator)
	id, key := "shop-"+uuid.NewString()[:8], uuid.NewString()
	body := object{"client_id": id, "name": "The shop", "scopes": []string{"accounts:read", "accounts:write"}, "owner": "client:" + s.client.ClientID}
	made := operator.post("/v1/admin/clients", body, "Idempotency-Key", key).expect(t, http.StatusCreated, "")
	again := operator.post("/v1/admin/clients", body, "Idempotency-Key", key).expect(t, http.StatusCreated, "")
	if made.field("client_secret") == "" || again.field("client_secret") != "" || again.header.Get("Idempotency-Replayed") != "true" {
		t.Errorf("a client is made with %v, and again with %v", made, again)
	}
	secret := operator.site.journal(t, "SELECT COUNT(*) FROM idempotency WHERE INSTR(body, ?) > 0", made.field("client_secret"))
	if secret != 0 {
		t.Error("the secret is stored with the answer")
	}
	operator.post("/v1/admin/clients", body).expect(t, http.StatusConflict, "invalid_state")
	shop := local.ClientCredentials{ClientID: id, ClientSecret: made.field("client_secret")}
	agent := s.as(t, shop)
	number := agent.account("KRW", "0")
	if owner := agent.fresh("/v1/accounts/" + number).field("owner"); owner != "client:"+s.client.ClientID {
		t.Errorf("the agent's account belongs to %s", owner)
	}
	s.as(t, s.client).fresh("/v1/accounts/" + number)

	rotated := operator.post("/v1/admin/clients/"+id+"/rotate", nil).expect(t, http.StatusOK, "")
	for _, base := range s.bases() {
		eventually(t, "the old secret is refused", func() bool { return s.signIn(base, shop, "").field("error") == "invalid_client" })
	}
	shop.ClientSecret = rotated.field("client_secret")
	if got := s.signIn(s.balancer, shop, ""); got.status != http.StatusOK {
		t.Errorf("the new secret is answered with %v", got)
	}
	agent.fresh("/v1/accounts/" + number) // the token lives on

	listed := false
	operator.pages("/v1/admin/clients?limit=3", func(page []byte) { listed = listed || strings.Contains(string(page), `"`+id+`"`) })
	if !listed {
		t.Errorf("the list of clients lacks %s", id)
	}
	operator.call(http.MethodDelete, "/v1/admin/clients/"+id, nil).expect(t, http.StatusNoContent, "")
	for _, base := range s.nodes {
		eventually(t, "the token of a deleted client is refused", func() bool {
			return agent.at(base).get("/v1/accounts/"+number).field("code") == "unauthenticated"
		})
	}
	if got := s.signIn(s.balancer, shop, ""); got.status != http.StatusUnauthorized {
		t.Errorf("a deleted client signs in with %v", got)
	}
	operator.call(http.MethodDelete, "/v1/admin/clients/"+id, nil).expect(t, http.StatusNotFound, "not_found")
}

// What is open to everybody says what the system is, and explains every problem that the contract lists in both languages.
func TestOpenPagesExplainTheSystemAndItsProblems(t *testing.T) {
	t.Parallel()
	s := shared(t)
	file, err := s.contract.of(s)
	if err != nil {
		t.Fatal(err)
	}
	nobodys := caller{TB: t, site: s}
	for _, base := range s.bases() {
		c := nobodys.at(base)
		for _, path := range []string{"/livez", "/readyz", "/docs", "/openapi.yaml", "/.well-known/jwks.json"} {
			c.get(path).expect(t, http.StatusOK, "")
		}
		if system := c.get("/.well-known/lockstep").expect(t, http.StatusOK, ""); system.field("system") != "alpha" {
			t.Errorf("the system says %v", system)
		}
	}
	explained := 0
	for _, line := range file.Extensions["x-problems"].([]any) {
		code := line.(map[string]any)["code"].(string)
		page := nobodys.at(s.balancer).get("/problems/"+code, "Accept", "text/html").expect(t, http.StatusOK, "")
		text := nobodys.at(s.balancer).get("/problems/" + code)
		for _, language := range []string{"en", "ko"} {
			for _, part := range []string{"title", "meaning", "action"} {
				if text.field(language, part) == "" || !strings.Contains(html.UnescapeString(string(page.body)), text.field(language, "title")) {
					t.Errorf("/problems/%s has no %s in %q", code, part, language)
				}
			}
		}
		explained++
	}
	if explained < 30 {
		t.Errorf("%d problems are explained", explained)
	}
	operator := s.as(t, s.operator)
	alive := 0
	nodes := operator.fresh("/v1/admin/nodes")
	for i := range nodes.length("nodes") {
		if nodes.field("nodes", fmt.Sprint(i), "alive") == "true" {
			alive++
		}
	}
	if alive < 2 {
		t.Errorf("%d nodes are alive: %v", alive, nodes)
	}
	if locks := operator.get("/v1/admin/locks").expect(t, http.StatusOK, ""); locks.field("enabled") != "true" || locks.length("servers") != 3 {
		t.Errorf("the locks are %v", locks)
	}
}
