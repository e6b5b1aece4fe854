// Package client speaks to a Lockstep system over REST. It uses the standard library only.
//
// A change is sent under an Idempotency-Key until there is an answer that was decided under that key, through lost
// connections, restarts of nodes and expired tokens. So a method that changes something returns one of three: the
// result; a *Problem, when the change was refused and nothing happened; or an *UnknownError, when the context ended
// before anybody could say. The last carries the key: calling the method again with the same arguments and WithKey asks
// the same question, whenever and from whichever process, and the change happens at most once.
//
//	c, err := client.New(client.Config{BaseURL: "http://127.0.0.1:8080", ClientID: id, ClientSecret: secret})
//	defer c.Close()
//	transfer, err := c.Transfer(ctx, client.Payment{From: a, To: b, Amount: "1500", Currency: "KRW"})
package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Config says where the system is, who asks and how patiently.
type Config struct {
	BaseURL      string // of the system's balancer, or of a node
	ClientID     string
	ClientSecret string
	Scope        string // what tokens are asked for; empty: all that the client may do
	Language     string // of titles and details, as in Accept-Language; empty: English

	// HTTPClient is used as it is, but follows no redirect: a redirected POST is not the same request any more. Nil is
	// one with a connection pool of its own.
	HTTPClient *http.Client

	AttemptTimeout time.Duration // for one attempt; 0: 15 s, longer than a node lets a request wait
	Patience       time.Duration // for a whole call whose context has no deadline; 0: 2 min
	BackoffMin     time.Duration // before the first repeat; 0: 50 ms
	BackoffMax     time.Duration // before later repeats, but for a longer Retry-After; 0: 2 s

	// NewKey makes idempotency keys; nil: 128 random bits.
	NewKey func() string
	// Wait waits until the time is over or ctx ends, and then returns its error; nil: by a timer.
	Wait func(ctx context.Context, d time.Duration) error
	// Clock is the present; nil: time.Now.
	Clock func() time.Time
	// Observe, when set, hears of every attempt after it ended. It must not block.
	Observe func(Attempt)
}

// Attempt is one request and what came of it.
type Attempt struct {
	Method, Path string
	Key          string // the idempotency key; empty for reads
	Status       int    // 0: no answer
	Code         string // of a problem
	Replayed     bool   // the answer is that of an earlier request with the key
	RequestID    string
	Err          error // why there was no answer
	Took         time.Duration
}

func (c Config) withDefaults() (Config, error) {
	base, err := url.Parse(c.BaseURL)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" || base.RawQuery != "" {
		return Config{}, fmt.Errorf("client: the base URL %q is not like https://pay.example.com", c.BaseURL)
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	if c.ClientID == "" || c.ClientSecret == "" {
		return Config{}, errors.New("client: a client id and a client secret are needed")
	}
	setDefault(&c.AttemptTimeout, 15*time.Second)
	setDefault(&c.Patience, 2*time.Minute)
	setDefault(&c.BackoffMin, 50*time.Millisecond)
	setDefault(&c.BackoffMax, 2*time.Second)
	if c.AttemptTimeout < 0 || c.Patience < c.AttemptTimeout || c.BackoffMin < 0 || c.BackoffMax < c.BackoffMin {
		return Config{}, errors.New("client: patience must be at least one attempt, and the longest backoff at least the shortest")
	}
	if c.NewKey == nil {
		c.NewKey = rand.Text
	}
	if c.Wait == nil {
		c.Wait = wait
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	c.HTTPClient = withoutRedirects(c.HTTPClient)
	return c, nil
}

func setDefault(field *time.Duration, value time.Duration) {
	if *field == 0 {
		*field = value
	}
}

// withoutRedirects copies the caller's client, or makes one.
func withoutRedirects(given *http.Client) *http.Client {
	client := http.Client{}
	if given != nil {
		client = *given
	} else if transport, ok := http.DefaultTransport.(*http.Transport); ok {
		transport = transport.Clone()
		transport.MaxIdleConnsPerHost = 64
		client.Transport = transport
	}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Client calls one system. It is safe for concurrent use.
type Client struct {
	config Config
	tokens *tokens
	seen   *seen
}

// New makes a client; it sends nothing yet.
func New(config Config) (*Client, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client{config: config, tokens: newTokens(config), seen: &seen{}}, nil
}

// Close closes the idle connections of the client and its sessions; a client may be used again afterwards.
func (c *Client) Close() { c.config.HTTPClient.CloseIdleConnections() }

// Session is a view of the client that reads its own writes apart from all others'. Reads of a client see every change
// that the same client was told of. When changes overlap, nobody can say which of them is the latest, and reads go to
// the system's source until a later change ends; a session for each user's request keeps reads on the replicas.
func (c *Client) Session() *Client {
	return &Client{config: c.config, tokens: c.tokens, seen: &seen{}}
}

// Option changes one call.
type Option func(*call)

// WithKey goes on with a change that may have been sent under this key before, as the key of an *UnknownError was, or
// one that was stored before a crash. The arguments must be those that the key stands for. A refusal that says nothing
// about earlier requests (400 or 403, say) comes as an *UnknownError that wraps the *Problem.
func WithKey(key string) Option {
	return func(c *call) { c.key, c.keyGiven, c.resumed = key, true, true }
}

// WithNewKey sends a change under a key of the caller's that nothing was sent under yet. Store it beforehand, to go on
// with it by WithKey after a crash.
func WithNewKey(key string) Option {
	return func(c *call) { c.key, c.keyGiven, c.resumed = key, true, false }
}

// Fresh makes a read go to the source of the system.
func Fresh() Option {
	return func(c *call) { c.fresh = true }
}

// backoff is the pause before attempt n+1: at random up to a bound that doubles, so that many callers do not come back
// at the same moment.
func (c *Client) backoff(attempt int) time.Duration {
	most := c.config.BackoffMax
	if attempt < 16 {
		most = min(most, c.config.BackoffMin<<(attempt-1))
	}
	if most <= 0 {
		return 0
	}
	random, err := rand.Int(rand.Reader, big.NewInt(int64(most)))
	if err != nil {
		return most
	}
	return time.Duration(random.Int64())
}
