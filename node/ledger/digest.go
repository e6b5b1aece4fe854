package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
)

// Digest stands for remittances that are pending or posted, in order of their ids. Two systems of which each has the same
// digest know the same of what they stand for. Those that were given up move nothing, and the other system may not even know them.
type Digest struct {
	Count int
	Last  TransferID // the highest of them
	hash  hash.Hash
}

// NewDigest is the digest of none.
func NewDigest() *Digest { return &Digest{hash: sha256.New()} }

// Add adds the remittance with the next id.
func (d *Digest) Add(id TransferID, state State, from, to Number, amount Money) {
	d.Count, d.Last = d.Count+1, id
	fmt.Fprintf(d.hash, "%s %s %s %s %d %s\n", id, state, from, to, amount.Minor, amount.Currency)
}

// Sum is the digest's text: SHA-256 in hexadecimal.
func (d *Digest) Sum() string { return hex.EncodeToString(d.hash.Sum(nil)) }
