package webhooks

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// ErrRefused says that an address is none that may be sent to.
var ErrRefused = errors.New("the address is private or reserved, and not allowed here")

// guard decides which addresses may be dialled. It is asked about the address of each connection and not about a name, which
// may mean another address by then.
type guard struct {
	allow  []netip.Prefix
	public *ssrf.Guardian
}

func newGuard(allow []netip.Prefix) *guard {
	return &guard{allow: allow, public: ssrf.New(ssrf.WithAnyPort())}
}

// allowed tells whether the address is in a network that the configuration names.
func (g *guard) allowed(address netip.Addr) bool {
	address = address.Unmap().WithZone("")
	return slices.ContainsFunc(g.allow, func(network netip.Prefix) bool { return network.Contains(address) })
}

// check refuses what may not be dialled; plain connections go to allowed networks only.
func (g *guard) check(address netip.Addr, plain bool) error {
	switch {
	case g.allowed(address):
		return nil
	case plain, g.public.SafeAddr(address.Unmap()) != nil:
		return fmt.Errorf("%w: %s", ErrRefused, address)
	}
	return nil
}

// control is asked by a dialler about each connection.
func (g *guard) control(plain bool) func(network, address string, _ syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		target, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("%w: %s", ErrRefused, address)
		}
		return g.check(target.Addr(), plain)
	}
}

// urlMax is how long a webhook's URL may be.
const urlMax = 500

// CheckURL refuses, in words for whoever gave it, a URL that nothing can be sent to. A name is looked up only when something is sent.
func (c Config) CheckURL(text string) error {
	target, err := url.Parse(text)
	switch {
	case err != nil || len(text) > urlMax || target.Hostname() == "" || target.User != nil || target.Fragment != "" || !printable(text):
		return fmt.Errorf("a URL is like https://shop.example.com/hooks, without user and fragment, and at most %d characters long", urlMax)
	case target.Scheme != "https" && (target.Scheme != "http" || len(c.Allow) == 0):
		return errors.New("a URL begins with https://")
	}
	if address, err := netip.ParseAddr(target.Hostname()); err == nil {
		return newGuard(c.Allow).check(address, target.Scheme == "http")
	}
	return nil
}

func printable(text string) bool {
	return !slices.ContainsFunc([]byte(text), func(b byte) bool { return b <= ' ' || b >= 0x7f })
}

// sender sends single messages.
type sender struct {
	secure, plain *http.Client
	clock         func() time.Time
}

func newSender(config Config, clock func() time.Time) *sender {
	guard := newGuard(config.Allow)
	client := func(plain bool) *http.Client {
		dialer := &net.Dialer{Timeout: config.Timeout, Control: guard.control(plain)}
		return &http.Client{
			Transport: &http.Transport{ // no proxy: the guard would see only its address
				DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConns: config.WorkersMax, MaxIdleConnsPerHost: config.ShareMax,
				IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: config.Timeout, MaxResponseHeaderBytes: 16 << 10,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return &sender{secure: client(false), plain: client(true), clock: clock}
}

func (s *sender) close() {
	s.secure.CloseIdleConnections()
	s.plain.CloseIdleConnections()
}

// answerMax is how much of an answer's body is read, so that the connection can be used again; nothing of it is kept.
const answerMax = 64 << 10

// answered is what a receiver has said.
type answered struct {
	status int
	after  time.Duration // its Retry-After
}

// send posts a payload. Its error is nil only for a status of success; a redirect is none.
func (s *sender) send(ctx context.Context, to, id string, payload, secret []byte) (answered, error) {
	connected := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(payload))
	if err != nil {
		return answered{}, plainly(err, connected)
	}
	timestamp := strconv.FormatInt(s.clock().Unix(), 10)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "Lockstep-Webhooks/1")
	request.Header.Set("webhook-id", id)
	request.Header.Set("webhook-timestamp", timestamp)
	request.Header.Set("webhook-signature", sign(secret, id, timestamp, payload))
	request.GetBody = nil // an attempt is one request: the transport is not to send it again by itself
	client := s.secure
	if request.URL.Scheme == "http" {
		client = s.plain
	}
	response, err := client.Do(request)
	if err != nil {
		return answered{}, plainly(err, connected)
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, answerMax))
	said := answered{status: response.StatusCode, after: retryAfter(response.Header.Get("Retry-After"))}
	switch status := response.StatusCode; {
	case status >= 200 && status < 300:
		return said, nil
	case status >= 300 && status < 400:
		return said, fmt.Errorf("the receiver answered %d; redirects are not followed", status)
	default:
		return said, fmt.Errorf("the receiver answered %d", status)
	}
}

// sign is the signature scheme v1 of Standard Webhooks: HMAC-SHA256 over id, time and payload.
func sign(secret []byte, id, timestamp string, payload []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(payload)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// retryAfter reads the seconds of a Retry-After; other forms count as none.
func retryAfter(text string) time.Duration {
	const secondsMax = 7 * 24 * 3600
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, secondsMax)) * time.Second
}

// failure is why a request has got no answer: its text is for the webhook's owner, its cause for the node's log alone.
type failure struct {
	reason string
	cause  error
}

func (f *failure) Error() string { return f.reason }

func (f *failure) Unwrap() error { return f.cause }

// NoConnection is all that the owner of a webhook hears of a receiver that there was no connection to: whether its name means no
// address or one that is refused, and whether a port is closed or silent, would tell what there is in a private network.
const NoConnection = "no connection"

// plainly is an error of a request in words for the webhook's owner.
func plainly(err error, connected bool) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) { // it quotes the URL, which may have a secret
		err = wrapped.Err
	}
	var untrusted *tls.CertificateVerificationError
	var late net.Error
	switch {
	case errors.As(err, &untrusted):
		return &failure{"the receiver's certificate is not trusted", err}
	case !connected:
		return &failure{NoConnection, err}
	case errors.As(err, &late) && late.Timeout():
		return &failure{"the receiver did not answer in time", err}
	}
	return &failure{"the receiver broke off, or its answer is none", err}
}
