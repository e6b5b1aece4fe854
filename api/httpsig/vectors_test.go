package httpsig_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"lockstep/api/httpsig"
)

// rfcRequest is the test-request of RFC 9421, B.2.
func rfcRequest() httpsig.Request {
	return httpsig.Request{
		Method: "POST", Authority: "example.com", Path: "/foo", RawQuery: "param=Value&Pet=dog",
		Header: http.Header{
			"Date": {"Tue, 20 Apr 2021 02:07:55 GMT"}, "Content-Type": {"application/json"}, "Content-Length": {"18"},
			"Content-Digest": {"sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"},
		},
		Body: []byte(`{"hello": "world"}`),
	}
}

// rfcKey is test-key-ed25519 of RFC 9421, B.1.4.
func rfcKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	seed, err := base64.RawURLEncoding.DecodeString("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU")
	must(t, err)
	key := ed25519.NewKeyFromSeed(seed)
	if x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey)); x != "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs" {
		t.Fatalf("the public key is %s", x)
	}
	return key
}

// RFC 9421, B.2.6: the base, the signature that we make, and the one that the RFC shows.
func TestTheEd25519ExampleOfTheRFC(t *testing.T) {
	t.Parallel()
	covered := `("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"`
	base, err := httpsig.Base(rfcRequest(), nil, covered)
	must(t, err)
	want := strings.Join([]string{
		`"date": Tue, 20 Apr 2021 02:07:55 GMT`, `"@method": POST`, `"@path": /foo`, `"@authority": example.com`,
		`"content-type": application/json`, `"content-length": 18`, `"@signature-params": ` + covered,
	}, "\n")
	if base != want {
		t.Errorf("the base is\n%s\nand not\n%s", base, want)
	}
	const shown = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
	key := rfcKey(t)
	if made := base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(base))); made != shown {
		t.Errorf("we sign %s", made)
	}
	signature, err := base64.StdEncoding.DecodeString(shown)
	must(t, err)
	if !ed25519.Verify(key.Public().(ed25519.PublicKey), []byte(base), signature) {
		t.Error("the RFC's signature is refused")
	}
}

// Values of components as RFC 9421, sections 2.1 and 2.2, gives them.
func TestComponentsHaveTheirCanonicalValue(t *testing.T) {
	t.Parallel()
	request := rfcRequest()
	request.Authority = "WWW.Example.com:8080"
	request.Header = http.Header{
		"X-Ows-Header":      {"  Leading and trailing whitespace.  "},
		"X-Obs-Fold-Header": {"Obsolete\r\n    line folding."},
		"Cache-Control":     {"max-age=60", "   must-revalidate"},
		"X-Empty-Header":    {""},
		"Example-Dict":      {" a=1,    b=2;x=1;y=2,   c=(a   b   c), d"},
		"Signature":         {"sig1=:AQID:"},
	}
	response := &httpsig.Response{Status: 503, Header: http.Header{"Content-Type": {"text/plain"}}}
	for covered, want := range map[string]string{
		`"@method"`:                  "POST",
		`"@authority"`:               "www.example.com:8080",
		`"@path"`:                    "/foo",
		`"@query"`:                   "?param=Value&Pet=dog",
		`"@request-target"`:          "/foo?param=Value&Pet=dog",
		`"x-ows-header"`:             "Leading and trailing whitespace.",
		`"x-obs-fold-header"`:        "Obsolete line folding.",
		`"cache-control"`:            "max-age=60, must-revalidate",
		`"x-empty-header"`:           "",
		`"example-dict"`:             "a=1,    b=2;x=1;y=2,   c=(a   b   c), d",
		`"example-dict";key="a"`:     "1",
		`"example-dict";key="b"`:     "2;x=1;y=2",
		`"example-dict";key="c"`:     "(a b c)",
		`"example-dict";key="d"`:     "?1",
		`"@status"`:                  "503",
		`"content-type"`:             "text/plain",
		`"@method";req`:              "POST",
		`"signature";req;key="sig1"`: ":AQID:",
		`"signature";key="sig1";req`: ":AQID:",
		`"example-dict";req;key="a"`: "1",
		`"x-ows-header";req`:         "Leading and trailing whitespace.",
	} {
		answer := response
		if !strings.Contains(covered, "req") && covered != `"@status"` && covered != `"content-type"` || covered == `"@request-target"` {
			answer = nil
		}
		base, err := httpsig.Base(request, answer, "("+covered+")")
		if err != nil {
			t.Errorf("%s: %v", covered, err)
			continue
		}
		if got := strings.Split(base, "\n")[0]; got != covered+": "+want {
			t.Errorf("got %s, want %s: %s", got, covered, want)
		}
	}
	request.Path, request.RawQuery = "", ""
	base, err := httpsig.Base(request, nil, `("@path" "@query" "@request-target")`)
	must(t, err)
	if !strings.HasPrefix(base, "\"@path\": /\n\"@query\": ?\n\"@request-target\": /\n") {
		t.Errorf("without path and query the base is %s", base)
	}
}

// RFC 9530, section 3 and appendix B.1: digests of two bodies.
func TestTheDigestsOfTheRFC(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"hello": "world"}`:        "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:",
		`{"hello": "world"}` + "\n": "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:",
	} {
		request := post()
		request.Body = []byte(text)
		newScene().signed(t, request)
		if got := request.Header.Values("Content-Digest"); len(got) != 1 || got[0] != want {
			t.Errorf("the digest of %q is %q", text, got)
		}
	}
}
