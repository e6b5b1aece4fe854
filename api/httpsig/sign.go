package httpsig

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/dunglas/httpsfv"
)

// label is what our own signatures are called. A peer may call its own as it likes.
const label = "lockstep"

// Signer signs in the name of one key. It is safe for many goroutines when Clock and Nonce are.
type Signer struct {
	KeyID   string // at most KeyIDBytesMax bytes of printable ASCII
	Private ed25519.PrivateKey
	Clock   func() time.Time // nil: time.Now
	Nonce   func() string    // never the same twice under one key; nil: 128 random bits
	Life    time.Duration    // whole seconds, 1 s to LifeMax; how long a request may be under way
}

// SignRequest covers the method, authority, path and query; with a body its digest and Content-Type; on a POST the
// Idempotency-Key. It sets Content-Digest, Signature-Input and Signature. A body needs its Content-Type and a POST its
// Idempotency-Key before that; what no verifier would accept is not signed but refused with ErrInvalid. Whatever of this
// changes afterwards makes the request invalid, and so does sending it twice: a request that is tried again is signed
// anew.
func (s Signer) SignRequest(r Request) error {
	next := s.Nonce
	if next == nil {
		next = rand.Text
	}
	nonce := next()
	if nonce == "" || len(nonce) > NonceBytesMax {
		return fmt.Errorf("httpsig: nonce %q is not 1 to %d bytes", nonce, NonceBytesMax)
	}
	return s.sign(message{request: r}, "", nonce)
}

// SignResponse signs the answer to a request that was verified, and for that request only: it covers the request's
// signature, the status, the digest of the body and, with a body, the Content-Type, which has to be set before. It
// reads the request's header again, so it is called while a server that reuses its buffers still keeps them. What
// answers a request that was refused is not signed, and means nothing to the peer.
func (s Signer) SignResponse(to Verified, r Response) error {
	if to.label == "" {
		return errors.New("httpsig: sign an answer to a request that was not verified")
	}
	return s.sign(message{request: to.request, response: &r}, to.label, "")
}

// sign is the whole of signing; answered is the label of the request's signature when m is an answer.
func (s Signer) sign(m message, answered, nonce string) error {
	if err := s.validate(); err != nil {
		return err
	}
	if len(m.body()) > 0 || m.response != nil {
		m.header().Set(fieldDigest, digest(m.body()))
	}
	required := m.required(answered)
	made := signature{label: label, covered: s.cover(required, nonce)}
	if err := m.checkCoverage(made.covered, required); err != nil {
		return fmt.Errorf("sign a message: %w", err)
	}
	base, err := m.base(made.covered)
	if err != nil {
		return fmt.Errorf("sign a message: %w", err)
	}
	made.bytes = ed25519.Sign(s.Private, base)
	return made.write(m.header())
}

func (s Signer) validate() error {
	switch {
	case s.KeyID == "" || len(s.KeyID) > KeyIDBytesMax:
		return fmt.Errorf("httpsig: key id %q is not 1 to %d bytes", s.KeyID, KeyIDBytesMax)
	case len(s.Private) != ed25519.PrivateKeySize:
		return fmt.Errorf("httpsig: key %s is not an Ed25519 private key", s.KeyID)
	case s.Life < time.Second || s.Life > LifeMax || s.Life%time.Second != 0:
		return fmt.Errorf("httpsig: a life of %s is not 1 s to %s in whole seconds", s.Life, LifeMax)
	}
	return nil
}

// cover lists the components and the parameters of section 2.3. An algorithm is not among them: it is the key's.
func (s Signer) cover(components []component, nonce string) httpsfv.InnerList {
	list := httpsfv.InnerList{Params: httpsfv.NewParams()}
	for _, c := range components {
		list.Items = append(list.Items, c.item())
	}
	created := now(s.Clock).Unix()
	list.Params.Add("created", created)
	list.Params.Add("expires", created+int64(s.Life/time.Second))
	if nonce != "" {
		list.Params.Add("nonce", nonce)
	}
	list.Params.Add("keyid", s.KeyID)
	list.Params.Add("tag", Tag)
	return list
}

func now(clock func() time.Time) time.Time {
	if clock == nil {
		return time.Now()
	}
	return clock()
}
