package webhooks_test

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"lockstep/node/store"
	"lockstep/node/webhooks"
)

// reasonOf waits for the first failure and is its reason.
func (w *world) reasonOf(object string) (reason string) {
	w.Helper()
	w.eventually("a first attempt has failed", func() bool {
		must(w, w.admin.QueryRowContext(w.context(), "SELECT reason FROM webhook_deliveries WHERE object = ?", object).Scan(&reason))
		return reason != ""
	})
	return reason
}

// Nothing is sent to an address that is private, whatever name it has: not a byte reaches it, and the log does not tell what is
// there.
func TestAPrivateAddressIsNeverDialled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	var reached atomic.Int32
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			reached.Add(1)
			_ = conn.Close()
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	must(t, err)
	w.config.Allow = []netip.Prefix{netip.MustParsePrefix("127.9.0.0/16")} // another network is no leave for this one
	w.dispatch()
	for _, host := range []string{"localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "2130706433"} {
		for _, scheme := range []string{"https", "http"} {
			hook, _ := w.hook(scheme + "://" + host + ":" + port)
			w.tell(hook, scheme+host, "pending")
			if reason := w.reasonOf("hold:" + scheme + host); reason != webhooks.NoConnection {
				t.Errorf("%s://%s: %s", scheme, host, reason)
			}
		}
	}
	if reached.Load() > 0 {
		t.Errorf("a private address was dialled %d times", reached.Load())
	}
}

// Whoever makes webhooks does not learn from their log which names and ports there are in a network of ours, nor what speaks
// there; the node's log tells it.
func TestAFailureTellsTheOwnerLittle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var log bytes.Buffer
	w.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	serve := func(speak func(net.Conn)) string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
				speak(conn)
				t.Cleanup(func() { _ = conn.Close() })
			}
		}()
		return listener.Addr().String()
	}
	silent := serve(func(net.Conn) {})
	banner := serve(func(conn net.Conn) { _, _ = io.WriteString(conn, "SSH-2.0-internal\r\n") })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	must(t, closed.Close())
	untrusted := httptest.NewTLSServer(nil)
	t.Cleanup(untrusted.Close)
	d := w.dispatch()
	receivers := []struct{ url, reason, cause string }{
		{"https://10.0.0.1", webhooks.NoConnection, "private or reserved"},
		{"https://nothing.invalid", webhooks.NoConnection, "lookup nothing.invalid"},
		{"http://" + closed.Addr().String(), webhooks.NoConnection, "connection refused"},
		{"https://" + banner, webhooks.NoConnection, "does not look like a TLS handshake"},
		{"https://" + silent, webhooks.NoConnection, "deadline exceeded"},
		{"http://" + silent, "the receiver did not answer in time", "deadline exceeded"},
		{"http://" + banner, "the receiver broke off, or its answer is none", "SSH-2.0-internal"},
		{untrusted.URL, "the receiver's certificate is not trusted", "unknown authority"},
	}
	for _, r := range receivers {
		hook, _ := w.hook(r.url)
		w.tell(hook, r.url, "pending")
	}
	for _, r := range receivers {
		if reason := w.reasonOf("hold:" + r.url); reason != r.reason {
			t.Errorf("the owner of %s is told %q", r.url, reason)
		}
	}
	d.Close()
	for _, r := range receivers {
		if !strings.Contains(log.String(), r.cause) {
			t.Errorf("the node's log does not tell of %s: %s", r.url, r.cause)
		}
	}
}

// A redirect is a failure; where it leads nobody goes.
func TestARedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	detour := httptest.NewServer(http.RedirectHandler(r.URL, http.StatusFound))
	t.Cleanup(detour.Close)
	hook, secret := w.hook(detour.URL)
	r.trust(secret)
	w.dispatch()
	w.tell(hook, "h", "pending")
	if reason := w.reasonOf("hold:h"); !strings.Contains(reason, "302") {
		t.Errorf("the log says %q", reason)
	}
	w.eventually("it is tried again", func() bool {
		var attempts int
		must(t, w.admin.QueryRowContext(w.context(), "SELECT attempts FROM webhook_deliveries").Scan(&attempts))
		return attempts > 2
	})
	if _, requests, _ := r.seen(); requests > 0 || w.count(store.DeliveryDelivered) > 0 {
		t.Errorf("a redirect was followed %d times", requests)
	}
}

// A message is believed by who has its webhook's secret, and by nobody who has another one.
func TestOnlyTheWebhooksSecretVerifies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type message struct {
		header http.Header
		body   string
	}
	messages := make(chan message, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			messages <- message{r.Header, string(body)}
		}
	}))
	t.Cleanup(server.Close)
	hook, secret := w.hook(server.URL)
	_, another := w.hook(server.URL)
	w.dispatch()
	w.tell(hook, "h", "pending")
	got := <-messages
	verify := func(secret string, header http.Header, body string) error {
		verifier, err := standardwebhooks.NewWebhook(secret)
		must(t, err)
		return verifier.Verify([]byte(body), header)
	}
	if err := verify(secret, got.header, got.body); err != nil {
		t.Errorf("the right secret: %v", err)
	}
	if err := verify(another, got.header, got.body); err == nil {
		t.Error("another webhook's secret verifies")
	}
	if err := verify(secret, got.header, strings.Replace(got.body, "pending", "posted", 1)); err == nil {
		t.Error("another body verifies")
	}
	for _, name := range []string{"webhook-id", "webhook-timestamp"} {
		other := got.header.Clone()
		other.Set(name, strings.Replace(got.header.Get(name), "1", "2", 1))
		if err := verify(secret, other, got.body); err == nil {
			t.Errorf("another %s verifies", name)
		}
	}
}

func TestAURLThatNothingCanBeSentToIsRefused(t *testing.T) {
	t.Parallel()
	public, local := webhooks.DefaultConfig(), webhooks.DefaultConfig()
	local.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for url, want := range map[string][2]bool{ // allowed without and with a local network
		"https://shop.example.com/hooks": {true, true}, "https://shop.example.com:8443": {true, true}, "https://8.8.8.8/": {true, true},
		"http://shop.example.com": {false, true}, "http://127.0.0.1:1": {false, true}, "https://127.0.0.1:1": {false, true},
		"http://8.8.8.8/": {false, false}, "https://10.0.0.1": {false, false}, "https://192.168.0.1": {false, false}, "https://169.254.169.254/latest": {false, false},
		"https://[::1]": {false, false}, "https://[fd00::1]": {false, false}, "https://[fe80::1]": {false, false}, "https://[::ffff:10.0.0.1]": {false, false},
		"https://100.64.0.1": {false, false}, "https://[64:ff9b::a00:1]": {false, false}, "https://0.0.0.0": {false, false}, "https://224.0.0.1": {false, false},
		"ftp://shop.example.com": {false, false}, "https://": {false, false}, "shop.example.com": {false, false}, "https://u:p@shop.example.com": {false, false},
		"https://shop.example.com/#x": {false, false}, "https://shop.example.com/ x": {false, false}, "https://shop.example.com/" + strings.Repeat("x", 500): {false, false},
	} {
		if got := [2]bool{public.CheckURL(url) == nil, local.CheckURL(url) == nil}; got != want {
			t.Errorf("%s is allowed %v, want %v", url, got, want)
		}
	}
}

// Pauses double up to the longest, by chance shorter by up to half; the last attempt is at the end of the time.
func TestPausesGrow(t *testing.T) {
	t.Parallel()
	config, total := webhooks.DefaultConfig(), time.Duration(0)
	attempts := 1
	for ; ; attempts++ {
		longest, again := config.Pause(attempts, total, 0, 0)
		if !again {
			break
		}
		if shortest, _ := config.Pause(attempts, total, 0, 0.999999); attempts < 12 && (shortest < longest/2-time.Second || shortest > longest*6/10) {
			t.Errorf("after %d attempts the pause is from %v to %v", attempts, shortest, longest)
		}
		if attempts < 12 && longest != config.RetryMin<<(attempts-1) || longest > config.RetryMax {
			t.Errorf("after %d attempts the pause is %v", attempts, longest)
		}
		total += longest
	}
	if total != config.GiveUpAfter || attempts < 20 || attempts > 40 {
		t.Errorf("%d attempts take %v", attempts, total)
	}
	if pause, _ := config.Pause(1, 0, time.Hour, 0.5); pause != time.Hour {
		t.Errorf("a receiver that asks for an hour is left alone for %v", pause)
	}
	if pause, _ := config.Pause(1, 0, 1000*time.Hour, 0.5); pause != config.RetryMax {
		t.Errorf("a receiver that asks for weeks is left alone for %v", pause)
	}
}
