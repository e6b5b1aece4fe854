package api_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/api"
)

// Whatever is wrong with a request, it is refused with its own code and nothing moves.
func TestBadInputIsRefusedAndMovesNothing(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "1000")
	wrong := account[:len(account)-1] + string('0'+(account[len(account)-1]-'0'+1)%10)
	withdrawal := func(fields string) string { return fmt.Sprintf(`{"account":%q,"currency":"KRW",%s}`, account, fields) }
	for name, c := range map[string]struct {
		body string
		code string
	}{
		"malformed":            {`{"account":`, "invalid_request"},
		"empty":                {``, "invalid_request"},
		"array":                {`[]`, "invalid_request"},
		"text":                 {`"x"`, "invalid_request"},
		"null":                 {`null`, "invalid_request"},
		"unknown field":        {withdrawal(`"amount":"10","fee":"1"`), "invalid_request"},
		"field in capitals":    {withdrawal(`"AMOUNT":"10"`), "invalid_request"},
		"folded field":         {withdrawal(`"amount":"10","de\u017Fcription":"x"`), "invalid_request"},
		"twice":                {withdrawal(`"amount":"10","amount":"20"`), "invalid_request"},
		"twice by escape":      {withdrawal(`"amount":"10","amoun\u0074":"20"`), "invalid_request"},
		"trailing":             {withdrawal(`"amount":"10"`) + `{}`, "invalid_request"},
		"trailing text":        {withdrawal(`"amount":"10"`) + `x`, "invalid_request"},
		"null field":           {withdrawal(`"amount":"10","description":null`), "invalid_request"},
		"not UTF-8":            {withdrawal("\"amount\":\"10\",\"description\":\"\xff\""), "invalid_request"},
		"wrong type":           {withdrawal(`"amount":"10","description":7`), "invalid_request"},
		"object for a text":    {withdrawal(`"amount":"10","reference":{}`), "invalid_request"},
		"deep":                 {strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), "invalid_request"},
		"deep arrays":          {`{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}", "invalid_request"},
		"number":               {withdrawal(`"amount":10`), "invalid_amount"},
		"float":                {withdrawal(`"amount":10.5`), "invalid_amount"},
		"no amount":            {fmt.Sprintf(`{"account":%q,"currency":"KRW"}`, account), "invalid_amount"},
		"zero":                 {withdrawal(`"amount":"0"`), "invalid_amount"},
		"negative":             {withdrawal(`"amount":"-10"`), "invalid_amount"},
		"plus":                 {withdrawal(`"amount":"+10"`), "invalid_amount"},
		"exponent":             {withdrawal(`"amount":"1e3"`), "invalid_amount"},
		"blank":                {withdrawal(`"amount":" 10"`), "invalid_amount"},
		"decimals":             {withdrawal(`"amount":"10.5"`), "invalid_amount"},
		"leading zero":         {withdrawal(`"amount":"010"`), "invalid_amount"},
		"other digits":         {withdrawal(`"amount":"１０"`), "invalid_amount"},
		"overflow":             {withdrawal(`"amount":"1000000000000001"`), "invalid_amount"},
		"overflow of int64":    {withdrawal(`"amount":"99999999999999999999999"`), "invalid_amount"},
		"check digits":         {fmt.Sprintf(`{"account":%q,"amount":"10","currency":"KRW"}`, wrong), "invalid_request"},
		"no number":            {`{"account":"x","amount":"10","currency":"KRW"}`, "invalid_request"},
		"cash":                 {`{"account":"cash","amount":"10","currency":"KRW"}`, "invalid_request"},
		"no currency":          {fmt.Sprintf(`{"account":%q,"amount":"10"}`, account), "invalid_request"},
		"currency in smalls":   {fmt.Sprintf(`{"account":%q,"amount":"10","currency":"krw"}`, account), "invalid_request"},
		"long description":     {withdrawal(`"amount":"10","description":"` + strings.Repeat("가", 201) + `"`), "invalid_request"},
		"long reference":       {withdrawal(`"amount":"10","reference":"` + strings.Repeat("x", 101) + `"`), "invalid_request"},
		"control characters":   {withdrawal(`"amount":"10","description":"a\u0000b"`), "invalid_request"},
		"a line break in text": {withdrawal(`"amount":"10","description":"a\nb"`), "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			got := e.post(t, "alice", "/v1/withdrawals", c.body).expect(t, 400, c.code)
			if got.field("outcome") != "not_applied" {
				t.Errorf("got %v", got)
			}
		})
	}
	if got := e.get(t, "alice", "/v1/accounts/"+account).field("balance", "posted"); got != "1000" {
		t.Errorf("after all refusals the balance is %s", got)
	}
	longest := withdrawal(`"amount":"10","description":"` + strings.Repeat("가", 200) + `","reference":"` + strings.Repeat("x", 100) + `"`)
	e.post(t, "alice", "/v1/withdrawals", longest).expect(t, 201, "")
}

func TestBodyMustBePlainJSON(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "")
	body := fmt.Sprintf(`{"account":%q,"amount":"10","currency":"KRW"}`, account)
	send := func(body string, headers ...string) answer {
		return e.do(t, "POST", "/v1/deposits", body, append([]string{"Authorization", "Bearer alice", "Idempotency-Key", uuid.NewString()}, headers...)...)
	}
	send(body).expect(t, 415, "unsupported_media_type")
	send(body, "Content-Type", "text/plain").expect(t, 415, "unsupported_media_type")
	send(body, "Content-Type", "application/json; charset=latin1").expect(t, 415, "unsupported_media_type")
	send(body, "Content-Type", "multipart/form-data; boundary=x").expect(t, 415, "unsupported_media_type")
	send(body, "Content-Type", "application/json", "Content-Encoding", "gzip").expect(t, 415, "unsupported_media_type")
	var bomb bytes.Buffer
	packer := gzip.NewWriter(&bomb)
	if _, err := io.Copy(packer, strings.NewReader(strings.Repeat(" ", 10<<20))); err != nil {
		t.Fatal(err)
	}
	if err := packer.Close(); err != nil {
		t.Fatal(err)
	}
	send(bomb.String(), "Content-Type", "application/json", "Content-Encoding", "gzip").expect(t, 415, "unsupported_media_type")
	send(body, "Content-Type", "Application/JSON; charset=UTF-8", "Content-Encoding", "identity").expect(t, 201, "")
}

// A large body is answered after it was read, whether its length is said or not, and the connection goes on.
func TestLargeBodiesAreRefusedOnALiveConnection(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for _, size := range []int{api.BodyBytesMax + 1, 70 << 10, 1 << 20, 8 << 20} {
		for _, chunked := range []bool{false, true} {
			var body io.Reader = strings.NewReader(strings.Repeat("x", size))
			if chunked {
				body = io.MultiReader(body) // hides the length
			}
			got, err := e.try("POST", "/v1/deposits", body, as("alice", uuid.NewString())...)
			if err != nil {
				t.Fatalf("%d bytes, chunked %t: %v", size, chunked, err)
			}
			got.expect(t, 413, "payload_too_large")
			if got.header.Get("Connection") == "close" {
				t.Errorf("%d bytes, chunked %t: the connection was closed", size, chunked)
			}
		}
	}
	if got, err := e.try("POST", "/v1/deposits", strings.NewReader(strings.Repeat("x", 1<<20)), as("alice", "k", "Expect", "100-continue")...); err != nil || got.status != 413 {
		t.Errorf("after Expect: 100-continue: %v, %v", got, err)
	}
	exact := `{"account":"x"` + strings.Repeat(" ", api.BodyBytesMax-15) + `}`
	e.post(t, "alice", "/v1/deposits", exact).expect(t, 400, "invalid_request")
}

// What is behind a body that nobody wanted must not be taken for a request: it is the classic way to smuggle one.
func TestUnreadBodyIsNoRequest(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	smuggled := "POST /v1/accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nIdempotency-Key: s\r\nContent-Type: application/json\r\nContent-Length: 18\r\n\r\n{\"currency\":\"KRW\"}"
	padding := strings.Repeat("x", api.BodyBytesMax) + smuggled
	for _, start := range []string{"GET /livez", "POST /nowhere", "POST /v1/deposits", "FOO /livez", "DELETE /livez"} {
		for _, request := range []string{
			fmt.Sprintf("%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", start, len(padding), padding),
			fmt.Sprintf("%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", start, len(padding), padding),
			fmt.Sprintf("%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", start, len(smuggled), smuggled),
		} {
			answers := e.raw(t, request+"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			if n := strings.Count(answers, "HTTP/1.1 "); n > 2 {
				t.Errorf("%s: %d answers to two requests", start, n)
			}
		}
	}
	if got := e.get(t, "alice", "/v1/accounts"); got.field("accounts") != "[]" {
		t.Errorf("an account was smuggled in: %v", got)
	}
}

// What is no HTTP that can be read is told so, in the form of all problems, and the connection ends.
func TestUnreadableRequestsAreProblems(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	for name, request := range map[string]string{
		"garbage":         "\x16\x03\x01\r\n\r\n",
		"broken chunks":   "POST /v1/deposits HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"no end":          "POST /v1/deposits HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
		"negative length": "POST /v1/deposits HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
	} {
		answers := e.raw(t, request)
		if !strings.HasPrefix(answers, "HTTP/1.1 400 ") || !strings.Contains(answers, `"code":"invalid_request"`) || strings.Count(answers, "HTTP/1.1 ") != 1 {
			t.Errorf("%s: got %.600s", name, answers)
		}
	}
}

// raw sends bytes and reads until the server closes.
func (e *edge) raw(tb testing.TB, text string) string {
	tb.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(e.base, "http://"))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		tb.Fatal(err)
	}
	answers, err := io.ReadAll(conn)
	if err != nil {
		tb.Fatal(err)
	}
	return string(answers)
}

func TestKeysThatCannotBeUsedAreRefused(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "")
	body := fmt.Sprintf(`{"account":%q,"amount":"10","currency":"KRW"}`, account)
	e.do(t, "POST", "/v1/deposits", body, as("alice", "")...).expect(t, 400, "idempotency_key_missing")
	for _, key := range []string{strings.Repeat("k", 256), `""`, `"open`, `"a"b`, "with blank", `"with blank"`, "ключ", `"\x"`} {
		got := e.do(t, "POST", "/v1/deposits", body, as("alice", key)...).expect(t, 400, "invalid_request")
		if !strings.Contains(got.field("detail"), "visible") {
			t.Errorf("key %q: got %v", key, got)
		}
	}
	e.do(t, "POST", "/v1/deposits", body, as("alice", "a", "Idempotency-Key", "b")...).expect(t, 400, "invalid_request")
	e.do(t, "POST", "/v1/deposits", body, as("alice", strings.Repeat("k", 255))...).expect(t, 201, "")
}

func TestQueriesAreChecked(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	account := e.open(t, "alice", "10")
	for _, query := range []string{
		"limit=0", "limit=201", "limit=x", "limit=1&limit=2", "state=odd", "kind=gift", "created_from=today", "created_to=2026-13-01T00:00:00Z",
		"acount=" + account, "account=x", "cursor=zzz", "cursor=" + api.Cursor("accounts", "1000"), "cursor=" + api.Cursor("transfers", "x"),
		"reference=" + strings.Repeat("r", 101), "reference=%FF",
	} {
		e.get(t, "alice", "/v1/transfers?"+query).expect(t, 400, "invalid_request")
	}
	for _, cursor := range []string{api.Cursor("transfers", "1"), api.Cursor("entries of "+account, "0"), api.Cursor("entries of "+account, "-1")} {
		e.get(t, "alice", "/v1/accounts/"+account+"/entries?cursor="+cursor).expect(t, 400, "invalid_request")
	}
	e.get(t, "alice", "/v1/accounts?owner=%ED%95%9C").expect(t, 400, "invalid_request")
	e.get(t, "alice", "/v1/accounts?owner=client:bob").expect(t, 403, "forbidden")
	e.get(t, "alice", "/v1/accounts/nonsense").expect(t, 400, "invalid_request")
}
