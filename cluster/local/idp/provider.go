package idp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Bounds of what the provider keeps, and for how long.
const (
	keptMax         = 1000 // of each kind
	interactionLife = 10 * time.Minute
	codeLife        = time.Minute
	tokenLife       = 5 * time.Minute
	formBytesMax    = 4096
	keyBits         = 2048
)

// Provider is an OpenID provider (OpenID Connect Core 1.0: the code flow, with PKCE) for the people of its configuration.
type Provider struct {
	config Config
	key    *rsa.PrivateKey
	kid    string
	mux    *http.ServeMux
	pages  map[string]string

	mu           sync.Mutex
	interactions map[string]*visit // by what is in the address and in the browser's cookie
	codes        map[string]*visit
	tokens       map[string]*visit
}

// visit is somebody on the way through.
type visit struct {
	client Client
	asked  url.Values
	user   *User // nil: not signed in yet
	ends   time.Time
}

// New makes a provider with a key of its own.
func New(config Config) (*Provider, error) {
	key, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return nil, fmt.Errorf("make the provider's key: %w", err)
	}
	p := &Provider{
		config: config, key: key, kid: rand.Text(), mux: http.NewServeMux(), pages: map[string]string{},
		interactions: map[string]*visit{}, codes: map[string]*visit{}, tokens: map[string]*visit{},
	}
	for _, name := range []string{"login.html", "consent.html", "style.css"} {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read the provider's pages: %w", err)
		}
		p.pages[name] = string(text)
	}
	p.mux.HandleFunc("GET /.well-known/openid-configuration", p.metadata)
	p.mux.HandleFunc("GET /jwks", p.keys)
	p.mux.HandleFunc("GET /auth", p.authorize)
	p.mux.HandleFunc("GET /interaction/{id}", p.show)
	p.mux.HandleFunc("POST /interaction/{id}/{action}", p.act)
	p.mux.HandleFunc("POST /token", p.token)
	p.mux.HandleFunc("GET /me", p.userInfo)
	return p, nil
}

func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, formBytesMax)
	w.Header().Set("Cache-Control", "no-store")
	p.mux.ServeHTTP(w, r)
}

// keep remembers a visit under a new name until its time is over.
func (p *Provider) keep(in map[string]*visit, v visit, life time.Duration) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for name, other := range in {
		if len(in) >= keptMax || other.ends.Before(now) {
			delete(in, name)
		}
	}
	name := rand.Text()
	v.ends = now.Add(life)
	in[name] = &v
	return name
}

// find reads a visit, and forgets it if it may be used once only.
func (p *Provider) find(in map[string]*visit, name string, once bool) (visit, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found, there := in[name]
	if !there || found.ends.Before(time.Now()) {
		return visit{}, false
	}
	if once {
		delete(in, name)
	}
	return *found, true
}

func (p *Provider) metadata(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, map[string]any{
		"issuer": p.config.Issuer, "authorization_endpoint": p.config.Issuer + "/auth", "token_endpoint": p.config.Issuer + "/token",
		"userinfo_endpoint": p.config.Issuer + "/me", "jwks_uri": p.config.Issuer + "/jwks",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"}, "code_challenge_methods_supported": []string{"S256"},
		"scopes_supported": []string{"openid", "email", "profile"}, "token_endpoint_auth_methods_supported": []string{"client_secret_basic"},
		"authorization_response_iss_parameter_supported": true,
	})
}

func (p *Provider) keys(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": p.kid,
		"n": base64.RawURLEncoding.EncodeToString(p.key.N.Bytes()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(p.key.E)).Bytes()),
	}}})
}

func write(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the other side has gone
}

// authorize takes in somebody whom a client has sent. Where the client or its address is not known, nobody is sent back.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()
	at := slices.IndexFunc(p.config.Clients, func(c Client) bool { return c.ID == asked.Get("client_id") })
	if at < 0 || !slices.Contains(p.config.Clients[at].RedirectURIs, asked.Get("redirect_uri")) {
		http.Error(w, "This client or its redirect address is not known here.", http.StatusBadRequest)
		return
	}
	v := visit{client: p.config.Clients[at], asked: asked}
	if asked.Get("response_type") != "code" || asked.Get("code_challenge_method") != "S256" || asked.Get("code_challenge") == "" ||
		!slices.Contains(strings.Fields(asked.Get("scope")), "openid") {
		p.back(w, r, v, url.Values{"error": {"invalid_request"}})
		return
	}
	p.interact(w, r, v)
}

// interact leads the browser to the next page, whose address is good in this browser alone.
func (p *Provider) interact(w http.ResponseWriter, r *http.Request, v visit) {
	id := p.keep(p.interactions, v, interactionLife)
	http.SetCookie(w, &http.Cookie{Name: "idp_interaction", Value: id, Path: "/interaction/" + id, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	http.Redirect(w, r, "/interaction/"+id, http.StatusSeeOther)
}

// back sends somebody back to the client.
func (p *Provider) back(w http.ResponseWriter, r *http.Request, v visit, answer url.Values) {
	answer.Set("state", v.asked.Get("state"))
	answer.Set("iss", p.config.Issuer)
	http.Redirect(w, r, v.asked.Get("redirect_uri")+"?"+answer.Encode(), http.StatusSeeOther)
}

// interaction is the visit of this browser, or an answer that there is none.
func (p *Provider) interaction(w http.ResponseWriter, r *http.Request) (id string, v visit, ok bool) {
	id = r.PathValue("id")
	cookie, err := r.Cookie("idp_interaction")
	v, there := p.find(p.interactions, id, false)
	if err != nil || !there || cookie.Value != id {
		http.Error(w, "This sign-in is not under way any more. Go back and start again.", http.StatusBadRequest)
		return "", visit{}, false
	}
	return id, v, true
}

func (p *Provider) show(w http.ResponseWriter, r *http.Request) {
	if id, v, ok := p.interaction(w, r); ok {
		p.page(w, http.StatusOK, id, v, "", "")
	}
}

func (p *Provider) page(w http.ResponseWriter, status int, id string, v visit, username, problem string) {
	name := "login.html"
	if v.user != nil {
		name, username = "consent.html", v.user.Username
	}
	text := strings.NewReplacer("%STYLE%", p.pages["style.css"], "%ACTION%", "/interaction/"+id, "%CLIENT%", html.EscapeString(v.client.Name),
		"%USER%", html.EscapeString(username), "%ERROR%", html.EscapeString(problem)).Replace(p.pages[name])
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

func (p *Provider) act(w http.ResponseWriter, r *http.Request) {
	id, v, ok := p.interaction(w, r)
	if !ok {
		return
	}
	switch action := r.PathValue("action"); {
	case action == "cancel":
		p.find(p.interactions, id, true)
		p.back(w, r, v, url.Values{"error": {"access_denied"}})
	case action == "login" && v.user == nil:
		user := p.user(r.FormValue("username"), r.FormValue("password"))
		if user == nil {
			p.page(w, http.StatusBadRequest, id, v, r.FormValue("username"), "The username or the password is wrong.")
			return
		}
		p.find(p.interactions, id, true)
		v.user = user
		p.interact(w, r, v)
	case action == "consent" && v.user != nil:
		p.find(p.interactions, id, true)
		p.back(w, r, v, url.Values{"code": {p.keep(p.codes, v, codeLife)}})
	default:
		http.NotFound(w, r)
	}
}

func (p *Provider) user(username, password string) *User {
	for i := range p.config.Users {
		user := &p.config.Users[i]
		if user.Username == username && slices.ContainsFunc(user.Passwords, func(known string) bool { return same(known, password) }) {
			return user
		}
	}
	return nil
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// token exchanges a code (RFC 6749, 4.1.3; RFC 7636, 4.6).
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	v, err := p.exchange(r)
	if err != nil {
		write(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant", "error_description": err.Error()})
		return
	}
	access, now := p.keep(p.tokens, v, tokenLife), time.Now()
	hash := sha256.Sum256([]byte(access))
	identity := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": p.config.Issuer, "sub": v.user.Subject, "aud": v.client.ID, "nonce": v.asked.Get("nonce"),
		"iat": now.Unix(), "exp": now.Add(tokenLife).Unix(), "at_hash": base64.RawURLEncoding.EncodeToString(hash[:len(hash)/2]),
	})
	identity.Header["kid"] = p.kid
	signed, err := identity.SignedString(p.key)
	if err != nil {
		http.Error(w, "cannot sign", http.StatusInternalServerError)
		return
	}
	write(w, http.StatusOK, map[string]any{
		"access_token": access, "token_type": "Bearer", "expires_in": int(tokenLife / time.Second), "id_token": signed, "scope": v.asked.Get("scope"),
	})
}

// exchange uses a code up, whoever brings it.
func (p *Provider) exchange(r *http.Request) (visit, error) {
	v, there := p.find(p.codes, r.PostFormValue("code"), true)
	id, secret, _ := r.BasicAuth()
	id, idErr := url.QueryUnescape(id)
	secret, secretErr := url.QueryUnescape(secret)
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	switch {
	case !there:
		return visit{}, errors.New("the code is not known")
	case idErr != nil || secretErr != nil || id != v.client.ID || !same(secret, v.client.Secret):
		return visit{}, errors.New("the code is another client's")
	case r.PostFormValue("grant_type") != "authorization_code" || r.PostFormValue("redirect_uri") != v.asked.Get("redirect_uri"):
		return visit{}, errors.New("the code was given to another address")
	case !same(base64.RawURLEncoding.EncodeToString(challenge[:]), v.asked.Get("code_challenge")):
		return visit{}, errors.New("the code was given to another verifier")
	}
	return v, nil
}

func (p *Provider) userInfo(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	v, there := p.find(p.tokens, token, false)
	if !there {
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	write(w, http.StatusOK, map[string]any{
		"sub": v.user.Subject, "name": v.user.Name, "email": v.user.Email, "email_verified": true, "picture": v.user.Picture,
	})
}
