package httpsig_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/api/httpsig"
)

const nodeTimeout = time.Minute

// message is how the other implementation knows requests and answers.
type message struct {
	Request  jsMessage  `json:"request"`
	Response *jsMessage `json:"response,omitempty"`
}

type jsMessage struct {
	Method  string            `json:"method,omitempty"`
	URL     string            `json:"url,omitempty"`
	Status  int               `json:"status,omitempty"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body,omitempty"`
}

func jsRequest(r httpsig.Request) jsMessage {
	target := "https://" + r.Authority + r.Path
	if r.RawQuery != "" {
		target += "?" + r.RawQuery
	}
	return jsMessage{Method: r.Method, URL: target, Headers: jsHeaders(r.Header), Body: string(r.Body)}
}

func jsResponse(r httpsig.Response) *jsMessage {
	return &jsMessage{Status: r.Status, Headers: jsHeaders(r.Header), Body: string(r.Body)}
}

func jsHeaders(header httpsig.Header) map[string]string {
	headers := make(map[string]string)
	for name, lines := range header.(http.Header) {
		headers[strings.ToLower(name)] = lines[0]
	}
	return headers
}

func (m jsMessage) header() http.Header {
	header := make(http.Header)
	for name, value := range m.Headers {
		header.Set(name, value)
	}
	return header
}

type exchange struct {
	JWKS     json.RawMessage `json:"jwks"`
	Verify   []message       `json:"verify,omitempty"`
	Sign     []message       `json:"sign,omitempty"`
	Verified []string        `json:"verified,omitempty"`
	Signed   []jsMessage     `json:"signed,omitempty"`
}

// The package from npm and this one understand each other's requests, answers and keys, and refuse the same forgeries.
func TestAnIndependentImplementationAgrees(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs node and a package from npm")
	}
	s := newScene()
	s.signer.Clock, s.answerer.Clock, s.verifier.Clock = nil, nil, nil
	bare := get()
	request, response := s.answered(t, post())
	empty := httpsig.Response{Status: 204, Header: http.Header{}}
	verified, err := s.verify(t, s.signed(t, bare))
	must(t, err)
	must(t, s.answerer.SignResponse(verified, empty))
	forged, moved, late := jsRequest(request), jsRequest(request), jsResponse(response)
	forged.Body, late.Status = "{}", 500
	moved.URL += "0"

	keys := []httpsig.PublicKey{{KeyID: "alpha-1", Public: publicOf("alpha-1")}, {KeyID: "beta-1", Public: publicOf("beta-1")}}
	plain, plainGet, plainAnswer := jsRequest(post()), jsRequest(get()), jsResponse(answer())
	got := exchange{
		JWKS: httpsig.MarshalJWKS(keys),
		Verify: []message{
			{Request: jsRequest(request)},
			{Request: jsRequest(bare)},
			{Request: jsRequest(request), Response: jsResponse(response)},
			{Request: jsRequest(bare), Response: jsResponse(empty)},
			{Request: forged},
			{Request: moved},
			{Request: jsRequest(request), Response: late},
			{Request: jsRequest(bare), Response: jsResponse(response)},
		},
		Sign: []message{{Request: plain}, {Request: plainGet}, {Request: jsRequest(request), Response: plainAnswer}},
	}.run(t)

	for i, wrong := range got.Verified {
		if (wrong == "") != (i < 4) {
			t.Errorf("it verifies message %d as %q", i, wrong)
		}
	}
	if len(got.Verified) != 8 || len(got.Signed) != 3 {
		t.Fatalf("it verified %d and signed %d messages", len(got.Verified), len(got.Signed))
	}
	theirs, err := httpsig.ParseJWKS(got.JWKS)
	must(t, err)
	s.verifier.Keys = func(keyID string) (httpsig.Key, bool) {
		return httpsig.Key{Public: theirs[0].Public, Peer: "node"}, keyID == theirs[0].KeyID
	}
	for i, unsigned := range []httpsig.Request{post(), get()} {
		unsigned.Header = got.Signed[i].header()
		verified, err := s.verify(t, unsigned)
		if err != nil || verified.Peer != "node" {
			t.Errorf("we verify its request %d as of %q: %v", i, verified.Peer, err)
		}
		unsigned.RawQuery += "0"
		_, err = s.verify(t, unsigned)
		wantError(t, "its request to elsewhere", err, httpsig.ErrInvalid)
	}
	theirAnswer := answer()
	theirAnswer.Header = got.Signed[2].header()
	_, err = s.verifier.VerifyResponse(request, theirAnswer)
	must(t, err)
	_, err = s.verifier.VerifyResponse(bare, theirAnswer)
	wantError(t, "its answer to something else", err, httpsig.ErrInvalid)
}

// run hands the messages to the other implementation.
func (e exchange) run(t testing.TB) (answer exchange) {
	t.Helper()
	input, err := json.Marshal(e)
	must(t, err)
	out := execute(t, install(t), bytes.NewReader(input), "node", "exchange.js")
	must(t, json.Unmarshal(out, &answer))
	return answer
}

// execute runs a program that has to be there: a missing one fails the test.
func execute(t testing.TB, dir string, input io.Reader, name string, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), nodeTimeout)
	defer cancel()
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Stdin = dir, input
	var complaint bytes.Buffer
	command.Stderr = &complaint
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, complaint.Bytes())
	}
	return out
}

// install puts the package and the script into a directory under .lockstep/test, once for these contents. It works
// beside it and renames, so that tests that run at the same time do not see half of it.
func install(t testing.TB) string {
	t.Helper()
	names := []string{"package.json", "package-lock.json", "exchange.js"}
	sum, files := sha256.New(), make(map[string][]byte)
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("testdata", "independent", name))
		must(t, err)
		files[name] = text
		sum.Write(text)
	}
	cache := filepath.Join(root(t), ".lockstep", "test", "httpsig-independent")
	ready := filepath.Join(cache, hex.EncodeToString(sum.Sum(nil))[:16])
	if _, err := os.Stat(ready); err == nil {
		return ready
	}
	must(t, os.MkdirAll(cache, 0o755))
	building, err := os.MkdirTemp(cache, "building-")
	must(t, err)
	defer func() { _ = os.RemoveAll(building) }()
	for name, text := range files {
		must(t, os.WriteFile(filepath.Join(building, name), text, 0o600))
	}
	execute(t, building, nil, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--prefer-offline")
	if err := os.Rename(building, ready); err != nil {
		if _, missing := os.Stat(ready); missing != nil {
			t.Fatal(err)
		}
	}
	return ready
}

// root is the top of the repository.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	must(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("there is no go.mod above this test")
		}
		dir = parent
	}
}
