package statement

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
)

// Many statements share one signature by a tree of hashes, as the entries of a Certificate Transparency log do (RFC 9162,
// section 2.1): it is over the root, and each statement carries the hashes that lead there from its own text. So each is
// proof by itself, whatever becomes of the others, and costs a few hashes where a signature costs fifty times as much.
//
// Its form is header.payload.path.signature, each in base64url. A leaf is the hash of "header.payload", a node that of its
// two children in ascending order, so that a path needs no sides; leaf, node and root begin with a byte of their own, and no
// text of a JWS begins with such a byte.
const (
	algorithmTree = "EdDSA-tree"

	markLeaf byte = 0
	markNode byte = 1
	markRoot byte = 2

	pathMax = 16 // hashes
)

type hash [sha256.Size]byte

// SignAll states the payloads in the name of the key, as Sign does, with one signature for all of them.
func SignAll(keyID string, key ed25519.PrivateKey, typ string, payloads [][]byte) []string {
	if len(payloads) == 1 {
		return []string{Sign(keyID, key, typ, payloads[0])}
	}
	if len(payloads) > 1<<pathMax {
		panic(fmt.Sprintf("statement: %d payloads are more than a path can lead to", len(payloads)))
	}
	text, err := json.Marshal(header{Alg: algorithmTree, Kid: keyID, Typ: typ})
	if err != nil {
		panic("statement: marshal a header: " + err.Error()) // strings always marshal
	}
	head := encode(text) + "."
	stated, level := make([]string, len(payloads)), make([]hash, len(payloads))
	for i, payload := range payloads {
		stated[i] = head + encode(payload)
		level[i] = leafOf(stated[i])
	}
	paths, root := climb(level)
	signature := "." + encode(ed25519.Sign(key, rootText(root)))
	for i := range stated {
		stated[i] += "." + encode(paths[i]) + signature
	}
	return stated
}

// climb builds the tree above the leaves, of which there is at least one, and the path of each. A node without a sibling
// rises as it is.
func climb(level []hash) (paths [][]byte, root hash) {
	paths = make([][]byte, len(level))
	for width := 1; len(level) > 1; width *= 2 {
		var above []hash
		for i := 0; i < len(level); i += 2 {
			if i+1 == len(level) {
				above = append(above, level[i])
				break
			}
			for leaf := i * width; leaf < min((i+2)*width, len(paths)); leaf++ {
				sibling := level[i]
				if leaf < (i+1)*width {
					sibling = level[i+1]
				}
				paths[leaf] = append(paths[leaf], sibling[:]...)
			}
			above = append(above, nodeOf(level[i], level[i+1]))
		}
		level = above
	}
	return paths, level[0]
}

// rootFrom follows a path.
func rootFrom(leaf hash, path []byte) hash {
	for sibling := range slices.Chunk(path, sha256.Size) {
		leaf = nodeOf(leaf, hash(sibling))
	}
	return leaf
}

func leafOf(text string) hash { return sha256.Sum256(append([]byte{markLeaf}, text...)) }

func nodeOf(a, b hash) hash {
	if bytes.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	var text [1 + 2*sha256.Size]byte
	text[0] = markNode
	copy(text[1:], a[:])
	copy(text[1+sha256.Size:], b[:])
	return sha256.Sum256(text[:])
}

func rootText(root hash) []byte { return append([]byte{markRoot}, root[:]...) }

// Memory remembers which roots were found to be signed, and the last header that was read, so that the statements of one
// message cost one signature and one reading. It is safe for many goroutines; the zero value remembers nothing yet.
type Memory struct {
	mu    sync.Mutex
	known map[signedRoot]bool
	order []signedRoot
	last  *readHeader // nil before the first
}

// readHeader is a header that was found to be right in form, with its text.
type readHeader struct {
	text string
	header
}

// header reads a header, or knows it.
func (m *Memory) header(text []byte) (header, error) {
	m.mu.Lock()
	last := m.last
	m.mu.Unlock()
	if last != nil && last.text == string(text) {
		return last.header, nil
	}
	h, err := parseHeader(text)
	if err == nil {
		m.mu.Lock()
		m.last = &readHeader{string(text), h}
		m.mu.Unlock()
	}
	return h, err
}

// signedRoot is a root with all that its signature depends on.
type signedRoot struct {
	key, root hash
	signature [ed25519.SignatureSize]byte
}

// rootsMax is how many roots a Memory keeps: those of the messages in hand, and some.
const rootsMax = 256

// signed tells whether the key has signed the root.
func (m *Memory) signed(key ed25519.PublicKey, root hash, signature []byte) bool {
	if len(signature) != ed25519.SignatureSize {
		return false
	}
	asked := signedRoot{hash(key), root, [ed25519.SignatureSize]byte(signature)}
	m.mu.Lock()
	known := m.known[asked]
	m.mu.Unlock()
	if known {
		return true
	}
	if !ed25519.Verify(key, rootText(root), signature) {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = map[signedRoot]bool{}
	}
	if !m.known[asked] {
		m.known[asked], m.order = true, append(m.order, asked)
	}
	if len(m.order) > rootsMax {
		delete(m.known, m.order[0])
		m.order = m.order[1:]
	}
	return true
}
