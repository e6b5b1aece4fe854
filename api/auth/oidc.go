package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"lockstep/node/ledger"
)

// Logins lets people sign in at one OpenID provider (OpenID Connect Core 1.0, 3.1: the code flow) with PKCE (RFC 7636,
// S256), state, nonce and the check of the issuer (RFC 9207). Between Begin and Finish a node keeps nothing, so that any
// node finishes what another one began: what has to be remembered is sealed in a cookie of the browser.
//
// It says who somebody is, and knows nothing of users and sessions. It is safe for many goroutines.
type Logins struct {
	config   Config
	oidc     OIDCConfig
	sealer   sealer
	provider *provider
}

// OIDCConfig names the provider, and what this system is there.
type OIDCConfig struct {
	Issuer       string // exactly as its discovery document says it; https, or http on this machine
	ClientID     string
	ClientSecret string
	RedirectURL  string // of GET /v1/auth/google/callback, exactly as it is registered at the provider
	Prompt       string // what the provider shall ask although it knows the person, such as select_account; may be empty
}

// Validate refuses what no login could work with; each message names the key.
func (c OIDCConfig) Validate() error {
	switch {
	case !private(c.Issuer):
		return fmt.Errorf("issuer: %q is no https URL, nor http on this machine", c.Issuer)
	case c.ClientID == "":
		return errors.New("client_id: the provider gives one when this system is registered there")
	case c.ClientSecret == "":
		return errors.New("client_secret: the provider gives one when this system is registered there")
	case !private(c.RedirectURL):
		return fmt.Errorf("redirect_url: %q is no https URL, nor http on this machine", c.RedirectURL)
	}
	return nil
}

// Close lets go of the connections to the provider.
func (l *Logins) Close() { l.provider.client.CloseIdleConnections() }

// loginLife is how long a person may take at the provider.
const loginLife = 10 * time.Minute

// OpenLogins prepares logins. It asks the provider nothing: one that is away must not keep a node from starting.
func OpenLogins(config Config, at OIDCConfig) (*Logins, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := at.Validate(); err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	sealer, err := newSealer(config.Secret, config.System, sealLogins)
	if err != nil {
		return nil, err
	}
	return &Logins{config: config, oidc: at, sealer: sealer, provider: newProvider(at.Issuer)}, nil
}

// Departure is a login that has begun.
type Departure struct {
	URL    string        // of the provider, where the browser goes
	Sealed string        // what the browser brings back, in a cookie that no script reads
	Life   time.Duration // of that cookie
}

// Begin sends somebody to the provider, to come back to next, a path of this site (SafePath; empty: the front page). It
// refuses with InvalidRequest, and with ProviderUnavailable when the provider does not answer: it is asked each time, for
// a browser that is sent to a dead address cannot be told anything.
func (l *Logins) Begin(ctx context.Context, next string) (Departure, error) {
	if next == "" {
		next = "/"
	}
	if !SafePath(next) {
		return Departure{}, ledger.Refuse(ledger.InvalidRequest, "next: a path of this site, such as /accounts, of at most %d characters", nextMax)
	}
	at, err := l.provider.ask(ctx)
	if err != nil {
		return Departure{}, l.failed(err)
	}
	begun, err := l.newPending(next)
	if err != nil {
		return Departure{}, err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(begun.Nonce), oauth2.S256ChallengeOption(begun.Verifier)}
	if l.oidc.Prompt != "" {
		options = append(options, oauth2.SetAuthURLParam("prompt", l.oidc.Prompt))
	}
	return Departure{URL: l.oauth(at).AuthCodeURL(begun.State, options...), Sealed: l.seal(begun), Life: loginLife}, nil
}

func (l *Logins) oauth(at *endpoints) *oauth2.Config {
	return &oauth2.Config{
		ClientID: l.oidc.ClientID, ClientSecret: l.oidc.ClientSecret, RedirectURL: l.oidc.RedirectURL,
		Endpoint: at.oauth, Scopes: []string{oidc.ScopeOpenID, "email", "profile"},
	}
}

// Arrival is somebody who has come back from the provider. Issuer and Subject together name the person, for ever; nothing
// else does: an e-mail address passes from one person to another.
type Arrival struct {
	Issuer  string
	Subject string
	Profile Profile
	Next    string // where the person wanted to go
}

// Finish takes what the browser brings back: the sealed text of Begin, and the query of the callback. It refuses with
// LoginRefused whatever is not the answer to this browser's login, once, from this provider, for this system;
// with ProviderUnavailable and SourceUnavailable it could not find out.
func (l *Logins) Finish(ctx context.Context, sealed string, query url.Values) (Arrival, error) {
	begun, err := l.unseal(sealed)
	if err != nil {
		return Arrival{}, l.refuse("this browser has no sign-in under way; start again", err)
	}
	code, err := l.readAnswer(begun, query)
	if err != nil {
		return Arrival{}, err
	}
	if err := l.useOnce(ctx, begun); err != nil {
		return Arrival{}, err
	}
	at, err := l.provider.known(ctx)
	if err != nil {
		return Arrival{}, l.failed(err)
	}
	if at.answersIssuer && query.Get("iss") == "" { // a provider that says so always sends it (RFC 9207, 2.4)
		return Arrival{}, l.refuse("the answer does not say which provider it comes from", nil)
	}
	token, err := l.oauth(at).Exchange(l.provider.context(ctx), code, oauth2.VerifierOption(begun.Verifier))
	if err != nil {
		return Arrival{}, l.failed(err)
	}
	identity, err := l.identify(ctx, at, token, begun.Nonce)
	if err != nil {
		return Arrival{}, err
	}
	arrival, err := l.profile(ctx, at, token, identity.Subject)
	arrival.Next = begun.Next
	return arrival, err
}

// readAnswer takes the code from the provider's answer (OpenID Connect Core 1.0, 3.1.2.5).
func (l *Logins) readAnswer(begun pending, query url.Values) (string, error) {
	for _, values := range query {
		if len(values) > 1 {
			return "", l.refuse("a parameter is there twice", nil) // RFC 6749, 3.1
		}
	}
	if !same(query.Get("state"), begun.State) {
		return "", l.refuse("the state is not that of this browser's sign-in; start again", nil)
	}
	if issuer := query.Get("iss"); issuer != "" && issuer != l.oidc.Issuer { // RFC 9207, 2.4
		return "", l.refuse("the answer comes from another provider", nil)
	}
	if query.Get("error") == "access_denied" {
		return "", l.refuse("it was cancelled at the provider", nil)
	}
	code := query.Get("code")
	if query.Has("error") || code == "" {
		return "", l.refuse("the provider gave no code", nil)
	}
	return code, nil
}

// identify checks the ID token (OpenID Connect Core 1.0, 3.1.3.7). The library leaves nonce, azp and at_hash to us.
func (l *Logins) identify(ctx context.Context, at *endpoints, token *oauth2.Token, nonce string) (*oidc.IDToken, error) {
	raw, _ := token.Extra("id_token").(string)
	keys := &witness{keys: at.keys}
	verifier := oidc.NewVerifier(l.oidc.Issuer, keys, &oidc.Config{
		ClientID: l.oidc.ClientID, SupportedSigningAlgs: at.algorithms, Now: l.config.Clock,
	})
	identity, err := verifier.Verify(ctx, raw)
	if keys.failure != nil && away(keys.failure) {
		return nil, l.failed(keys.failure)
	}
	if err != nil {
		return nil, l.refuse("the provider's ID token is not good", err)
	}
	var claims struct {
		Party string `json:"azp"`
	}
	if err := identity.Claims(&claims); err != nil {
		return nil, l.refuse("the provider's ID token is not good", err)
	}
	switch {
	case identity.Subject == "":
		return nil, l.refuse("the provider's ID token names nobody", nil)
	case !same(identity.Nonce, nonce):
		return nil, l.refuse("the provider's ID token was made for another sign-in", nil)
	case claims.Party != "" && claims.Party != l.oidc.ClientID, claims.Party == "" && len(identity.Audience) > 1:
		return nil, l.refuse("the provider's ID token was made for another party", nil)
	case identity.AccessTokenHash != "" && identity.VerifyAccessToken(token.AccessToken) != nil:
		return nil, l.refuse("the provider's ID token belongs to another access token", nil)
	}
	return identity, nil
}

// profile asks the provider with the access token who its person is. That has to be the one of the ID token (OpenID
// Connect Core 1.0, 5.3.2): an access token that was put in the place of another must not lend its name.
func (l *Logins) profile(ctx context.Context, at *endpoints, token *oauth2.Token, subject string) (Arrival, error) {
	info, err := at.discovered.UserInfo(l.provider.context(ctx), oauth2.StaticTokenSource(token))
	if err != nil {
		return Arrival{}, l.failed(err)
	}
	if info.Subject != subject {
		return Arrival{}, l.refuse("the provider's answers are about two different people", nil)
	}
	var said struct {
		Name    string `json:"name"`
		Picture string `json:"picture"`
	}
	if err := info.Claims(&said); err != nil {
		return Arrival{}, l.refuse("the provider's profile cannot be read", err)
	}
	profile := Profile{Name: said.Name, Email: info.Email, Picture: said.Picture}
	return Arrival{Issuer: l.oidc.Issuer, Subject: subject, Profile: profile}, nil
}

// refuse tells the person that the sign-in ends here; the cause, if any, is logged.
func (l *Logins) refuse(detail string, cause error) error {
	attributes := []any{"why", detail}
	if cause != nil {
		attributes = append(attributes, "cause", withoutBody(cause))
	}
	l.config.Logger.Warn("a sign-in was refused", attributes...)
	return ledger.Refuse(ledger.LoginRefused, "%s", detail)
}

// failed sorts what went wrong on the way to the provider: it is away, or it has refused.
func (l *Logins) failed(err error) error {
	if away(err) {
		l.config.Logger.Log(context.Background(), slog.LevelWarn, "the OpenID provider is away", "cause", withoutBody(err))
		return ledger.Refuse(ledger.ProviderUnavailable, "the provider of this sign-in does not answer; who is signed in stays so")
	}
	return l.refuse("the provider has refused it", err)
}

// withoutBody keeps what the provider has sent out of our log: its answers carry tokens.
func withoutBody(err error) string {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) {
		return fmt.Sprintf("the token endpoint answered %d %q", refused.Response.StatusCode, refused.ErrorCode)
	}
	return fmt.Sprintf("%.200s", err.Error())
}

func same(got, want string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// private tells whether what is sent to the URL can be read by nobody on the way.
func private(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	return u.Scheme == "https" || u.Scheme == "http" && slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname())
}
