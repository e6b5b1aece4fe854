package api_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"html"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"lockstep/api"
	"lockstep/node/ledger"
	"lockstep/node/posting"
)

// ledgerCodes reads the codes from the ledger's source, so that a new one cannot be forgotten here.
func ledgerCodes(tb testing.TB) []string {
	tb.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../node/ledger/error.go", nil, 0)
	if err != nil {
		tb.Fatal(err)
	}
	var codes []string
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				tb.Fatal(err)
			}
			codes = append(codes, text)
		}
		return true
	})
	if len(codes) < 20 {
		tb.Fatalf("found only %v", codes)
	}
	return codes
}

func TestEveryCodeHasItsRuleAndItsWords(t *testing.T) {
	t.Parallel()
	ruled := map[string]bool{}
	hangul := regexp.MustCompile(`\p{Hangul}`)
	for _, rule := range api.RuleFacts() {
		ruled[rule.Code] = true
		words := api.Words(rule.Code)
		for i, text := range words {
			if text == "" || hangul.MatchString(text) != (i >= 3) {
				t.Errorf("%s: text %d is %q", rule.Code, i, text)
			}
		}
	}
	between := []string{"transfer_aborted", "transfer_conflict", "stale_epoch"} // systems tell them to each other, nobody else
	for _, code := range ledgerCodes(t) {
		if ruled[code] == slices.Contains(between, code) {
			t.Errorf("%s has no rule, or one that nobody needs", code)
		}
	}
}

// What the contract says about whole classes of answers.
func TestRulesKeepTheContract(t *testing.T) {
	t.Parallel()
	for _, rule := range api.RuleFacts() {
		switch rule.Status {
		case 401, 403, 405, 408, 413, 415, 429, 503:
			if given := rule.Code == string(ledger.PeerUnavailable); given { // decided under the key, when the payee's system gave no answer
				continue
			}
			if rule.Outcome != "not_applied" || rule.Retry == "new-key" || !rule.Early {
				t.Errorf("%+v is answered before the claim", rule)
			}
		}
		if rule.Early && rule.Retry == "new-key" {
			t.Errorf("%+v would lose an earlier request", rule)
		}
		if rule.Outcome == "unknown" && rule.Retry != "same-key" {
			t.Errorf("%+v: what is unknown is asked about with the same key", rule)
		}
		if (rule.Status == 503 || rule.Status == 429) && rule.After == 0 {
			t.Errorf("%+v needs Retry-After", rule)
		}
	}
}

// Each code on its way through a real request: status, members, headers and the page that its type leads to.
func TestEachCodeIsAnsweredByItsRule(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	body := fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, e.open(t, "alice", ""))
	for _, rule := range api.RuleFacts() {
		e.bank.set(func() {
			e.bank.fail = func(posting.Command) error { return ledger.Refuse(ledger.Code(rule.Code), "told by the test") }
		})
		got := e.post(t, "alice", "/v1/deposits", body).expect(t, rule.Status, rule.Code)
		if got.field("outcome") != rule.Outcome || got.field("retry") != rule.Retry || got.field("type") != "/problems/"+rule.Code || got.field("status") != strconv.Itoa(rule.Status) {
			t.Errorf("got %v, want %+v", got, rule)
		}
		if (got.header.Get("Retry-After") != "") != (rule.After > 0) {
			t.Errorf("%s: Retry-After is %q", rule.Code, got.header.Get("Retry-After"))
		}
		if strings.Contains(got.field("detail"), api.EarlierRequest("en")) != rule.Early {
			t.Errorf("%s: the detail is %q", rule.Code, got.field("detail"))
		}
		page := e.do(t, "GET", got.field("type"), "", "Accept", "text/html,*/*").expect(t, 200, "")
		for _, text := range append(api.Words(rule.Code), rule.Code, rule.Retry) {
			if !strings.Contains(string(page.body), html.EscapeString(text)) {
				t.Errorf("the page of %s lacks %q", rule.Code, text)
			}
		}
		program := e.do(t, "GET", got.field("type"), "").expect(t, 200, rule.Code)
		if program.field("ko", "title") != api.Words(rule.Code)[3] || program.field("retry") != rule.Retry {
			t.Errorf("got %v", program)
		}
	}
	e.do(t, "GET", "/problems/none", "").expect(t, 404, "not_found")
}

// An early answer speaks of earlier requests with the key, in the caller's language; one without a key has none to
// speak of.
func TestEarlyAnswersSpeakOfEarlierRequests(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for _, in := range []string{"en", "ko"} {
		got := e.do(t, "POST", "/v1/deposits", "{}", "Idempotency-Key", "k", "Accept-Language", in).expect(t, 401, "unauthenticated")
		if !strings.HasSuffix(got.field("detail"), api.EarlierRequest(in)) || got.field("retry") != "same-key" {
			t.Errorf("got %v", got)
		}
	}
	if got := e.get(t, "nobody", "/v1/accounts"); strings.Contains(got.field("detail"), "Idempotency-Key") {
		t.Errorf("got %v", got)
	}
}

func TestChallengesSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for want, got := range map[string]answer{
		`Bearer realm="lockstep"`:                                                    e.do(t, "GET", "/v1/accounts", "").expect(t, 401, "unauthenticated"),
		`Bearer realm="lockstep", error="invalid_token"`:                             e.get(t, "nobody", "/v1/accounts").expect(t, 401, "unauthenticated"),
		`Bearer realm="lockstep", error="insufficient_scope", scope="money:read"`:    e.get(t, "limited", "/v1/transfers").expect(t, 403, "forbidden"),
		`Bearer realm="lockstep", error="insufficient_scope", scope="money:deposit"`: e.post(t, "limited", "/v1/deposits", "{}").expect(t, 403, "forbidden"),
		`Bearer realm="lockstep", error="insufficient_scope", scope="admin"`:         e.get(t, "alice", "/v1/admin/nodes").expect(t, 403, "forbidden"),
	} {
		if got.header.Get("WWW-Authenticate") != want {
			t.Errorf("challenge is %q, want %q", got.header.Get("WWW-Authenticate"), want)
		}
	}
}

func TestUnknownPathsAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for _, path := range []string{"/nowhere", "/v1", "/v1/accounts/", "/V1/accounts", "/livez/", "/metrics", "/v1/accounts/x/y/z"} {
		e.do(t, "GET", path, "").expect(t, 404, "not_found")
	}
	got := e.do(t, "PUT", "/v1/accounts", "").expect(t, 405, "method_not_allowed")
	if allow := got.header.Get("Allow"); !strings.Contains(allow, "GET") || !strings.Contains(allow, "POST") {
		t.Errorf("Allow is %q", allow)
	}
	e.do(t, "BREW", "/v1/accounts", "").expect(t, 405, "method_not_allowed")
	if head := e.do(t, "HEAD", "/livez", ""); head.status != 200 || len(head.body) != 0 {
		t.Errorf("got %v", head)
	}
}

func TestRequestIDIsKeptOrMade(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for _, path := range []string{"/livez", "/nowhere", "/v1/accounts"} {
		if got := e.do(t, "GET", path, "", "Request-Id", "my.id-1_x").header.Get("Request-Id"); got != "my.id-1_x" {
			t.Errorf("%s: kept %q", path, got)
		}
		for _, bad := range []string{"", "two words", strings.Repeat("x", 65), "a\"b", "ключ"} {
			if _, err := uuid.Parse(e.do(t, "GET", path, "", "Request-Id", bad).header.Get("Request-Id")); err != nil {
				t.Errorf("%s with %q: %v", path, bad, err)
			}
		}
	}
}

// Headers that anyone can send change nothing about who or where the caller is.
func TestForwardedHeadersAreNotTrusted(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "")
	forwarded := []string{"X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "X-Forwarded-For", "10.9.8.7", "X-HTTP-Method-Override", "DELETE"}
	got := e.post(t, "alice", "/v1/deposits", fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, account), forwarded...).expect(t, 201, "")
	if !strings.HasPrefix(got.header.Get("Location"), "/v1/transfers/") {
		t.Errorf("Location is %q", got.header.Get("Location"))
	}
	if strings.Contains(e.logs.String(), "10.9.8.7") {
		t.Error("the log believes X-Forwarded-For")
	}
}
