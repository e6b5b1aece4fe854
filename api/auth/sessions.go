package auth

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
)

// How long a session lives. It ends when nobody has used it for sessionIdleMax, and after sessionLifeMax in any case.
const (
	sessionIdleMax = 7 * 24 * time.Hour
	sessionLifeMax = 30 * 24 * time.Hour
	sessionsListed = 100
	addressMax     = 64
	agentMax       = 200
)

// Why a session has ended, as the database says it.
const (
	endedByLogout   = "logout"
	endedEverywhere = "everywhere"
	endedByReuse    = "reuse" // somebody used a refresh token that was used before
	endedByPassword = "password"
	endedByOperator = "operator"
)

// From is where a session is started or used from. It is shown to its person, and is no proof.
type From struct {
	By      string // how they signed in: password, or the provider's issuer; empty for a request inside a session
	Address string
	Agent   string // the User-Agent header
}

// Session is a person's session as the one who is to keep its secrets gets it.
type Session struct {
	ID           string // of the family of its refresh tokens
	User         User
	Access       string    // an access token (RFC 9068)
	AccessUntil  time.Time // the end of that token
	Refresh      string    // the refresh token, to be used once
	RefreshUntil time.Time
}

// Principal is who acts in the session.
func (s Session) Principal() Principal {
	principal := s.User.Principal()
	return Principal{Caller: principal, Owner: principal, Scopes: s.User.Role.Scopes(), Session: s.ID}
}

// SessionRow is a session as its person sees it in a list.
type SessionRow struct {
	ID          string
	By          string
	Address     string
	Agent       string
	CreatedAt   time.Time
	RefreshedAt time.Time // it was used at most an access token's life later
	ExpiresAt   time.Time
}

// StartSession starts a session of a person who has just proved who they are, with tokens that every node knows. It
// refuses with Forbidden when the person was shut out meanwhile, and with SourceUnavailable.
func (a *Authority) StartSession(ctx context.Context, user User, from From) (Session, error) {
	return a.start(ctx, user.ID, "", from)
}

// start starts a session of a person who has shown the password with this hash, or who has shown none. One that was changed
// since proves nothing any more: the change has ended the sessions that there were, and this one was not among them.
func (a *Authority) start(ctx context.Context, id, shown string, from From) (Session, error) {
	refresh, err := a.newRefresh()
	if err != nil {
		return Session{}, err
	}
	now := a.now()
	s := Session{ID: uuid.NewString(), Refresh: refresh, RefreshUntil: now.Add(sessionIdleMax)}
	err = a.inTx(ctx, func(tx *sql.Tx) error {
		hash, err := "", error(nil)
		if s.User, hash, err = a.admitted(ctx, tx, id); err != nil {
			return err
		}
		if shown != "" && hash != shown {
			return wrongCredentials()
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO sessions (id, user_id, began_by, address, agent, created_at, refreshed_at, expires_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`, s.ID, id, cutASCII(from.By, issuerMax), cutASCII(from.Address, addressMax),
			cutASCII(from.Agent, agentMax), now, now, s.RefreshUntil)
		if err != nil {
			return fmt.Errorf("insert the session: %w", err)
		}
		return insertRefresh(ctx, tx, s.ID, refresh, now, s.RefreshUntil)
	})
	if err != nil {
		return Session{}, a.failed("start a session", err)
	}
	return a.withAccess(s)
}

// admitted reads a person who may have a session, with the hash of their password, and keeps them from being shut out, and the
// password from being changed, before the transaction ends.
func (a *Authority) admitted(ctx context.Context, tx *sql.Tx, id string) (User, string, error) {
	user, hash, err := scanUser(tx.QueryRowContext(ctx, "SELECT "+userColumns+" FROM users WHERE id = ? LOCK IN SHARE MODE", id))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return User{}, "", ledger.Refuse(ledger.Unauthenticated, "the person is not known any more; sign in again")
	case err != nil:
		return User{}, "", fmt.Errorf("read the user: %w", err)
	case user.disabled:
		return User{}, "", ledger.Refuse(ledger.Forbidden, "an operator has shut this person out")
	}
	return user, hash, nil
}

// withAccess gives a session its access token.
func (a *Authority) withAccess(s Session) (Session, error) {
	now := a.config.Clock()
	token, err := a.signClaims(now, claims{ClientID: sessionClient, Scope: s.User.Role.Scopes().String(), Session: s.ID}, s.User.Principal())
	s.Access, s.AccessUntil = token, now.Add(tokenLife)
	return s, err
}

// EndSession ends a session: its refresh token is dead and its access tokens are refused. When it returns nil, every node
// that reaches the database refuses them; it waits until they have had the time to hear of it. Ending what has ended
// changes nothing.
func (a *Authority) EndSession(ctx context.Context, id string) error {
	return a.end(ctx, endedByLogout, "id = ?", id)
}

// EndSessions ends all sessions of a person, as EndSession does.
func (a *Authority) EndSessions(ctx context.Context, userID string) error {
	return a.end(ctx, endedEverywhere, "user_id = ? AND expires_at > ?", userID, a.now())
}

// end ends the sessions that a condition names.
func (a *Authority) end(ctx context.Context, why, which string, args ...any) error {
	var ended []string
	err := a.inTx(ctx, func(tx *sql.Tx) (err error) {
		ended, err = a.endIn(ctx, tx, why, which, args...)
		return err
	})
	if err != nil {
		return a.failed("end sessions", err)
	}
	if len(ended) > 0 {
		a.denials.heard(ctx)
	}
	return nil
}

// endIn ends sessions in a transaction and denies their access tokens; sessions are locked in the order of their ids.
func (a *Authority) endIn(ctx context.Context, tx *sql.Tx, why, which string, args ...any) ([]string, error) {
	var ids []string
	rows, err := tx.QueryContext(ctx, "SELECT id FROM sessions WHERE "+which+" AND ended_at IS NULL ORDER BY id FOR UPDATE", args...)
	if err != nil {
		return nil, fmt.Errorf("lock the sessions: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("lock the sessions: %w", err)
		}
		ids = append(ids, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return nil, fmt.Errorf("lock the sessions: %w", err)
	}
	now := a.now()
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, "UPDATE sessions SET ended_at = ?, ended_why = ? WHERE id = ?", now, why, id); err != nil {
			return nil, fmt.Errorf("end the session: %w", err)
		}
		if err := a.denials.deny(ctx, tx, id, now); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// Sessions lists a person's sessions that go on, the newest first, at most 100.
func (a *Authority) Sessions(ctx context.Context, userID string) ([]SessionRow, error) {
	rows, err := a.config.DB.QueryContext(ctx, `SELECT id, began_by, address, agent, created_at, refreshed_at, expires_at FROM sessions
		WHERE user_id = ? AND expires_at > ? AND ended_at IS NULL ORDER BY created_at DESC, id LIMIT ?`, userID, a.now(), sessionsListed)
	if err != nil {
		return nil, a.failed("list sessions", err)
	}
	defer rows.Close()
	list := []SessionRow{}
	for rows.Next() {
		var s SessionRow
		if err := rows.Scan(&s.ID, &s.By, &s.Address, &s.Agent, &s.CreatedAt, &s.RefreshedAt, &s.ExpiresAt); err != nil {
			return nil, a.failed("list sessions", err)
		}
		list = append(list, s)
	}
	if err := rows.Err(); err != nil {
		return nil, a.failed("list sessions", err)
	}
	return list, nil
}

// inTx runs work in a transaction on the source. Work that fails is rolled back.
func (a *Authority) inTx(ctx context.Context, work func(*sql.Tx) error) error {
	tx, err := a.config.DB.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // does nothing after COMMIT
	if err := work(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// failed lets refusals through; every other error is logged and told as the database's.
func (a *Authority) failed(what string, err error) error {
	var refusal *ledger.Error
	var throttled *Throttled
	switch {
	case errors.As(err, &throttled):
		return throttled
	case errors.As(err, &refusal):
		return refusal
	}
	if !errors.Is(err, context.Canceled) {
		a.config.Logger.Warn("cannot "+what, "error", err)
	}
	return ledger.Refuse(ledger.SourceUnavailable, "the database does not answer, so nobody can be signed in or out")
}

// cutASCII keeps the visible ASCII characters and blanks, and the first of them.
func cutASCII(text string, most int) string {
	kept := make([]byte, 0, min(len(text), most))
	for i := 0; i < len(text) && len(kept) < most; i++ {
		if text[i] >= ' ' && text[i] <= '~' {
			kept = append(kept, text[i])
		}
	}
	return string(kept)
}

// refreshBytes is the size of a refresh token before its encoding.
const refreshBytes = 32

// newRefresh makes the first refresh token of a session.
func (a *Authority) newRefresh() (string, error) {
	random := make([]byte, refreshBytes)
	if _, err := io.ReadFull(a.config.Random, random); err != nil {
		return "", fmt.Errorf("make a refresh token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(random), nil
}
