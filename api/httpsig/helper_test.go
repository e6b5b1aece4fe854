package httpsig_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"lockstep/api/httpsig"
)

const (
	authority = "beta.example:8443"
	body      = `{"transfers":[{"amount":1250}]}`
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantError(t testing.TB, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// keyOf makes the same key for the same name each time.
func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func publicOf(name string) ed25519.PublicKey { return keyOf(name).Public().(ed25519.PublicKey) }

// nonces is a NonceStore in memory that keeps what it was asked.
type nonces struct {
	mu    sync.Mutex
	asked []string
	until time.Time
	fails error
}

func (n *nonces) Remember(_ context.Context, keyID, nonce string, until time.Time) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fails != nil {
		return false, n.fails
	}
	pair := keyID + " " + nonce
	fresh := !slices.Contains(n.asked, pair)
	n.asked, n.until = append(n.asked, pair), until
	return fresh, nil
}

// scene is a signer of alpha, a verifier of beta, and the time of both.
type scene struct {
	now      time.Time
	signer   httpsig.Signer
	answerer httpsig.Signer
	verifier httpsig.Verifier
	nonces   *nonces
}

func newScene() *scene {
	s := &scene{now: time.Unix(1_800_000_000, 0), nonces: &nonces{}}
	clock := func() time.Time { return s.now }
	s.signer = httpsig.Signer{KeyID: "alpha-1", Private: keyOf("alpha-1"), Clock: clock, Life: 30 * time.Second}
	s.answerer = httpsig.Signer{KeyID: "beta-1", Private: keyOf("beta-1"), Clock: clock, Life: 30 * time.Second}
	s.verifier = httpsig.Verifier{Keys: s.find, Clock: clock, Nonces: s.nonces, Authorities: []string{"Beta.Example:8443"}}
	return s
}

func (s *scene) find(keyID string) (httpsig.Key, bool) {
	peers := map[string]string{"alpha-1": "alpha", "alpha-2": "alpha", "beta-1": "beta"}
	return httpsig.Key{Public: publicOf(keyID), Peer: peers[keyID]}, peers[keyID] != ""
}

// post is a request as it would be signed, with a header of its own.
func post() httpsig.Request {
	return httpsig.Request{
		Method: "POST", Authority: authority, Path: "/peer/v1/transfers", RawQuery: "since=1&limit=2", Body: []byte(body),
		Header: http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {"5d0c6f4e"}},
	}
}

func get() httpsig.Request {
	return httpsig.Request{Method: "GET", Authority: authority, Path: "/peer/v1/transfers/alpha/1", Header: http.Header{}}
}

func answer() httpsig.Response {
	return httpsig.Response{
		Status: 200, Body: []byte(`{"results":[{"state":"reserved"}]}`),
		Header: http.Header{"Content-Type": {"application/json"}},
	}
}

// signed signs a request and says so.
func (s *scene) signed(t testing.TB, r httpsig.Request) httpsig.Request {
	t.Helper()
	must(t, s.signer.SignRequest(r))
	return r
}

func (s *scene) verify(t testing.TB, r httpsig.Request) (httpsig.Verified, error) {
	t.Helper()
	return s.verifier.VerifyRequest(t.Context(), r)
}

// answered is a request that was verified, and its signed answer.
func (s *scene) answered(t testing.TB, r httpsig.Request) (httpsig.Request, httpsig.Response) {
	t.Helper()
	verified, err := s.verify(t, s.signed(t, r))
	must(t, err)
	response := answer()
	must(t, s.answerer.SignResponse(verified, response))
	return r, response
}

// fresh is a verifier that has seen no request yet.
func (s *scene) fresh() httpsig.Verifier {
	verifier := s.verifier
	verifier.Nonces = &nonces{}
	return verifier
}

// with is the request with a header of its own in which one field is changed; without lines it is removed.
func with(r httpsig.Request, name string, lines ...string) httpsig.Request {
	r.Header = changed(r.Header, name, lines)
	return r
}

func changed(header httpsig.Header, name string, lines []string) http.Header {
	copied := header.(http.Header).Clone()
	delete(copied, name)
	if len(lines) > 0 {
		copied[name] = lines
	}
	return copied
}
