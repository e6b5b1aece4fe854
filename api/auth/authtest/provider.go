// Package authtest is an OpenID provider for tests, which tells the truth until it is told to lie.
package authtest

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// What the provider knows this system by.
const (
	ClientID     = "lockstep"
	ClientSecret = "the secret of a client in a test"
	KeyID        = "one"
)

// Lies are what the provider does otherwise than it should. The zero value is the truth.
type Lies struct {
	Metadata map[string]any                                 // put into the discovery document
	Claims   map[string]any                                 // put into the ID token; nil takes a claim away
	Sign     func(p *Provider, claims jwt.MapClaims) string // instead of RS256 by the published key
	UserInfo map[string]any                                 // put into the answer of the userinfo endpoint
	Answer   map[string]string                              // put into what comes back to the callback
	Token    map[string]any                                 // put into the answer of the token endpoint
	Reuse    bool                                           // a code is good for ever
	NoPKCE   bool                                           // whatever the verifier is
	Status   map[string]int                                 // by path: answers this status and nothing else
}

// Provider is a provider with one person, who has signed in there and agrees to everything.
type Provider struct {
	Issuer string
	Key    *rsa.PrivateKey

	server *httptest.Server

	mu    sync.Mutex
	lies  Lies
	sub   string
	codes map[string]url.Values // what was asked for
	used  int                   // how many codes were exchanged
}

// New starts a provider. It ends with the test.
func New(tb testing.TB) *Provider {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	p := &Provider{Key: key, sub: "person-1", codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", p.metadata)
	mux.HandleFunc("GET /keys", p.keys)
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", p.userInfo)
	p.server = httptest.NewServer(p.lying(mux))
	p.Issuer = p.server.URL
	tb.Cleanup(p.server.Close)
	return p
}

// Lie makes the provider lie from now on.
func (p *Provider) Lie(lies Lies) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lies = lies
}

// SignIn changes the person.
func (p *Provider) SignIn(subject string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sub = subject
}

// Exchanged tells how many codes were taken.
func (p *Provider) Exchanged() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}

// Close takes the provider away.
func (p *Provider) Close() {
	p.server.CloseClientConnections()
	p.server.Close()
}

// Visit is what a browser does at the provider: it goes where it is sent, and comes back with the query of the callback.
func (p *Provider) Visit(tb testing.TB, address string) url.Values {
	tb.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, address, nil)
	if err != nil {
		tb.Fatal(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		tb.Fatal(err)
	}
	answer.Body.Close()
	back, err := url.Parse(answer.Header.Get("Location"))
	if err != nil || answer.StatusCode != http.StatusSeeOther {
		tb.Fatalf("the provider answered %d %v", answer.StatusCode, err)
	}
	return back.Query()
}

func (p *Provider) truth() Lies {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lies
}

func (p *Provider) lying(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status := p.truth().Status[r.URL.Path]; status != 0 {
			http.Error(w, "out of order", status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, value, lies map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(put(value, lies))
}

// put changes some members; nil takes one away.
func put(value, lies map[string]any) map[string]any {
	maps.Copy(value, lies)
	maps.DeleteFunc(value, func(_ string, v any) bool { return v == nil })
	return value
}

func (p *Provider) metadata(w http.ResponseWriter, _ *http.Request) {
	answer(w, 200, map[string]any{
		"issuer": p.Issuer, "authorization_endpoint": p.Issuer + "/authorize", "token_endpoint": p.Issuer + "/token",
		"userinfo_endpoint": p.Issuer + "/userinfo", "jwks_uri": p.Issuer + "/keys",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported":          []string{"RS256", "HS256", "none"},
		"code_challenge_methods_supported":               []string{"S256"},
		"authorization_response_iss_parameter_supported": true,
	}, p.truth().Metadata)
}

func (p *Provider) keys(w http.ResponseWriter, _ *http.Request) {
	answer(w, 200, map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "kid": KeyID, "use": "sig", "alg": "RS256",
		"n": base64.RawURLEncoding.EncodeToString(p.Key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(p.Key.E)).Bytes()),
	}}}, nil)
}

// PublicPEM is what those take for the key of an HMAC who mix it up with a public key.
func (p *Provider) PublicPEM() []byte {
	der, err := x509.MarshalPKIXPublicKey(&p.Key.PublicKey)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	asked, code := r.URL.Query(), rand.Text()
	p.mu.Lock()
	p.codes[code] = asked
	p.mu.Unlock()
	back := url.Values{"code": {code}, "state": {asked.Get("state")}, "iss": {p.Issuer}}
	for name, value := range p.truth().Answer {
		back.Set(name, value)
		if value == "" {
			back.Del(name)
		}
	}
	http.Redirect(w, r, asked.Get("redirect_uri")+"?"+back.Encode(), http.StatusSeeOther)
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	refuse := func(why string) {
		answer(w, 400, map[string]any{"error": "invalid_grant", "error_description": why}, nil)
	}
	lies := p.truth()
	id, secret, _ := r.BasicAuth()
	secret, _ = url.QueryUnescape(secret)
	p.mu.Lock()
	asked, known := p.codes[r.FormValue("code")]
	if !lies.Reuse {
		delete(p.codes, r.FormValue("code"))
	}
	subject := p.sub
	p.mu.Unlock()
	challenge := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	switch {
	case id != ClientID || secret != ClientSecret:
		refuse("client")
	case !known:
		refuse("code")
	case r.FormValue("redirect_uri") != asked.Get("redirect_uri"):
		refuse("redirect_uri")
	case !lies.NoPKCE && asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(challenge[:]):
		refuse("code_verifier")
	default:
		p.mu.Lock()
		p.used++
		p.mu.Unlock()
		access := rand.Text()
		answer(w, 200, map[string]any{
			"access_token": access, "token_type": "Bearer", "expires_in": 300, "id_token": p.sign(lies, p.claims(lies, asked, subject, access)),
		}, lies.Token)
	}
}

func (p *Provider) claims(lies Lies, asked url.Values, subject, access string) jwt.MapClaims {
	hash, now := sha256.Sum256([]byte(access)), time.Now()
	return put(jwt.MapClaims{
		"iss": p.Issuer, "aud": ClientID, "sub": subject, "nonce": asked.Get("nonce"), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"at_hash": base64.RawURLEncoding.EncodeToString(hash[:16]),
	}, lies.Claims)
}

func (p *Provider) sign(lies Lies, claims jwt.MapClaims) string {
	if lies.Sign != nil {
		return lies.Sign(p, claims)
	}
	return Sign(jwt.SigningMethodRS256, p.Key, claims)
}

// Sign makes a token under the name of the provider's key.
func Sign(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	token := jwt.NewWithClaims(method, claims)
	token.Header["kid"] = KeyID
	text, err := token.SignedString(key)
	if err != nil {
		panic(err)
	}
	return text
}

func (p *Provider) userInfo(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") == "" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	p.mu.Lock()
	subject, lies := p.sub, p.lies
	p.mu.Unlock()
	answer(w, 200, map[string]any{
		"sub": subject, "name": "Kim Minji", "email": "minji@example.com", "email_verified": true, "picture": p.Issuer + "/minji.png",
	}, lies.UserInfo)
}
