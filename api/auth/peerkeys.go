package auth

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"
)

// peerKeyKeep is how long a retired peer key is still published: events that it signed may come late, up to the retention
// of their stream.
const peerKeyKeep = 30 * 24 * time.Hour

// PeerKeys are the keys by which other systems know this one. They are apart from those of tokens: who steals one kind has
// nothing of the other. They are safe for many goroutines.
type PeerKeys struct{ ring *keyring }

// OpenPeerKeys loads the keys, or makes the first one, under the same conditions as Open.
func OpenPeerKeys(ctx context.Context, config Config) (*PeerKeys, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	seal, err := newSealer(config.Secret, config.System, sealPeers)
	if err != nil {
		return nil, err
	}
	keys := &PeerKeys{&keyring{
		db: config.DB, table: "peer_keys", prefix: config.System + "-peer", keep: peerKeyKeep, sealer: seal,
		clock: config.Clock, random: config.Random,
	}}
	if err := keys.ring.open(ctx); err != nil {
		return nil, fmt.Errorf("peer keys: %w", err)
	}
	return keys, nil
}

// Reload notices what other nodes and `lockstep keygen` did.
func (k *PeerKeys) Reload(ctx context.Context) error { return k.ring.reload(ctx) }

// Signer is the key that signs now.
func (k *PeerKeys) Signer() (keyID string, private ed25519.PrivateKey) {
	key := k.ring.current.Load().signer(k.ring.clock())
	return key.kid, key.private
}

// JWKS is the JWK set (RFC 7517) that peers pin.
func (k *PeerKeys) JWKS() []byte { return k.ring.current.Load().jwks }

// Rotate makes the next key, which is published at once and signs after activeIn: until then every peer must have pinned
// it. The keys before it retire then, and go on verifying.
func (k *PeerKeys) Rotate(ctx context.Context, activeIn time.Duration) error {
	if activeIn < 0 {
		return errors.New("a key cannot have been active before it was made")
	}
	return k.ring.rotate(ctx, activeIn)
}
