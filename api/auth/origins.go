package auth

import (
	"encoding/base64"
	"fmt"
)

// sealOrigins is what the sealing key of origins is derived for.
const sealOrigins = "lockstep origins v1"

// Origins seals what a client asked for into a transfer to another system. The other system keeps it and cannot read it;
// this one reads it when it has lost its own, with the same secret. It is safe for many goroutines.
type Origins struct{ sealer sealer }

// OpenOrigins derives the key from the system's secret.
func OpenOrigins(config Config) (*Origins, error) {
	sealer, err := newSealer(config.Secret, config.System, sealOrigins)
	if err != nil {
		return nil, err
	}
	return &Origins{sealer}, nil
}

// Seal binds the text to the transfer's id, so that it counts for no other.
func (o *Origins) Seal(id string, text []byte) string {
	return base64.RawURLEncoding.EncodeToString(o.sealer.seal(id, text))
}

// Open reads what Seal has sealed for the same id, in whichever life of the system.
func (o *Origins) Open(id, sealed string) ([]byte, error) {
	content, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return nil, fmt.Errorf("open the origin of %s: %w", id, err)
	}
	return o.sealer.open(id, content)
}
