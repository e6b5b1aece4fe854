package client_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/api/client"
)

// Many calls share one token; it is renewed before it ends and after it was refused.
func TestTokensAreSharedAndRenewed(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	now := time.Now()
	at := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	advance := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = now.Add(d) }
	steps := make([]step, 20)
	for i := range steps {
		steps[i] = gives(200, `{}`)
	}
	s := play(t, steps...)
	c := s.client(func(c *client.Config) { c.Clock = at })
	var calls sync.WaitGroup
	for range 10 {
		calls.Go(func() {
			if _, err := c.Session().Account(t.Context(), "a"); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	read := func(want string) {
		t.Helper()
		_, err := c.Account(t.Context(), "a")
		must(t, err)
		got := s.requests()
		if token := got[len(got)-1].token; token != want {
			t.Errorf("sent %s, want %s", token, want)
		}
	}
	read("Bearer token-1")
	advance(13 * time.Minute)
	read("Bearer token-1")
	advance(time.Minute)
	read("Bearer token-2")
	s.mu.Lock()
	s.steps = []step{says(401, "unauthenticated", client.NotApplied, client.SameKey), gives(200, `{}`)}
	s.mu.Unlock()
	read("Bearer token-3")
}

func TestATokenThatIsAlwaysRefusedEndsTheCall(t *testing.T) {
	t.Parallel()
	refusal := says(401, "unauthenticated", client.NotApplied, client.SameKey)
	s := play(t, refusal, refusal, refusal)
	_, err := s.client().Transfer(t.Context(), payment)
	wantProblem(t, err, "unauthenticated")
	s.played()
	s = play(t, refusal, refusal, says(503, "overloaded", client.NotApplied, client.Later), refusal, refusal, gives(201, posted))
	transfer, err := s.client().Transfer(t.Context(), payment)
	wantPosted(t, transfer, err)
	s = play(t, loses(nothing), refusal, refusal, refusal)
	_, err = s.client().Transfer(t.Context(), payment)
	_ = wantUnknown(t, err)
	s.played()
}

func TestWrongCredentialsEndTheCall(t *testing.T) {
	t.Parallel()
	s := play(t)
	_, err := s.client(func(c *client.Config) { c.ClientSecret = "wrong" }).Transfer(t.Context(), payment)
	var refusal *client.TokenError
	if !errors.As(err, &refusal) || refusal.Code != "invalid_client" {
		t.Errorf("got %v", err)
	}
}

// A token endpoint that is away is waited for; one that is none ends the call.
func TestATokenEndpointThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := play(t, gives(201, posted))
	tries := 0
	transport := s.server.Client().Transport
	s.Cleanup(s.server.Client().CloseIdleConnections)
	flaky := func(status int) func(*client.Config) {
		return func(c *client.Config) {
			c.HTTPClient = &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
				if tries++; r.URL.Path == "/v1/oauth/token" && tries < 3 {
					return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
				}
				return transport.RoundTrip(r)
			})}
		}
	}
	transfer, err := s.client(flaky(503)).Transfer(t.Context(), payment)
	wantPosted(t, transfer, err)
	tries = 0
	var refusal *client.TokenError
	if _, err := s.client(flaky(404)).Transfer(t.Context(), payment); !errors.As(err, &refusal) {
		t.Errorf("got %v", err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Reads show what the session was told of. A token is enough while changes come one after another; after changes that
// overlapped, either of which may be the later, reads go to the source until the next change.
func TestReadsSeeTheChangesOfTheirSession(t *testing.T) {
	t.Parallel()
	release, entered := make(chan struct{}), make(chan struct{})
	account := gives(200, `{}`)
	s := play(t,
		account, gives(201, posted, "Consistency-Token", "one"), account,
		func(w http.ResponseWriter) {
			close(entered)
			<-release
			gives(201, posted, "Consistency-Token", "slow")(w)
		},
		gives(201, posted, "Consistency-Token", "fast"), account, account,
		gives(201, posted, "Consistency-Token", "next"), account, account, account,
	)
	c := s.client()
	read := func(c *client.Client, token, cache string, options ...client.Option) {
		t.Helper()
		_, err := c.Account(t.Context(), "a", options...)
		must(t, err)
		all := s.requests()
		if got := all[len(all)-1]; got.consistency != token || got.cache != cache {
			t.Errorf("read with token %q and %q, want %q and %q", got.consistency, got.cache, token, cache)
		}
	}
	write := func() {
		t.Helper()
		_, err := c.Transfer(t.Context(), payment)
		must(t, err)
	}
	read(c, "", "")
	write()
	read(c, "one", "")
	var slow sync.WaitGroup
	slow.Go(func() {
		if _, err := c.Transfer(t.Context(), payment); err != nil {
			t.Error(err)
		}
	})
	<-entered
	write()
	read(c, "fast", "")
	close(release)
	slow.Wait()
	read(c, "slow", "no-cache")
	write()
	read(c, "next", "")
	read(c.Session(), "", "")
	read(c, "next", "no-cache", client.Fresh())
}

// Retry-After is a lower bound, in seconds or as a date; without one the pauses grow at random up to their bound.
func TestPausesGrowAndHeedRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Now().Truncate(time.Second)
	busy := func(headers ...string) step {
		return says(503, "overloaded", client.NotApplied, client.Later, headers...)
	}
	steps := []step{
		busy("Retry-After", "7"), busy("Retry-After", now.Add(9*time.Second).UTC().Format(http.TimeFormat)),
		busy("Retry-After", "86400"), busy("Retry-After", "soon"),
	}
	for range 40 {
		steps = append(steps, busy())
	}
	s := play(t, append(steps, gives(201, posted))...)
	_, err := s.client(func(c *client.Config) {
		c.Clock = func() time.Time { return now }
		c.BackoffMin, c.BackoffMax = 10*time.Millisecond, 200*time.Millisecond
	}).Transfer(t.Context(), payment)
	must(t, err)
	if s.waits[0] != 7*time.Second || s.waits[1] != 9*time.Second || s.waits[2] != time.Minute {
		t.Errorf("waited %v", s.waits[:3])
	}
	longest, distinct := time.Duration(0), map[time.Duration]bool{}
	for _, waited := range s.waits[3:] {
		longest = max(longest, waited)
		distinct[waited] = true
	}
	if longest < 100*time.Millisecond || longest > 200*time.Millisecond || len(distinct) < 20 {
		t.Errorf("pauses %v", s.waits[3:])
	}
}

// A call without a deadline does not go on for ever, and its error tells what was heard last.
func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	s := play(t, says(503, "overloaded", client.NotApplied, client.Later))
	_, err := s.client(func(c *client.Config) {
		c.AttemptTimeout, c.Patience = 2*time.Second, 2*time.Second
		c.Wait = untilEnd
	}).Account(t.Context(), "a")
	var problem *client.Problem
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &problem) {
		t.Errorf("got %v", err)
	}
}

// untilEnd is a pause that is longer than any call.
func untilEnd(ctx context.Context, _ time.Duration) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	elsewhere := func(w http.ResponseWriter) {
		w.Header().Set("Location", "/v1/elsewhere")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	s := play(t, elsewhere, elsewhere)
	_, posting := s.client().Transfer(t.Context(), payment)
	_, reading := s.client().Account(t.Context(), "a")
	for _, err := range []error{posting, reading} {
		var problem *client.Problem
		if !errors.As(err, &problem) || problem.Status != 307 || len(s.requests()) != 2 {
			t.Errorf("got %v after %d requests", err, len(s.requests()))
		}
	}
}

func TestAnAnswerThatCannotBeReadIsNoSuccess(t *testing.T) {
	t.Parallel()
	_, err := play(t, gives(201, "not JSON")).client().Transfer(t.Context(), payment)
	if err == nil || !strings.Contains(err.Error(), "201") {
		t.Errorf("got %v", err)
	}
}

func TestLanguageIsPassedOn(t *testing.T) {
	t.Parallel()
	s := play(t, gives(200, `{}`))
	_, err := s.client(func(c *client.Config) { c.Language = "ko" }).Account(t.Context(), "a")
	must(t, err)
	if got := s.requests()[0].language; got != "ko" {
		t.Errorf("sent %q", got)
	}
}

func TestAConfigurationThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	good := client.Config{BaseURL: "http://127.0.0.1:8080", ClientID: "a", ClientSecret: "b"}
	for name, change := range map[string]func(*client.Config){
		"no scheme": func(c *client.Config) { c.BaseURL = "127.0.0.1:8080" }, "no host": func(c *client.Config) { c.BaseURL = "http://" },
		"a query": func(c *client.Config) { c.BaseURL += "/?a=b" }, "no id": func(c *client.Config) { c.ClientID = "" },
		"no secret": func(c *client.Config) { c.ClientSecret = "" }, "no patience": func(c *client.Config) { c.Patience = time.Second },
		"backoff upside down": func(c *client.Config) { c.BackoffMin = time.Hour },
	} {
		config := good
		change(&config)
		if _, err := client.New(config); err == nil {
			t.Errorf("%s: made", name)
		}
	}
	if _, err := client.New(good); err != nil {
		t.Error(err)
	}
}
