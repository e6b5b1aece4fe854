package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
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
	turn   chan struct{} // who renews; a channel, so that waiting for it ends with the context

	mu    sync.Mutex
	token string
	until time.Time
}

func newTokens(config Config) *tokens {
	return &tokens{config: config, turn: make(chan struct{}, 1)}
}

// get is the present token, or a new one; of many callers one fetches it. Its error is a *TokenError, or a *silence.
func (t *tokens) get(ctx context.Context) (string, error) {
	if token := t.present(); token != "" {
		return token, nil
	}
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return "", &silence{cause: fmt.Errorf("wait for an access token: %w", ctx.Err())}
	}
	if token := t.present(); token != "" {
		return token, nil
	}
	return t.renew(ctx)
}

func (t *tokens) present() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.config.Clock().Before(t.until) {
		return t.token
	}
	return ""
}

func (t *tokens) keep(token string, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token, t.until = token, until
}

// drop forgets a token that was refused, unless another caller has replaced it already.
func (t *tokens) drop(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
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
		return "", &silence{cause: fmt.Errorf("get an access token: %w", err)}
	}
	answer, err := readReply(response)
	if err != nil {
		return "", &silence{cause: fmt.Errorf("get an access token: %w", err)}
	}
	return t.accept(answer, asked)
}

func (t *tokens) accept(answer *reply, asked time.Time) (string, error) {
	if answer.problem != nil {
		return "", refusedToken(answer)
	}
	var token struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.Unmarshal(answer.body, &token); err != nil || token.AccessToken == "" {
		return "", &TokenError{Code: "unreadable", Description: "the answer holds no access token; is this the address of a payment system?"}
	}
	// A tenth of its life is left for the requests that carry it.
	t.keep(token.AccessToken, asked.Add(time.Duration(token.ExpiresIn)*time.Second*9/10))
	return token.AccessToken, nil
}

// refusedToken is final unless the system was only busy or away.
func refusedToken(answer *reply) error {
	problem := answer.problem
	if problem.Retry != Never {
		return &silence{cause: fmt.Errorf("get an access token: %w", problem)}
	}
	refusal := &TokenError{Code: problem.Code, Description: problem.Error()}
	var said TokenError
	if json.Unmarshal(answer.body, &said) == nil && said.Code != "" {
		refusal = &said
	}
	return refusal
}
