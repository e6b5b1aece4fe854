package httpsig_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"lockstep/api/httpsig"
)

// fields makes a header of fasthttp one of ours.
type fields struct {
	values func(string) [][]byte
	set    func(string, string)
}

func (f fields) Values(name string) []string {
	var lines []string
	for _, line := range f.values(name) {
		lines = append(lines, string(line))
	}
	return lines
}

func (f fields) Set(name, value string) { f.set(name, value) }

// wire is the peer beta as a real server, and a client of alpha with real clocks.
type wire struct {
	*scene
	url    string
	client *http.Client
}

func newWire(t testing.TB, serve func(w *wire, listener net.Listener)) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{scene: newScene(), url: "http://" + listener.Addr().String()}
	w.signer.Clock, w.answerer.Clock, w.verifier.Clock = nil, nil, nil
	w.verifier.Authorities = []string{listener.Addr().String()}
	transport := &http.Transport{DisableCompression: true}
	w.client = &http.Client{Transport: transport, Timeout: 10 * time.Second}
	t.Cleanup(transport.CloseIdleConnections)
	serve(w, listener)
	return w
}

// overNetHTTP answers with net/http, overFasthttp with the library under fiber.
func overNetHTTP(t testing.TB) *wire {
	return newWire(t, func(w *wire, listener net.Listener) {
		server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			verified, err := w.verifier.VerifyRequest(r.Context(), httpsig.FromHTTP(r, body))
			if err != nil {
				http.Error(rw, err.Error(), http.StatusUnauthorized)
				return
			}
			echo := []byte(r.RequestURI + " " + string(body))
			rw.Header().Set("Content-Type", "text/plain")
			response := httpsig.Response{Status: http.StatusAccepted, Header: rw.Header(), Body: echo}
			if err := w.answerer.SignResponse(verified, response); err != nil {
				t.Error(err)
			}
			rw.WriteHeader(response.Status)
			_, _ = rw.Write(echo)
		})}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
	})
}

func overFasthttp(t testing.TB) *wire {
	return newWire(t, func(w *wire, listener net.Listener) {
		server := &fasthttp.Server{Handler: func(c *fasthttp.RequestCtx) {
			path, query, _ := strings.Cut(string(c.Request.Header.RequestURI()), "?")
			verified, err := w.verifier.VerifyRequest(context.Background(), httpsig.Request{
				Method: string(c.Method()), Authority: string(c.Request.Header.Host()), Path: path, RawQuery: query,
				Header: fields{c.Request.Header.PeekAll, c.Request.Header.Set}, Body: c.Request.Body(),
			})
			if err != nil {
				c.Error(err.Error(), http.StatusUnauthorized)
				return
			}
			c.SetStatusCode(http.StatusAccepted)
			c.SetContentType("text/plain")
			c.SetBodyString(string(c.Request.Header.RequestURI()) + " " + string(c.Request.Body()))
			err = w.answerer.SignResponse(verified, httpsig.Response{
				Status: c.Response.StatusCode(), Header: fields{c.Response.Header.PeekAll, c.Response.Header.Set}, Body: c.Response.Body(),
			})
			if err != nil {
				t.Error(err)
			}
		}}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Shutdown() })
	})
}

// send signs a request, sends it and verifies its answer.
func (w *wire) send(t testing.TB, method, target, body string) (string, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, w.url+target, nil)
	must(t, err)
	request.Header.Set("Idempotency-Key", "5d0c6f4e")
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	signed, err := w.signer.SignHTTP(request, []byte(body))
	must(t, err)
	response, err := w.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(t, err)
	verified, err := w.verifier.VerifyResponse(signed, httpsig.FromHTTPResponse(response, text))
	if err == nil && (verified.Peer != "beta" || response.StatusCode != http.StatusAccepted) {
		t.Errorf("%s answered %d", verified.Peer, response.StatusCode)
	}
	return string(text), err
}

// What net/http sends is what both servers verify, and what they answer is what it verifies.
func TestSignaturesHoldOverTheWire(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *wire{"net/http": overNetHTTP, "fasthttp": overFasthttp} {
		w := start(t)
		for _, target := range []string{
			"/", "/peer/v1/transfers", "/peer/v1/transfers?since=1&limit=2", "/a%2Fb/%c3%a9~?x=%20+;&y", "//a/../b", "/?", "/?a?b", "/%3F",
		} {
			for method, body := range map[string]string{"GET": "", "POST": `{"a": 1}`, "DELETE": "", "PUT": strings.Repeat("x", 1<<20)} {
				text, err := w.send(t, method, target, body)
				if err != nil || text != target+" "+body {
					t.Errorf("%s: %s %s answers %.100q: %v", name, method, target, text, err)
				}
			}
		}
		// A POST without a body is signed and answered too.
		if _, err := w.send(t, "POST", "/", ""); err != nil {
			t.Errorf("%s: POST without a body: %v", name, err)
		}
		w.answerer.Private = keyOf("mallory")
		_, err := w.send(t, "POST", "/", "{}")
		wantError(t, name+" answers with another key", err, httpsig.ErrInvalid)
		w.signer.KeyID = "mallory"
		text, err := w.send(t, "POST", "/", "{}")
		wantError(t, name+" refuses: "+text, err, httpsig.ErrUnsigned)
		if !strings.HasPrefix(text, httpsig.ErrUnknownKey.Error()) {
			t.Errorf("%s answers %q", name, text)
		}
	}
}

// The server reads what travelled, also where a parsed URL would be escaped anew.
func TestAServerReadsThePathAsItTravelled(t *testing.T) {
	t.Parallel()
	for line, want := range map[string][2]string{
		`/a"b/%7e%2F?q="x"`: {`/a"b/%7e%2F`, `q="x"`}, "/a?": {"/a", ""}, "/a?b?c": {"/a", "b?c"}, "http://other.example/a%2f?b": {"/a%2f", "b"},
		"//a//b": {"//a//b", ""},
	} {
		text := "GET " + line + " HTTP/1.1\r\nHost: Beta.Example:80\r\n\r\n"
		request, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		must(t, err)
		got := httpsig.FromHTTP(request, nil)
		if got.Path != want[0] || got.RawQuery != want[1] || got.Method != "GET" {
			t.Errorf("%s is read as %+v", line, got)
		}
		if host := "beta.example"; !strings.HasPrefix(line, "http") && got.Authority != host {
			t.Errorf("%s is read for %s", line, got.Authority)
		}
	}
}

// The port is left out where the scheme implies it, in what is signed and in what is sent.
func TestTheAuthorityIsSentAsItIsSigned(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"https://Beta.Example:443/": "beta.example", "http://beta.example:80/": "beta.example", "http://beta.example:443/": "beta.example:443",
		"https://beta.example:8443/": "beta.example:8443", "https://[::1]:443/": "[::1]", "https://beta.example": "beta.example",
	} {
		request, err := http.NewRequestWithContext(t.Context(), "", address, nil)
		must(t, err)
		signed, err := newScene().signer.SignHTTP(request, nil)
		must(t, err)
		if signed.Authority != want || request.Host != want || signed.Method != "GET" {
			t.Errorf("%s: signed for %s, sent to %s", address, signed.Authority, request.Host)
		}
	}
	behind := httptest.NewRequestWithContext(t.Context(), "GET", "/", nil)
	behind.Host, behind.TLS = "Beta.Example:443", &tls.ConnectionState{}
	if got := httpsig.FromHTTP(behind, nil).Authority; got != "beta.example" {
		t.Errorf("a server with TLS reads %s", got)
	}
	bare := &http.Request{Method: "GET", Host: "beta.example", URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}}
	signed, err := newScene().signer.SignHTTP(bare, nil)
	must(t, err)
	if signed.Authority != "beta.example" || bare.Header.Get("Signature") == "" {
		t.Errorf("a request made by hand is signed as %+v", signed)
	}
}

// The transport would send a POST with an Idempotency-Key again when its connection breaks: the same nonce twice.
func TestASignedPostIsNotResent(t *testing.T) {
	t.Parallel()
	var posts atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if r.Method == "POST" {
			posts.Add(1)
			panic(http.ErrAbortHandler) // the connection ends without an answer
		}
	}))
	defer server.Close()
	client := server.Client()
	response, err := client.Get(server.URL) // opens a connection that the POST finds idle
	must(t, err)
	_, _ = io.Copy(io.Discard, response.Body)
	must(t, response.Body.Close())

	request, err := http.NewRequestWithContext(t.Context(), "POST", server.URL, strings.NewReader(body))
	must(t, err)
	request.Header = http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {"5d0c6f4e"}}
	_, err = newScene().signer.SignHTTP(request, []byte(body))
	must(t, err)
	response, err = client.Do(request)
	if err == nil {
		_ = response.Body.Close()
	}
	if sent := posts.Load(); sent != 1 || !errors.Is(err, io.EOF) {
		t.Errorf("sent %d times: %v", sent, err)
	}
}
