package chaos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// liar stands between one system and another and speaks HTTP with both. It passes on what it hears, but for the time of a lie.
type liar struct {
	server   *http.Server
	upstream string
	listens  string
	http     *http.Transport

	mu   sync.Mutex
	lie  lie             // nil while it is honest
	told int             // how often it has lied since
	last map[string]said // the latest answer of each path
}

// asked is a request as the liar has read it, and said an answer.
type asked struct {
	*http.Request
	body []byte
}

type said struct {
	status int
	header http.Header
	body   []byte
	drips  bool // goes out a byte at a time
}

// lie answers a request in its own way, and tells whether that was a lie: some requests leave no room for one. To pass on is to
// hear the truth.
type lie func(ask asked, last said, pass func(asked) (said, error)) (answer said, lied bool, err error)

const (
	dripPause      = 40 * time.Millisecond
	liarBytesMax   = 1 << 20
	liarHeaderMax  = 5 * time.Second
	liarClosingMax = time.Second
)

// newLiar stands before an address from now on.
func newLiar(ctx context.Context, upstream string) (*liar, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("stand between two systems: %w", err)
	}
	l := &liar{
		upstream: upstream, listens: listener.Addr().String(), last: map[string]said{},
		http: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16},
	}
	l.server = &http.Server{Handler: l, ReadHeaderTimeout: liarHeaderMax}
	go func() { _ = l.server.Serve(listener) }() // returns when closed
	return l, nil
}

func (l *liar) close() {
	ctx, cancel := context.WithTimeout(context.Background(), liarClosingMax)
	defer cancel()
	if l.server.Shutdown(ctx) != nil {
		_ = l.server.Close()
	}
	l.http.CloseIdleConnections()
}

// tell has the liar lie from now on; nil makes it honest. It returns how often the lie before was told.
func (l *liar) tell(next lie) (told int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	told, l.lie, l.told = l.told, next, 0
	return told
}

// lied is how often the present lie was told.
func (l *liar) lied() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.told
}

// ServeHTTP cuts the connection where the other side gave no answer: then there is nothing to say.
func (l *liar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, liarBytesMax))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	answer, err := l.answer(asked{r, body})
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(answer.body)))
	w.WriteHeader(answer.status)
	if !answer.drips {
		_, _ = w.Write(answer.body)
		return
	}
	for i := range answer.body {
		if _, err := w.Write(answer.body[i : i+1]); err != nil || http.NewResponseController(w).Flush() != nil || !sleep(r.Context(), dripPause) {
			return
		}
	}
}

func (l *liar) answer(ask asked) (said, error) {
	l.mu.Lock()
	present, last := l.lie, l.last[ask.URL.Path]
	l.mu.Unlock()
	if present == nil {
		return l.pass(ask)
	}
	answer, lied, err := present(ask, last, l.pass)
	if lied && err == nil {
		l.mu.Lock()
		l.told++
		l.mu.Unlock()
	}
	return answer, err
}

// pass asks the other system, and keeps its answer. The request is not sent again where it may have arrived.
func (l *liar) pass(ask asked) (said, error) {
	request := ask.Clone(ask.Context())
	request.URL.Scheme, request.URL.Host, request.RequestURI = "http", l.upstream, "" // Host stays: it is signed
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(ask.body)), int64(len(ask.body))
	response, err := l.http.RoundTrip(request)
	if err != nil {
		return said{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, liarBytesMax))
	if err != nil {
		return said{}, err
	}
	answer := said{status: response.StatusCode, header: response.Header, body: body}
	answer.header.Del("Connection")
	l.mu.Lock()
	l.last[ask.URL.Path] = answer
	l.mu.Unlock()
	return answer, nil
}

// failing answers 500, every second time after the other system has done what it was asked.
func failing() lie {
	var mu sync.Mutex
	count := 0
	return func(ask asked, _ said, pass func(asked) (said, error)) (said, bool, error) {
		mu.Lock()
		count++
		reaches := count%2 == 0
		mu.Unlock()
		if reaches {
			if _, err := pass(ask); err != nil {
				return said{}, false, err
			}
		}
		return said{status: http.StatusInternalServerError, body: []byte("it hurts")}, true, nil
	}
}

// dripping gives each answer a byte at a time.
func dripping(ask asked, _ said, pass func(asked) (said, error)) (said, bool, error) {
	answer, err := pass(ask)
	answer.drips = true
	return answer, true, err
}

var amountOf = regexp.MustCompile(`"amount":"(\d+)"`)

// askingForMore makes every amount of a request ten times as large.
func askingForMore(ask asked, _ said, pass func(asked) (said, error)) (said, bool, error) {
	more := amountOf.ReplaceAll(ask.body, []byte(`"amount":"${1}0"`))
	lied := !bytes.Equal(more, ask.body)
	if lied {
		ask = asked{ask.Clone(ask.Context()), more}
		redigest(ask.Header, more)
	}
	answer, err := pass(ask)
	return answer, lied, err
}

// contrary says yes for no, and no for yes.
var contrary = strings.NewReplacer(
	`"state":"reserved"`, `"state":"refused","code":"account_not_found"`, `"state":"refused"`, `"state":"reserved"`,
	`"state":"committed"`, `"state":"aborted"`, `"state":"aborted"`, `"state":"committed"`, `"state":"unknown"`, `"state":"committed"`,
)

// answeringContrary turns every decision of an answer around.
func answeringContrary(ask asked, _ said, pass func(asked) (said, error)) (said, bool, error) {
	answer, err := pass(ask)
	if err != nil {
		return answer, false, err
	}
	turned := []byte(contrary.Replace(string(answer.body)))
	lied := !bytes.Equal(turned, answer.body)
	if lied {
		answer.body, answer.header = turned, answer.header.Clone()
		redigest(answer.header, turned)
	}
	return answer, lied, nil
}

// answeringAnother gives the answer to an earlier request, as it was signed, after the other system has heard the new one.
func answeringAnother(ask asked, last said, pass func(asked) (said, error)) (said, bool, error) {
	answer, err := pass(ask)
	if err != nil || last.status == 0 {
		return answer, false, err
	}
	return last, true, nil
}

// askingTwice passes the same request on again when it was answered.
func askingTwice(ask asked, _ said, pass func(asked) (said, error)) (said, bool, error) {
	answer, err := pass(ask)
	if err != nil {
		return answer, false, err
	}
	_, err = pass(ask)
	return answer, err == nil, nil
}

// redigest makes the digest fit a body (RFC 9530), so that the signature alone tells.
func redigest(header http.Header, body []byte) {
	sum := sha256.Sum256(body)
	header.Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
}
