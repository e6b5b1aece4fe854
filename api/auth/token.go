package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"lockstep/node/ledger"
)

const (
	tokenLife = 15 * time.Minute
	skewMax   = 5 * time.Second // between the clocks of two nodes

	tokenType         = "at+jwt" // RFC 9068, 2.1
	tokenTypeLong     = "application/at+jwt"
	tokensVerifiedMax = 10_000
)

// TokenAnswer is a successful answer of the token endpoint (RFC 6749, 5.1).
type TokenAnswer struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"` // seconds
	Scope       string `json:"scope"`
}

// The refusals of Token (RFC 6749, 5.2).
const (
	InvalidClient = "invalid_client"
	InvalidScope  = "invalid_scope"
)

// TokenError is a refusal of the token endpoint, which has its own form (RFC 6749, 5.2).
type TokenError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (e *TokenError) Error() string { return e.Code + ": " + e.Description }

// claims are those of RFC 9068, 2.2.
type claims struct {
	jwt.RegisteredClaims
	ClientID string `json:"client_id"`
	Scope    string `json:"scope"`
	Session  string `json:"sid,omitempty"` // of a person's session (OpenID Connect Front-Channel Logout 1.0, section 3)
}

// sessionClient is the client_id of the tokens of sessions, which have no client of their own. A real client of this name
// is told from it by the subject.
const sessionClient = "lockstep"

// Token gives a client an access token for the scopes that it names, or for all of its own when scope is empty. It
// refuses with a *TokenError, InvalidClient or InvalidScope, or with SourceUnavailable. A refused secret costs the same
// whether the client exists or not, and is always checked against the database as it is now.
func (a *Authority) Token(ctx context.Context, clientID, secret, scope string) (TokenAnswer, error) {
	known, err := a.signIn(ctx, clientID, secret)
	if err != nil {
		return TokenAnswer{}, err
	}
	granted := known.client.Scopes
	if strings.TrimSpace(scope) != "" {
		asked, err := ParseScopes(scope)
		if err != nil || asked&^granted != 0 {
			return TokenAnswer{}, &TokenError{Code: InvalidScope, Description: "this client may ask for: " + granted.String()}
		}
		granted = asked
	}
	token, err := a.sign(known, granted)
	if err != nil {
		return TokenAnswer{}, err
	}
	return TokenAnswer{AccessToken: token, TokenType: "Bearer", ExpiresIn: int(tokenLife / time.Second), Scope: granted.String()}, nil
}

// BasicCredentials reads the client's id and secret from an Authorization header of the token endpoint, where both are
// form-encoded before they are joined (RFC 6749, 2.3.1). It is false when the header is no such thing.
func BasicCredentials(authorization string) (clientID, secret string, ok bool) {
	scheme, encoded, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", false
	}
	pair, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", "", false
	}
	clientID, secret, ok = strings.Cut(string(pair), ":")
	if !ok {
		return "", "", false
	}
	clientID, idErr := url.QueryUnescape(clientID)
	secret, secretErr := url.QueryUnescape(secret)
	return clientID, secret, idErr == nil && secretErr == nil
}

func (a *Authority) signIn(ctx context.Context, clientID, secret string) (*knownClient, error) {
	refusal := &TokenError{Code: InvalidClient, Description: "the client id or the client secret is wrong"}
	if !clientIDForm.MatchString(clientID) || len(secret) > secretMax {
		return nil, refusal
	}
	known, err := a.clients.get(ctx, clientID)
	if err != nil {
		return nil, unavailable()
	}
	if known.accepts(secret, a.config.Clock()) {
		return known, nil
	}
	known, err = a.clients.getNow(ctx, clientID)
	if err != nil {
		return nil, unavailable()
	}
	if !known.accepts(secret, a.config.Clock()) {
		return nil, refusal
	}
	return known, nil
}

// sign makes a client's token. Its subject is the principal, so that a client can never pass for a user of the same name
// (RFC 9068, 5).
func (a *Authority) sign(known *knownClient, scopes Scopes) (string, error) {
	return a.signClaims(a.config.Clock(), claims{ClientID: known.client.ID, Scope: scopes.String()}, known.principal)
}

func (a *Authority) signClaims(now time.Time, said claims, subject string) (string, error) {
	key := a.keys.current.Load().signer(now)
	said.RegisteredClaims = jwt.RegisteredClaims{
		Issuer: a.config.Issuer, Subject: subject, Audience: jwt.ClaimStrings{a.config.Audience},
		ExpiresAt: jwt.NewNumericDate(now.Add(tokenLife)), IssuedAt: jwt.NewNumericDate(now), ID: rand.Text(),
	}
	token := jwt.NewWithClaims(jwt.SigningMethodEdDSA, said)
	token.Header["typ"], token.Header["kid"] = tokenType, key.kid
	return token.SignedString(key.private)
}

// newParser accepts nothing but what sign makes: EdDSA only, our issuer and audience, and an end.
func newParser(config Config) *jwt.Parser {
	return jwt.NewParser(
		jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}), jwt.WithStrictDecoding(),
		jwt.WithIssuer(config.Issuer), jwt.WithAudience(config.Audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(skewMax), jwt.WithTimeFunc(config.Clock),
	)
}

// verify checks a token once and remembers it until its end.
func (a *Authority) verify(ctx context.Context, token string) (*verifiedToken, error) {
	hash, now := sha256.Sum256([]byte(token)), a.config.Clock()
	if verified := a.tokens.get(hash); verified != nil && now.Before(verified.until) {
		return verified, nil
	}
	var said claims
	_, err := a.parser.ParseWithClaims(token, &said, func(t *jwt.Token) (any, error) { return a.verifyingKey(ctx, t) })
	if err != nil {
		return nil, refuseToken(err)
	}
	if said.IssuedAt == nil || !said.ofClient() && !said.ofSession() {
		return nil, refuseToken(jwt.ErrTokenInvalidClaims)
	}
	verified := &verifiedToken{
		clientID: said.ClientID, subject: said.Subject, session: said.Session, scopes: storedScopes(said.Scope),
		issuedAt: said.IssuedAt.Time, until: said.ExpiresAt.Add(skewMax),
	}
	a.tokens.put(hash, verified)
	return verified, nil
}

func (c *claims) ofClient() bool {
	return c.ClientID != "" && c.Session == "" && c.Subject == "client:"+c.ClientID
}

func (c *claims) ofSession() bool {
	return c.ClientID == sessionClient && c.Session != "" && strings.HasPrefix(c.Subject, "user:")
}

// verifyingKey picks the key of a token. The library does not look at typ: without this check a JWT that we sign for
// another purpose would be an access token.
func (a *Authority) verifyingKey(ctx context.Context, token *jwt.Token) (any, error) {
	typ, _ := token.Header["typ"].(string)
	if !strings.EqualFold(typ, tokenType) && !strings.EqualFold(typ, tokenTypeLong) {
		return nil, errors.New("the token is no access token (typ at+jwt)")
	}
	kid, _ := token.Header["kid"].(string)
	key, err := a.keys.find(ctx, kid)
	switch {
	case err != nil:
		a.config.Logger.Warn("cannot look for an unknown signing key", "kid", kid, "error", err)
		return nil, err
	case key == nil:
		return nil, errors.New("the token is signed by an unknown key")
	case !key.retired.IsZero() && a.config.Clock().After(key.retired.Add(tokenLife+skewMax)):
		return nil, errors.New("the token is signed by a key that has ended")
	}
	return key.public(), nil
}

// refuseToken tells an honest client what to do, and others little.
func refuseToken(err error) error {
	if errors.Is(err, jwt.ErrTokenExpired) {
		return ledger.Refuse(ledger.Unauthenticated, "the access token has expired; POST /v1/oauth/token gives a new one")
	}
	return ledger.Refuse(ledger.Unauthenticated, "the access token is not valid; POST /v1/oauth/token gives one")
}

type tokenHash = [sha256.Size]byte

// verifiedToken is what a good token says.
type verifiedToken struct {
	clientID string
	subject  string
	session  string // empty: a client's
	scopes   Scopes
	issuedAt time.Time
	until    time.Time
}

// verifiedTokens remembers good tokens by their hash, so that a dump of the memory gives no token away.
type verifiedTokens struct {
	most   int
	mu     sync.RWMutex
	byHash map[tokenHash]*verifiedToken
}

func (v *verifiedTokens) get(hash tokenHash) *verifiedToken {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.byHash[hash]
}

// put makes room by dropping any other token when full: a dropped one is verified again, nothing else. Ended ones are
// dropped in the same way, or replaced.
func (v *verifiedTokens) put(hash tokenHash, verified *verifiedToken) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.byHash) >= v.most {
		for other := range v.byHash {
			delete(v.byHash, other)
			break
		}
	}
	v.byHash[hash] = verified
}
