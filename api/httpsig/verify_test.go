package httpsig_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/api/httpsig"
)

// What is signed is accepted, and tells who spoke and until when the nonce counts.
func TestASignedRequestTellsWhoSpeaks(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]httpsig.Request{"post": post(), "get": get()} {
		s := newScene()
		s.signer.Nonce = func() string { return "n-1" }
		verified, err := s.verify(t, s.signed(t, request))
		must(t, err)
		if verified.Peer != "alpha" || verified.KeyID != "alpha-1" || verified.Nonce != "n-1" ||
			!verified.Created.Equal(s.now) || !verified.Expires.Equal(s.now.Add(30*time.Second)) {
			t.Errorf("%s: verified as %+v", name, verified)
		}
		if !slices.Equal(s.nonces.asked, []string{"alpha-1 n-1"}) || !s.nonces.until.Equal(s.now.Add(40*time.Second)) {
			t.Errorf("%s: remembered %q until %v", name, s.nonces.asked, s.nonces.until)
		}
	}
}

// Each line is what section 7 of the profile demands, no more.
func TestASignatureCoversWhatTheProfileDemands(t *testing.T) {
	t.Parallel()
	s := newScene()
	s.signer.Nonce = func() string { return "n-1" }
	request, response := s.answered(t, post())
	const tail = `;created=1800000000;expires=1800000030;nonce="n-1";keyid="alpha-1";tag="lockstep-peer-v1"`
	want := `lockstep=("@method" "@authority" "@path" "@query" "content-digest" "content-type" "idempotency-key")` + tail
	if got := request.Header.Values("Signature-Input")[0]; got != want {
		t.Errorf("a POST has %s", got)
	}
	if got := s.signed(t, get()).Header.Values("Signature-Input")[0]; got != `lockstep=("@method" "@authority" "@path" "@query")`+tail {
		t.Errorf("a GET has %s", got)
	}
	want = `lockstep=("@status" "signature";req;key="lockstep" "content-digest" "content-type")` +
		`;created=1800000000;expires=1800000030;keyid="beta-1";tag="lockstep-peer-v1"`
	if got := response.Header.Values("Signature-Input")[0]; got != want {
		t.Errorf("an answer has %s", got)
	}
}

// flips are ways to damage a text in one place; each differs from the text.
func flips(text string) []string {
	var out []string
	for i := range len(text) {
		for _, mask := range []byte{0x01, 0x02, 0x10, 0x20, 0x80} {
			out = append(out, text[:i]+string([]byte{text[i] ^ mask})+text[i+1:])
		}
		out = append(out, text[:i]+text[i+1:], text[:i]+" "+text[i:], text[:i]+text[i:i+1]+text[i:])
	}
	return out
}

// same tells texts between which a receiver makes no difference: white space around a field, the case of a host.
func same(field, a, b string) bool {
	if field == "authority" {
		return strings.EqualFold(a, b)
	}
	return a == b || http.CanonicalHeaderKey(field) == field && strings.Trim(a, " \t") == strings.Trim(b, " \t")
}

// damaged is every request that differs from this one in one byte of one part.
func damaged(r httpsig.Request, try func(part string, r httpsig.Request)) {
	for part, field := range map[string]func(*httpsig.Request) *string{
		"method":    func(r *httpsig.Request) *string { return &r.Method },
		"authority": func(r *httpsig.Request) *string { return &r.Authority },
		"path":      func(r *httpsig.Request) *string { return &r.Path },
		"query":     func(r *httpsig.Request) *string { return &r.RawQuery },
	} {
		for _, flip := range flips(*field(&r)) {
			other := r
			*field(&other) = flip
			if !same(part, flip, *field(&r)) {
				try(part, other)
			}
		}
	}
	for _, flip := range flips(string(r.Body)) {
		other := r
		other.Body = []byte(flip)
		try("body", other)
	}
	for name, lines := range r.Header.(http.Header) {
		for _, flip := range flips(lines[0]) {
			if !same(name, flip, lines[0]) {
				try(name, with(r, name, flip))
			}
		}
	}
}

func refused(err error) bool {
	for _, known := range []error{httpsig.ErrInvalid, httpsig.ErrUnsigned, httpsig.ErrStale, httpsig.ErrUnknownKey} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// Whatever byte of a signed request changes, it is refused.
func TestEveryByteOfARequestCounts(t *testing.T) {
	t.Parallel()
	s := newScene()
	request, verifier, tried := s.signed(t, post()), s.fresh(), 0
	verifier.Authorities = append(verifier.Authorities, flips(authority)...) // so that only the signature tells them apart
	damaged(request, func(part string, r httpsig.Request) {
		tried++
		if _, err := verifier.VerifyRequest(t.Context(), r); !refused(err) {
			t.Errorf("%s: %+v: got %v", part, r, err)
		}
	})
	if _, err := verifier.VerifyRequest(t.Context(), request); err != nil || tried < 2000 {
		t.Errorf("after %d damaged ones the request itself: %v", tried, err)
	}
}

// Whatever byte of a signed answer changes, or of the signature that it answers, it is refused.
func TestEveryByteOfAnAnswerCounts(t *testing.T) {
	t.Parallel()
	s := newScene()
	request, response := s.answered(t, post())
	try := func(part string, r httpsig.Request, a httpsig.Response) {
		if _, err := s.verifier.VerifyResponse(r, a); !refused(err) {
			t.Errorf("%s: %+v: got %v", part, a, err)
		}
	}
	for status := 100; status < 1000; status++ {
		if other := response; status != response.Status {
			other.Status = status
			try("status", request, other)
		}
	}
	for _, flip := range flips(string(response.Body)) {
		other := response
		other.Body = []byte(flip)
		try("body", request, other)
	}
	for name, lines := range response.Header.(http.Header) {
		for _, flip := range flips(lines[0]) {
			if other := response; !same(name, flip, lines[0]) {
				other.Header = changed(response.Header, name, []string{flip})
				try(name, request, other)
			}
		}
	}
	verified, err := s.verifier.VerifyResponse(request, response)
	must(t, err)
	if verified.Peer != "beta" || verified.KeyID != "beta-1" {
		t.Errorf("the answer is verified as %+v", verified)
	}
}

// An answer is of use for its own request only, even to the same peer with the same contents.
func TestAnAnswerToAnotherRequestIsRefused(t *testing.T) {
	t.Parallel()
	s := newScene()
	first, response := s.answered(t, post())
	second := s.signed(t, post())
	_, err := s.verifier.VerifyResponse(second, response)
	wantError(t, "the answer to another request", err, httpsig.ErrInvalid)
	_, err = s.verifier.VerifyResponse(first, response)
	must(t, err)
	if _, err = s.verifier.VerifyResponse(post(), response); err == nil || errors.Is(err, httpsig.ErrUnsigned) {
		t.Errorf("an answer to a request that was never signed: %v", err)
	}
	if err := s.answerer.SignResponse(httpsig.Verified{}, answer()); err == nil {
		t.Error("an answer to nothing was signed")
	}
}

// A request is no answer and an answer no request, although both carry signatures of the same key.
func TestRequestsAndAnswersAreNotExchanged(t *testing.T) {
	t.Parallel()
	s := newScene()
	request, response := s.answered(t, post())
	asAnswer := httpsig.Response{Status: 200, Header: request.Header, Body: request.Body}
	_, err := s.verifier.VerifyResponse(request, asAnswer)
	wantError(t, "a request as an answer", err, httpsig.ErrInvalid)
	asRequest := request
	asRequest.Header, asRequest.Body = changed(response.Header, "Idempotency-Key", []string{"5d0c6f4e"}), response.Body
	_, err = s.verify(t, asRequest)
	wantError(t, "an answer as a request", err, httpsig.ErrInvalid)
}

// A nonce counts once, and only a request that holds uses it up.
func TestARequestCountsOnce(t *testing.T) {
	t.Parallel()
	s := newScene()
	request := s.signed(t, post())
	broken := request
	broken.Body = []byte("{}")
	_, err := s.verify(t, broken)
	wantError(t, "another body", err, httpsig.ErrInvalid)
	if len(s.nonces.asked) != 0 {
		t.Errorf("a request that does not hold used up %q", s.nonces.asked)
	}
	_, err = s.verify(t, request)
	must(t, err)
	_, err = s.verify(t, request)
	wantError(t, "the same request again", err, httpsig.ErrReplayed)
	_, err = s.verify(t, s.signed(t, post()))
	must(t, err)

	s.nonces.fails = errors.New("the database is away")
	_, err = s.verify(t, s.signed(t, post()))
	wantError(t, "without the store", err, s.nonces.fails)
	if refused(err) || errors.Is(err, httpsig.ErrReplayed) {
		t.Errorf("the store's trouble is told as a refusal: %v", err)
	}
}

// The window is created - 5 s to expires + 5 s, both ends included.
func TestARequestHoldsInItsWindowOnly(t *testing.T) {
	t.Parallel()
	for at, want := range map[time.Duration]error{
		-5*time.Second - 1: httpsig.ErrStale, -5 * time.Second: nil, 0: nil, 30 * time.Second: nil,
		35 * time.Second: nil, 35*time.Second + 1: httpsig.ErrStale, 24 * time.Hour: httpsig.ErrStale, -24 * time.Hour: httpsig.ErrStale,
	} {
		s := newScene()
		request, response := s.answered(t, post())
		s.now = s.now.Add(at)
		_, err := s.fresh().VerifyRequest(t.Context(), request)
		wantError(t, fmt.Sprintf("a request at %s", at), err, want)
		_, err = s.verifier.VerifyResponse(request, response)
		wantError(t, fmt.Sprintf("an answer at %s", at), err, want)
	}
}

// While a peer changes its key both count, afterwards only the new one; a key counts under its own id alone.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	s := newScene()
	old, young := s.signed(t, post()), post()
	s.signer.KeyID, s.signer.Private = "alpha-2", keyOf("alpha-2")
	s.signed(t, young)
	for _, request := range []httpsig.Request{old, young} {
		verified, err := s.fresh().VerifyRequest(t.Context(), request)
		must(t, err)
		if verified.Peer != "alpha" {
			t.Errorf("verified as %+v", verified)
		}
	}
	both := s.verifier.Keys
	s.verifier.Keys = func(keyID string) (httpsig.Key, bool) {
		key, ok := both(keyID)
		return key, ok && keyID != "alpha-1"
	}
	_, err := s.verify(t, old)
	wantError(t, "the withdrawn key", err, httpsig.ErrUnknownKey)
	_, err = s.verify(t, young)
	must(t, err)

	s.signer.KeyID = "beta-1"
	_, err = s.verify(t, s.signed(t, post()))
	wantError(t, "another's key id", err, httpsig.ErrInvalid)
	s.verifier.Keys = func(string) (httpsig.Key, bool) { return httpsig.Key{Public: []byte("short")}, true }
	_, err = s.verify(t, young)
	wantError(t, "a key that is none", err, httpsig.ErrUnknownKey)
}

// What was signed for one system cannot be carried to another.
func TestARequestForAnotherSystemIsRefused(t *testing.T) {
	t.Parallel()
	s := newScene()
	request := post()
	request.Authority = "gamma.example"
	_, err := s.verify(t, s.signed(t, request))
	wantError(t, "a request for gamma", err, httpsig.ErrInvalid)
	if len(s.nonces.asked) != 0 {
		t.Errorf("it used up %q", s.nonces.asked)
	}
}

func TestAVerifierWithoutItsPartsVerifiesNothing(t *testing.T) {
	t.Parallel()
	for name, strip := range map[string]func(*httpsig.Verifier){
		"no nonces":      func(v *httpsig.Verifier) { v.Nonces = nil },
		"no authorities": func(v *httpsig.Verifier) { v.Authorities = nil },
	} {
		s := newScene()
		strip(&s.verifier)
		if _, err := s.verify(t, s.signed(t, post())); err == nil || refused(err) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
