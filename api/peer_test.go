package api_test

import (
	"crypto/ed25519"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/api"
	"lockstep/api/httpsig"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
)

const preparePath = "/peer/v1/transfers"

// prepareOf is a request of beta for promises to an account, each of 1 KRW.
func prepareOf(payee string, ids ...string) string {
	var items []string
	for _, id := range ids {
		items = append(items, fmt.Sprintf(`{"id":%q,"payer":{"account":%q},"payee":{"account":%q},"amount":"1","currency":"KRW","expires_in_ms":20000}`,
			id, account("beta", 1000), payee))
	}
	return `{"epoch":1,"transfers":[` + strings.Join(items, ",") + `]}`
}

// moved tells whether a peer's request has reached the books.
func (p *peered) moved() bool {
	p.bank.mu.Lock()
	defer p.bank.mu.Unlock()
	for _, account := range p.bank.accounts {
		if account.PendingCredit != 0 {
			return true
		}
	}
	return len(p.bank.remitted) > 0 || len(p.bank.exposures) > 0 || len(p.bank.epochs) > 0
}

// What is not signed by a known peer for this very request is refused, unsigned, and counted; nothing moves.
func TestRequestsThatNoPeerHasSignedAreRefusedAndCounted(t *testing.T) {
	t.Parallel()
	stranger := func(_ *http.Request, s *httpsig.Signer) { _, s.Private = keysOf("stranger").Signer() }
	for name, c := range map[string]struct {
		before func(*http.Request, *httpsig.Signer)
		after  func(*http.Request)
		reason string
	}{
		"unsigned":           {nil, func(r *http.Request) { r.Header.Del("Signature"); r.Header.Del("Signature-Input") }, "unsigned"},
		"half signed":        {nil, func(r *http.Request) { r.Header.Del("Signature") }, "invalid"},
		"forged":             {stranger, nil, "invalid"},
		"unknown key":        {func(_ *http.Request, s *httpsig.Signer) { s.KeyID, s.Private = keysOf("stranger").Signer() }, nil, "unknown key"},
		"our own key":        {func(_ *http.Request, s *httpsig.Signer) { s.KeyID, s.Private = keysOf("alpha").Signer() }, nil, "unknown key"},
		"stale":              {func(_ *http.Request, s *httpsig.Signer) { s.Clock = earlier(time.Minute) }, nil, "stale"},
		"from to-morrow":     {func(_ *http.Request, s *httpsig.Signer) { s.Clock = earlier(-time.Minute) }, nil, "stale"},
		"another body":       {nil, func(r *http.Request) { setBody(r, strings.Replace(prepareOf("x"), "1", "2", 1)) }, "invalid"},
		"another path":       {nil, func(r *http.Request) { r.URL.Path = "/peer/v1/inquiries" }, "invalid"},
		"another query":      {nil, func(r *http.Request) { r.URL.RawQuery = "a=b" }, "invalid"},
		"another key":        {nil, func(r *http.Request) { r.Header.Set("Idempotency-Key", uuid.NewString()) }, "invalid"},
		"another type":       {nil, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, "invalid"},
		"another digest":     {nil, func(r *http.Request) { r.Header.Set("Content-Digest", "sha-256=:AAAA:") }, "invalid"},
		"for another system": {func(r *http.Request, _ *httpsig.Signer) { r.Host = "gamma.test" }, nil, "invalid"},
		"compressed":         {nil, func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, "invalid"},
	} {
		p := newPeered(t)
		var changes []func(*http.Request, *httpsig.Signer)
		if c.before != nil {
			changes = append(changes, c.before)
		}
		request, sent := p.signed(t, "beta", "POST", preparePath, prepareOf(p.open(t, "bob", ""), uuid.NewString()), changes...)
		if c.after != nil {
			c.after(request)
		}
		got := p.send(t, request)
		p.refused(t, name, got, sent, "signature_invalid", c.reason)
	}
}

func earlier(by time.Duration) func() time.Time {
	return func() time.Time { return time.Now().Add(-by) }
}

// refused checks a refusal before anybody is known to have asked.
func (p *peered) refused(t *testing.T, name string, got answer, sent httpsig.Request, code, reason string) {
	t.Helper()
	if got.status != 401 || got.field("code") != code || got.header.Get("Signature") != "" || believed(sent, got) == nil {
		t.Errorf("%s: got %v, %v", name, got, got.header)
	}
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for _, family := range families {
		if family.GetName() == "lockstep_peer_refused_total" {
			for _, series := range family.GetMetric() {
				counted[series.GetLabel()[0].GetValue()] += series.GetCounter().GetValue()
			}
		}
	}
	for was, count := range counted {
		if want := map[string]float64{reason: 1}[was]; count != want {
			t.Errorf("%s: %v refusals as %q were counted, not %v", name, count, was, want)
		}
	}
	if _, shown := counted[reason]; !shown {
		t.Errorf("%s: it was not counted as %q", name, reason)
	}
	if code != "signature_replayed" && p.moved() {
		t.Errorf("%s: it had an effect", name)
	}
}

// A request that comes a second time is refused even while its signature holds.
func TestASignedRequestIsTakenOnce(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	body := prepareOf(p.open(t, "bob", ""), uuid.NewString())
	request, sent := p.signed(t, "beta", "POST", preparePath, body)
	if got := p.send(t, request); believed(sent, got) != nil || got.field("results", "0", "state") != peers.Reserved {
		t.Fatalf("got %v", got)
	}
	setBody(request, body)
	p.refused(t, "replayed", p.send(t, request), sent, "signature_replayed", "replayed")
	if key := (ledger.ExposureKey{Peer: "beta", Currency: "KRW"}); p.bank.exposures[key].Reserved != 1 {
		t.Errorf("the exposure is %+v", p.bank.exposures[key])
	}
}

// An answer is of use for the request that it answers only, and as it was signed.
func TestAnswersAreBoundToTheirRequests(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	request, sent := p.signed(t, "beta", "POST", "/peer/v1/epoch", `{"epoch":5}`)
	got := p.send(t, request)
	if err := believed(sent, got); err != nil || got.field("epoch") != "3" || got.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %v, %v", got, err)
	}
	if _, other := p.signed(t, "beta", "POST", "/peer/v1/epoch", `{"epoch":5}`); believed(other, got) == nil {
		t.Error("the answer goes with another request")
	}
	altered := got
	altered.body = []byte(strings.Replace(string(got.body), "3", "4", 1))
	if believed(sent, altered) == nil {
		t.Error("an altered answer is believed")
	}
	altered = got
	altered.status = 201
	if believed(sent, altered) == nil {
		t.Error("the answer goes with another status")
	}
	if p.bank.epochs["beta"] != 5 {
		t.Errorf("the epochs are %v", p.bank.epochs)
	}
	if p.ask(t, "beta", "POST", "/peer/v1/epoch", `{"epoch":4}`); p.bank.epochs["beta"] != 5 {
		t.Errorf("an old epoch lowered it: %v", p.bank.epochs)
	}
}

// What a peer says badly is refused with its signature, so that it knows; nothing is decided about any transfer.
func TestBadRequestsOfPeersGetSignedProblems(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	payee := p.open(t, "bob", "")
	many := make([]string, peers.BatchMax+1)
	for i := range many {
		many[i] = fmt.Sprintf("%08x-0000-7000-8000-%012x", i, i)
	}
	inquiry := func(payer, id, unknown string) string {
		return fmt.Sprintf(`{"epoch":1,"payer":%q,"ids":[%q],"if_unknown":%q}`, payer, id, unknown)
	}
	short := strings.ReplaceAll(prepareOf("a", many...), account("beta", 1000), "b")
	for name, c := range map[string]struct {
		method, path, body string
		status             int
	}{
		"no JSON":             {"POST", preparePath, `{"epoch":1,`, 400},
		"another form":        {"POST", preparePath, `{"epoch":"one"}`, 400},
		"no transfers":        {"POST", preparePath, prepareOf(payee), 400},
		"too many transfers":  {"POST", preparePath, short, 400},
		"no ids":              {"POST", "/peer/v1/inquiries", `{"epoch":1,"payer":"beta","ids":[],"if_unknown":"report"}`, 400},
		"too many ids":        {"POST", "/peer/v1/inquiries", inquiry("beta", strings.Join(many, `","`), "report"), 400},
		"no UUID":             {"POST", "/peer/v1/inquiries", inquiry("beta", "A19A8C1E-6F0A-7C6E-8A33-0F5B1F0C9D2E", "close"), 400},
		"neither nor":         {"POST", "/peer/v1/inquiries", inquiry("beta", many[0], "delete"), 400},
		"a foreign payer":     {"POST", "/peer/v1/inquiries", inquiry("gamma", many[0], "close"), 403},
		"an unknown transfer": {"GET", "/peer/v1/transfers/beta/" + many[0], "", 404},
		"a foreign transfer":  {"GET", "/peer/v1/transfers/gamma/" + many[0], "", 404},
		"no transfer's id":    {"GET", "/peer/v1/transfers/beta/x", "", 404},
		"an unknown payee":    {"GET", "/peer/v1/payees/" + account("alpha", 9999), "", 404},
		"a payee elsewhere":   {"GET", "/peer/v1/payees/" + account("gamma", 1000), "", 404},
		"no number":           {"GET", "/peer/v1/payees/x", "", 400},
	} {
		body := c.body
		if name == "too many ids" {
			body = strings.ReplaceAll(body, `\"`, `"`)
		}
		if got := p.ask(t, "beta", c.method, c.path, body); got.status != c.status || got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %v, want %d", name, got, c.status)
		}
	}
	if p.moved() {
		t.Error("one of them had an effect")
	}
	// Its length is known before it is known who asks.
	request, sent := p.signed(t, "beta", "POST", preparePath, strings.Repeat(" ", api.BodyBytesMax+1))
	if got := p.send(t, request); got.status != 413 || believed(sent, got) == nil {
		t.Errorf("got %v", got)
	}
}

// One bad transfer among 256 is refused alone; the others are promised.
func TestAPoisonousPrepareHarmsNoOther(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	payee, ids := p.open(t, "bob", ""), make([]string, peers.BatchMax)
	for i := range ids {
		ids[i] = uuid.NewString()
	}
	for name, poison := range map[string]string{
		`"amount":"1"`:        `"amount":"1e9"`,
		`"currency":"KRW"`:    `"currency":"WON"`,
		payee:                 account("gamma", 1000),
		account("beta", 1000): account("gamma", 1000), // another peer's account
	} {
		item := prepareOf(payee, ids[7])
		item = item[strings.Index(item, "[")+1 : strings.LastIndex(item, "]")]
		bad := strings.Replace(item, name, poison, 1)
		got := p.ask(t, "beta", "POST", preparePath, strings.Replace(prepareOf(payee, ids...), item, bad, 1))
		for i, id := range ids {
			state, want := got.field("results", fmt.Sprint(i), "state"), peers.Reserved
			if i == 7 {
				want = peers.Refused
			}
			if got.status != 200 || state != want || got.field("results", fmt.Sprint(i), "id") != id {
				t.Fatalf("%s: item %d is %s: %.300v", poison, i, state, got)
			}
		}
	}
	if key := (ledger.ExposureKey{Peer: "beta", Currency: "KRW"}); p.bank.exposures[key].Reserved != peers.BatchMax-1 {
		t.Errorf("the exposure is %+v", p.bank.exposures[key])
	}
}

// A verified signature says which peer speaks; that peer touches its own transfers only.
func TestAPeerTouchesItsOwnTransfersOnly(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	payee, id := p.open(t, "bob", ""), uuid.NewString()
	if got := p.ask(t, "gamma", "POST", preparePath, prepareOf(payee, id)); got.field("results", "0", "state") != peers.Refused || p.moved() {
		t.Errorf("gamma spoke for beta's account: %v", got)
	}
	from := p.open(t, "alice", "100")
	paid := p.post(t, "alice", "/v1/transfers", fmt.Sprintf(`{"from":%q,"to":%q,"amount":"10","currency":"KRW"}`, from, account("gamma", 1000))).expect(t, 201, "").field("id")
	if got := p.ask(t, "gamma", "GET", preparePath+"/alpha/"+paid, ""); got.field("results", "0", "state") != peers.Committed || got.field("results", "0", "statement") == "" {
		t.Errorf("gamma is told %v of its own", got)
	}
	if got := p.ask(t, "beta", "GET", preparePath+"/alpha/"+paid, ""); got.status != 404 {
		t.Errorf("beta is told %v of gamma's", got)
	}
	for _, unknown := range []string{"report", "close"} {
		got := p.ask(t, "beta", "POST", "/peer/v1/inquiries", fmt.Sprintf(`{"epoch":1,"payer":"alpha","ids":[%q],"if_unknown":%q}`, paid, unknown))
		if got.field("results", "0", "state") != peers.Unknown || strings.Contains(string(got.body), "statement") {
			t.Errorf("beta is told %v of gamma's", got)
		}
	}
	if p.bank.remitted[ledger.TransferID(paid)].State != ledger.Posted {
		t.Error("beta changed gamma's transfer")
	}
	if got := p.ask(t, "gamma", "GET", preparePath+"?payer=alpha", "").expect(t, 200, ""); got.field("transfers", "0", "id") != paid {
		t.Errorf("gamma's list is %v", got)
	}
	if got := p.ask(t, "beta", "GET", preparePath+"?payer=alpha", "").expect(t, 200, ""); got.field("transfers", "0", "id") != "" {
		t.Errorf("beta's list is %v", got)
	}
	p.ask(t, "beta", "GET", preparePath+"?payer=gamma", "").expect(t, 403, "forbidden")
	p.ask(t, "beta", "POST", preparePath, prepareOf(payee, id)).expect(t, 200, "")
	closed := p.ask(t, "gamma", "POST", "/peer/v1/inquiries", fmt.Sprintf(`{"epoch":1,"payer":"gamma","ids":[%q],"if_unknown":"close"}`, id))
	if closed.field("results", "0", "state") != peers.Unknown || p.bank.remitted[ledger.TransferID(id)].State != ledger.Pending {
		t.Errorf("gamma closed beta's transfer: %v", closed)
	}
}

// A peer's signature is good for nothing but the routes of peers, whatever routes there will be.
func TestASignatureOpensNoOtherRoute(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	tried := 0
	for _, r := range api.RouteFacts() {
		if r.Scope == "" {
			continue
		}
		body := ""
		if r.Method == http.MethodPost || r.Method == http.MethodPatch {
			body = "{}"
		}
		path := strings.ReplaceAll(sample(r.Path), "{payer}", "beta")
		request, _ := p.signed(t, "beta", r.Method, path, body, func(request *http.Request, _ *httpsig.Signer) {
			request.Header.Set("Content-Type", "application/json")
		})
		if got := p.send(t, request); got.status != 401 && got.status != 303 { // or leads a browser to sign in
			t.Errorf("%s %s with a peer's signature: got %v", r.Method, r.Path, got)
		}
		tried++
	}
	if tried < 30 {
		t.Errorf("only %d routes were tried", tried)
	}
}

// An id that was closed is never promised later.
func TestAClosedIDStaysClosed(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	payee, id := p.open(t, "bob", ""), uuid.NewString()
	closing := fmt.Sprintf(`{"epoch":1,"payer":"beta","ids":[%q],"if_unknown":"close"}`, id)
	if got := p.ask(t, "beta", "POST", "/peer/v1/inquiries", strings.Replace(closing, "close", "report", 1)); got.field("results", "0", "state") != peers.Unknown {
		t.Errorf("got %v", got)
	}
	if got := p.ask(t, "beta", "POST", "/peer/v1/inquiries", closing); got.field("results", "0", "state") != peers.Aborted {
		t.Errorf("got %v", got)
	}
	got := p.ask(t, "beta", "POST", preparePath, prepareOf(payee, id))
	if got.field("results", "0", "state") != peers.Refused || got.field("results", "0", "code") != "transfer_aborted" {
		t.Errorf("got %v", got)
	}
}

// Payers see whom they pay with the name masked, and the keys that they should have pinned.
func TestPeersLearnPayeesAndKeys(t *testing.T) {
	t.Parallel()
	p := newPeered(t)
	payee := p.open(t, "bob", "")
	if got := p.ask(t, "beta", "GET", "/peer/v1/payees/"+payee, ""); got.field("name") != "A***e" || got.field("currency") != "KRW" || got.field("number") != payee {
		t.Errorf("got %v", got)
	}
	set := p.do(t, "GET", "/peer/v1/jwks.json", "").expect(t, 200, "")
	keys, err := httpsig.ParseJWKS(set.body)
	if err != nil || len(keys) != 1 || !keys[0].Public.Equal(publicOf("alpha")) {
		t.Errorf("got %v, %v", set, err)
	}
	alone := newEdge(t)
	for _, path := range []string{"/peer/v1/jwks.json", "/peer/v1/payees/" + payee} {
		alone.do(t, "GET", path, "").expect(t, 404, "not_found")
	}
	alone.get(t, "operator", "/v1/admin/sagas").expect(t, 404, "not_found")
}

func publicOf(system string) ed25519.PublicKey {
	_, private := keysOf(system).Signer()
	return private.Public().(ed25519.PublicKey)
}
