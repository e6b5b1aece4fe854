package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"
)

// Bounds of what is asked of a provider.
const (
	providerWaitMax  = 5 * time.Second // for one answer
	providerBytesMax = 1 << 20         // of one answer
)

// signatures are the algorithms that an ID token may be signed with. None and the HMACs, whose key would be the client's
// secret, or the provider's public key for those who mix them up, are not among them whatever the provider offers.
var signatures = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}

// endpoints are what a provider says about itself (OpenID Connect Discovery 1.0, 3), as far as we use it.
type endpoints struct {
	discovered    *oidc.Provider
	oauth         oauth2.Endpoint
	keys          *oidc.RemoteKeySet
	keysURL       string
	algorithms    []string
	answersIssuer bool // in its authorization answers (RFC 9207, 3)
}

// provider is the OpenID provider as this node last saw it.
type provider struct {
	issuer string
	client *http.Client
	asking singleflight.Group

	mu   sync.Mutex
	last *endpoints // nil: it never answered
}

func newProvider(issuer string) *provider {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: providerWaitMax, IdleConnTimeout: 30 * time.Second,
		MaxIdleConnsPerHost: 4, ForceAttemptHTTP2: true,
	}
	return &provider{issuer: issuer, client: &http.Client{
		Timeout: providerWaitMax, Transport: guarded{transport},
		// Who is redirected could be led to any address inside the network, with the client's secret in hand.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// context makes the libraries use our client, and no longer than they should.
func (p *provider) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, p.client)
}

// known is what the provider said last; one that was never asked is asked now.
func (p *provider) known(ctx context.Context) (*endpoints, error) {
	p.mu.Lock()
	last := p.last
	p.mu.Unlock()
	if last != nil {
		return last, nil
	}
	return p.ask(ctx)
}

// ask has the provider say anew what it is. Those who ask at once share one question.
func (p *provider) ask(ctx context.Context) (*endpoints, error) {
	shared := p.asking.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), providerWaitMax)
		defer cancel()
		return p.discover(ctx)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("ask the provider: %w", errors.Join(errAway, ctx.Err()))
	case answer := <-shared:
		if answer.Err != nil {
			return nil, answer.Err
		}
		return answer.Val.(*endpoints), nil
	}
}

func (p *provider) discover(ctx context.Context) (*endpoints, error) {
	discovered, err := oidc.NewProvider(p.context(ctx), p.issuer)
	if err != nil {
		return nil, fmt.Errorf("discover the provider: %w", errors.Join(errAway, err)) // a wrong document is no better than none
	}
	var said struct {
		KeysURL       string   `json:"jwks_uri"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
		AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
		AnswersIssuer bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := discovered.Claims(&said); err != nil {
		return nil, fmt.Errorf("discover the provider: %w", errors.Join(errAway, err))
	}
	found := &endpoints{discovered: discovered, oauth: discovered.Endpoint(), keysURL: said.KeysURL, answersIssuer: said.AnswersIssuer}
	for _, address := range []string{found.oauth.AuthURL, found.oauth.TokenURL, discovered.UserInfoEndpoint(), said.KeysURL} {
		if !private(address) {
			return nil, fmt.Errorf("discover the provider: %w: its address %q is not to be trusted", errAway, address)
		}
	}
	// The library would find out by trying, and a code that was tried is used up.
	found.oauth.AuthStyle = oauth2.AuthStyleInHeader
	if len(said.AuthMethods) > 0 && !slices.Contains(said.AuthMethods, "client_secret_basic") {
		found.oauth.AuthStyle = oauth2.AuthStyleInParams
	}
	for _, algorithm := range said.Algorithms {
		if slices.Contains(signatures, algorithm) {
			found.algorithms = append(found.algorithms, algorithm)
		}
	}
	p.remember(found)
	return found, nil
}

// remember keeps the keys that are known while their address is the same: they are read anew when an unknown one signs.
func (p *provider) remember(found *endpoints) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != nil && p.last.keysURL == found.keysURL {
		found.keys = p.last.keys
	} else {
		found.keys = oidc.NewRemoteKeySet(p.context(context.Background()), found.keysURL)
	}
	p.last = found
}

// errAway says that the provider cannot be asked, which says nothing about the person.
var errAway = errors.New("the provider does not answer")

func away(err error) bool {
	return errors.Is(err, errAway) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// guarded bounds a provider's answers, and tells one that is broken from one that refuses.
type guarded struct{ next http.RoundTripper }

func (g guarded) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := g.next.RoundTrip(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAway, err)
	}
	if answer.StatusCode >= http.StatusInternalServerError || answer.StatusCode == http.StatusTooManyRequests {
		answer.Body.Close()
		return nil, fmt.Errorf("%w: status %d", errAway, answer.StatusCode)
	}
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, providerBytesMax), answer.Body}
	return answer, nil
}

// CloseIdleConnections is what the client's own method looks for.
func (g guarded) CloseIdleConnections() {
	if idle, ok := g.next.(interface{ CloseIdleConnections() }); ok {
		idle.CloseIdleConnections()
	}
}

// witness remembers why keys could not be read: the library keeps the text of the error, and not the error.
type witness struct {
	keys    oidc.KeySet
	failure error
}

func (w *witness) VerifySignature(ctx context.Context, jwt string) ([]byte, error) {
	payload, err := w.keys.VerifySignature(ctx, jwt)
	w.failure = err
	return payload, err
}
