package auth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

// errUnsealed says that a sealed key is not of this secret, or not of this kid.
var errUnsealed = errors.New("the configured secret did not seal this signing key: every node of a system needs the same secret")

// What a sealing key is derived for: a key that was sealed for one purpose is none for another.
const (
	sealTokens = "lockstep signing keys v1"
	sealPeers  = "lockstep peer keys v1"
)

// sealer keeps private keys unreadable in the database and its backups.
type sealer struct{ aead cipher.AEAD }

// newSealer derives the sealing key from the system's secret by HKDF-SHA256 (RFC 5869). The info names the purpose and
// the system, so that one secret used twice still makes two keys.
func newSealer(secret, system, purpose string) (sealer, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, purpose+" "+system, 32)
	if err != nil {
		return sealer{}, fmt.Errorf("derive the sealing key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, fmt.Errorf("derive the sealing key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return sealer{}, fmt.Errorf("derive the sealing key: %w", err)
	}
	return sealer{aead: aead}, nil
}

// seal binds the key to its kid, so that nobody can move a sealed key to another row.
func (s sealer) seal(kid string, private []byte) []byte {
	return s.aead.Seal(nil, nil, private, []byte(kid))
}

func (s sealer) open(kid string, sealed []byte) ([]byte, error) {
	private, err := s.aead.Open(nil, nil, sealed, []byte(kid))
	if err != nil {
		return nil, fmt.Errorf("open signing key %s: %w", kid, errUnsealed)
	}
	return private, nil
}
