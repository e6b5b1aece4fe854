package peers

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/api/httpsig"
	"lockstep/cluster/statement"
	"lockstep/rounds"
)

// refreshEvery is how soon a node notices what an operator changed about its peers, or about its own keys.
const refreshEvery = 2 * time.Second

// Peer is another payment system that this one knows.
type Peer struct {
	ID         string
	Settlement int64 // serial of the system account for what the two owe one another
	BaseURL    string
	JWKS       string // its pinned keys
	Epoch      int64  // its epoch as last told
}

// Keys are this system's own.
type Keys interface {
	Reload(ctx context.Context) error
	Signer() (keyID string, private ed25519.PrivateKey)
	JWKS() []byte
}

// Directory knows the peers and whose key is whose. It is safe for many goroutines.
type Directory struct {
	system string
	keys   Keys
	load   func(ctx context.Context) ([]Peer, error)
	log    *slog.Logger
	now    atomic.Pointer[reading]
	signed statement.Memory

	stop context.CancelFunc
	done sync.WaitGroup
}

// reading is one reading of the peers; it never changes.
type reading struct {
	peers map[string]Peer
	keys  map[string]httpsig.Key
}

// OpenDirectory reads the peers and goes on noticing changes until Close.
func OpenDirectory(ctx context.Context, system string, keys Keys, load func(context.Context) ([]Peer, error), log *slog.Logger) (*Directory, error) {
	d := &Directory{system: system, keys: keys, load: load, log: log}
	if err := d.Refresh(ctx); err != nil {
		return nil, fmt.Errorf("open the directory of peers: %w", err)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	d.stop = stop
	d.done.Go(func() { rounds.Make(background, refreshEvery, d.notice) })
	return d, nil
}

// Close ends the watching. It may be called twice.
func (d *Directory) Close() {
	d.stop()
	d.done.Wait()
}

// notice reads what may have changed.
func (d *Directory) notice(ctx context.Context) {
	if err := errors.Join(d.Refresh(ctx), d.keys.Reload(ctx)); err != nil && ctx.Err() == nil {
		d.log.Debug("peers could not be read again; the known ones go on", "error", err)
	}
}

// Refresh reads the peers now. A peer whose keys cannot be read has none: nothing that it says is believed.
func (d *Directory) Refresh(ctx context.Context) error {
	list, err := d.load(ctx)
	if err != nil {
		return err
	}
	r := &reading{peers: map[string]Peer{}, keys: map[string]httpsig.Key{}}
	for _, peer := range list {
		r.peers[peer.ID] = peer
		keys, err := httpsig.ParseJWKS([]byte(peer.JWKS))
		if err != nil {
			d.log.Error("the pinned keys of a peer cannot be read", "peer", peer.ID, "error", err)
		}
		for _, key := range keys {
			if other, taken := r.keys[key.KeyID]; taken && other.Peer != peer.ID {
				d.log.Error("two peers have a key of one id; neither is believed", "key", key.KeyID, "peers", []string{other.Peer, peer.ID})
				r.keys[key.KeyID] = httpsig.Key{}
				continue
			}
			r.keys[key.KeyID] = httpsig.Key{Public: key.Public, Peer: peer.ID}
		}
	}
	d.now.Store(r)
	return nil
}

// Peer finds a peer by its id.
func (d *Directory) Peer(id string) (Peer, bool) {
	peer, known := d.now.Load().peers[id]
	return peer, known
}

// Peers lists all, in no order.
func (d *Directory) Peers() []Peer {
	var all []Peer
	for _, peer := range d.now.Load().peers {
		all = append(all, peer)
	}
	return all
}

// Key implements httpsig.KeySource.
func (d *Directory) Key(keyID string) (httpsig.Key, bool) {
	key, known := d.now.Load().keys[keyID]
	return key, known && key.Peer != ""
}

// JWKS is what peers pin of us.
func (d *Directory) JWKS() []byte { return d.keys.JWKS() }

// Signer signs requests and answers with the key of the moment.
func (d *Directory) Signer() httpsig.Signer {
	keyID, private := d.keys.Signer()
	return httpsig.Signer{KeyID: keyID, Private: private, Life: requestLife}
}

// requestLife is how long a signed request may be under way; longer than requestMax.
const requestLife = 30 * time.Second

// State signs a fact.
func (d *Directory) State(fact Fact) (string, error) {
	stated, err := d.StateAll([]Fact{fact})
	if err != nil {
		return "", err
	}
	return stated[0], nil
}

// StateAll signs facts, each so that it can be believed by itself, at the cost of one signature.
func (d *Directory) StateAll(facts []Fact) (stated []string, err error) {
	if len(facts) == 0 {
		return nil, nil
	}
	texts := make([][]byte, len(facts))
	for i, fact := range facts {
		if texts[i], err = json.Marshal(fact); err != nil {
			return nil, fmt.Errorf("encode a fact: %w", err)
		}
	}
	keyID, private := d.keys.Signer()
	return statement.SignAll(keyID, private, FactType, texts), nil
}

// ErrForeign says that a fact is signed by another than the one that states it, or stated to another.
var ErrForeign = errors.New("peers: a fact is not this peer's to state")

// Read believes a fact only of the peer that it is about, signed by a key of that peer, and stated to this system.
func (d *Directory) Read(jws string) (Fact, error) {
	var owner string
	keys := func(keyID string) (ed25519.PublicKey, bool) {
		key, known := d.Key(keyID)
		owner = key.Peer
		return key.Public, known
	}
	_, text, err := d.signed.Verify(jws, keys, FactType)
	if err != nil {
		return Fact{}, err
	}
	fact, err := readFact(text)
	if err != nil {
		return Fact{}, fmt.Errorf("read a fact: %w: %w", statement.ErrInvalid, err)
	}
	if fact.From != owner || fact.To != d.system {
		return fact, fmt.Errorf("%w: %s signed what %s states to %s", ErrForeign, owner, fact.From, fact.To)
	}
	return fact, nil
}

// ReadOwn believes a fact that this system has stated itself: a peer shows it after this system has lost its own record.
func (d *Directory) ReadOwn(jws string) (Fact, error) {
	own, err := httpsig.ParseJWKS(d.keys.JWKS())
	if err != nil {
		return Fact{}, err
	}
	_, text, err := statement.Verify(jws, func(keyID string) (ed25519.PublicKey, bool) {
		for _, key := range own {
			if key.KeyID == keyID {
				return key.Public, true
			}
		}
		return nil, false
	}, FactType)
	if err != nil {
		return Fact{}, err
	}
	fact, err := readFact(text)
	if err != nil || fact.From != d.system {
		return fact, errors.Join(ErrForeign, err)
	}
	return fact, nil
}

// ParseBaseURL accepts what a peer may be reached under: http or https, a host, and nothing behind it.
func ParseBaseURL(text string) (*url.URL, error) {
	base, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the address of a peer: %w", err)
	case base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.User != nil || base.RawQuery != "" || base.Path != "" && base.Path != "/":
		return nil, fmt.Errorf("the address of a peer looks like https://pay.example.com, not %q", text)
	}
	return base, nil
}
