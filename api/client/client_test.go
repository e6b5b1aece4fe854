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

// Every method sends what the contract says, and reads the answer.
func TestMethodsFollowTheContract(t *testing.T) {
	t.Parallel()
	frozen := "frozen"
	from := time.Date(2026, 1, 31, 9, 0, 0, 0, time.FixedZone("KST", 9*3600))
	filter := client.Filter{Account: "a", Reference: "r 1", State: "posted", Kind: "transfer", CreatedFrom: from, Page: client.Page{Limit: 2, Cursor: "c"}}
	for _, test := range []struct {
		want   string // method path?query body
		answer string
		call   func(context.Context, *client.Client) (any, error)
		is     func(any) bool
	}{
		{`POST /v1/accounts {"currency":"KRW","label":"L"}`, `{"number":"a","balance":{"available":"1"}}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.OpenAccount(ctx, client.NewAccount{Currency: "KRW", Label: "L"})
			},
			func(v any) bool { return v.(client.Account).Balance.Available == "1" }},
		{`GET /v1/accounts/a%2Fb`, `{"number":"a/b","created_at":"2026-01-31T00:00:00.000000Z"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Account(ctx, "a/b") },
			func(v any) bool { return v.(client.Account).CreatedAt.Equal(from) }},
		{`GET /v1/accounts?limit=3`, `{"accounts":[{"number":"a"}],"next_cursor":null}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Accounts(ctx, client.Page{Limit: 3})
			},
			func(v any) bool { return len(v.(client.Accounts).Accounts) == 1 }},
		{`PATCH /v1/accounts/a {"status":"frozen"}`, `{"status":"frozen"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.ChangeAccount(ctx, "a", client.AccountChange{Status: &frozen})
			},
			func(v any) bool { return v.(client.Account).Status == "frozen" }},
		{`GET /v1/accounts/a/entries?cursor=c&limit=2`, `{"entries":[{"sequence":7,"direction":"debit"}],"next_cursor":"d"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Entries(ctx, "a", client.Filter{Page: filter.Page})
			},
			func(v any) bool {
				return v.(client.Entries).Entries[0].Sequence == 7 && v.(client.Entries).NextCursor == "d"
			}},
		{`GET /v1/payees/a`, `{"name":"A**"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Payee(ctx, "a") },
			func(v any) bool { return v.(client.Payee).Name == "A**" }},
		{`POST /v1/deposits {"account":"a","amount":"1","currency":"KRW","reference":"r"}`, posted,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Deposit(ctx, client.Cash{Account: "a", Amount: "1", Currency: "KRW", Reference: "r"})
			},
			func(v any) bool { return v.(client.Transfer).Amount == "1500" }},
		{`POST /v1/withdrawals {"account":"a","amount":"1","currency":"KRW"}`, posted,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Withdraw(ctx, client.Cash{Account: "a", Amount: "1", Currency: "KRW"})
			},
			func(v any) bool { return v.(client.Transfer).ID == "019a" }},
		{`GET /v1/transfers/019a`, posted,
			func(ctx context.Context, c *client.Client) (any, error) { return c.TransferByID(ctx, "019a") },
			func(v any) bool { return v.(client.Transfer).From == "a" }},
		{`GET /v1/transfers?account=a&created_from=2026-01-31T00%3A00%3A00Z&cursor=c&kind=transfer&limit=2&reference=r+1&state=posted`, `{"transfers":[` + posted + `]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Transfers(ctx, filter) },
			func(v any) bool { return len(v.(client.Transfers).Transfers) == 1 }},
		{`POST /v1/batches {"atomic":false,"transfers":[{"from":"a","to":"b","amount":"1500","currency":"KRW"}]}`,
			`{"results":[` + posted + `,{"code":"insufficient_funds","status":422}]}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Batch(ctx, client.Batch{Transfers: []client.Payment{payment}})
			},
			func(v any) bool {
				r := v.([]client.BatchResult)
				return len(r) == 2 && r[0].Problem == nil && r[0].Transfer.ID == "019a" && r[1].Transfer == nil && r[1].Problem.Code == "insufficient_funds"
			}},
		{`POST /v1/holds {"account":"a","amount":"5","currency":"KRW","expires_in_seconds":60}`, `{"id":"h","state":"pending"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Hold(ctx, client.NewHold{Account: "a", Amount: "5", Currency: "KRW", ExpiresInSeconds: 60})
			},
			func(v any) bool { return v.(client.Hold).State == "pending" }},
		{`GET /v1/holds/h`, `{"id":"h"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.HoldByID(ctx, "h") },
			func(v any) bool { return v.(client.Hold).ID == "h" }},
		{`POST /v1/holds/h/capture {"to":"b"}`, `{"captured":"5"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.Capture(ctx, "h", client.Capture{To: "b"})
			},
			func(v any) bool { return v.(client.Hold).Captured == "5" }},
		{`POST /v1/holds/h/void {}`, `{"state":"voided"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Void(ctx, "h") },
			func(v any) bool { return v.(client.Hold).State == "voided" }},
		{`GET /v1/proofs/trial-balance`, `{"balanced":true,"currencies":[{"currency":"KRW","entries":"0"}]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.TrialBalance(ctx) },
			func(v any) bool { return v.(client.TrialBalance).Currencies[0].Entries == "0" }},
		{`POST /v1/admin/clients {"name":"Till","scopes":["admin"]}`, `{"client_id":"t","client_secret":"s"}`,
			func(ctx context.Context, c *client.Client) (any, error) {
				return c.CreateClient(ctx, client.NewOAuthClient{Name: "Till", Scopes: []string{"admin"}})
			},
			func(v any) bool { return v.(client.OAuthClient).Secret == "s" }},
		{`GET /v1/admin/clients`, `{"clients":[{"client_id":"t"}]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Clients(ctx, client.Page{}) },
			func(v any) bool { return v.(client.OAuthClients).Clients[0].ClientID == "t" }},
		{`DELETE /v1/admin/clients/t`, ``,
			func(ctx context.Context, c *client.Client) (any, error) { return nil, c.DeleteClient(ctx, "t") },
			func(any) bool { return true }},
		{`POST /v1/admin/clients/t/rotate {}`, `{"client_id":"t","client_secret":null}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.RotateClient(ctx, "t") },
			func(v any) bool { return v.(string) == "" }},
		{`GET /v1/admin/nodes`, `{"nodes":[{"id":2,"alive":true}]}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Nodes(ctx) },
			func(v any) bool { return v.([]client.Node)[0].Alive }},
		{`GET /v1/admin/locks`, `{"servers":[{"address":"r","up":true}],"counts":{"held":3}}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.Locks(ctx) },
			func(v any) bool { return v.(client.Locks).Counts.Held == 3 }},
		{`GET /.well-known/lockstep`, `{"system":"alpha"}`,
			func(ctx context.Context, c *client.Client) (any, error) { return c.System(ctx) },
			func(v any) bool { return v.(client.System).System == "alpha" }},
	} {
		s := play(t, gives(200, test.answer))
		value, err := test.call(t.Context(), s.client())
		if err != nil || !test.is(value) {
			t.Errorf("%s: got %+v, %v", test.want, value, err)
		}
		got := s.requests()[0]
		line := got.method + " " + got.path
		if got.query != "" {
			line += "?" + got.query
		}
		if got.body != "" {
			line += " " + got.body
		}
		if line != test.want || (got.method == "POST") != (got.key != "") {
			t.Errorf("sent %s with key %q, want %s", line, got.key, test.want)
		}
		if anonymous := got.path == "/.well-known/lockstep"; anonymous != (got.token == "") {
			t.Errorf("%s: sent the token %q", test.want, got.token)
		}
	}
}

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
	wantUnknown(t, err)
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

// A call without a deadline does not go on for ever.
func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	always := make([]step, 10_000)
	for i := range always {
		always[i] = says(503, "overloaded", client.NotApplied, client.Later)
	}
	s := play(t, always...)
	_, err := s.client(func(c *client.Config) {
		c.AttemptTimeout, c.Patience = 50*time.Millisecond, 100*time.Millisecond
	}).Account(t.Context(), "a")
	var problem *client.Problem
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &problem) {
		t.Errorf("got %v", err)
	}
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
