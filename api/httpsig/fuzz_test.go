package httpsig_test

import (
	"net/http"
	"strings"
	"testing"

	"lockstep/api/httpsig"
)

// Whatever arrives, nothing but the one request that was signed is accepted, and nothing brings the verifier down.
func FuzzVerifyRequest(f *testing.F) {
	s := newScene()
	s.signer.Nonce = func() string { return "n-1" }
	signed := s.signed(f, post())
	value := func(name string) string { return signed.Header.Values(name)[0] }
	input, signature, digest := value("Signature-Input"), value("Signature"), value("Content-Digest")
	add := func(input, signature string) {
		f.Add(signed.Method, signed.Authority, signed.Path, signed.RawQuery, input, signature, digest,
			value("Content-Type"), value("Idempotency-Key"), body)
	}
	add(input, signature)
	add("a=(), "+input, "a=:AQID:, "+signature)
	add(strings.ToUpper(input), signature)
	add(`lockstep=("signature";req;key="lockstep" "x";bs "@query-param";name="é");created=@1;expires=1.5;nonce=tok`+tag, "lockstep=::")
	add(`a;b;c=?0, lockstep=(1 -2.0 ?1 %"%c3%a9" @5)`, `lockstep="\\"`)
	add("-", ":")
	f.Fuzz(func(t *testing.T, method, authority, path, query, input, signature, digest, contentType, key, body string) {
		request := httpsig.Request{
			Method: method, Authority: authority, Path: path, RawQuery: query, Body: []byte(body),
			Header: http.Header{
				"Signature-Input": {input}, "Signature": {signature}, "Content-Digest": {digest},
				"Content-Type": {contentType}, "Idempotency-Key": {key},
			},
		}
		_, err := s.fresh().VerifyRequest(t.Context(), request)
		if err != nil && !refused(err) {
			t.Fatalf("%+v: refused as %v", request, err)
		}
		if err == nil && !meansTheSame(request, signed) {
			t.Errorf("%+v is accepted, and %+v was signed", request, signed)
		}
	})
}

// meansTheSame tells whether a reader finds in one request what was signed with the other.
func meansTheSame(a, b httpsig.Request) bool {
	for _, name := range []string{"Content-Digest", "Content-Type", "Idempotency-Key"} {
		if strings.Trim(a.Header.Values(name)[0], " \t\r\n") != b.Header.Values(name)[0] {
			return false
		}
	}
	return a.Method == b.Method && strings.EqualFold(a.Authority, b.Authority) && a.Path == b.Path && a.RawQuery == b.RawQuery &&
		string(a.Body) == string(b.Body)
}

// Whatever the list of components, its base has a line for each and one for the list: no value can add a line.
func FuzzBase(f *testing.F) {
	f.Add(`("@method" "x-more";key="a");created=1`, "a=1, b=(c d)", "/a")
	f.Add(`("x-more")`, "a\n\"@method\": GET", "/\n")
	f.Add(`("x-more" "x-more";req)`, " a\r\n b", "")
	f.Fuzz(func(t *testing.T, covered, value, path string) {
		request := get()
		request.Path, request.Header = path, http.Header{"X-More": {value, value}}
		for _, response := range []*httpsig.Response{nil, {Status: 200, Header: request.Header}} {
			base, err := httpsig.Base(request, response, covered)
			if err != nil {
				continue
			}
			lines := strings.Split(base, "\n")
			last, ok := strings.CutPrefix(lines[len(lines)-1], `"@signature-params": (`)
			if !ok {
				t.Fatalf("%q has the base %q", covered, base)
			}
			for _, line := range lines[:len(lines)-1] {
				name, _, _ := strings.Cut(line, ": ")
				rest, ok := strings.CutPrefix(last, name)
				if last = strings.TrimPrefix(rest, " "); !ok {
					t.Fatalf("%q has the base %q", covered, base)
				}
			}
			if !strings.HasPrefix(last, ")") {
				t.Fatalf("%q has the base %q", covered, base)
			}
		}
	})
}
