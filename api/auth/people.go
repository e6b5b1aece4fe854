package auth

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"lockstep/node/ledger"
)

// Role is what a person is to the system; it decides the scopes of their sessions.
type Role string

// The roles. A new person is a user; operators make the others by `lockstep users`.
const (
	RoleUser     Role = "user"     // uses accounts of their own
	RoleOperator Role = "operator" // administers the system
	RoleAuditor  Role = "auditor"  // reads everything and changes nothing
)

// roleScopes are what a session of each role may do. An unknown role may do nothing.
var roleScopes = map[Role]string{
	RoleUser: strings.Join([]string{
		AccountsRead, AccountsWrite, MoneyDeposit, MoneyWithdraw, MoneyTransfer, MoneyRead, OwnSession,
	}, " "),
	RoleOperator: AllScopes.String() + " " + OwnSession,
	RoleAuditor:  strings.Join([]string{AccountsRead, MoneyRead, ProofsRead, AdminRead, OwnSession}, " "),
}

// Valid tells whether there is such a role.
func (r Role) Valid() bool { return roleScopes[r] != "" }

// Scopes are what a session of the role may do.
func (r Role) Scopes() Scopes { return storedScopes(roleScopes[r]) }

// User is a person. The id never changes and says nothing; what people call themselves may change.
type User struct {
	ID          string
	Username    string // empty: signs in with a provider only
	HasPassword bool
	Role        Role
	Name        string // as a provider said it; empty: unknown
	Email       string // as a provider said it; proves nothing and is no key
	Picture     string // an https address, or empty
	CreatedAt   time.Time
	disabled    bool
}

// Principal is the name under which the person owns accounts.
func (u User) Principal() string { return "user:" + u.ID }

// Profile is what a provider says of a person.
type Profile struct {
	Name, Email, Picture string
}

// Bounds of what is kept of a person, in characters; what is longer is cut, for no login should fail because of it.
const (
	nameMax     = 200
	emailMax    = 320
	pictureMax  = 1000
	issuerMax   = 255 // bytes, as OpenID Connect Core 1.0, section 2, bounds a subject
	userIDBytes = 10
)

// tidy makes a profile fit to be kept and shown.
func (p Profile) tidy() Profile {
	if !strings.HasPrefix(p.Picture, "https://") || len(p.Picture) > pictureMax || strings.ContainsFunc(p.Picture, invisible) {
		p.Picture = ""
	}
	return Profile{Name: cut(p.Name, nameMax), Email: cut(p.Email, emailMax), Picture: p.Picture}
}

func invisible(r rune) bool { return r <= ' ' || r > '~' }

// cut takes control characters and what is no UTF-8 away, and keeps the first characters.
func cut(text string, charactersMax int) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsControl(r) {
			return -1
		}
		return r
	}, text)
	if utf8.RuneCountInString(text) <= charactersMax {
		return text
	}
	return string([]rune(text)[:charactersMax])
}

const userColumns = "id, username, password_hash, role, name, email, picture, created_at, disabled_at"

// scanUser reads userColumns. The hash of the password stays apart from the user, so that it cannot be shown by mistake.
func scanUser(row interface{ Scan(...any) error }) (user User, passwordHash string, err error) {
	var username, hash sql.NullString
	var disabled sql.NullTime
	err = row.Scan(&user.ID, &username, &hash, &user.Role, &user.Name, &user.Email, &user.Picture, &user.CreatedAt, &disabled)
	user.Username, user.HasPassword, user.disabled = username.String, hash.Valid, disabled.Valid
	return user, hash.String, err
}

// User reads a person. It refuses with NotFound.
func (a *Authority) User(ctx context.Context, id string) (User, error) {
	user, _, err := scanUser(a.config.DB.QueryRowContext(ctx, "SELECT "+userColumns+" FROM users WHERE id = ?", id))
	if errors.Is(err, sql.ErrNoRows) {
		return User{}, ledger.Refuse(ledger.NotFound, "there is no such person")
	}
	if err != nil {
		return User{}, a.failed("read a user", err)
	}
	return user, nil
}

// EnsureIdentity finds the person whom a provider knows by this issuer and subject, or makes one, whatever node and
// however many at once ask; created tells which. The profile is kept as the provider last said it. An e-mail address that
// another person has gives nothing: only issuer and subject are a key (OpenID Connect Core 1.0, section 5.7). It refuses
// with InvalidRequest when either is too long, and with Forbidden when the person was shut out.
func (a *Authority) EnsureIdentity(ctx context.Context, issuer, subject string, profile Profile) (user User, created bool, err error) {
	if issuer == "" || subject == "" || len(issuer) > issuerMax || len(subject) > issuerMax ||
		strings.ContainsFunc(issuer+subject, invisible) {
		return User{}, false, ledger.Refuse(ledger.InvalidRequest, "the provider names the person in a way that cannot be kept")
	}
	profile = profile.tidy()
	err = a.inTx(ctx, func(tx *sql.Tx) error {
		user, created, err = a.ensureIdentity(ctx, tx, issuer, subject, profile)
		return err
	})
	if err != nil {
		return User{}, false, a.failed("find the person of an identity", err)
	}
	if user.disabled {
		return User{}, false, ledger.Refuse(ledger.Forbidden, "an operator has shut this person out")
	}
	return user, created, nil
}

func (a *Authority) ensureIdentity(ctx context.Context, tx *sql.Tx, issuer, subject string, profile Profile) (User, bool, error) {
	now, fresh := a.now(), a.newID()
	// The insert waits for another one of the same identity; what is read back says whose it is.
	_, err := tx.ExecContext(ctx, `INSERT INTO identities (issuer, subject, user_id, created_at, seen_at) VALUES (?, ?, ?, ?, ?)
		ON DUPLICATE KEY UPDATE seen_at = VALUES(seen_at)`, issuer, subject, fresh, now, now)
	if err != nil {
		return User{}, false, fmt.Errorf("insert the identity: %w", err)
	}
	var id string
	err = tx.QueryRowContext(ctx, "SELECT user_id FROM identities WHERE issuer = ? AND subject = ?", issuer, subject).Scan(&id)
	if err != nil {
		return User{}, false, fmt.Errorf("read the identity back: %w", err)
	}
	created := id == fresh
	if created {
		_, err = tx.ExecContext(ctx, "INSERT INTO users (id, role, name, email, picture, created_at) VALUES (?, ?, ?, ?, ?, ?)",
			id, RoleUser, profile.Name, profile.Email, profile.Picture, now)
	} else {
		_, err = tx.ExecContext(ctx, "UPDATE users SET name = ?, email = ?, picture = ? WHERE id = ?",
			profile.Name, profile.Email, profile.Picture, id)
	}
	if err != nil {
		return User{}, false, fmt.Errorf("write the user: %w", err)
	}
	user, _, err := scanUser(tx.QueryRowContext(ctx, "SELECT "+userColumns+" FROM users WHERE id = ?", id))
	return user, created, err
}

// newID makes the id of a person: random, so that nobody owns an account of the next one by guessing.
func (a *Authority) newID() string {
	id := make([]byte, userIDBytes)
	_, _ = io.ReadFull(a.config.Random, id) // crypto/rand never fails
	return hex.EncodeToString(id)
}
