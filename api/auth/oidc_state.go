package auth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"lockstep/node/ledger"
)

// sealLogins is what the key of logins under way is derived for.
const sealLogins = "lockstep logins v1"

const (
	nextMax        = 512 // characters of the path to come back to
	sealedMax      = 4096
	stateBytes     = 32 // of state, nonce and verifier each: more than can be guessed (RFC 7636, 7.1)
	usedSweepMax   = 100
	mysqlDuplicate = 1062
)

// pending is a login under way. Nobody but this system can read it or make one.
type pending struct {
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"`
	Next     string    `json:"p"`
	Issuer   string    `json:"i"` // a login that began before the provider was changed ends
	Until    time.Time `json:"u"`
}

func (l *Logins) newPending(next string) (pending, error) {
	random := make([]byte, 3*stateBytes)
	if _, err := io.ReadFull(l.config.Random, random); err != nil {
		return pending{}, fmt.Errorf("begin a login: %w", err)
	}
	part := func(n int) string {
		return base64.RawURLEncoding.EncodeToString(random[n*stateBytes : (n+1)*stateBytes])
	}
	return pending{
		State: part(0), Nonce: part(1), Verifier: part(2), Next: next,
		Issuer: l.oidc.Issuer, Until: l.config.Clock().Add(loginLife),
	}, nil
}

func (l *Logins) seal(begun pending) string {
	text, err := json.Marshal(begun)
	if err != nil {
		panic("auth: marshal a login: " + err.Error()) // strings and a time
	}
	return base64.RawURLEncoding.EncodeToString(l.sealer.seal(sealLogins, text))
}

func (l *Logins) unseal(sealed string) (pending, error) {
	if sealed == "" || len(sealed) > sealedMax {
		return pending{}, errors.New("there is no login under way")
	}
	text, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return pending{}, fmt.Errorf("decode a login: %w", err)
	}
	if text, err = l.sealer.open(sealLogins, text); err != nil {
		return pending{}, errors.New("the login was not sealed by this system")
	}
	var begun pending
	if err := json.Unmarshal(text, &begun); err != nil {
		return pending{}, fmt.Errorf("read a login: %w", err)
	}
	if begun.Issuer != l.oidc.Issuer || !l.config.Clock().Before(begun.Until) {
		return pending{}, errors.New("the login has ended")
	}
	return begun, nil
}

// useOnce lets a state finish one login, on whichever node: whoever comes with the same answer again is refused, whatever
// the provider makes of a code that it has seen. Its row stays until the state has ended by itself.
func (l *Logins) useOnce(ctx context.Context, begun pending) error {
	hash := sha256.Sum256([]byte(begun.State))
	_, err := l.config.DB.ExecContext(ctx, "INSERT INTO login_states (state_hash, ends_at) VALUES (?, ?)", hash[:], begun.Until.UTC())
	var said *mysql.MySQLError
	switch {
	case errors.As(err, &said) && said.Number == mysqlDuplicate:
		return l.refuse("this sign-in was finished before; start again", nil)
	case err != nil:
		l.config.Logger.Warn("cannot note that a sign-in was finished", "error", err)
		return ledger.Refuse(ledger.SourceUnavailable, "the database does not answer, so nobody can sign in")
	}
	_, err = l.config.DB.ExecContext(ctx, "DELETE FROM login_states WHERE ends_at < ? ORDER BY ends_at LIMIT ?",
		l.config.Clock().UTC(), usedSweepMax)
	if err != nil {
		l.config.Logger.Warn("cannot clean up finished sign-ins", "error", err) // the next one tries again
	}
	return nil
}

// SafePath tells whether a browser that is sent to the path stays on this site. What it is sent to must be read alike by
// every browser, so it takes little: backslashes, which some read as slashes, and all that is not printable ASCII, which
// some drop, have to be escaped.
func SafePath(path string) bool {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || len(path) > nextMax {
		return false
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
		return false
	}
	u, err := url.Parse(path)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil
}
