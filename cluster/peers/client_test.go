package peers_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/api/httpsig"
	"lockstep/cluster/peers"
)

// keys are those of one system, the same for the same name.
type keys struct{ id, system string }

func keysOf(system string) keys { return keys{system + "-1", system} }

func (k keys) Reload(context.Context) error { return nil }

func (k keys) Signer() (string, ed25519.PrivateKey) {
	seed := sha256.Sum256([]byte(k.system))
	return k.id, ed25519.NewKeyFromSeed(seed[:])
}

func (k keys) public() ed25519.PublicKey {
	_, private := k.Signer()
	return private.Public().(ed25519.PublicKey)
}

func (k keys) JWKS() []byte {
	return httpsig.MarshalJWKS([]httpsig.PublicKey{{KeyID: k.id, Public: k.public()}})
}

// nonces takes every nonce: no test of this package replays.
type nonces struct{}

func (nonces) Remember(context.Context, string, string, time.Time) (bool, error) { return true, nil }

// beta is a peer that answers as a test wants.
type beta struct {
	*httptest.Server
	hits    atomic.Int64
	longest atomic.Int64
	serve   atomic.Pointer[func(w http.ResponseWriter, r *http.Request, body []byte)]
}

func newBeta(tb testing.TB) *beta {
	tb.Helper()
	b := &beta{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.hits.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			tb.Error(err)
		}
		if length := int64(len(body)); length > b.longest.Load() {
			b.longest.Store(length)
		}
		(*b.serve.Load())(w, r, body)
	}))
	tb.Cleanup(b.Close)
	return b
}

func (b *beta) does(serve func(w http.ResponseWriter, r *http.Request, body []byte)) {
	b.serve.Store(&serve)
}

// signs answers with a status and a body, signed by a system to a request that has to be alpha's.
func signs(tb testing.TB, by keys, status int, answer func(body []byte) any) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, r *http.Request, body []byte) {
		verifier := httpsig.Verifier{Nonces: nonces{}, Authorities: []string{r.Host}, Keys: func(string) (httpsig.Key, bool) {
			return httpsig.Key{Public: keysOf("alpha").public(), Peer: "alpha"}, true
		}}
		verified, err := verifier.VerifyRequest(r.Context(), httpsig.FromHTTP(r, body))
		if err != nil {
			tb.Errorf("the request is not signed: %v", err)
		}
		text, err := json.Marshal(answer(body))
		if err != nil {
			tb.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		signer := httpsig.Signer{Life: 30 * time.Second}
		signer.KeyID, signer.Private = by.Signer()
		if err := signer.SignResponse(verified, httpsig.Response{Status: status, Header: w.Header(), Body: text}); err != nil {
			tb.Error(err)
		}
		w.WriteHeader(status)
		_, _ = w.Write(text)
	}
}

// promises reserves all that is asked for.
func promises(body []byte) any {
	var asked peers.PrepareRequest
	_ = json.Unmarshal(body, &asked) // an unreadable question gets an empty answer, which the test notices
	answer := peers.PrepareAnswer{Epoch: 7}
	for _, transfer := range asked.Transfers {
		answer.Results = append(answer.Results, peers.PrepareResult{ID: transfer.ID, State: peers.Reserved, Epoch: 7})
	}
	return answer
}

// newClient is alpha's client, to which beta and gamma are known.
func newClient(tb testing.TB, base string) (*peers.Client, *prometheus.Registry) {
	tb.Helper()
	directory := openDirectory(tb, peers.Peer{ID: "beta", BaseURL: base, JWKS: string(keysOf("beta").JWKS())},
		peers.Peer{ID: "gamma", BaseURL: base, JWKS: string(keysOf("gamma").JWKS())})
	registry := prometheus.NewRegistry()
	client := peers.NewClient(directory, func() int64 { return 3 }, registry)
	tb.Cleanup(client.Close)
	return client, registry
}

func openDirectory(tb testing.TB, list ...peers.Peer) *peers.Directory {
	tb.Helper()
	load := func(context.Context) ([]peers.Peer, error) { return list, nil }
	directory, err := peers.OpenDirectory(context.Background(), "alpha", keysOf("alpha"), load, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(directory.Close)
	return directory
}

func transfer() peers.Transfer {
	return peers.Transfer{
		ID: uuid.NewString(), Payer: peers.Account{Account: "alpha-00000000100042"}, Payee: peers.Account{Account: "beta-00000000100037"},
		Amount: "10", Currency: "KRW", ExpiresInMS: 1000,
	}
}

// Only what the peer has signed to this very request is an answer; all else leaves the outcome unknown.
func TestOnlyTheSignedAnswerOfThePeerIsBelieved(t *testing.T) {
	t.Parallel()
	var earlier http.Header
	var earlierBody []byte
	good := signs(t, keysOf("beta"), 200, promises)
	unsigned := func(status int) func(http.ResponseWriter, *http.Request, []byte) {
		return func(w http.ResponseWriter, _ *http.Request, body []byte) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(promises(body))
		}
	}
	for _, c := range []struct {
		name  string
		serve func(http.ResponseWriter, *http.Request, []byte)
		want  error
	}{
		{"signed", good, nil},
		{"unsigned", unsigned(200), peers.ErrUnavailable},
		{"unsigned refusal", unsigned(422), peers.ErrUnavailable},
		{"by another peer", signs(t, keysOf("gamma"), 200, promises), peers.ErrUnavailable},
		{"by a stranger", signs(t, keysOf("delta"), 200, promises), peers.ErrUnavailable},
		{"under the peer's key id", signs(t, keys{"beta-1", "delta"}, 200, promises), peers.ErrUnavailable},
		{"to an earlier request", func(w http.ResponseWriter, r *http.Request, body []byte) {
			recorder := httptest.NewRecorder()
			good(recorder, r, body)
			if earlier == nil {
				earlier, earlierBody = recorder.Header(), recorder.Body.Bytes()
			}
			for name, values := range earlier {
				w.Header()[name] = values
			}
			_, _ = w.Write(earlierBody)
		}, nil}, // the first is the earlier one
		{"another result", signs(t, keysOf("beta"), 200, func([]byte) any {
			return peers.PrepareAnswer{Results: []peers.PrepareResult{{ID: "other", State: peers.Reserved}}}
		}), peers.ErrUnavailable},
		{"no results", signs(t, keysOf("beta"), 200, func([]byte) any { return peers.PrepareAnswer{} }), peers.ErrUnavailable},
		{"no object", signs(t, keysOf("beta"), 200, func([]byte) any { return "reserved" }), peers.ErrUnavailable},
		{"signed 503", signs(t, keysOf("beta"), 503, promises), peers.ErrUnavailable},
		{"signed 429", signs(t, keysOf("beta"), 429, promises), peers.ErrUnavailable},
		{"signed 400", signs(t, keysOf("beta"), 400, promises), peers.ErrRefused},
		{"redirect", func(w http.ResponseWriter, r *http.Request, _ []byte) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, peers.ErrUnavailable},
	} {
		b := newBeta(t)
		b.does(c.serve)
		client, _ := newClient(t, b.URL)
		asked := transfer()
		result, err := client.Prepare(t.Context(), "beta", asked)
		if !errors.Is(err, c.want) || c.want == nil && (result.State != peers.Reserved || result.ID != asked.ID || result.Epoch != 7) {
			t.Errorf("%s: got %+v, %v; want %v", c.name, result, err, c.want)
		}
		if c.name == "to an earlier request" {
			if _, err := client.Prepare(t.Context(), "beta", transfer()); !errors.Is(err, peers.ErrUnavailable) {
				t.Errorf("%s: got %v", c.name, err)
			}
		}
		_, toGamma := client.Last("gamma")
		if last, sent := client.Last("beta"); !sent || c.name == "unsigned" && !errors.Is(last.Err, peers.ErrUnavailable) || c.name == "signed" && last.Err != nil || toGamma {
			t.Errorf("%s: the last contact is %+v", c.name, last)
		}
	}
}

// A request that broke off is not sent again behind our back: its nonce would make it a replay.
func TestARequestTravelsOnce(t *testing.T) {
	t.Parallel()
	b := newBeta(t)
	client, _ := newClient(t, b.URL)
	b.does(signs(t, keysOf("beta"), 200, promises))
	if _, err := client.Prepare(t.Context(), "beta", transfer()); err != nil {
		t.Fatal(err) // the connection is one that was used before, which net/http likes to try again on
	}
	b.does(func(http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) })
	if _, err := client.Prepare(t.Context(), "beta", transfer()); !errors.Is(err, peers.ErrUnavailable) || b.hits.Load() != 2 {
		t.Errorf("got %v after %d requests", err, b.hits.Load())
	}
}

// A peer that fails again and again is asked no more for a while, and then again.
func TestADeadPeerIsLeftAloneAndComesBack(t *testing.T) {
	t.Parallel()
	b := newBeta(t)
	client, registry := newClient(t, b.URL)
	b.does(func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(502) })
	for range 3 * peers.BreakerAfter {
		if _, err := client.Prepare(t.Context(), "beta", transfer()); !errors.Is(err, peers.ErrUnavailable) {
			t.Fatalf("got %v", err)
		}
	}
	if hits := b.hits.Load(); hits < peers.BreakerAfter || hits > peers.BreakerAfter+2 { // one more for each second that passed
		t.Errorf("it was asked %d times", hits)
	}
	b.does(signs(t, keysOf("beta"), 200, promises))
	before := b.hits.Load()
	if _, err := client.Prepare(t.Context(), "gamma", transfer()); err == nil || b.hits.Load() != before+1 { // beta answers there
		t.Errorf("the other peer was left alone too: %v", err)
	}
	until(t, "it is asked again", func() bool {
		_, err := client.Prepare(t.Context(), "beta", transfer())
		return err == nil
	})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(families); !strings.Contains(text, "left alone") {
		t.Errorf("the metrics do not tell: %s", text)
	}
}

// Prepares that come together travel together, but never in a body that peers do not take.
func TestManyLongPreparesFitIntoBodiesThatPeersTake(t *testing.T) {
	t.Parallel()
	b := newBeta(t)
	b.does(signs(t, keysOf("beta"), 200, promises))
	client, _ := newClient(t, b.URL)
	const count, bodyMax = 2 * peers.BatchMax, 64 << 10
	var all sync.WaitGroup
	for range count {
		all.Go(func() {
			long := transfer()
			long.Description = strings.Repeat("가<", 100)
			if result, err := client.Prepare(t.Context(), "beta", long); err != nil || result.State != peers.Reserved {
				t.Errorf("got %+v, %v", result, err)
			}
		})
	}
	all.Wait()
	if b.longest.Load() > bodyMax || b.hits.Load() >= count {
		t.Errorf("%d requests, the longest of %d bytes", b.hits.Load(), b.longest.Load())
	}
}

func TestInquiriesPayeesAndEpochs(t *testing.T) {
	t.Parallel()
	b := newBeta(t)
	client, _ := newClient(t, b.URL)
	answer := func(value any) { b.does(signs(t, keysOf("beta"), 200, func([]byte) any { return value })) }
	answer(peers.InquiryAnswer{Results: []peers.InquiryResult{{ID: "a", State: peers.Committed}, {ID: "b", State: peers.Unknown}}})
	if results, err := client.Inquire(t.Context(), "beta", "beta", peers.Report, "a", "b"); err != nil || results.Results[1].State != peers.Unknown {
		t.Errorf("got %v, %v", results, err)
	}
	for _, ids := range [][]string{{"a"}, {"b", "a"}} {
		if _, err := client.Inquire(t.Context(), "beta", "beta", peers.Report, ids...); !errors.Is(err, peers.ErrUnavailable) {
			t.Errorf("%v: got %v", ids, err)
		}
	}
	answer(peers.EpochAnswer{Epoch: 9})
	if theirs, err := client.TellEpoch(t.Context(), "beta"); err != nil || theirs != 9 {
		t.Errorf("got %d, %v", theirs, err)
	}
	answer(peers.PayeeAnswer{Number: "beta-1", Name: "B**"})
	if payee, there, err := client.Payee(t.Context(), "beta", "beta-1"); err != nil || !there || payee.Name != "B**" {
		t.Errorf("got %+v, %t, %v", payee, there, err)
	}
	if _, there, err := client.Payee(t.Context(), "beta", "beta-2"); err != nil || there {
		t.Errorf("another payee was taken: %v", err)
	}
	if _, err := client.Prepare(t.Context(), "delta", transfer()); !errors.Is(err, peers.ErrUnknownPeer) {
		t.Errorf("got %v", err)
	}
	answer(peers.DigestAnswer{Epoch: 9, Count: 2, Digest: "d"})
	if digest, err := client.Digest(t.Context(), "beta", "alpha", "", "b"); err != nil || digest != (peers.DigestAnswer{Epoch: 9, Count: 2, Digest: "d"}) {
		t.Errorf("got %+v, %v", digest, err)
	}
	dead, _ := newClient(t, "http://127.0.0.1:1")
	if _, err := dead.Prepare(t.Context(), "beta", transfer()); !errors.Is(err, peers.ErrUnavailable) {
		t.Errorf("got %v", fmt.Sprint(err))
	}
}
