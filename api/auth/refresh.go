package auth

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"lockstep/node/ledger"
)

// refreshGrace is how long a refresh token that was used is answered with the same successor. Two tabs use one token at
// once, and a request may wait for 30 s for its answer, with which the browser learns the successor.
const refreshGrace = 45 * time.Second

// refreshesAtMax bounds how many refresh tokens a node looks up at a time, since anyone can send one.
const refreshesAtMax = 16

// refreshed is what the database says of a refresh token.
type refreshed struct {
	session   string
	userID    string
	usedAt    sql.NullTime
	expiresAt time.Time // of the token
	startedAt time.Time // of the session
	ended     bool
}

// Refresh exchanges a refresh token for the next one and a new access token (RFC 6749, 6; RFC 9700, 4.14.2). For
// refreshGrace the same token gets the same successor again, at every node; later its use tells that two know it, and ends
// the whole session on all nodes. It refuses with Unauthenticated, with Forbidden when the person was shut out, and with
// SourceUnavailable, upon which the token is as good as before.
func (a *Authority) Refresh(ctx context.Context, token string) (Session, error) {
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(token); err != nil || len(raw) != refreshBytes {
		return Session{}, signInAgain()
	}
	hash := sha256.Sum256([]byte(token))
	// All requests of a page that find the access token ended ask at once; one answer does for them.
	result, err, _ := a.refreshing.Do(string(hash[:]), func() (any, error) {
		select {
		case a.refreshes <- struct{}{}:
			defer func() { <-a.refreshes }()
		case <-ctx.Done():
			return Session{}, a.failed("refresh a session", ctx.Err())
		}
		return a.refresh(context.WithoutCancel(ctx), token, hash)
	})
	return result.(Session), err
}

func signInAgain() error {
	return ledger.Refuse(ledger.Unauthenticated, "the session has ended; sign in again")
}

// errReused says that a refresh token was used again after its grace.
var errReused = errors.New("a refresh token was used again")

func (a *Authority) refresh(ctx context.Context, token string, hash [sha256.Size]byte) (Session, error) {
	ctx, cancel := context.WithTimeout(ctx, refreshMax)
	defer cancel()
	var s Session
	reused := ""
	err := a.inTx(ctx, func(tx *sql.Tx) error {
		found, err := a.lockRefresh(ctx, tx, hash)
		if err != nil {
			return err
		}
		s.ID = found.session
		now := a.now()
		switch {
		case found.ended || !now.Before(found.expiresAt):
			return signInAgain()
		case found.usedAt.Valid && !now.Before(found.usedAt.Time.Add(refreshGrace)):
			reused = found.session
			_, err := a.endIn(ctx, tx, endedByReuse, "id = ?", found.session)
			return err
		}
		if s.User, _, err = a.admitted(ctx, tx, found.userID); err != nil {
			return err
		}
		s.Refresh = a.successor(token)
		s.RefreshUntil = earlier(now.Add(sessionIdleMax), found.startedAt.Add(sessionLifeMax))
		if found.usedAt.Valid {
			return nil // the successor is there
		}
		return a.rotate(ctx, tx, s, hash, now)
	})
	switch {
	case err != nil:
		return Session{}, a.failed("refresh a session", err)
	case reused != "":
		a.config.Logger.Warn("a session was ended", "session", reused, "error", errReused)
		a.denials.add(reused, a.now())
		return Session{}, signInAgain()
	}
	return a.withAccess(s)
}

// refreshMax bounds one rotation, which goes on when its client has left.
const refreshMax = 3 * time.Second

// lockRefresh finds a refresh token and locks its session, then reads what is true under that lock.
func (a *Authority) lockRefresh(ctx context.Context, tx *sql.Tx, hash [sha256.Size]byte) (refreshed, error) {
	var found refreshed
	err := tx.QueryRowContext(ctx, "SELECT session_id FROM refresh_tokens WHERE hash = ?", hash[:]).Scan(&found.session)
	if errors.Is(err, sql.ErrNoRows) {
		return found, signInAgain()
	}
	if err != nil {
		return found, fmt.Errorf("find the refresh token: %w", err)
	}
	var ended sql.NullTime
	err = tx.QueryRowContext(ctx, "SELECT user_id, created_at, ended_at FROM sessions WHERE id = ? FOR UPDATE", found.session).
		Scan(&found.userID, &found.startedAt, &ended)
	if errors.Is(err, sql.ErrNoRows) {
		return found, signInAgain()
	}
	if err != nil {
		return found, fmt.Errorf("lock the session: %w", err)
	}
	found.ended = ended.Valid
	err = tx.QueryRowContext(ctx, "SELECT used_at, expires_at FROM refresh_tokens WHERE hash = ?", hash[:]).
		Scan(&found.usedAt, &found.expiresAt)
	if err != nil {
		return found, fmt.Errorf("read the refresh token: %w", err)
	}
	return found, nil
}

func (a *Authority) rotate(ctx context.Context, tx *sql.Tx, s Session, used [sha256.Size]byte, now time.Time) error {
	if _, err := tx.ExecContext(ctx, "UPDATE refresh_tokens SET used_at = ? WHERE hash = ?", now, used[:]); err != nil {
		return fmt.Errorf("use the refresh token: %w", err)
	}
	if err := insertRefresh(ctx, tx, s.ID, s.Refresh, now, s.RefreshUntil); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "UPDATE sessions SET refreshed_at = ?, expires_at = ? WHERE id = ?", now, s.RefreshUntil, s.ID)
	if err != nil {
		return fmt.Errorf("prolong the session: %w", err)
	}
	return nil
}

func insertRefresh(ctx context.Context, tx *sql.Tx, session, token string, now, until time.Time) error {
	hash := sha256.Sum256([]byte(token))
	_, err := tx.ExecContext(ctx, "INSERT INTO refresh_tokens (hash, session_id, created_at, expires_at) VALUES (?, ?, ?, ?)",
		hash[:], session, now, until)
	if err != nil {
		return fmt.Errorf("insert the refresh token: %w", err)
	}
	return nil
}

// sealRefresh is what the key of refresh tokens' successors is derived for.
const sealRefresh = "lockstep refresh tokens v1"

// newSuccessorKey derives the key that makes successors from the system's secret (RFC 5869).
func newSuccessorKey(config Config) ([]byte, error) {
	key, err := hkdf.Key(sha256.New, []byte(config.Secret), nil, sealRefresh+" "+config.System, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the key of refresh tokens: %w", err)
	}
	return key, nil
}

// successor makes the next refresh token from the one before, so that every node gives the same one without any of them
// keeping it: the database has hashes only.
func (a *Authority) successor(token string) string {
	mac := hmac.New(sha256.New, a.successorKey)
	mac.Write([]byte(token))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
