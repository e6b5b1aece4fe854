package api

import (
	"context"
	"strings"
	"time"

	"lockstep/api/auth"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// signInMax bounds a request that signs somebody in or out; the hash of a password waits for its turn.
const signInMax = 10 * time.Second

type credentialsRequest struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

type passwordRequest struct {
	Current string `json:"current_password"`
	New     string `json:"new_password"`
}

type emptyRequest struct{}

// personBody is a person as they see themselves.
type personBody struct {
	ID        string    `json:"id"`
	Principal string    `json:"principal"` // under which they own accounts
	Username  string    `json:"username,omitempty"`
	Name      string    `json:"name,omitempty"`
	Email     string    `json:"email,omitempty"`
	Picture   string    `json:"picture,omitempty"`
	Role      auth.Role `json:"role"`
	Scopes    []string  `json:"scopes"`
	Password  bool      `json:"password"` // they may sign in with one
	CreatedAt string    `json:"created_at"`
}

func personOf(u auth.User) personBody {
	return personBody{
		ID: u.ID, Principal: u.Principal(), Username: u.Username, Name: u.Name, Email: u.Email, Picture: u.Picture,
		Role: u.Role, Scopes: u.Role.Scopes().Names(), Password: u.HasPassword, CreatedAt: stamp(u.CreatedAt),
	}
}

// sessionBody answers who has got a session. Its tokens are in the cookies alone, where no script reads them.
type sessionBody struct {
	User      personBody `json:"user"`
	ExpiresIn int        `json:"expires_in"` // seconds; after it the access token is renewed on the way
}

// answerSession gives a session to the browser.
func (x *exchange) answerSession(status int, s auth.Session) error {
	x.principal = s.Principal() // for the log
	x.setSession(s)
	left := int(s.AccessUntil.Sub(x.server.deps.Now()) / time.Second)
	return x.answer(status, sessionBody{personOf(s.User), left})
}

// people is who signs persons in; where nobody does the routes are not there.
func (x *exchange) people() (People, error) {
	if x.server.deps.People == nil {
		return nil, &ledger.Error{Code: ledger.NotFound}
	}
	return x.server.deps.People, nil
}

// postRegister makes a person and signs them in.
func (x *exchange) postRegister() error {
	return x.signIn(201, People.Register)
}

// postLogin signs a person in.
func (x *exchange) postLogin() error {
	return x.signIn(200, People.Login)
}

func (x *exchange) signIn(status int, by func(p People, ctx context.Context, username, password string, from auth.From) (auth.Session, error)) error {
	people, err := x.people()
	if err != nil {
		return err
	}
	if err := x.sameOrigin(false); err != nil { // nobody is to be signed in as somebody else by a page of another site
		return err
	}
	request, err := decode[credentialsRequest](x)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.context(), signInMax)
	defer cancel()
	session, err := by(people, ctx, request.Username, request.Password, x.from(""))
	if err != nil {
		return err
	}
	return x.answerSession(status, session)
}

// postRefresh renews a session before its access token has ended.
func (x *exchange) postRefresh() error {
	people, err := x.people()
	if err != nil {
		return err
	}
	if _, err := decodeOptional[emptyRequest](x); err != nil {
		return err
	}
	if err := x.sameOrigin(true); err != nil {
		return err
	}
	_, refresh := x.cookies()
	if refresh == "" {
		return ledger.Refuse(ledger.Unauthenticated, "there is no refresh cookie; sign in again")
	}
	ctx, cancel := context.WithTimeout(x.context(), signInMax)
	defer cancel()
	session, err := people.Refresh(ctx, refresh)
	if err != nil {
		if ledger.CodeOf(err) == ledger.Unauthenticated {
			x.clearSession()
		}
		return err
	}
	return x.answerSession(200, session)
}

// postLogout ends the session that the request belongs to, however little of it is left: an access token that has ended
// does not keep anybody from signing out. Without a session there is nothing to end.
func (x *exchange) postLogout() error {
	people, err := x.people()
	if err != nil {
		return err
	}
	if _, err := decodeOptional[emptyRequest](x); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.context(), signInMax)
	defer cancel()
	principal, err := x.authenticated(ctx)
	switch code := ledger.CodeOf(err); {
	case err == nil && principal.Session != "":
		x.principal = principal
		if err := people.EndSession(ctx, principal.Session); err != nil {
			return err
		}
	case err != nil && code != ledger.Unauthenticated:
		return err
	}
	x.clearSession()
	return x.write(store.Answer{Status: 204})
}

// person is who is signed in. A program has no session.
func (x *exchange) person() (People, string, error) {
	people, err := x.people()
	id, is := strings.CutPrefix(x.principal.Caller, "user:")
	if err == nil && (!is || x.principal.Session == "") {
		err = ledger.Refuse(ledger.Forbidden, "this is for people who have signed in")
	}
	return people, id, err
}

// postPassword changes the password and ends the person's other sessions.
func (x *exchange) postPassword() error {
	people, id, err := x.person()
	if err != nil {
		return err
	}
	request, err := decode[passwordRequest](x)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.context(), signInMax)
	defer cancel()
	if err := people.ChangePassword(ctx, id, x.principal.Session, request.Current, request.New, x.address()); err != nil {
		return err
	}
	return x.write(store.Answer{Status: 204})
}

func (x *exchange) getMe() error {
	people, id, err := x.person()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.context(), readWaitMax)
	defer cancel()
	user, err := people.User(ctx, id)
	if err != nil {
		return err
	}
	x.set("Read-From", string(store.FromSource))
	return x.answer(200, personOf(user))
}

type sessionRowBody struct {
	ID          string `json:"id"`
	Current     bool   `json:"current"`   // the one that asks
	By          string `json:"signed_in"` // password, or the provider's issuer
	Address     string `json:"address"`
	Agent       string `json:"user_agent"`
	CreatedAt   string `json:"created_at"`
	RefreshedAt string `json:"refreshed_at"`
	ExpiresAt   string `json:"expires_at"`
}

func (x *exchange) getSessions() error {
	people, id, err := x.person()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.context(), readWaitMax)
	defer cancel()
	rows, err := people.Sessions(ctx, id)
	if err != nil {
		return err
	}
	list := make([]sessionRowBody, 0, len(rows))
	for _, row := range rows {
		list = append(list, sessionRowBody{
			ID: row.ID, Current: row.ID == x.principal.Session, By: row.By, Address: row.Address, Agent: row.Agent,
			CreatedAt: stamp(row.CreatedAt), RefreshedAt: stamp(row.RefreshedAt), ExpiresAt: stamp(row.ExpiresAt),
		})
	}
	x.set("Read-From", string(store.FromSource))
	return x.answer(200, map[string]any{"sessions": list})
}

// deleteSessions signs the person out everywhere, here too.
func (x *exchange) deleteSessions() error {
	people, id, err := x.person()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.context(), signInMax)
	defer cancel()
	if err := people.EndSessions(ctx, id); err != nil {
		return err
	}
	x.clearSession()
	return x.write(store.Answer{Status: 204})
}
