package remit

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

// Sealer keeps what a client asked for unreadable to the system that it is shown to; *auth.Origins is one.
type Sealer interface {
	Seal(id string, text []byte) string
	Open(id, sealed string) ([]byte, error)
}

// origin is the client's request that a transfer came from. A system that loses its last commits loses the idempotency key
// with the transfer. When the transfer is found again by the peer's books, the key has to be found too: a client that has
// had no answer repeats it, and would pay a second time.
type origin struct {
	Principal   string `json:"p"`
	Route       string `json:"r"`
	Key         string `json:"k"`
	Fingerprint []byte `json:"f"`
	Language    string `json:"l"`
	RequestID   string `json:"q"`
	Reference   string `json:"n,omitempty"`
}

// Origin seals the request that a new transfer comes from. The peer keeps it with the statement that it credits on.
func (d *Desk) Origin(id ledger.TransferID, claim store.Claim, reference string) string {
	if d.config.Sealer == nil {
		return ""
	}
	text, err := json.Marshal(origin{
		Principal: claim.Principal, Route: claim.Route, Key: claim.Key, Fingerprint: claim.Fingerprint[:],
		Language: claim.Language, RequestID: claim.RequestID, Reference: reference,
	})
	if err != nil {
		panic(fmt.Sprintf("remit: a claim cannot be written: %v", err)) // it is texts and bytes
	}
	return d.config.Sealer.Seal(string(id), text)
}

// originOf reads what Origin has sealed; false when there is nothing, or nothing that this system has sealed.
func (d *Desk) originOf(id ledger.TransferID, sealed string) (origin, bool) {
	if d.config.Sealer == nil || sealed == "" {
		return origin{}, false
	}
	text, err := d.config.Sealer.Open(string(id), sealed)
	if err != nil {
		d.log.Error("the origin of a transfer cannot be read; a client that repeats its key is not recognised", "transfer", id, "error", err)
		return origin{}, false
	}
	var found origin
	if err := json.Unmarshal(text, &found); err != nil || len(found.Fingerprint) != sha256.Size {
		d.log.Error("the origin of a transfer is not readable", "transfer", id, "error", err)
		return origin{}, false
	}
	return found, true
}

func (o origin) claim() *store.Claim {
	return &store.Claim{
		Principal: o.Principal, Route: o.Route, Key: o.Key, Fingerprint: [sha256.Size]byte(o.Fingerprint), Language: o.Language, RequestID: o.RequestID,
	}
}
