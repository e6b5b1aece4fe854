package store

import (
	"crypto/sha256"
	"encoding/hex"
)

// Answer is what a client is told: an HTTP answer without the headers that belong to one request alone.
type Answer struct {
	Status      int
	Location    string
	ContentType string
	Body        []byte
}

// Token is the opaque Consistency-Token of a write; "" is none.
type Token string

// Claim is what an idempotency key stands for. Its scope is the calling client or user, the method with the route's
// template, and the key; the fingerprint covers the meaning of the request: path parameters and decoded body.
type Claim struct {
	Principal   string // the caller, not the owner it acts for
	Route       string // e.g. "POST /v1/holds/{id}/capture"
	Key         string
	Fingerprint [sha256.Size]byte
	Language    string // of the first answer
	RequestID   string // of the first request
}

// ID is the primary key of the claim: a hash, so that a key is never cut or folded by a column.
func (c *Claim) ID() string {
	hash := sha256.New()
	for _, part := range []string{c.Principal, c.Route, c.Key} {
		hash.Write([]byte(part))
		hash.Write([]byte{0})
	}
	return hex.EncodeToString(hash.Sum(nil))
}
