// Package statement signs facts that one payment system tells another and that may be read late and often: a transfer
// was committed, a transfer was aborted. A statement does not expire and has no nonce; what makes repeats harmless is
// the receiver's barrier. It is a JWS in compact form (RFC 7515) with EdDSA over Ed25519 (RFC 8037), or one of many that share
// such a signature (SignAll), and nothing else: there is no algorithm to choose, and no member of the header that could
// change what the signature means.
package statement

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Why a statement is not believed, to be told apart by errors.Is.
var (
	// ErrInvalid says that it is not in the form that Sign gives, is of another type, or was not signed by its key.
	ErrInvalid = errors.New("statement: invalid")
	// ErrUnknownKey says that nobody is known under its key id. A key that is known later may still verify it.
	ErrUnknownKey = errors.New("statement: unknown key")
)

const algorithm = "EdDSA"

// header is the JOSE header; its order is that of the text.
type header struct {
	Alg string `json:"alg"`
	Kid string `json:"kid,omitempty"`
	Typ string `json:"typ,omitempty"`
}

// Sign states the payload in the name of the key. typ says what kind of fact it is, so that a statement of one kind
// cannot be shown as one of another; keyID and typ are UTF-8. It panics when key is not an Ed25519 private key.
func Sign(keyID string, key ed25519.PrivateKey, typ string, payload []byte) string {
	text, err := json.Marshal(header{Alg: algorithm, Kid: keyID, Typ: typ})
	if err != nil {
		panic("statement: marshal a header: " + err.Error()) // strings always marshal
	}
	signed := encode(text) + "." + encode(payload)
	return signed + "." + encode(ed25519.Sign(key, []byte(signed)))
}

// Verify returns what was stated, byte for byte, and under which key id. keys finds the public key, also one that signs
// no more. The typ has to be the one that is asked for. A statement has one form: whatever byte of it changes, it is
// refused with ErrInvalid or, when it was the key id, ErrUnknownKey.
func Verify(jws string, keys func(keyID string) (ed25519.PublicKey, bool), typ string) (keyID string, payload []byte, err error) {
	return new(Memory).Verify(jws, keys, typ)
}

// Verify is the function of this name; of statements that share a signature it verifies that once.
func (m *Memory) Verify(jws string, keys func(keyID string) (ed25519.PublicKey, bool), typ string) (keyID string, payload []byte, err error) {
	parts := strings.Split(jws, ".")
	expected := algorithm
	switch len(parts) {
	case 3:
	case 4:
		expected = algorithmTree
	default:
		return "", nil, fmt.Errorf("%w: it has %d parts, not 3 or 4", ErrInvalid, len(parts))
	}
	decoded := make([][]byte, len(parts))
	for i, part := range parts {
		if decoded[i], err = decode(part); err != nil {
			return "", nil, err
		}
	}
	h, err := m.header(decoded[0])
	if err != nil {
		return "", nil, err
	}
	if h.Alg != expected || h.Typ != typ {
		return "", nil, fmt.Errorf("%w: it is a %q by %q, not a %q by %s", ErrInvalid, h.Typ, h.Alg, typ, expected)
	}
	key, ok := keys(h.Kid)
	if !ok || len(key) != ed25519.PublicKeySize {
		return "", nil, fmt.Errorf("%w: %q", ErrUnknownKey, h.Kid)
	}
	if !m.proves(key, jws[:len(parts[0])+len(".")+len(parts[1])], decoded[2:]) {
		return "", nil, fmt.Errorf("%w: key %q did not sign it", ErrInvalid, h.Kid)
	}
	return h.Kid, decoded[1], nil
}

// proves tells whether what follows the text, a signature or a path and a signature, shows that the key signed it.
func (m *Memory) proves(key ed25519.PublicKey, text string, proof [][]byte) bool {
	if len(proof) == 1 {
		return ed25519.Verify(key, []byte(text), proof[0])
	}
	path, signature := proof[0], proof[1]
	if len(path) == 0 || len(path)%sha256.Size != 0 || len(path) > pathMax*sha256.Size {
		return false
	}
	return m.signed(key, rootFrom(leafOf(text), path), signature)
}

// parseHeader reads member by member, because encoding/json takes names in any case and the last of two equal ones.
func parseHeader(text []byte) (h header, err error) {
	refuse := func(what string, args ...any) (header, error) {
		return header{}, fmt.Errorf("%w: its header "+what, append([]any{ErrInvalid}, args...)...)
	}
	members := map[string]*string{"alg": &h.Alg, "kid": &h.Kid, "typ": &h.Typ}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if open, err := decoder.Token(); err != nil || open != json.Delim('{') || !utf8.Valid(text) {
		return refuse("is not a JSON object")
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return refuse("is not JSON: %w", err)
		}
		known, _ := name.(string)
		member := members[known]
		if member == nil {
			return refuse("has the member %v twice, or it is not known", name)
		}
		delete(members, known)
		value, err := decoder.Token()
		text, ok := value.(string)
		if err != nil || !ok || text == "" {
			return refuse("has a member %s that is not a text", known)
		}
		*member = text
	}
	if _, err := decoder.Token(); err != nil {
		return refuse("is not JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return refuse("has something after it")
	}
	return h, nil
}

func encode(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// strict refuses spare bits.
var strict = base64.RawURLEncoding.Strict()

// decode refuses what encode does not write: line ends, which the standard library passes over, and spare bits.
func decode(text string) ([]byte, error) {
	data, err := strict.DecodeString(text)
	if err != nil || len(text) != strict.EncodedLen(len(data)) {
		return nil, fmt.Errorf("%w: a part is not in base64url", ErrInvalid)
	}
	return data, nil
}
