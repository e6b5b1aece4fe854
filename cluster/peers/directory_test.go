package peers_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/api/httpsig"
	"lockstep/cluster/peers"
	"lockstep/cluster/statement"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pinned(id string, held ...keys) peers.Peer {
	var set []httpsig.PublicKey
	for _, key := range held {
		set = append(set, httpsig.PublicKey{KeyID: key.id, Public: key.public()})
	}
	return peers.Peer{ID: id, BaseURL: "http://" + id + ".test", JWKS: string(httpsig.MarshalJWKS(set)), Epoch: 1}
}

// Whoever could name a key as another does could speak for it, or keep it from speaking under another name only.
func TestAKeyIDOfTwoPeersIsBelievedOfNeither(t *testing.T) {
	t.Parallel()
	d := openDirectory(t, pinned("beta", keysOf("beta"), keys{"shared", "beta"}), pinned("gamma", keys{"shared", "gamma"}),
		pinned("delta", keys{"shared", "delta"}), peers.Peer{ID: "broken", JWKS: `{"keys":[{"kty":"OKP","crv":"Ed25519"}]}`})
	if key, known := d.Key("beta-1"); !known || key.Peer != "beta" {
		t.Errorf("beta's own key is %+v", key)
	}
	for _, id := range []string{"shared", "", "nobody-1"} {
		if key, known := d.Key(id); known {
			t.Errorf("%q is believed of %s", id, key.Peer)
		}
	}
	if peer, known := d.Peer("gamma"); !known || peer.BaseURL != "http://gamma.test" || len(d.Peers()) != 4 {
		t.Errorf("the peers are %+v", d.Peers())
	}
}

// A fact is believed of the peer that states it, to this system, under its own key, and of nobody else.
func TestAFactIsBelievedOfItsOwnPeerOnly(t *testing.T) {
	t.Parallel()
	d := openDirectory(t, pinned("beta", keysOf("beta")), pinned("gamma", keysOf("gamma")))
	state := func(by keys, fact peers.Fact) string {
		other, err := peers.OpenDirectory(t.Context(), by.system, by, func(context.Context) ([]peers.Peer, error) { return nil, nil }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		jws, err := other.State(fact)
		if err != nil {
			t.Fatal(err)
		}
		return jws
	}
	fact := peers.Fact{ID: "t1", Type: "transfer.committed", From: "beta", To: "alpha", Epoch: 1, Amount: "10", Currency: "KRW", At: time.Unix(1, 0).UTC()}
	if read, err := d.Read(state(keysOf("beta"), fact)); err != nil || !reflect.DeepEqual(read, fact) {
		t.Errorf("got %+v, %v", read, err)
	}
	toGamma, fromAlpha := fact, fact
	toGamma.To, fromAlpha.From = "gamma", "alpha"
	_, private := keysOf("beta").Signer()
	for name, c := range map[string]struct {
		jws  string
		want error
	}{
		"signed by another peer":  {state(keysOf("gamma"), fact), peers.ErrForeign},
		"stated to another":       {state(keysOf("beta"), toGamma), peers.ErrForeign},
		"in our name":             {state(keysOf("beta"), fromAlpha), peers.ErrForeign},
		"by a stranger":           {state(keysOf("delta"), fact), statement.ErrUnknownKey},
		"by a stranger's own key": {state(keys{"beta-1", "delta"}, fact), statement.ErrInvalid},
		"of another type":         {statement.Sign("beta-1", private, "other+jws", []byte(`{}`)), statement.ErrInvalid},
		"no fact":                 {statement.Sign("beta-1", private, peers.FactType, []byte(`[]`)), statement.ErrInvalid},
		"nothing":                 {"", statement.ErrInvalid},
	} {
		if _, err := d.Read(c.jws); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if read, err := d.ReadOwn(state(keysOf("alpha"), fromAlpha)); err != nil || !reflect.DeepEqual(read, fromAlpha) {
		t.Errorf("our own fact is %+v, %v", read, err)
	}
	if _, err := d.ReadOwn(state(keysOf("beta"), fromAlpha)); !errors.Is(err, statement.ErrUnknownKey) {
		t.Errorf("a peer stated in our name: %v", err)
	}
	if _, err := d.ReadOwn(state(keysOf("alpha"), fact)); !errors.Is(err, peers.ErrForeign) {
		t.Errorf("we stated in a peer's name: %v", err)
	}
}

// What cannot be read again stays as it was: a database that is away must not make peers unknown.
func TestADirectoryGoesOnWithWhatItKnows(t *testing.T) {
	t.Parallel()
	var fails atomic.Bool
	load := func(context.Context) ([]peers.Peer, error) {
		if fails.Load() {
			return nil, errors.New("no database")
		}
		return []peers.Peer{pinned("beta", keysOf("beta"))}, nil
	}
	d, err := peers.OpenDirectory(t.Context(), "alpha", keysOf("alpha"), load, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	fails.Store(true)
	if err := d.Refresh(t.Context()); err == nil {
		t.Error("the failure was kept quiet")
	}
	if _, known := d.Key("beta-1"); !known {
		t.Error("beta is forgotten")
	}
	if _, err := peers.OpenDirectory(t.Context(), "alpha", keysOf("alpha"), load, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a directory opened without its peers")
	}
}

func TestAddressesOfPeersAreCheckedWhenTheyAreGiven(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"https://pay.example.com": true, "http://127.0.0.1:8080/": true, "https://pay.example.com/api": false, "ftp://x": false,
		"pay.example.com": false, "https://user:pw@x": false, "https://x?y": false, "https://": false, "https://%zz": false,
	} {
		if _, err := peers.ParseBaseURL(text); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A fact that is read by hand is what encoding/json reads, or is left to it.
func TestAFactIsReadAsJSON(t *testing.T) {
	t.Parallel()
	full := peers.Fact{
		ID: "t1", Type: "transfer.committed", From: "beta", To: "alpha", Epoch: 1, PayeeEpoch: 2, Payer: "beta-1", Payee: "alpha-1", Amount: "10.50",
		Currency: "EUR", Description: "rent", Origin: "c2VhbGVk", At: time.Unix(1, 5000).UTC(),
	}
	odd, credited := full, peers.Fact{IDs: []string{"t1", "t2"}, Type: "transfer.credited", From: "beta", To: "alpha", At: time.Unix(1, 0).UTC()}
	odd.Description = "월세 <\"\\>"
	texts := []string{
		`{}`, `[]`, `7`, ``, `{"id":"a","ID":"b"}`, `{"id":"a","id":"b"}`, `{"id":7}`, `{"epoch":"7"}`, `{"epoch":7.5}`, `{"epoch":1,"payee_epoch":-3}`, `{"at":"now"}`,
		`{"at":7}`, `{"unknown":"x","id":"a"}`, `{"id":"a","unknown":{"x":[]}}`, `{"id": "a"}`, `{"id":"a"`,
	}
	for _, fact := range []peers.Fact{full, odd, credited} {
		text, err := json.Marshal(fact)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(text))
	}
	for _, text := range texts {
		var want peers.Fact
		failure := json.Unmarshal([]byte(text), &want)
		got, err := peers.ReadFact([]byte(text))
		if (err == nil) != (failure == nil) || failure == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as\n%+v, %v, not\n%+v, %v", text, got, err, want, failure)
		}
	}
}
