package httpsig

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// PublicKey is a key as it is published.
type PublicKey struct {
	KeyID  string
	Public ed25519.PublicKey
}

// jwk is an Ed25519 key in JSON (RFC 8037, section 2).
type jwk struct {
	Kty string          `json:"kty"`
	Crv string          `json:"crv"`
	Kid string          `json:"kid"`
	Use string          `json:"use,omitempty"`
	Alg string          `json:"alg,omitempty"`
	X   string          `json:"x"`
	D   json.RawMessage `json:"d,omitempty"`
}

type jwks struct {
	Keys []jwk `json:"keys"`
}

// MarshalJWKS writes keys as a JWK set (RFC 7517, section 5), in their order.
func MarshalJWKS(keys []PublicKey) []byte {
	set := jwks{Keys: []jwk{}}
	for _, key := range keys {
		x := base64.RawURLEncoding.EncodeToString(key.Public)
		set.Keys = append(set.Keys, jwk{Kty: "OKP", Crv: "Ed25519", Kid: key.KeyID, Use: "sig", Alg: "EdDSA", X: x})
	}
	text, err := json.Marshal(set)
	if err != nil {
		panic("httpsig: marshal a JWK set: " + err.Error()) // strings always marshal
	}
	return text
}

// ParseJWKS reads the keys of a JWK set that verify by Ed25519; keys of other kinds or for other uses are passed over,
// as RFC 7517 wants it. It refuses the whole set when such a key has no id, another's id, not 32 bytes, or its private
// part with it.
func ParseJWKS(text []byte) ([]PublicKey, error) {
	var set jwks
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("read a JWK set: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New("read a JWK set: it has no keys member")
	}
	var keys []PublicKey
	seen := make(map[string]bool)
	for i, key := range set.Keys {
		if !key.verifies() {
			continue
		}
		public, err := key.public()
		if err == nil && seen[key.Kid] {
			err = errors.New("another key has this id")
		}
		if err != nil {
			return nil, fmt.Errorf("read key %d (%q) of a JWK set: %w", i, key.Kid, err)
		}
		seen[key.Kid] = true
		keys = append(keys, PublicKey{KeyID: key.Kid, Public: public})
	}
	return keys, nil
}

func (k jwk) verifies() bool {
	return k.Kty == "OKP" && k.Crv == "Ed25519" && (k.Use == "" || k.Use == "sig") &&
		(k.Alg == "" || k.Alg == "EdDSA" || k.Alg == "Ed25519") // the second is its name since RFC 9864
}

func (k jwk) public() (ed25519.PublicKey, error) {
	if k.D != nil {
		return nil, errors.New("its private part is in it; whoever read it can sign")
	}
	if k.Kid == "" || len(k.Kid) > KeyIDBytesMax {
		return nil, fmt.Errorf("its id is not 1 to %d bytes", KeyIDBytesMax)
	}
	x, err := base64.RawURLEncoding.DecodeString(k.X)
	if err != nil || len(x) != ed25519.PublicKeySize || base64.RawURLEncoding.EncodeToString(x) != k.X {
		return nil, fmt.Errorf("x is not %d bytes in base64url", ed25519.PublicKeySize)
	}
	return x, nil
}
