package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"lockstep/node/ledger"
)

// byPassword is how a session says that it began with a password.
const byPassword = "password"

// Register makes a person with a name and a password, as a user, and starts their session. It refuses with InvalidRequest,
// with UsernameTaken, with a *Throttled when too many were made from the address, and with SourceUnavailable.
func (a *Authority) Register(ctx context.Context, username, password string, from From) (Session, error) {
	if err := checkUsername(username); err != nil {
		return Session{}, err
	}
	if err := checkPassword(username, password); err != nil {
		return Session{}, err
	}
	if err := a.throttle.take(ctx, a.config.registrations().of("register", Network(from.Address))); err != nil {
		return Session{}, a.failed("register", err)
	}
	hash, err := a.hasher.make(ctx, password)
	if err != nil {
		return Session{}, a.failed("register", err)
	}
	id := a.newID()
	_, err = a.config.DB.ExecContext(ctx, `INSERT INTO users (id, username, password_hash, role, name, email, picture, created_at)
		VALUES (?, ?, ?, ?, '', '', '', ?) ON DUPLICATE KEY UPDATE id = id`, id, username, hash, RoleUser, a.now())
	if err != nil {
		return Session{}, a.failed("register", err)
	}
	user, _, err := a.userByName(ctx, username)
	if err != nil {
		return Session{}, a.failed("register", err)
	}
	if user.ID != id {
		return Session{}, ledger.Refuse(ledger.UsernameTaken, "the username %s is taken", username)
	}
	from.By = byPassword
	return a.start(ctx, id, hash, from)
}

// Login starts a session for a name and its password. Whoever fails hears the same, after the same work, whether the name
// exists or not: InvalidCredentials, and a *Throttled after a few times, which a right password does not end. It refuses
// with Forbidden a person who was shut out, with Overloaded when too many sign in at once, and with SourceUnavailable.
func (a *Authority) Login(ctx context.Context, username, password string, from From) (Session, error) {
	username = strings.ToLower(strings.TrimSpace(username))
	user, hash, err := a.prove(ctx, username, password, from.Address)
	if err != nil {
		return Session{}, err
	}
	from.By = byPassword
	return a.start(ctx, user.ID, hash, from)
}

// prove checks a password under the throttle, and returns its hash as well.
func (a *Authority) prove(ctx context.Context, username, password, address string) (User, string, error) {
	if !usernameForm.MatchString(username) || len(password) > passwordBytes {
		return User{}, "", wrongCredentials() // nobody has such a name or password
	}
	network := Network(address)
	uses := []use{ratePair.of("pair", username, network), rateAddress.of("address", network)}
	if err := a.throttle.refused(uses...); err != nil {
		return User{}, "", err
	}
	user, hash, err := a.userByName(ctx, username)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return User{}, "", a.failed("sign in", err)
	}
	known, err := a.signedInFrom(ctx, user.ID, address)
	if err != nil {
		return User{}, "", a.failed("sign in", err)
	}
	if !known {
		uses = append(uses, rateName.of("name", username))
	}
	if err := a.throttle.take(ctx, uses...); err != nil {
		return User{}, "", a.failed("sign in", err)
	}
	right, err := a.hasher.check(ctx, password, hash)
	if err != nil {
		return User{}, "", a.failed("sign in", errors.Join(err, a.throttle.giveBack(ctx, uses...)))
	}
	if !right {
		return User{}, "", wrongCredentials()
	}
	if err := a.throttle.giveBack(ctx, uses...); err != nil {
		return User{}, "", a.failed("sign in", err)
	}
	if a.hasher.outdated(hash) {
		hash = a.rehash(ctx, user, password, hash)
	}
	return user, hash, nil
}

func wrongCredentials() error {
	return ledger.Refuse(ledger.InvalidCredentials, "the username or the password is wrong")
}

// userByName reads a person and the hash of their password; without one it is sql.ErrNoRows and a user without an id.
func (a *Authority) userByName(ctx context.Context, username string) (User, string, error) {
	return scanUser(a.config.DB.QueryRowContext(ctx, "SELECT "+userColumns+" FROM users WHERE username = ?", username))
}

// signedInFrom tells whether the person has had a session from the address. For nobody it does the same work.
func (a *Authority) signedInFrom(ctx context.Context, userID, address string) (bool, error) {
	var there int
	err := a.config.DB.QueryRowContext(ctx, "SELECT 1 FROM sessions WHERE user_id = ? AND address = ? LIMIT 1",
		userID, cutASCII(address, addressMax)).Scan(&there)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// rehash replaces a hash of an older cost, unless the password was changed meanwhile, and returns the one that stays. Failing is no
// harm: the old one stays good.
func (a *Authority) rehash(ctx context.Context, user User, password, old string) string {
	fresh, err := a.hasher.make(ctx, password)
	if err == nil {
		var replaced bool
		if replaced, err = changesOne(a.config.DB.ExecContext(ctx, "UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?", fresh, user.ID, old)); replaced {
			return fresh
		}
	}
	if err != nil {
		a.config.Logger.Warn("cannot renew the hash of a password", "user", user.ID, "error", err)
	}
	return old
}

// changesOne tells whether an UPDATE has found its row.
func changesOne(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	rows, err := result.RowsAffected()
	return rows == 1, err
}

// ChangePassword gives a person another password and ends their other sessions, on all nodes. It refuses as Login does, and
// with InvalidRequest a password that does not do; a person who signs in with a provider has none to change: InvalidState.
func (a *Authority) ChangePassword(ctx context.Context, userID, session, current, next, address string) error {
	user, err := a.User(ctx, userID)
	if err != nil {
		return err
	}
	if !user.HasPassword {
		return ledger.Refuse(ledger.InvalidState, "you sign in with a provider and have no password here")
	}
	if err := checkPassword(user.Username, next); err != nil {
		return err
	}
	_, shown, err := a.prove(ctx, user.Username, current, address)
	if err != nil {
		return err
	}
	hash, err := a.hasher.make(ctx, next)
	if err != nil {
		return a.failed("change a password", err)
	}
	var ended []string
	err = a.inTx(ctx, func(tx *sql.Tx) error {
		// First: a session that starts meanwhile is there when the sessions are ended, or sees the new hash.
		written, err := changesOne(tx.ExecContext(ctx, "UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?", hash, userID, shown))
		switch {
		case err != nil:
			return fmt.Errorf("write the password: %w", err)
		case !written:
			return wrongCredentials() // it was changed meanwhile
		}
		ended, err = a.endIn(ctx, tx, endedByPassword, "user_id = ? AND expires_at > ? AND id <> ?", userID, a.now(), session)
		return err
	})
	if err != nil {
		return a.failed("change a password", err)
	}
	if len(ended) > 0 {
		a.denials.heard(ctx)
	}
	return nil
}
