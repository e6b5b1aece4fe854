package e2e_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// badBody is a request that must be refused before anything is looked at.
type badBody struct {
	name   string
	body   string
	status int
	code   string
}

// malformed are bodies that are wrong for every route.
func malformed() []badBody {
	return []badBody{
		{"cut off", `{"account":"`, 400, "invalid_request"},
		{"empty", ``, 400, "invalid_request"},
		{"blank", ` `, 400, "invalid_request"},
		{"a list", `[]`, 400, "invalid_request"},
		{"a text", `"amount"`, 400, "invalid_request"},
		{"null", `null`, 400, "invalid_request"},
		{"single quotes", `{'amount':'1'}`, 400, "invalid_request"},
		{"unknown field", `{"surprise":1}`, 400, "invalid_request"},
		{"other letters", `{"Amount":"1"}`, 400, "invalid_request"},
		{"two objects", `{}{}`, 400, "invalid_request"},
		{"text after it", `{} x`, 400, "invalid_request"},
		{"broken UTF-8", "{\"description\":\"\xff\"}", 400, "invalid_request"},
		{"too deep", strings.Repeat(`{"a":`, 200) + "1" + strings.Repeat("}", 200), 400, "invalid_request"},
		{"form", `account=1&amount=1`, 400, "invalid_request"},
	}
}

// moneyRoutes are the routes whose body has an amount, each with a good body in which a test changes one thing.
func moneyRoutes(account, other, currency string) map[string]string {
	cashBody := fmt.Sprintf(`{"account":%q,"amount":"1","currency":%q}`, account, currency)
	pay := fmt.Sprintf(`{"from":%q,"to":%q,"amount":"1","currency":%q}`, account, other, currency)
	return map[string]string{
		"/v1/deposits": cashBody, "/v1/withdrawals": cashBody, "/v1/transfers": pay,
		"/v1/holds": cashBody, "/v1/batches": `{"transfers":[` + pay + `]}`,
	}
}

// badAmounts are texts that are no amounts: of any currency, and of one with so many decimals.
func badAmounts(currency string) []string {
	bad := []string{
		`1`, `1.5`, `1e3`, `-1`, `true`, `{}`, `[]`, // JSON numbers and others instead of a text
		`"-1"`, `"+1"`, `"0"`, `"00"`, `"01"`, `""`, `" 1"`, `"1 "`, `"1,000"`, `"1e3"`, `"0x10"`, `"1."`, `".5"`, `"NaN"`, `"Infinity"`,
		`"１"`, `"1_000"`, `"1000000000000001"`, `"9223372036854775808"`, `"99999999999999999999999999"`, `"1\u0000"`,
	}
	tooFine := map[string]string{"KRW": `"1.0"`, "USD": `"1.234"`, "KWD": `"1.2345"`}
	return append(bad, tooFine[currency])
}

// badInput asks with a caller and counts what was refused as it should be.
type badInput struct {
	caller
	retries map[string]string // of each code, as the contract lists them
	refused int
}

func newBadInput(t *testing.T, c caller) *badInput {
	file, err := c.site.contract.of(c.site)
	if err != nil {
		t.Fatal(err)
	}
	b := &badInput{caller: c, retries: map[string]string{}}
	for _, line := range file.Extensions["x-problems"].([]any) {
		fields := line.(map[string]any)
		b.retries[fields["code"].(string)] = fields["retry"].(string)
	}
	return b
}

// refuses requires a problem that says what was wrong, that nothing was done and what to do.
func (b *badInput) refuses(what string, got answer, status int, code string) {
	b.Helper()
	b.refused++
	if got.status != status || got.field("code") != code {
		b.Errorf("%s: got %v, want %d %s", what, got, status, code)
		return
	}
	id := got.field("request_id")
	if got.field("outcome") != "not_applied" || got.field("retry") != b.retries[code] || got.field("detail") == "" ||
		id == "" || id != got.header.Get("Request-Id") || got.header.Get("Content-Type") != "application/problem+json" {
		b.Errorf("%s: the problem is %v with %v", what, got, got.header)
	}
}

// Bad bodies are refused with the code that says why, at the balancer and at the node, and nothing moves.
func TestBadBodiesAreRefusedAndNothingMoves(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.client)
	bad := newBadInput(t, c)
	watched := map[string]string{}
	for _, currency := range []string{"KRW", "USD", "KWD"} {
		account, other := c.account(currency, "1000"), c.account(currency, "0")
		watched[account], watched[other] = c.balance(account), c.balance(other)
		for path, good := range moneyRoutes(account, other, currency) {
			for _, amount := range badAmounts(currency) {
				body := strings.Replace(good, `"amount":"1"`, `"amount":`+amount, 1)
				bad.refuses(path+" "+body, c.post(path, body), 400, "invalid_amount")
			}
			for _, change := range [][2]string{
				{currency, "XXX"},
				{currency, strings.ToLower(currency)},
				{currency, ""},
				{`,"currency":"` + currency + `"`, ``},
				{account, strings.ToUpper(account)},
				{account, account[:len(account)-1]},
				{account, account + "0"},
				{account, mistyped(account)},
				{account, "alpha-00000000000000"},
				{account, ""},
				{`"amount":"1"`, `"amount":"1","amount":"1"`},
				{`"amount":"1"`, `"amount":null`},
				{`"amount":"1"`, `"amount":"1","fee":"1"`},
			} {
				body := strings.Replace(good, change[0], change[1], 1)
				bad.refuses(path+" "+body, c.post(path, body), 400, "invalid_request")
			}
			for _, wrong := range malformed() {
				bad.refuses(path+" "+wrong.name, c.post(path, wrong.body), wrong.status, wrong.code)
			}
		}
	}
	for number, before := range watched {
		if now := c.balance(number); now != before {
			t.Errorf("after %d bad requests %s has %s, before %s", bad.refused, number, now, before)
		}
		if entries := len(c.statement(number, 50)); entries > 1 {
			t.Errorf("after %d bad requests the statement of %s has %d entries", bad.refused, number, entries)
		}
		if holds := s.journal(t, "SELECT COUNT(*) FROM holds h JOIN accounts a ON a.id = h.account_id WHERE a.id = ?", number[6:18]); holds != 0 {
			t.Errorf("after %d bad requests %s has %d holds", bad.refused, number, holds)
		}
	}
	t.Logf("%d bad requests were refused", bad.refused)
	if bad.refused < 700 {
		t.Errorf("only %d bad requests were sent", bad.refused)
	}
}

// mistyped exchanges two digits of a number that differ, as people do.
func mistyped(number string) string {
	digits := []byte(number)
	for i := len(digits) - 1; i > 0; i-- {
		if digits[i] != digits[i-1] && digits[i-1] != '-' {
			digits[i], digits[i-1] = digits[i-1], digits[i]
			return string(digits)
		}
	}
	return number
}

// What else can be wrong with a request has its problem too: fields out of bounds, keys, media types, paths and queries.
func TestBadFieldsKeysAndQueriesAreRefused(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.client)
	bad := newBadInput(t, c)
	account, other := c.account("KRW", "1000"), c.account("KRW", "0")
	good := moneyRoutes(account, other, "KRW")
	with := func(path, fields string) (string, string) {
		return path, strings.Replace(good[path], `"amount":"1"`, `"amount":"1",`+fields, 1)
	}
	for _, fields := range []string{
		`"expires_in_seconds":0`, `"expires_in_seconds":-1`, `"expires_in_seconds":2592001`, `"expires_in_seconds":1.5`, `"expires_in_seconds":"60"`,
		`"expires_in_seconds":99999999999999999999`, `"to":""`, `"to":"alpha"`, `"to":` + fmt.Sprintf("%q", mistyped(other)),
	} {
		path, body := with("/v1/holds", fields)
		bad.refuses(body, c.post(path, body), 400, "invalid_request")
	}
	for _, path := range []string{"/v1/deposits", "/v1/withdrawals", "/v1/transfers", "/v1/batches"} {
		for _, fields := range []string{
			`"description":"` + strings.Repeat("가", 201) + `"`, `"reference":"` + strings.Repeat("r", 101) + `"`, `"description":"two\nlines"`,
			`"reference":"\u0007"`, `"description":7`, `"reference":{}`,
		} {
			path, body := with(path, fields)
			bad.refuses(fmt.Sprintf("%s %.30s", path, fields), c.post(path, body), 400, "invalid_request")
		}
	}
	many := strings.Repeat(good["/v1/transfers"]+",", 100) + good["/v1/transfers"]
	for _, transfers := range []string{`[]`, `{}`, `"x"`, `[` + many + `]`, `[[]]`, `[7]`, `[null]`} {
		bad.refuses("batch", c.post("/v1/batches", `{"transfers":`+transfers+`}`), 400, "invalid_request")
	}
	bad.keys("/v1/deposits", good["/v1/deposits"])
	bad.media("/v1/deposits", good["/v1/deposits"])
	bad.queries(account)
	if got := c.balance(account); got != "1000 posted, 0 held, 1000 available" {
		t.Errorf("after %d bad requests the account has %s", bad.refused, got)
	}
	if entries := len(c.statement(account, 50)); entries != 1 {
		t.Errorf("after %d bad requests the statement has %d entries", bad.refused, entries)
	}
	t.Logf("%d bad requests were refused", bad.refused)
}

func (b *badInput) keys(path, body string) {
	b.Helper()
	send := func(keys ...string) answer {
		request, err := http.NewRequest(http.MethodPost, b.base+path, strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+b.token)
		request.Header.Set("Content-Type", "application/json")
		request.Header["Idempotency-Key"] = keys
		return b.site.send(request)
	}
	b.refuses("no key", send(), 400, "idempotency_key_missing")
	b.refuses("an empty key", send(""), 400, "idempotency_key_missing")
	for _, key := range []string{strings.Repeat("k", 256), `"` + strings.Repeat("k", 256) + `"`, "two words", "열쇠", `""`, `"open`, `"a"b`, strings.Repeat("k", 5000)} {
		b.refuses(fmt.Sprintf("the key %.20q", key), send(key), 400, "invalid_request")
	}
	b.refuses("two keys", send("one", "two"), 400, "invalid_request")
}

// media sends bodies of other types, and a small compressed one that would become large.
func (b *badInput) media(path, body string) {
	b.Helper()
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "application/problem+json", "nonsense"} {
		b.refuses("Content-Type "+kind, b.post(path, body, "Content-Type", kind), 415, "unsupported_media_type")
	}
	var bomb bytes.Buffer
	packer := gzip.NewWriter(&bomb)
	_, err := io.Copy(packer, io.LimitReader(zeros{}, 20<<20))
	if err != nil || packer.Close() != nil {
		b.Fatal(err)
	}
	if bomb.Len() > 60<<10 {
		b.Fatalf("the bomb has %d bytes", bomb.Len())
	}
	for _, encoding := range []string{"gzip", "deflate", "br", "gzip, gzip"} {
		b.refuses("Content-Encoding "+encoding, b.post(path, bomb.String(), "Content-Encoding", encoding), 415, "unsupported_media_type")
	}
	b.refuses("a bomb without its name", b.post(path, bomb.String()), 400, "invalid_request")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// queries asks for what is not there.
func (b *badInput) queries(account string) {
	b.Helper()
	for _, query := range []string{
		"limit=0", "limit=201", "limit=-1", "limit=x", "limit=1.5", "cursor=x", "cursor=" + strings.Repeat("A", 500), "cursor=%00", "state=gone",
		"kind=gift", "created_from=yesterday", "created_to=2026-13-01T00:00:00Z", "surprise=1", "limit=1&limit=2", "reference=" + strings.Repeat("r", 101),
	} {
		b.refuses(query, b.get("/v1/transfers?"+query), 400, "invalid_request")
		b.refuses(query, b.get("/v1/accounts/"+account+"/entries?"+query), 400, "invalid_request")
	}
	b.refuses("account", b.get("/v1/transfers?account="+mistyped(account)), 400, "invalid_request")
	for _, path := range []string{"/v1/accounts/" + mistyped(account), "/v1/accounts/x", "/v1/payees/" + mistyped(account), "/v1/accounts/%00/entries"} {
		b.refuses(path, b.get(path), 400, "invalid_request")
	}
	for path, code := range map[string]string{
		"/v1/transfers/x": "transfer_not_found", "/v1/transfers/" + strings.ToUpper(uuid.NewString()): "transfer_not_found",
		"/v1/holds/x": "hold_not_found", "/v1/nothing": "not_found", "/v1": "not_found", "/v1/accounts/": "not_found", "/V1/accounts": "not_found",
	} {
		b.refuses(path, b.get(path), 404, code)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, "BREW"} {
		b.refuses(method, b.call(method, "/v1/deposits", "{}"), 405, "method_not_allowed")
	}
	for _, body := range []string{`{}`, `{"status":"melted"}`, `{"owner":"somebody"}`, `{"balance":"1"}`, `{"label":"` + strings.Repeat("l", 101) + `"}`, ``} {
		b.refuses("PATCH "+body, b.call(http.MethodPatch, "/v1/accounts/"+account, body), 400, "invalid_request")
	}
	for _, body := range []string{`{}`, `{"currency":"XXX"}`, `{"currency":"CHF"}`, `{"currency":"KRW","label":"a\u0000b"}`, `{"currency":"KRW","balance":"1000"}`} {
		b.refuses("account "+body, b.post("/v1/accounts", body), 400, "invalid_request")
	}
}

// A body that is too large is refused with a problem every single time, whether it says its length or comes in pieces:
// an answer that is lost on the way would look like a fault of the system.
func TestLargeBodiesAreRefusedEveryTime(t *testing.T) {
	t.Parallel()
	s := shared(t)
	c := s.as(t, s.client)
	bad := newBadInput(t, c)
	number := c.account("KRW", "1000")
	const times = 30
	sizes := map[string]int{"65 KiB": 64<<10 + 1, "70 KB": 70_000, "1 MB": 1 << 20, "8 MB": 8 << 20}
	for name, size := range sizes {
		body := fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW","description":%q}`, number, strings.Repeat("x", size))
		for range times {
			for _, pieces := range []bool{false, true} {
				if pieces && size > 1<<20 {
					continue // a length that is not announced has to be read by the node: 8 MB of it are asked of the balancer only
				}
				bad.refuses(fmt.Sprintf("%s, pieces %t", name, pieces), c.large("/v1/withdrawals", body, pieces), 413, "payload_too_large")
			}
		}
	}
	if bad.refused != 7*times {
		t.Errorf("%d large bodies were sent, want %d", bad.refused, 7*times)
	}
	most := fmt.Sprintf(`{"account":%q,"amount":"1","currency":"KRW"}`, number)
	most += strings.Repeat(" ", 64<<10-len(most))
	for _, pieces := range []bool{false, true} {
		c.large("/v1/withdrawals", most, pieces).expect(t, http.StatusCreated, "")
	}
	if got := c.balance(number); got != "998 posted, 0 held, 998 available" {
		t.Errorf("after %d large bodies and two of 64 KiB the account has %s", bad.refused, got)
	}
}

// large sends a body with its length, or in pieces without.
func (c caller) large(path, body string, pieces bool) answer {
	c.Helper()
	var reader io.Reader = strings.NewReader(body)
	if pieces {
		reader = io.MultiReader(reader) // of which net/http does not know the length
	}
	request, err := http.NewRequest(http.MethodPost, c.base+path, reader)
	if err != nil {
		c.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", uuid.NewString())
	return c.site.send(request)
}
