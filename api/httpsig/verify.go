package httpsig

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dunglas/httpsfv"
)

// Key is a public key and whose it is.
type Key struct {
	Public ed25519.PublicKey
	Peer   string // the caller's name for the owner; handed back unread
}

// KeySource finds the key of a key id. While a peer changes its key, both of its ids are known. A key that was
// withdrawn is not.
type KeySource func(keyID string) (Key, bool)

// NonceStore remembers the nonces of requests. Remember is one atomic step: of all that ask for the same key id and
// nonce before until, in all nodes of a system, one is told fresh. The pair may be forgotten after until.
type NonceStore interface {
	Remember(ctx context.Context, keyID, nonce string, until time.Time) (fresh bool, err error)
}

// Verifier decides who speaks. It is safe for many goroutines when its parts are.
type Verifier struct {
	Keys  KeySource
	Clock func() time.Time // nil: time.Now

	// The rest is for requests only.

	// Nonces is asked last, about requests that hold in everything else, so that nobody else can fill it.
	Nonces NonceStore
	// Authorities are the names, with port where one is used, under which this system is called. A request for another
	// is refused: else what a peer signed for one system could be carried to the next, which knows the same key.
	Authorities []string
}

// Verified is a message that holds.
type Verified struct {
	KeyID   string
	Peer    string // of the Key
	Nonce   string // of a request; it has been remembered
	Created time.Time
	Expires time.Time

	request Request // what it was, or what it answers
	label   string
}

// VerifyRequest accepts a request that is signed as SignRequest does it, for one of our authorities, at most LifeMax
// before it expires, within created and expires by SkewMax, and for the first time. Everything else is refused with one
// of the errors of this package; any other error says that the nonce could not be stored, or that the Verifier is
// incomplete, and nothing about the request.
func (v Verifier) VerifyRequest(ctx context.Context, r Request) (Verified, error) {
	if v.Nonces == nil || len(v.Authorities) == 0 {
		return Verified{}, errors.New("httpsig: requests cannot be verified without Nonces and Authorities")
	}
	verified, err := v.verify(message{request: r}, "")
	if err != nil {
		return Verified{}, err
	}
	if !slices.ContainsFunc(v.Authorities, func(ours string) bool { return lower(ours) == lower(r.Authority) }) {
		return Verified{}, invalid("it was made for %q", r.Authority)
	}
	fresh, err := v.Nonces.Remember(ctx, verified.KeyID, verified.Nonce, verified.Expires.Add(NonceKept))
	if err != nil {
		return Verified{}, fmt.Errorf("remember a nonce of key %s: %w", verified.KeyID, err)
	}
	if !fresh {
		return Verified{}, fmt.Errorf("%w: nonce %q of key %s", ErrReplayed, verified.Nonce, verified.KeyID)
	}
	return verified, nil
}

// VerifyResponse accepts an answer that is signed as SignResponse does it, to this very request, which the caller signed
// and sent. Who signed the answer is in Verified.Peer: the caller compares it with whom it asked, for another peer may
// have got hold of the request. An answer has no nonce of its own; the request's binds it.
func (v Verifier) VerifyResponse(to Request, r Response) (Verified, error) {
	sent, err := findSignature(to.Header)
	if err != nil {
		return Verified{}, fmt.Errorf("httpsig: verify an answer to a request that was not signed: %s", err.Error())
	}
	return v.verify(message{request: to, response: &r}, sent.label)
}

// verify is all but authority and nonce. Time comes after the signature, so that ErrStale tells of clocks and delays
// and not of forgers.
func (v Verifier) verify(m message, answered string) (Verified, error) {
	found, err := findSignature(m.header())
	if err != nil {
		return Verified{}, err
	}
	verified, err := readParams(found.covered, m.response == nil)
	if err != nil {
		return Verified{}, err
	}
	if err := m.checkCoverage(found.covered, m.required(answered)); err != nil {
		return Verified{}, err
	}
	key, ok := v.Keys(verified.KeyID)
	if !ok || len(key.Public) != ed25519.PublicKeySize {
		return Verified{}, fmt.Errorf("%w: %q", ErrUnknownKey, verified.KeyID)
	}
	base, err := m.base(found.covered)
	if err != nil {
		return Verified{}, err
	}
	if !ed25519.Verify(key.Public, base, found.bytes) {
		return Verified{}, invalid("key %s did not sign this", verified.KeyID)
	}
	if err := verified.checkTime(now(v.Clock)); err != nil {
		return Verified{}, err
	}
	verified.Peer, verified.request, verified.label = key.Peer, m.request, found.label
	return verified, nil
}

func (v Verified) checkTime(now time.Time) error {
	if now.Before(v.Created.Add(-SkewMax)) {
		return fmt.Errorf("%w: created %s from now", ErrStale, v.Created.Sub(now))
	}
	if now.After(v.Expires.Add(SkewMax)) {
		return fmt.Errorf("%w: expired %s ago", ErrStale, now.Sub(v.Expires))
	}
	return nil
}

// readParams reads the parameters of a signature (section 2.3). One that we do not know may change what the signature
// means, so it is refused.
func readParams(covered httpsfv.InnerList, isRequest bool) (Verified, error) {
	p := params{covered.Params}
	for _, name := range covered.Params.Names() {
		if !slices.Contains([]string{"created", "expires", "nonce", "keyid", "alg", "tag"}, name) {
			return Verified{}, invalid("it has the parameter %s, which is not supported", name)
		}
	}
	created, hasCreated := p.number("created")
	expires, hasExpires := p.number("expires")
	if !hasCreated || !hasExpires {
		return Verified{}, invalid("it does not say when it was created and when it expires")
	}
	if life := expires - created; life <= 0 || life > int64(LifeMax/time.Second) {
		return Verified{}, invalid("it lives %d s, not 1 to %d", life, int64(LifeMax/time.Second))
	}
	if alg, there := covered.Params.Get("alg"); there && alg != "ed25519" {
		return Verified{}, invalid("its algorithm is %v", alg)
	}
	keyID, ok := p.text("keyid", KeyIDBytesMax)
	if !ok {
		return Verified{}, invalid("it names no key of 1 to %d bytes", KeyIDBytesMax)
	}
	nonce, ok := p.text("nonce", NonceBytesMax)
	if !ok && isRequest {
		return Verified{}, invalid("it has no nonce of 1 to %d bytes", NonceBytesMax)
	}
	return Verified{KeyID: keyID, Nonce: nonce, Created: time.Unix(created, 0), Expires: time.Unix(expires, 0)}, nil
}

type params struct{ *httpsfv.Params }

func (p params) number(name string) (int64, bool) {
	value, _ := p.Get(name)
	number, ok := value.(int64)
	return number, ok
}

func (p params) text(name string, bytesMax int) (string, bool) {
	value, _ := p.Get(name)
	text, ok := value.(string)
	return text, ok && text != "" && len(text) <= bytesMax
}
