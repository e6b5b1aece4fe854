package auth

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The life of signing keys. A new key is published for keyActivationDelay before it signs, which is longer than any
// node needs to notice it; a retired key verifies until the last token that it signed has ended.
const (
	keyRefreshEvery    = 10 * time.Second
	keyActivationDelay = 3 * keyRefreshEvery
	keyReloadGapMin    = time.Second // between two reloads that unknown kids ask for
	keyStatementMax    = 2 * time.Second
	keyAttemptsMax     = 3
)

// signingKey is one Ed25519 key. Its kid is `<system>-<generation>`.
type signingKey struct {
	kid        string
	generation int
	private    ed25519.PrivateKey
	notBefore  time.Time
	retired    time.Time // zero: not retired
}

func (k *signingKey) public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

// keySet is one reading of the table; it never changes.
type keySet struct {
	keys []*signingKey // newest first
	jwks []byte
}

func (s *keySet) byID(kid string) *signingKey {
	for _, key := range s.keys {
		if key.kid == kid {
			return key
		}
	}
	return nil
}

// signer is the newest key whose time has come. Before any has (a node whose clock is behind) it is the oldest.
func (s *keySet) signer(now time.Time) *signingKey {
	for _, key := range s.keys {
		if !now.Before(key.notBefore) {
			return key
		}
	}
	return s.keys[len(s.keys)-1]
}

// keyring shares keys of a system with all its nodes through a table.
type keyring struct {
	db     *sql.DB
	table  string
	prefix string        // of the kids
	keep   time.Duration // a retired key still verifies for so long
	sealer sealer
	clock  func() time.Time
	random io.Reader

	current  atomic.Pointer[keySet]
	mu       sync.Mutex // one reload at a time
	reloaded time.Time  // guarded by mu
}

// open loads the keys and makes the first one when there is none. However many nodes start at once, they end with the
// same key: its kid is the primary key of the table, so one insert wins and the others read what it wrote.
func (r *keyring) open(ctx context.Context) error {
	var failure error
	for range keyAttemptsMax {
		set, err := r.read(ctx)
		if err == nil && len(set.keys) > 0 {
			r.current.Store(set)
			return nil
		}
		if errors.Is(err, errUnsealed) {
			return err
		}
		if err == nil {
			err = r.insert(ctx, 1, r.clock())
		}
		failure = errors.Join(failure, err)
	}
	if failure == nil {
		failure = errors.New("a new signing key could not be read back")
	}
	return fmt.Errorf("open the signing keys: %w", failure)
}

// reload reads the table again.
func (r *keyring) reload(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reloadLocked(ctx)
}

func (r *keyring) reloadLocked(ctx context.Context) error {
	r.reloaded = r.clock()
	set, err := r.read(ctx)
	if err != nil {
		return err
	}
	if len(set.keys) == 0 {
		return errors.New("read the signing keys: the table holds none, so the known ones are kept")
	}
	r.current.Store(set)
	return nil
}

// find looks a key up; an unknown kid may be newer than our reading, so it asks the table, but at most once in
// keyReloadGapMin, because anyone can send unknown kids.
func (r *keyring) find(ctx context.Context, kid string) (*signingKey, error) {
	if key := r.current.Load().byID(kid); key != nil {
		return key, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	key := r.current.Load().byID(kid)
	if sinceLast := r.clock().Sub(r.reloaded); key != nil || (sinceLast >= 0 && sinceLast < keyReloadGapMin) {
		return key, nil
	}
	if err := r.reloadLocked(ctx); err != nil {
		return nil, err
	}
	return r.current.Load().byID(kid), nil
}

// rotate adds the next key and retires the ones before it. It is two statements, not a transaction: stopped between
// them it leaves an old key that verifies for longer than it need, and the next rotation retires that too.
func (r *keyring) rotate(ctx context.Context, activeIn time.Duration) error {
	if err := r.reload(ctx); err != nil {
		return fmt.Errorf("rotate the signing key: %w", err)
	}
	next, start := r.current.Load().keys[0].generation+1, r.clock().Add(activeIn)
	if err := r.insert(ctx, next, start); err != nil {
		return fmt.Errorf("rotate the signing key: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, keyStatementMax)
	defer cancel()
	_, err := r.db.ExecContext(ctx,
		"UPDATE "+r.table+" SET retired_at = ? WHERE kid <> ? AND retired_at IS NULL", start.UTC(), r.kid(next))
	if err != nil {
		return fmt.Errorf("retire the old signing key: %w", err)
	}
	return r.reload(ctx)
}

func (r *keyring) kid(generation int) string { return r.prefix + "-" + strconv.Itoa(generation) }

// insert adds the key of a generation unless another node was faster.
func (r *keyring) insert(ctx context.Context, generation int, notBefore time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, keyStatementMax)
	defer cancel()
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(r.random, seed); err != nil {
		return fmt.Errorf("make a signing key: %w", err)
	}
	kid := r.kid(generation)
	key := signingKey{private: ed25519.NewKeyFromSeed(seed)}
	_, err := r.db.ExecContext(ctx, "INSERT INTO "+r.table+" (kid, public_key, private_key, not_before) VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE kid = kid",
		kid, []byte(key.public()), r.sealer.seal(kid, seed), notBefore.UTC())
	if err != nil {
		return fmt.Errorf("insert signing key %s: %w", kid, err)
	}
	return nil
}

// read loads the keys that sign or may still have to verify.
func (r *keyring) read(ctx context.Context) (*keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, keyStatementMax)
	defer cancel()
	rows, err := r.db.QueryContext(ctx, "SELECT kid, public_key, private_key, not_before, retired_at FROM "+r.table+
		" WHERE retired_at IS NULL OR retired_at > ?", r.clock().Add(-r.keep).UTC())
	if err != nil {
		return nil, fmt.Errorf("read the signing keys: %w", err)
	}
	defer rows.Close()
	set := &keySet{}
	for rows.Next() {
		key, err := r.scan(rows)
		if err != nil {
			return nil, err
		}
		set.keys = append(set.keys, key)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the signing keys: %w", err)
	}
	sort.Slice(set.keys, func(i, j int) bool { return set.keys[i].generation > set.keys[j].generation })
	set.jwks = renderJWKS(set.keys)
	return set, nil
}

// scan trusts only what is sealed: the public key is computed from the private one, and must be the one in the row, so
// that writing to the table is not enough to have one's own key accepted.
func (r *keyring) scan(rows *sql.Rows) (*signingKey, error) {
	var key signingKey
	var public, sealed []byte
	var retired sql.NullTime
	if err := rows.Scan(&key.kid, &public, &sealed, &key.notBefore, &retired); err != nil {
		return nil, fmt.Errorf("read the signing keys: %w", err)
	}
	seed, err := r.sealer.open(key.kid, sealed)
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("open signing key %s: it has %d bytes, not %d", key.kid, len(seed), ed25519.SeedSize)
	}
	key.private, key.retired = ed25519.NewKeyFromSeed(seed), retired.Time
	if !bytes.Equal(key.public(), public) {
		return nil, fmt.Errorf("open signing key %s: its public key was changed in the database", key.kid)
	}
	generation, err := strconv.Atoi(key.kid[strings.LastIndexByte(key.kid, '-')+1:])
	if err != nil {
		return nil, fmt.Errorf("read signing key %q: its id does not end in a generation: %w", key.kid, err)
	}
	key.generation = generation
	return &key, nil
}

// renderJWKS writes the public keys as a JWK set (RFC 7517, for Ed25519 RFC 8037).
func renderJWKS(keys []*signingKey) []byte {
	type jwk struct {
		Kty string `json:"kty"`
		Crv string `json:"crv"`
		Kid string `json:"kid"`
		Use string `json:"use"`
		Alg string `json:"alg"`
		X   string `json:"x"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, key := range keys {
		x := base64.RawURLEncoding.EncodeToString(key.public())
		set.Keys = append(set.Keys, jwk{Kty: "OKP", Crv: "Ed25519", Kid: key.kid, Use: "sig", Alg: "EdDSA", X: x})
	}
	text, err := json.Marshal(set)
	if err != nil {
		panic("auth: marshal a JWK set: " + err.Error()) // strings always marshal
	}
	return text
}
