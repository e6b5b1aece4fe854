package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"lockstep/node/ledger"
)

// The cost of a password's hash (RFC 9106): argon2id with 19 MiB, two passes, one lane, the least that OWASP advises. A
// node has few cores and little memory, which payments need as well, so it makes hashesAtMax at a time.
const (
	argonKiB     = 19 << 10
	argonPasses  = 2
	argonLanes   = 1
	saltBytes    = 16
	hashBytes    = 32
	hashesAtMax  = 2
	hashesQueued = 64 // who wait for a place
)

// Bounds of what people choose.
const (
	passwordMin   = 10 // characters
	passwordMax   = 128
	passwordBytes = 4 * passwordMax
	distinctMin   = 5
)

var usernameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{2,31}$`)

// checkUsername refuses names that could be taken for another one: small ASCII letters only.
func checkUsername(name string) error {
	if !usernameForm.MatchString(name) {
		return ledger.Refuse(ledger.InvalidRequest, "a username has 3 to 32 small letters, digits and . _ -, and starts with a letter or digit")
	}
	return nil
}

// checkPassword refuses passwords that are guessed first (NIST SP 800-63B, 5.1.1). There is no rule on kinds of characters.
func checkPassword(username, password string) error {
	distinct := map[rune]bool{}
	for _, r := range password {
		distinct[r] = true
	}
	length := utf8.RuneCountInString(password)
	switch {
	case !utf8.ValidString(password) || length < passwordMin || length > passwordMax:
		return ledger.Refuse(ledger.InvalidRequest, "a password has %d to %d characters", passwordMin, passwordMax)
	case len(distinct) < distinctMin:
		return ledger.Refuse(ledger.InvalidRequest, "the password repeats the same few characters")
	case username != "" && utf8.RuneCountInString(strings.ReplaceAll(strings.ToLower(password), username, "")) < passwordMin:
		return ledger.Refuse(ledger.InvalidRequest, "without the username in it the password has fewer than %d characters", passwordMin)
	}
	return nil
}

// hasher makes and checks the hashes of passwords, a few at a time. It is safe for many goroutines.
type hasher struct {
	random io.Reader
	cost   cost // of new hashes
	places chan struct{}
	queued atomic.Int64
	dummy  string // the hash of nobody's password, for names that nobody has
	checks atomic.Uint64
}

func newHasher(config Config) *hasher {
	h := &hasher{random: config.Random, cost: cost{argonKiB, argonPasses, argonLanes}, places: make(chan struct{}, hashesAtMax)}
	if config.PasswordKiB > 0 {
		h.cost.kib = config.PasswordKiB
	}
	salt, hash := make([]byte, saltBytes), make([]byte, hashBytes)
	_, _ = rand.Read(salt) // never fails, see crypto/rand
	_, _ = rand.Read(hash)
	h.dummy = encodeHash(h.cost, salt, hash)
	return h
}

// enter waits for a place, and refuses with Overloaded when too many wait.
func (h *hasher) enter(ctx context.Context) error {
	defer h.queued.Add(-1)
	if h.queued.Add(1) > hashesQueued {
		return ledger.Refuse(ledger.Overloaded, "too many sign in at the moment")
	}
	select {
	case h.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ledger.Refuse(ledger.Overloaded, "too many sign in at the moment")
	}
}

func (h *hasher) leave() { <-h.places }

// make is the hash of a new password, as the PHC string format writes it.
func (h *hasher) make(ctx context.Context, password string) (string, error) {
	if err := h.enter(ctx); err != nil {
		return "", err
	}
	defer h.leave()
	salt := make([]byte, saltBytes)
	if _, err := io.ReadFull(h.random, salt); err != nil {
		return "", fmt.Errorf("make a salt: %w", err)
	}
	return encodeHash(h.cost, salt, argon(password, salt, h.cost)), nil
}

// check tells whether the password is that of the hash; an empty hash is nobody's, and costs the same.
func (h *hasher) check(ctx context.Context, password, encoded string) (bool, error) {
	if err := h.enter(ctx); err != nil {
		return false, err
	}
	defer h.leave()
	h.checks.Add(1)
	nobody := encoded == ""
	if nobody {
		encoded = h.dummy
	}
	c, salt, want, err := decodeHash(encoded)
	if err != nil {
		return false, err
	}
	same := subtle.ConstantTimeCompare(argon(password, salt, c), want) == 1
	return same && !nobody, nil
}

// argon hashes a password in its composed form (RFC 8265, 4.2.1): keyboards send 한 as one letter or as three.
func argon(password string, salt []byte, c cost) []byte {
	return argon2.IDKey([]byte(norm.NFC.String(password)), salt, c.passes, c.kib, c.lanes, hashBytes)
}

// cost is what a hash is made with; that of new ones may change.
type cost struct {
	kib, passes uint32
	lanes       uint8
}

func encodeHash(c cost, salt, hash []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, c.kib, c.passes, c.lanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(hash))
}

var errHash = errors.New("a stored password hash cannot be read")

func decodeHash(encoded string) (cost, []byte, []byte, error) {
	parts := strings.Split(encoded, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return cost{}, nil, nil, errHash
	}
	var c cost
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &c.kib, &c.passes, &c.lanes); err != nil {
		return cost{}, nil, nil, errHash
	}
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	hash, hashErr := base64.RawStdEncoding.DecodeString(parts[5])
	if saltErr != nil || hashErr != nil || len(hash) != hashBytes || c.passes == 0 || c.lanes == 0 || c.kib > 1<<20 {
		return cost{}, nil, nil, errHash
	}
	return c, salt, hash, nil
}

// outdated tells whether a hash was made with another cost than new ones are.
func (h *hasher) outdated(encoded string) bool {
	c, _, _, err := decodeHash(encoded)
	return err == nil && c != h.cost
}
