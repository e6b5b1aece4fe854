package peers

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/api/httpsig"
	"lockstep/cluster/traces"
)

// Bounds of what is asked of a peer.
const (
	requestMax   = 2 * time.Second // one request and its answer
	flyingMax    = 4               // requests of a kind under way to one peer
	answerMax    = 1 << 20         // bytes
	questionsMax = 60 << 10        // bytes of what one request asks; a peer takes bodies of 64 KiB
	worthFlying  = 128             // prepares that make a request while another one is under way
	patienceMax  = 50 * time.Millisecond
	breakerAfter = 5 // failures in a row, and a peer is left alone
	breakerPause = time.Second
)

// ErrUnavailable says that a peer gave no answer that can be believed. What was asked may have happened there or not.
var ErrUnavailable = errors.New("peers: no answer of the peer that can be believed")

// ErrRefused says that a peer has answered, signed, that it will not do what it was asked.
var ErrRefused = errors.New("peers: the peer refuses the request")

// ErrUnknownPeer says that this system knows no such peer.
var ErrUnknownPeer = errors.New("peers: there is no such peer")

// Client asks peers. It is safe for many goroutines.
type Client struct {
	directory *Directory
	epoch     func() int64 // of this system
	http      *http.Client
	https     bool // and nothing else
	metrics   clientMetrics

	mu    sync.Mutex
	lines map[string]*line
}

// line is the way to one peer.
type line struct {
	breaker  circuitbreaker.CircuitBreaker[any]
	prepares combiner[Transfer, PrepareResult]
	last     atomic.Pointer[Contact]
}

// Contact is how a request to a peer ended.
type Contact struct {
	At  time.Time // by the node's own clock
	Err error     // nil when the peer gave an answer that can be believed, a refusal included
}

// Last is how this node's latest request to a peer ended; false when it has sent none.
func (c *Client) Last(peer string) (Contact, bool) {
	if last := c.line(peer).last.Load(); last != nil {
		return *last, true
	}
	return Contact{}, false
}

type clientMetrics struct {
	requests *prometheus.CounterVec
	items    prometheus.Histogram
}

// NewClient makes a client; nothing is sent yet.
func NewClient(directory *Directory, epoch func() int64, registry prometheus.Registerer) *Client {
	c := &Client{
		directory: directory, epoch: epoch, lines: map[string]*line{},
		http: &http.Client{
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: requestMax / 2}).DialContext,
				MaxIdleConnsPerHost: 2 * flyingMax, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		metrics: clientMetrics{
			requests: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "lockstep_peer_requests_total", Help: "Signed requests to peers, by what became of them.",
			}, []string{"peer", "outcome"}),
			items: prometheus.NewHistogram(prometheus.HistogramOpts{
				Name: "lockstep_peer_prepares_per_request", Help: "Prepares that travelled in one signed request.",
				Buckets: prometheus.ExponentialBuckets(1, 2, 9),
			}),
		},
	}
	registry.MustRegister(c.metrics.requests, c.metrics.items)
	return c
}

// Secure makes connections to https addresses believe what config says, such as a pinned authority, and returns c. nil
// stands for the machine's authorities. With a config that is not nil, addresses that are not https are not asked. It has
// to be called before the first request.
func (c *Client) Secure(config *tls.Config) *Client {
	if config == nil {
		return c
	}
	transport := c.http.Transport.(*http.Transport)
	transport.TLSClientConfig, transport.TLSHandshakeTimeout = config, requestMax/2
	c.https = true
	return c
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) line(peer string) *line {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, there := c.lines[peer]
	if !there {
		found = &line{breaker: circuitbreaker.NewBuilder[any]().WithFailureThreshold(breakerAfter).WithDelay(breakerPause).Build()}
		found.prepares.limit, found.prepares.bytesMax, found.prepares.size = flyingMax, questionsMax, sizeOf
		found.prepares.worth, found.prepares.patience = worthFlying, patienceMax
		found.prepares.onBatch = func(items int) { c.metrics.items.Observe(float64(items)) }
		found.prepares.ask = func(ctx context.Context, transfers []Transfer) ([]PrepareResult, error) {
			return c.prepare(ctx, peer, transfers)
		}
		for _, outcome := range []string{"answered", "refused", "failed", "left alone"} {
			c.metrics.requests.WithLabelValues(peer, outcome) // at 0, so that the first failure shows
		}
		c.lines[peer] = found
	}
	return found
}

// sizeOf is how long a prepare is in a request, with what stands between it and the next.
func sizeOf(transfer Transfer) int {
	text, err := json.Marshal(transfer)
	if err != nil {
		panic(fmt.Sprintf("peers: marshal a prepare: %v", err)) // texts and numbers always marshal
	}
	return len(text) + 1
}

// Prepare asks for a promise, together with others that are asked for at the same time. Only a Refused result is a
// refusal; an error is an unknown outcome.
func (c *Client) Prepare(ctx context.Context, peer string, transfer Transfer) (PrepareResult, error) {
	ctx, span := traces.Start(ctx, "ask", traces.Inside)
	defer span.End()
	span.Note("lockstep.peer", peer)
	transfer.Trace = traces.Parent(ctx)
	result, err := c.line(peer).prepares.do(ctx, transfer)
	span.Note("lockstep.state", result.State)
	span.Note("lockstep.code", result.Code)
	span.Fail(failureOf(err))
	return result, err
}

// routeOf is the part of a path that names no account and no transfer: /peer/v1/ and a word.
func routeOf(path string) string {
	const prefix = "/peer/v1/"
	end := strings.IndexAny(path[len(prefix):], "/?")
	if end < 0 {
		return path
	}
	return path[:len(prefix)+end]
}

// failureOf is what a span says of an error of ours: its text may repeat what a peer has said.
func failureOf(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrRefused):
		return "refused"
	case errors.Is(err, ErrUnknownPeer):
		return "unknown peer"
	}
	return "unavailable"
}

func (c *Client) prepare(ctx context.Context, peer string, transfers []Transfer) ([]PrepareResult, error) {
	var answer PrepareAnswer
	err := c.post(ctx, peer, "/peer/v1/transfers", PrepareRequest{Epoch: c.epoch(), Transfers: transfers}, &answer)
	if err != nil {
		return nil, err
	}
	if len(answer.Results) != len(transfers) {
		return nil, fmt.Errorf("%w: %d results for %d transfers", ErrUnavailable, len(answer.Results), len(transfers))
	}
	for i, result := range answer.Results {
		if result.ID != transfers[i].ID {
			return nil, fmt.Errorf("%w: the results are in another order", ErrUnavailable)
		}
	}
	return answer.Results, nil
}

// Inquire asks how transfers stand that one of the two systems pays. The answer's epoch is the one in which it holds.
func (c *Client) Inquire(ctx context.Context, peer, payer, ifUnknown string, ids ...string) (InquiryAnswer, error) {
	var answer InquiryAnswer
	request := InquiryRequest{Epoch: c.epoch(), Payer: payer, IDs: ids, IfUnknown: ifUnknown}
	if err := c.post(ctx, peer, "/peer/v1/inquiries", request, &answer); err != nil {
		return answer, err
	}
	if len(answer.Results) != len(ids) {
		return answer, fmt.Errorf("%w: %d results for %d ids", ErrUnavailable, len(answer.Results), len(ids))
	}
	for i, result := range answer.Results {
		if result.ID != ids[i] {
			return answer, fmt.Errorf("%w: the results are in another order", ErrUnavailable)
		}
	}
	return answer, nil
}

// TellEpoch tells a peer in which epoch this system is, and returns when it has noted it.
func (c *Client) TellEpoch(ctx context.Context, peer string) (theirs int64, err error) {
	var answer EpochAnswer
	err = c.post(ctx, peer, "/peer/v1/epoch", EpochRequest{Epoch: c.epoch()}, &answer)
	return answer.Epoch, err
}

// Payee asks who would be paid. A number that the peer does not know is false.
func (c *Client) Payee(ctx context.Context, peer, number string) (PayeeAnswer, bool, error) {
	var answer PayeeAnswer
	err := c.get(ctx, peer, "/peer/v1/payees/"+url.PathEscape(number), nil, &answer)
	return answer, err == nil && answer.Number == number, err
}

// List reads a page of the transfers between the two systems that payer pays, as the peer knows them.
func (c *Client) List(ctx context.Context, peer, payer, cursor string, limit int) (ListAnswer, error) {
	var answer ListAnswer
	query := url.Values{"payer": {payer}, "limit": {strconv.Itoa(limit)}}
	if cursor != "" {
		query.Set("cursor", cursor)
	}
	return answer, c.get(ctx, peer, "/peer/v1/transfers", query, &answer)
}

// Digest asks what stands for the transfers that payer pays, above one id and up to another, as the peer knows them.
func (c *Client) Digest(ctx context.Context, peer, payer, after, until string) (DigestAnswer, error) {
	var answer DigestAnswer
	query := url.Values{"payer": {payer}, "until": {until}}
	if after != "" {
		query.Set("after", after)
	}
	return answer, c.get(ctx, peer, "/peer/v1/digest", query, &answer)
}

func (c *Client) post(ctx context.Context, peer, path string, question, answer any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("encode a question to %s: %w", peer, err)
	}
	return c.call(ctx, peer, http.MethodPost, path, body, answer)
}

func (c *Client) get(ctx context.Context, peer, path string, query url.Values, answer any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.call(ctx, peer, http.MethodGet, path, nil, answer)
}

// call makes one signed request, and believes only an answer that the peer has signed to it.
func (c *Client) call(ctx context.Context, peer, method, path string, body []byte, answer any) error {
	known, found := c.directory.Peer(peer)
	if !found {
		return fmt.Errorf("%w: %s", ErrUnknownPeer, peer)
	}
	breaker := c.line(peer).breaker
	if !breaker.TryAcquirePermit() {
		c.metrics.requests.WithLabelValues(peer, "left alone").Inc()
		return fmt.Errorf("%w: %s has just failed several times", ErrUnavailable, peer)
	}
	ctx, cancel := context.WithTimeout(ctx, requestMax)
	defer cancel()
	ctx, span := traces.Start(ctx, routeOf(path), traces.Client)
	defer span.End()
	err := c.exchange(ctx, known, method, path, body, answer)
	span.Note("lockstep.peer", peer)
	span.Fail(failureOf(err))
	outcome, contact := "answered", Contact{At: time.Now()}
	if whole := (errRefusedWhole{}); err != nil && !errors.As(err, &whole) {
		breaker.RecordFailure()
		outcome, contact.Err = "failed", err
	} else {
		breaker.RecordSuccess()
		if err != nil {
			outcome = "refused"
		}
	}
	c.line(peer).last.Store(&contact)
	c.metrics.requests.WithLabelValues(peer, outcome).Inc()
	return err
}

func (c *Client) exchange(ctx context.Context, peer Peer, method, path string, body []byte, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, peer.BaseURL+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask %s: %w", peer.ID, err)
	}
	if c.https && request.URL.Scheme != "https" {
		return fmt.Errorf("ask %s: its address %s is not https, which peers.tls insists on", peer.ID, peer.BaseURL)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", uuid.NewString()) // of this body; each transfer's id carries its own
	}
	// Not signed: what stands between two systems may take part in a trace and change it, and nobody decides by it.
	if parent := traces.Parent(ctx); parent != "" {
		request.Header.Set("traceparent", parent)
	}
	signed, err := c.directory.Signer().SignHTTP(request, body)
	if err != nil {
		return fmt.Errorf("sign a request to %s: %w", peer.ID, err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, peer.ID, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerMax+1))
	if err != nil || len(text) > answerMax {
		return fmt.Errorf("%w: %s: the answer could not be read: %w", ErrUnavailable, peer.ID, err)
	}
	verified, err := httpsig.Verifier{Keys: c.directory.Key}.VerifyResponse(signed, httpsig.FromHTTPResponse(response, text))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %s answered %d: %w", ErrUnavailable, peer.ID, response.StatusCode, err)
	case verified.Peer != peer.ID:
		return fmt.Errorf("%w: %s answered for %s", ErrUnavailable, verified.Peer, peer.ID)
	case response.StatusCode >= 500 || response.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %s answered %d", ErrUnavailable, peer.ID, response.StatusCode)
	case response.StatusCode != http.StatusOK:
		return errRefusedWhole{fmt.Errorf("%w: %s answered %d: %.200s", ErrRefused, peer.ID, response.StatusCode, text)}
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnavailable, peer.ID, err)
	}
	return nil
}
