package api

import (
	"context"
	"net/url"
	"time"

	"github.com/gofiber/fiber/v2"

	"lockstep/api/auth"
	"lockstep/node/ledger"
)

// Logins is what the edge needs of package auth to have people sign in at an OpenID provider; *auth.Logins has it.
type Logins interface {
	Begin(ctx context.Context, next string) (auth.Departure, error)
	Finish(ctx context.Context, sealed string, query url.Values) (auth.Arrival, error)
}

// CallbackPath is where a provider sends people back to: registered there under the system's public address.
const CallbackPath = "/v1/auth/google/callback"

const (
	loginCookie  = "login"          // what has to be remembered while somebody is at the provider
	loginWaitMax = 15 * time.Second // of a callback: three answers of the provider, and the database's
)

// getLogin sends the browser to the provider (OpenID Connect Core 1.0, 3.1.2.1).
func (x *exchange) getLogin() error {
	logins, query, err := x.logins()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.context(), loginWaitMax)
	defer cancel()
	departure, err := logins.Begin(ctx, query.Get("next"))
	if err != nil {
		return err
	}
	x.setCookie(x.server.cookieName(loginCookie), departure.Sealed, departure.Life)
	return x.fiber.Redirect(departure.URL, fiber.StatusFound)
}

// getCallback takes the provider's answer from the browser: somebody new becomes a user, somebody known signs in. The
// cookie is of no more use, whatever comes of it.
func (x *exchange) getCallback() error {
	logins, query, err := x.logins()
	if err != nil {
		return err
	}
	x.setCookie(x.server.cookieName(loginCookie), "", 0)
	ctx, cancel := context.WithTimeout(x.context(), loginWaitMax)
	defer cancel()
	next, err := x.arrive(ctx, logins, query)
	if err != nil {
		return err
	}
	return x.fiber.Redirect(next, fiber.StatusFound)
}

func (x *exchange) arrive(ctx context.Context, logins Logins, query url.Values) (next string, err error) {
	arrival, err := logins.Finish(ctx, x.fiber.Cookies(x.server.cookieName(loginCookie)), query)
	if err != nil {
		return "", err
	}
	people := x.server.deps.People
	user, _, err := people.EnsureIdentity(ctx, arrival.Issuer, arrival.Subject, arrival.Profile)
	if err != nil {
		return "", err
	}
	session, err := people.StartSession(ctx, user, x.from(arrival.Issuer))
	if err != nil {
		return "", err
	}
	x.principal = session.Principal() // for the log
	x.setSession(session)
	return arrival.Next, nil
}

// logins are there where a provider is configured. The query is read strictly: of a parameter that is there twice, the
// provider and we might read different ones (RFC 6749, 3.1).
func (x *exchange) logins() (Logins, url.Values, error) {
	x.set("Cache-Control", "no-store")
	x.set("Referrer-Policy", "no-referrer") // the address has a code in it
	logins := x.server.deps.Logins
	if logins == nil || x.server.deps.People == nil {
		return nil, nil, ledger.Refuse(ledger.NotFound, "this system has no OpenID provider to sign in at")
	}
	query, err := url.ParseQuery(string(x.fiber.Request().URI().QueryString()))
	if err != nil {
		return nil, nil, ledger.Refuse(ledger.InvalidRequest, "the query is not form-encoded")
	}
	for _, values := range query {
		if len(values) > 1 {
			return nil, nil, ledger.Refuse(ledger.InvalidRequest, "a parameter is there twice")
		}
	}
	return logins, query, nil
}
