package httpsig_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"lockstep/api/httpsig"
)

const (
	requestParts = `"@method" "@authority" "@path" "@query" "content-digest" "content-type" "idempotency-key"`
	answerParts  = `"@status" "signature";req;key="lockstep" "content-digest" "content-type"`
	window       = `;created=1800000000;expires=1800000030`
	nonce        = `;nonce="n-1"`
	alpha        = `;keyid="alpha-1"`
	beta         = `;keyid="beta-1"`
	tag          = `;tag="lockstep-peer-v1"`
)

// sign signs a base in the name of a key, as another implementation would, whatever it covers.
func sign(t testing.TB, key, base string) string {
	t.Helper()
	return ":" + base64.StdEncoding.EncodeToString(ed25519.Sign(keyOf(key), []byte(base))) + ":"
}

// crafted is a request with a true signature over any list of components. What has no base that we can build is signed
// over something else: it is refused for its form, before anybody looks at the signature.
func crafted(t testing.TB, r httpsig.Request, covered string) httpsig.Request {
	t.Helper()
	base, err := httpsig.Base(r, nil, covered)
	if err != nil {
		base = "no base"
	}
	r = with(r, "Signature-Input", "sig="+covered)
	return with(r, "Signature", "sig="+sign(t, "alpha-1", base))
}

// digested is a POST whose digest is there already.
func digested(t testing.TB) httpsig.Request {
	t.Helper()
	r := newScene().signed(t, post())
	return with(with(r, "Signature-Input"), "Signature")
}

// Another order, other labels and more than the profile demands are fine.
func TestMoreThanTheProfileIsAccepted(t *testing.T) {
	t.Parallel()
	for name, covered := range map[string]string{
		"as we do it":     "(" + requestParts + ")" + window + nonce + alpha + tag,
		"parts reversed":  `("idempotency-key" "content-type" "content-digest" "@query" "@path" "@authority" "@method")` + window + nonce + alpha + tag,
		"params reversed": "(" + requestParts + ")" + tag + alpha + nonce + window,
		"an algorithm":    "(" + requestParts + ")" + window + nonce + alpha + `;alg="ed25519"` + tag,
		"more parts":      "(" + requestParts + ` "@request-target" "x-more" "x-more";key="a")` + window + nonce + alpha + tag,
		"the longest":     "(" + requestParts + ");created=1800000000;expires=1800000060" + `;nonce="` + strings.Repeat("n", 64) + `"` + alpha + tag,
	} {
		request := with(digested(t), "X-More", "a=1", "b=2")
		if _, err := newScene().verify(t, crafted(t, request, covered)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Every one of these is signed by the right key and breaks one rule.
func TestLessThanTheProfileIsRefused(t *testing.T) {
	t.Parallel()
	const tail = window + nonce + alpha + tag
	cases := map[string]error{
		"()" + tail: httpsig.ErrInvalid,
		// parts
		"(" + strings.Replace(requestParts, `"content-digest"`, `"content-digest";key="sha-256"`, 1) + ")" + tail: httpsig.ErrInvalid,
		"(" + strings.Replace(requestParts, `"content-type"`, `"Content-Type"`, 1) + ")" + tail:                   httpsig.ErrInvalid,
		"(" + strings.Replace(requestParts, `"content-type"`, `content-type`, 1) + ")" + tail:                     httpsig.ErrInvalid,
		"(" + strings.Replace(requestParts, `"content-type"`, `"content-type";key=""`, 1) + ")" + tail:            httpsig.ErrInvalid,
		// parameters
		"(" + requestParts + ");expires=30" + nonce + alpha + tag:                                       httpsig.ErrInvalid,
		"(" + requestParts + ");created=-30" + nonce + alpha + tag:                                      httpsig.ErrInvalid,
		"(" + requestParts + ")" + nonce + alpha + tag:                                                  httpsig.ErrInvalid,
		"(" + requestParts + ");created=1800000000" + nonce + alpha + tag:                               httpsig.ErrInvalid,
		"(" + requestParts + ");expires=1800000030" + nonce + alpha + tag:                               httpsig.ErrInvalid,
		"(" + requestParts + ");created=1800000000;expires=1800000061" + nonce + alpha + tag:            httpsig.ErrInvalid,
		"(" + requestParts + ");created=1800000000;expires=1800000000" + nonce + alpha + tag:            httpsig.ErrInvalid,
		"(" + requestParts + ");created=1800000000;expires=1799999999" + nonce + alpha + tag:            httpsig.ErrInvalid,
		"(" + requestParts + ");created=-999999999999999;expires=999999999999999" + nonce + alpha + tag: httpsig.ErrInvalid,
		"(" + requestParts + `);created="1800000000";expires=1800000030` + nonce + alpha + tag:          httpsig.ErrInvalid,
		"(" + requestParts + ");created=1800000000.0;expires=1800000030" + nonce + alpha + tag:          httpsig.ErrInvalid,
		"(" + requestParts + ");created=@1800000000;expires=@1800000030" + nonce + alpha + tag:          httpsig.ErrInvalid,
		"(" + requestParts + ");created=1799999000;expires=1799999030" + nonce + alpha + tag:            httpsig.ErrStale,
		"(" + requestParts + ");created=1800001000;expires=1800001030" + nonce + alpha + tag:            httpsig.ErrStale,
		"(" + requestParts + ")" + window + alpha + tag:                                                 httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + `;nonce=""` + alpha + tag:                                   httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + `;nonce=1` + alpha + tag:                                    httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + `;nonce` + alpha + tag:                                      httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + `;nonce="` + strings.Repeat("n", 65) + `"` + alpha + tag:    httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + nonce + tag:                                                 httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + nonce + `;keyid=""` + tag:                                   httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + nonce + `;keyid="` + strings.Repeat("k", 65) + `"` + tag:    httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + nonce + `;keyid="nobody"` + tag:                             httpsig.ErrUnknownKey,
		"(" + requestParts + ")" + window + nonce + `;keyid="beta-1"` + tag:                             httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + nonce + alpha + `;alg="hmac-sha256"` + tag:                  httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + nonce + alpha + `;alg=ed25519` + tag:                        httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + nonce + alpha + `;context="x"` + tag:                        httpsig.ErrInvalid,
		"(" + requestParts + ")" + window + nonce + alpha:                                               httpsig.ErrUnsigned,
		"(" + requestParts + ")" + window + nonce + alpha + `;tag="lockstep-peer-v2"`:                   httpsig.ErrUnsigned,
		"(" + requestParts + ")" + window + nonce + alpha + `;tag=lockstep-peer-v1`:                     httpsig.ErrUnsigned,
		`"` + "text" + `"` + tail: httpsig.ErrInvalid,
	}
	for _, part := range strings.Fields(requestParts) {
		cases["("+strings.Join(strings.Fields(strings.Replace(requestParts, part, "", 1)), " ")+")"+tail] = httpsig.ErrInvalid
		cases["("+strings.Replace(requestParts, part, part+";req", 1)+")"+tail] = httpsig.ErrInvalid
		cases["("+requestParts+" "+part+")"+tail] = httpsig.ErrInvalid // twice
	}
	for _, more := range []string{
		`"@scheme"`, `"@target-uri"`, `"@query-param";name="limit"`, `"@status"`, `"@signature-params"`, `"@"`, `""`, `"x-absent"`,
		`"content-type";sf`, `"content-type";bs`, `"content-type";tr`, `"content-type";key="a"`, `"content-digest";key="sha-512"`,
		`"content-type";req`, `"Content-Type"`, `"content-digest";key=""`, `"content-digest";key=sha-256`, `"content-type";req=?0`, `"@method";key="a"`, `"a b"`, `1`,
	} {
		cases["("+requestParts+" "+more+")"+tail] = httpsig.ErrInvalid
	}
	for covered, want := range cases {
		_, err := newScene().verify(t, crafted(t, digested(t), covered))
		wantError(t, covered, err, want)
	}
}

// The fields of a message, where the signature is true for what they say and they say it in a way that two readers may
// understand differently.
func TestAmbiguousFieldsAreRefused(t *testing.T) {
	t.Parallel()
	covered := "(" + requestParts + ")" + window + nonce + alpha + tag
	for name, request := range map[string]httpsig.Request{
		"two content types":     with(digested(t), "Content-Type", "application/json", "text/plain"),
		"twice the same":        with(digested(t), "Content-Type", "application/json", "application/json"),
		"two idempotency keys":  with(digested(t), "Idempotency-Key", "5d0c6f4e", "5d0c6f4f"),
		"two digests":           with(digested(t), "Content-Digest", digested(t).Header.Values("Content-Digest")[0], "sha-512=:AAAA:"),
		"an empty content type": with(digested(t), "Content-Type", " "),
		"a folded content type": with(digested(t), "Content-Type", "application/json;\r\n charset=utf-8"),
		"an encoded body":       with(digested(t), "Content-Encoding", "gzip"),
		"a digest of no use":    with(digested(t), "Content-Digest", strings.Replace(digested(t).Header.Values("Content-Digest")[0], "256", "512", 1)),
		"a digest as a text":    with(digested(t), "Content-Digest", `sha-256="X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE="`),
		"no dictionary":         with(digested(t), "Content-Digest", "?"),
	} {
		_, err := newScene().verify(t, crafted(t, request, covered))
		wantError(t, name, err, httpsig.ErrInvalid)
	}
}

// Another algorithm may stand beside sha-256, which is the one that is read.
func TestTheDigestIsFoundAmongOthers(t *testing.T) {
	t.Parallel()
	covered := "(" + requestParts + ")" + window + nonce + alpha + tag
	request := digested(t)
	request = with(request, "Content-Digest", "sha-512=:AAAA:, "+request.Header.Values("Content-Digest")[0])
	_, err := newScene().verify(t, crafted(t, request, covered))
	must(t, err)
	request.Body = []byte("{}")
	_, err = newScene().verify(t, crafted(t, request, covered))
	wantError(t, "another body", err, httpsig.ErrInvalid)
}

// A line end in a value could make one component read as two.
func TestAValueCannotBecomeAComponent(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"a\n\"@method\": GET", "a\r\"@method\": GET", "a\x00b", "é", "a\x7f", "a\r\nb"} {
		if base, err := httpsig.Base(with(get(), "X-More", value), nil, `("x-more")`); err == nil {
			t.Errorf("%q has the base %q", value, base)
		}
	}
	for name, change := range map[string]func(*httpsig.Request){
		"method":              func(r *httpsig.Request) { r.Method = "GET\n" },
		"no method":           func(r *httpsig.Request) { r.Method = "" },
		"authority":           func(r *httpsig.Request) { r.Authority = "bücher.example" },
		"no authority":        func(r *httpsig.Request) { r.Authority = "" },
		"path":                func(r *httpsig.Request) { r.Path = "/a\n" },
		"path with query":     func(r *httpsig.Request) { r.Path = "/a?b" },
		"path of a whole url": func(r *httpsig.Request) { r.Path = "http://beta.example/a" },
		"query":               func(r *httpsig.Request) { r.RawQuery = "a\n" },
	} {
		request := get()
		change(&request)
		if err := newScene().signer.SignRequest(request); err == nil {
			t.Errorf("a request with a bad %s was signed", name)
		}
	}
}

// The two fields of signatures, their members and their lines.
func TestOneSignatureUnderOurTagCounts(t *testing.T) {
	t.Parallel()
	ours := newScene().signed(t, post())
	input, signature := ours.Header.Values("Signature-Input")[0], ours.Header.Values("Signature")[0]
	bytes := strings.TrimPrefix(signature, "lockstep=")
	theirs := `theirs=("@method");created=1;keyid="proxy";tag="other"`
	second := strings.Replace(input, "lockstep=", "second=", 1)
	for name, c := range map[string]struct {
		inputs, signatures []string
		want               error
	}{
		"ours":                         {[]string{input}, []string{signature}, nil},
		"with another's":               {[]string{theirs + ", " + input}, []string{"theirs=:AQID:, " + signature}, nil},
		"with another's, on two lines": {[]string{input, theirs}, []string{"theirs=:AQID:", signature}, nil},
		"another's only":               {[]string{theirs}, []string{"theirs=:AQID:"}, httpsig.ErrUnsigned},
		"nothing":                      {nil, nil, httpsig.ErrUnsigned},
		"empty":                        {[]string{""}, []string{""}, httpsig.ErrUnsigned},
		"no input":                     {nil, []string{signature}, httpsig.ErrUnsigned},
		"no signature":                 {[]string{input}, nil, httpsig.ErrInvalid},
		"another label":                {[]string{input}, []string{"second=" + bytes}, httpsig.ErrInvalid},
		"two of ours":                  {[]string{input + ", " + second}, []string{signature + ", second=" + bytes}, httpsig.ErrInvalid},
		"one of two has no signature":  {[]string{input, second}, []string{signature}, httpsig.ErrInvalid},
		"a label twice":                {[]string{theirs, strings.Replace(theirs, "theirs", "lockstep", 1), input}, []string{signature}, httpsig.ErrInvalid},
		"twice on two lines":           {[]string{input, input}, []string{signature}, httpsig.ErrInvalid},
		"a signature twice":            {[]string{input}, []string{"lockstep=:AQID:, " + signature}, httpsig.ErrInvalid},
		"a parameter twice":            {[]string{input + tag}, []string{signature}, httpsig.ErrInvalid},
		"a signature with parameters":  {[]string{input}, []string{signature + ";a=1"}, httpsig.ErrInvalid},
		"a signature as a text":        {[]string{input}, []string{`lockstep="` + strings.Trim(bytes, ":") + `"`}, httpsig.ErrInvalid},
		"a signature as a list":        {[]string{input}, []string{"lockstep=(" + bytes + ")"}, httpsig.ErrInvalid},
		"a short signature":            {[]string{input}, []string{"lockstep=:AQID:"}, httpsig.ErrInvalid},
		"no list":                      {[]string{`lockstep="x"` + tag}, []string{signature}, httpsig.ErrInvalid},
		"no dictionary":                {[]string{"(" + input}, []string{signature}, httpsig.ErrInvalid},
		"other white space":            {[]string{strings.Replace(input, ";", "; ", 1)}, []string{signature}, httpsig.ErrInvalid},
		"too long":                     {[]string{input, `x=("` + strings.Repeat("a", 8<<10) + `")`}, []string{signature}, httpsig.ErrInvalid},
	} {
		request := with(with(ours, "Signature-Input", c.inputs...), "Signature", c.signatures...)
		_, err := newScene().verify(t, request)
		wantError(t, name, err, c.want)
	}
}

// A coding changes what the body means, so it is signed when the sender put it there.
func TestAContentEncodingIsCovered(t *testing.T) {
	t.Parallel()
	s := newScene()
	plain := s.signed(t, post())
	_, err := s.verify(t, with(plain, "Content-Encoding", "gzip"))
	wantError(t, "a coding that somebody added", err, httpsig.ErrInvalid)
	coded := s.signed(t, with(post(), "Content-Encoding", "gzip"))
	_, err = s.verify(t, with(coded, "Content-Encoding"))
	wantError(t, "a coding that somebody removed", err, httpsig.ErrInvalid)
	_, err = s.verify(t, coded)
	must(t, err)
}

// Answers of the right key over less than the profile demands.
func TestAnAnswerIsBoundToItsRequest(t *testing.T) {
	t.Parallel()
	cases := map[string]error{
		answerParts: nil,
		`"content-type" "content-digest" "signature";key="lockstep";req "@status"`:           nil,
		answerParts + ` "@method";req "@path";req "signature";req "idempotency-key";req`:     nil,
		strings.Replace(answerParts, `;req;key="lockstep"`, ";req", 1):                       httpsig.ErrInvalid,
		strings.Replace(answerParts, `;req;key="lockstep"`, `;req;key="other"`, 1):           httpsig.ErrInvalid,
		strings.Replace(answerParts, ` "signature";req;key="lockstep"`, ` "@method";req`, 1): httpsig.ErrInvalid,
		answerParts + ` "@method";req=?0`:                                                    httpsig.ErrInvalid,
		answerParts + ` "@method";req=1`:                                                     httpsig.ErrInvalid,
		answerParts + ` "@method"`:                                                           httpsig.ErrInvalid,
		answerParts + ` "@status";req`:                                                       httpsig.ErrInvalid,
		answerParts + ` "signature";key="lockstep";req`:                                      httpsig.ErrInvalid, // twice, in another order
	}
	for _, part := range strings.Fields(answerParts) {
		cases[strings.TrimSpace(strings.Replace(strings.Replace(answerParts, part, "", 1), "  ", " ", 1))] = httpsig.ErrInvalid
	}
	for parts, want := range cases {
		s := newScene()
		request, response := s.answered(t, post())
		covered := "(" + parts + ")" + window + beta + tag
		base, err := httpsig.Base(request, &response, covered)
		if err != nil && want == nil {
			t.Error(err)
		}
		header := changed(response.Header, "Signature-Input", []string{"answer=" + covered})
		response.Header = changed(header, "Signature", []string{"answer=" + sign(t, "beta-1", base)})
		_, err = s.verifier.VerifyResponse(request, response)
		wantError(t, parts, err, want)
	}
}

// An answer without a body is bound and digested all the same.
func TestAnAnswerWithoutABody(t *testing.T) {
	t.Parallel()
	s := newScene()
	verified, err := s.verify(t, s.signed(t, get()))
	must(t, err)
	request, response := get(), httpsig.Response{Status: 204, Header: http.Header{}}
	must(t, s.answerer.SignResponse(verified, response))
	request.Header = http.Header{"Signature-Input": {"x"}}
	if _, err = s.verifier.VerifyResponse(request, response); err == nil {
		t.Error("accepted for a request whose signature is not known")
	}
	signed := s.signed(t, get())
	verified, err = s.verify(t, signed)
	must(t, err)
	must(t, s.answerer.SignResponse(verified, response))
	_, err = s.verifier.VerifyResponse(signed, response)
	must(t, err)
	response.Body = []byte("x")
	_, err = s.verifier.VerifyResponse(signed, response)
	wantError(t, "with a body that somebody added", err, httpsig.ErrInvalid)
}

// What nobody could verify is not signed.
func TestWhatCannotHoldIsNotSigned(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*httpsig.Signer, *httpsig.Request){
		"no key id":        func(s *httpsig.Signer, _ *httpsig.Request) { s.KeyID = "" },
		"long key id":      func(s *httpsig.Signer, _ *httpsig.Request) { s.KeyID = strings.Repeat("k", 65) },
		"key id not ASCII": func(s *httpsig.Signer, _ *httpsig.Request) { s.KeyID = "älpha" },
		"no key":           func(s *httpsig.Signer, _ *httpsig.Request) { s.Private = nil },
		"no life":          func(s *httpsig.Signer, _ *httpsig.Request) { s.Life = 0 },
		"long life":        func(s *httpsig.Signer, _ *httpsig.Request) { s.Life = 61 * time.Second },
		"half a second":    func(s *httpsig.Signer, _ *httpsig.Request) { s.Life = 1500 * time.Millisecond },
		"long nonce": func(s *httpsig.Signer, _ *httpsig.Request) {
			s.Nonce = func() string { return strings.Repeat("n", 65) }
		},
		"no nonce":           func(s *httpsig.Signer, _ *httpsig.Request) { s.Nonce = func() string { return "" } },
		"no idempotency key": func(_ *httpsig.Signer, r *httpsig.Request) { *r = with(*r, "Idempotency-Key") },
		"no content type":    func(_ *httpsig.Signer, r *httpsig.Request) { *r = with(*r, "Content-Type") },
		"two content types":  func(_ *httpsig.Signer, r *httpsig.Request) { *r = with(*r, "Content-Type", "a/b", "c/d") },
	} {
		signer, request := newScene().signer, post()
		change(&signer, &request)
		if err := signer.SignRequest(request); err == nil {
			t.Errorf("%s: signed as %v", name, request.Header)
		}
	}
	s := newScene()
	verified, err := s.verify(t, s.signed(t, post()))
	must(t, err)
	for _, status := range []int{0, 99, 1000} {
		response := answer()
		response.Status = status
		if err := s.answerer.SignResponse(verified, response); err == nil {
			t.Errorf("an answer with status %d was signed", status)
		}
	}
}
