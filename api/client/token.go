package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// TokenError is a refusal of the token endpoint (RFC 6749, 5.2): the client's credentials or scopes are wrong.
type TokenError struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func (e *TokenError) Error() string { return "no access token: " + e.Code + ": " + e.Description }

// tokens keeps one access token and renews it before it ends.
type tokens struct {
	config Config
	turn   chan struct{} // holds the right to use the fields below; a channel, so that waiting ends with the context
	token  string
	until  time.Time
}

func newTokens(config Config) *tokens {
	t := &tokens{config: config, turn: make(chan struct{}, 1)}
	t.turn <- struct{}{}
	return t
}

// get is the present token, or a new one; of many callers one fetches it.
func (t *tokens) get(ctx context.Context) (string, error) {
	select {
	case <-t.turn:
		defer func() { t.turn <- struct{}{} }()
	case <-ctx.Done():
		return "", fmt.Errorf("wait for an access token: %w", ctx.Err())
	}
	if t.token != "" && t.config.Clock().Before(t.until) {
		return t.token, nil
	}
	return t.renew(ctx)
}

// drop forgets a token that was refused, unless another caller has replaced it already.
func (t *tokens) drop(token string) {
	<-t.turn
	defer func() { t.turn <- struct{}{} }()
	if t.token == token {
		t.token = ""
	}
}

func (t *tokens) renew(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, t.config.AttemptTimeout)
	defer cancel()
	form := url.Values{"grant_type": {"client_credentials"}}
	if t.config.Scope != "" {
		form.Set("scope", t.config.Scope)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.config.BaseURL+"/v1/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("client: make a token request: %w", err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	// RFC 6749, 2.3.1: both are form-encoded before they are joined.
	request.SetBasicAuth(url.QueryEscape(t.config.ClientID), url.QueryEscape(t.config.ClientSecret))
	asked := t.config.Clock()
	response, err := t.config.HTTPClient.Do(request)
	if err != nil {
		return "", fmt.Errorf("get an access token: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	if err != nil {
		return "", fmt.Errorf("get an access token: %w", err)
	}
	return t.accept(response, body, asked)
}

func (t *tokens) accept(response *http.Response, body []byte, asked time.Time) (string, error) {
	if response.StatusCode != http.StatusOK {
		var refusal TokenError
		final := response.StatusCode == http.StatusBadRequest || response.StatusCode == http.StatusUnauthorized
		if final && json.Unmarshal(body, &refusal) == nil && refusal.Code != "" {
			return "", &refusal
		}
		return "", fmt.Errorf("get an access token: %w", problemOf(response.StatusCode, response.Header, body))
	}
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.AccessToken == "" {
		return "", fmt.Errorf("get an access token: the answer holds none (%w)", err)
	}
	// A tenth of its life is left for the requests that carry it.
	t.token, t.until = answer.AccessToken, asked.Add(time.Duration(answer.ExpiresIn)*time.Second*9/10)
	return t.token, nil
}
