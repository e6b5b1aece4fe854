// Package httpsig signs and verifies what payment systems say to each other: HTTP Message Signatures (RFC 9421) with
// Ed25519 over Content-Digest (RFC 9530), in one narrow profile. It knows no HTTP library: a message is a plain struct,
// and the adapters for net/http are the only place that names one. DESIGN.md tells what the profile demands and why.
package httpsig

import (
	"errors"
	"fmt"
	"time"
)

// Tag is the application that a signature is made for (RFC 9421, section 2.3). Signatures under another tag are no
// concern of ours: a message that carries only such is unsigned to us.
const Tag = "lockstep-peer-v1"

// The bounds of a signature. Who stores nonces makes room for these lengths.
const (
	LifeMax       = 60 * time.Second // from created to expires
	SkewMax       = 5 * time.Second  // how far the two clocks may differ, either way
	NonceKept     = 10 * time.Second // how long after expires a nonce is remembered
	KeyIDBytesMax = 64
	NonceBytesMax = 64

	fieldBytesMax = 8 << 10 // of Signature-Input, of Signature, each with all its lines
)

// A message is refused with one of these, to be told apart by errors.Is. What comes with it is for logs: it names the
// rule that was broken and may quote the message.
var (
	// ErrUnsigned says that there is no signature under our tag.
	ErrUnsigned = errors.New("httpsig: unsigned")
	// ErrInvalid says that there is one and that it does not hold: it covers too little, or something was changed.
	ErrInvalid = errors.New("httpsig: invalid signature")
	// ErrStale says that a signature which holds came before its time or after it.
	ErrStale = errors.New("httpsig: stale signature")
	// ErrReplayed says that a request which holds was seen before.
	ErrReplayed = errors.New("httpsig: replayed request")
	// ErrUnknownKey says that the KeySource does not know who signed.
	ErrUnknownKey = errors.New("httpsig: unknown key")
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Header is the fields of a message. http.Header is one; a header of fasthttp becomes one by PeekAll and Set.
type Header interface {
	// Values returns the field lines of this name, in their order and without regard to the case of the name.
	Values(name string) []string
	// Set replaces the field lines of this name by one.
	Set(name, value string)
}

// Request is what a signature can cover of a request: the bytes that travel, not what somebody decoded from them. Path
// and RawQuery are as in the request line, still escaped; RawQuery is without its question mark. Authority is the Host
// field, or :authority, without the port when it is the scheme's default. Body is the content before any decoding.
type Request struct {
	Method    string
	Authority string
	Path      string
	RawQuery  string
	Header    Header
	Body      []byte
}

// Response is what a signature can cover of an answer.
type Response struct {
	Status int
	Header Header
	Body   []byte
}

// message is what a signature is computed over: a request, or an answer together with the request that it answers.
type message struct {
	request  Request
	response *Response
}

func (m message) header() Header {
	if m.response != nil {
		return m.response.Header
	}
	return m.request.Header
}

func (m message) body() []byte {
	if m.response != nil {
		return m.response.Body
	}
	return m.request.Body
}
