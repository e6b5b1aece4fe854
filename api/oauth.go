package api

import (
	"context"
	"errors"
	"net/url"

	"lockstep/api/auth"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// postToken gives access tokens to programs (RFC 6749, 4.4). Its refusals have the form of section 5.2 there, not that
// of a problem, for OAuth libraries read them.
func (x *exchange) postToken() error {
	x.set("Cache-Control", "no-store")
	x.set("Pragma", "no-cache")
	token, err := x.token()
	var refusal *auth.TokenError
	if !errors.As(err, &refusal) {
		if err != nil {
			return err
		}
		return x.answer(200, token)
	}
	status := 400
	if refusal.Code == auth.InvalidClient {
		status = 401
		x.set("WWW-Authenticate", `Basic realm="lockstep"`)
	}
	return x.write(store.Answer{Status: status, ContentType: jsonType, Body: encode(refusal)})
}

func (x *exchange) token() (auth.TokenAnswer, error) {
	if err := x.acceptMedia("application/x-www-form-urlencoded"); err != nil {
		return auth.TokenAnswer{}, err
	}
	form, err := parseForm(x.body().bytes)
	if err != nil {
		return auth.TokenAnswer{}, err
	}
	id, secret, err := x.clientCredentials(form)
	if err != nil {
		return auth.TokenAnswer{}, err
	}
	switch form.Get("grant_type") {
	case "client_credentials":
	case "":
		return auth.TokenAnswer{}, badTokenRequest("grant_type is missing; it is client_credentials")
	default:
		return auth.TokenAnswer{}, &auth.TokenError{Code: "unsupported_grant_type", Description: "grant_type is client_credentials"}
	}
	ctx, cancel := context.WithTimeout(x.context(), readWaitMax)
	defer cancel()
	token, err := x.server.deps.Authority.Token(ctx, id, secret, form.Get("scope"))
	if err == nil {
		x.principal.Caller = "client:" + id // for the log
	}
	return token, err
}

// parseForm refuses a parameter that is there twice (RFC 6749, 3.2).
func parseForm(body []byte) (url.Values, error) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, badTokenRequest("the body is not form-encoded")
	}
	for _, values := range form {
		if len(values) > 1 {
			return nil, badTokenRequest("a parameter is there twice")
		}
	}
	return form, nil
}

// clientCredentials are in the Authorization header or in the form, but not in both (RFC 6749, 2.3).
func (x *exchange) clientCredentials(form url.Values) (id, secret string, err error) {
	header := x.header("Authorization")
	if header == "" {
		return form.Get("client_id"), form.Get("client_secret"), nil
	}
	id, secret, ok := auth.BasicCredentials(header)
	if !ok {
		return "", "", &auth.TokenError{Code: auth.InvalidClient, Description: "the Authorization header is not Basic credentials, form-encoded each"}
	}
	if form.Has("client_secret") || (form.Has("client_id") && form.Get("client_id") != id) {
		return "", "", badTokenRequest("send the client's credentials in the header or in the form, not in both")
	}
	return id, secret, nil
}

func badTokenRequest(description string) error {
	return &auth.TokenError{Code: "invalid_request", Description: description}
}

// getKeys publishes the keys that tokens are signed with (RFC 7517).
func (x *exchange) getKeys() error {
	x.set("Cache-Control", "public, max-age=10") // new keys are published 30 s before they sign
	return x.write(store.Answer{Status: 200, ContentType: "application/jwk-set+json", Body: x.server.deps.Authority.JWKS()})
}

type systemBody struct {
	System     string            `json:"system"`
	Version    string            `json:"version"`
	Currencies []ledger.Currency `json:"currencies"`
}

func (x *exchange) getSystem() error {
	x.set("Cache-Control", "public, max-age=60")
	deps := x.server.deps
	return x.answer(200, systemBody{System: deps.System, Version: deps.Version, Currencies: deps.Currencies})
}
