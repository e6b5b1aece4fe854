package httpsig

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"

	"github.com/dunglas/httpsfv"
)

const fieldDigest = "Content-Digest"

// digest is the Content-Digest of a body (RFC 9530, section 2).
func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// checkDigest computes the SHA-256 of the body again. Digests by other algorithms may stand beside it and are not read.
func checkDigest(header Header, body []byte) error {
	fields, err := httpsfv.UnmarshalDictionary(header.Values(fieldDigest))
	if err != nil {
		return invalid("%s is not a dictionary: %v", fieldDigest, err)
	}
	member, _ := fields.Get("sha-256")
	item, _ := member.(httpsfv.Item)
	claimed, ok := item.Value.([]byte)
	if !ok {
		return invalid("%s has no sha-256", fieldDigest)
	}
	if sum := sha256.Sum256(body); subtle.ConstantTimeCompare(sum[:], claimed) != 1 {
		return invalid("%s is of another body", fieldDigest)
	}
	return nil
}
