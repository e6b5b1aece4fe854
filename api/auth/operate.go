package auth

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"lockstep/node/ledger"
)

// What operators do with people at the command line.

// PutUser makes the person with this name, password and role, or makes the one that is there so and admits them again.
// Saying it twice changes nothing more. When the password or the role was another one, sessions from before are ended. It
// refuses with InvalidRequest.
func (a *Authority) PutUser(ctx context.Context, username, password string, role Role) (User, error) {
	if err := checkUsername(username); err != nil {
		return User{}, err
	}
	if err := checkPassword(username, password); err != nil {
		return User{}, err
	}
	if !role.Valid() {
		return User{}, ledger.Refuse(ledger.InvalidRequest, "there is no role %q; the roles are user, operator and auditor", string(role))
	}
	before, old, err := a.userByName(ctx, username)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return User{}, fmt.Errorf("read user %s: %w", username, err)
	}
	same, hash := false, old
	if old != "" {
		if same, err = a.hasher.check(ctx, password, old); err != nil {
			return User{}, err
		}
	}
	if !same {
		if hash, err = a.hasher.make(ctx, password); err != nil {
			return User{}, err
		}
	}
	_, err = a.config.DB.ExecContext(ctx, `INSERT INTO users (id, username, password_hash, role, name, email, picture, created_at)
		VALUES (?, ?, ?, ?, '', '', '', ?) ON DUPLICATE KEY UPDATE
		password_hash = VALUES(password_hash), role = VALUES(role), disabled_at = NULL`, a.newID(), username, hash, role, a.now())
	if err != nil {
		return User{}, fmt.Errorf("put user %s: %w", username, err)
	}
	if before.ID != "" && (!same || before.Role != role) {
		if err := a.end(ctx, endedByOperator, "user_id = ? AND expires_at > ?", before.ID, a.now()); err != nil {
			return User{}, err
		}
	}
	user, _, err := a.userByName(ctx, username)
	if err != nil {
		return User{}, fmt.Errorf("read user %s back: %w", username, err)
	}
	return user, nil
}

// SetRole gives a person another role, or shuts them out; either ends their sessions, since tokens say what the role was.
// It refuses with NotFound and InvalidRequest.
func (a *Authority) SetRole(ctx context.Context, id string, role Role, shutOut bool) error {
	if !role.Valid() {
		return ledger.Refuse(ledger.InvalidRequest, "there is no role %q; the roles are user, operator and auditor", string(role))
	}
	if _, err := a.User(ctx, id); err != nil {
		return err
	}
	disabled := sql.NullTime{Time: a.now(), Valid: shutOut}
	// A session that starts meanwhile holds the person's row: it is there when the sessions are ended, or sees the new role.
	_, err := a.config.DB.ExecContext(ctx, "UPDATE users SET role = ?, disabled_at = ? WHERE id = ?", role, disabled, id)
	if err != nil {
		return fmt.Errorf("change user %s: %w", id, err)
	}
	return a.end(ctx, endedByOperator, "user_id = ? AND expires_at > ?", id, a.now())
}

// userPageMax bounds a page of ListUsers.
const userPageMax = 200

// ListUsers lists people by ascending id, those after the given one, at most 200, and whether each is shut out.
func (a *Authority) ListUsers(ctx context.Context, after string) (users []User, shutOut []bool, err error) {
	rows, err := a.config.DB.QueryContext(ctx, "SELECT "+userColumns+" FROM users WHERE id > ? ORDER BY id LIMIT ?", after, userPageMax)
	if err != nil {
		return nil, nil, fmt.Errorf("list users: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		user, _, err := scanUser(rows)
		if err != nil {
			return nil, nil, fmt.Errorf("list users: %w", err)
		}
		users, shutOut = append(users, user), append(shutOut, user.disabled)
	}
	if err := rows.Err(); err != nil {
		return nil, nil, fmt.Errorf("list users: %w", err)
	}
	return users, shutOut, nil
}
