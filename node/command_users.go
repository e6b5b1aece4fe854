package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"lockstep/api/auth"
)

// UsersCommand is `lockstep users`.
type UsersCommand struct {
	Add  AddUserCommand   `cmd:"" help:"Create a person who signs in with a password, or give the one that is there this password and role."`
	Role UserRoleCommand  `cmd:"" help:"Give a person another role, shut them out or admit them again. They are signed out everywhere."`
	List ListUsersCommand `cmd:"" help:"List the people."`
}

// AddUserCommand is `lockstep users add`.
type AddUserCommand struct {
	ConfigFlags
	Username     []string `help:"Name to sign in with. May be repeated, with a --password-file for each." required:"" sep:"none"`
	PasswordFile []string `help:"File with the password, at least 10 characters." required:"" type:"existingfile" sep:"none"`
	Role         string   `help:"user, operator or auditor." default:"user"`
}

// Validate refuses names without passwords.
func (c *AddUserCommand) Validate() error {
	if len(c.Username) != len(c.PasswordFile) {
		return errors.New("say a --password-file for each --username, in the same order")
	}
	return nil
}

// Run writes the people.
func (c *AddUserCommand) Run(ctx context.Context, out io.Writer) error {
	return withAuthority(ctx, c.Config, func(authority *auth.Authority) error {
		for i, name := range c.Username {
			password, err := os.ReadFile(c.PasswordFile[i])
			if err != nil {
				return fmt.Errorf("read password: %w", err)
			}
			user, err := authority.PutUser(ctx, name, strings.TrimRight(string(password), "\r\n"), auth.Role(c.Role))
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s is %s, in the role %s\n", name, user.Principal(), user.Role)
		}
		return nil
	})
}

// UserRoleCommand is `lockstep users role`.
type UserRoleCommand struct {
	ConfigFlags
	ID      string `arg:"" help:"Id of the person, from 'lockstep users list'."`
	Role    string `arg:"" help:"user, operator or auditor."`
	ShutOut bool   `help:"Let them sign in no more."`
}

// Run changes the person.
func (c *UserRoleCommand) Run(ctx context.Context) error {
	return withAuthority(ctx, c.Config, func(authority *auth.Authority) error {
		return authority.SetRole(ctx, strings.TrimPrefix(c.ID, "user:"), auth.Role(c.Role), c.ShutOut)
	})
}

// ListUsersCommand is `lockstep users list`.
type ListUsersCommand struct{ ConfigFlags }

// Run prints the people, never their passwords.
func (c *ListUsersCommand) Run(ctx context.Context, out io.Writer) error {
	return withAuthority(ctx, c.Config, func(authority *auth.Authority) error {
		for after := ""; ; {
			users, shutOut, err := authority.ListUsers(ctx, after)
			if err != nil || len(users) == 0 {
				return err
			}
			for i, user := range users {
				state := "admitted"
				if shutOut[i] {
					state = "shut out"
				}
				fmt.Fprintf(out, "%-20s %-20s %-9s %-9s %s %s\n", user.ID, user.Username, user.Role, state, user.CreatedAt.Format(time.RFC3339), user.Email)
				after = user.ID
			}
		}
	})
}
