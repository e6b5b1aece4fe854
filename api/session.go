package api

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"lockstep/api/auth"
	"lockstep/node/ledger"
)

// People is what the edge needs of package auth for persons; *auth.Authority has it.
type People interface {
	Register(ctx context.Context, username, password string, from auth.From) (auth.Session, error)
	Login(ctx context.Context, username, password string, from auth.From) (auth.Session, error)
	ChangePassword(ctx context.Context, userID, session, current, next, address string) error
	StartSession(ctx context.Context, user auth.User, from auth.From) (auth.Session, error)
	EnsureIdentity(ctx context.Context, issuer, subject string, profile auth.Profile) (user auth.User, created bool, err error)
	Refresh(ctx context.Context, refreshToken string) (auth.Session, error)
	User(ctx context.Context, id string) (auth.User, error)
	Sessions(ctx context.Context, userID string) ([]auth.SessionRow, error)
	EndSession(ctx context.Context, id string) error
	EndSessions(ctx context.Context, userID string) error
}

// Web is how browsers reach the system.
type Web struct {
	// PublicURL is the address that people type, such as https://pay.example.com. Empty: whatever https address they use.
	// With http, which is for 127.0.0.1 only, cookies have plain names and are sent without TLS.
	PublicURL string
	// Proxies are the addresses of balancers whose X-Forwarded-For says where a request comes from.
	Proxies []netip.Prefix
}

// plain tells whether cookies go without TLS.
func (w Web) plain() bool { return strings.HasPrefix(w.PublicURL, "http://") }

// cookieName is the name of a cookie. It has the system in it, because cookies know no ports: on 127.0.0.1 those of two
// systems meet. The prefix binds it to this host and to TLS (RFC 6265bis, 4.1.3.2).
func (s *Server) cookieName(kind string) string {
	name := "lockstep_" + s.deps.System + "_" + kind
	if s.deps.Web.plain() {
		return name
	}
	return "__Host-" + name
}

// The cookies of a session. Both reach every route, since any of them may find the access token ended.
const (
	accessCookie  = "access"
	refreshCookie = "refresh"
)

// setCookie sets a cookie that scripts cannot read; a life of zero takes it away. Lax is what lets the way back from a
// provider's page arrive with it; what changes something is guarded by sameOrigin.
func (x *exchange) setCookie(name, value string, life time.Duration) {
	cookie := &fiber.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(life / time.Second), HTTPOnly: true, SameSite: fiber.CookieSameSiteLaxMode,
		Secure: !x.server.deps.Web.plain(),
	}
	if life <= 0 {
		cookie.Expires = time.Unix(1, 0)
	}
	x.fiber.Cookie(cookie)
}

// setSession gives a session's tokens to the browser.
func (x *exchange) setSession(s auth.Session) {
	x.signed = s.User.Principal()
	now := x.server.deps.Now()
	x.setCookie(x.server.cookieName(accessCookie), s.Access, s.AccessUntil.Sub(now))
	x.setCookie(x.server.cookieName(refreshCookie), s.Refresh, s.RefreshUntil.Sub(now))
	x.set("Cache-Control", "no-store")
}

// clearSession takes them away.
func (x *exchange) clearSession() {
	x.setCookie(x.server.cookieName(accessCookie), "", 0)
	x.setCookie(x.server.cookieName(refreshCookie), "", 0)
}

// cookies are the tokens that a browser has sent.
func (x *exchange) cookies() (access, refresh string) {
	if len(x.fiber.Request().Header.Peek(fiber.HeaderCookie)) == 0 {
		return "", "" // a program's request, the most frequent ones
	}
	return x.fiber.Cookies(x.server.cookieName(accessCookie)), x.fiber.Cookies(x.server.cookieName(refreshCookie))
}

// authenticated tells who asks: by the Authorization header, or by the cookies of a session, which are renewed on the way
// when the access token has ended.
func (x *exchange) authenticated(ctx context.Context) (auth.Principal, error) {
	authorization := x.header("Authorization")
	access, refresh := x.cookies()
	if access == "" && refresh == "" {
		return x.server.deps.Authority.Authenticate(ctx, authorization)
	}
	if authorization != "" {
		return auth.Principal{}, ledger.Refuse(ledger.InvalidRequest, "send an access token or the cookies of a session, not both")
	}
	if !x.safe() {
		if err := x.sameOrigin(true); err != nil {
			return auth.Principal{}, err
		}
	}
	if access != "" {
		principal, err := x.server.deps.Authority.Authenticate(ctx, "Bearer "+access)
		if err == nil && principal.Session != "" {
			return principal, nil
		}
		if code := ledger.CodeOf(err); err != nil && code != ledger.Unauthenticated {
			return auth.Principal{}, err
		}
	}
	return x.renewed(ctx, refresh)
}

// renewed exchanges the refresh token of a cookie for new cookies.
func (x *exchange) renewed(ctx context.Context, refresh string) (auth.Principal, error) {
	if refresh == "" || x.server.deps.People == nil {
		return auth.Principal{}, ledger.Refuse(ledger.Unauthenticated, "the session has ended; sign in again")
	}
	session, err := x.server.deps.People.Refresh(ctx, refresh)
	if err != nil {
		if ledger.CodeOf(err) == ledger.Unauthenticated {
			x.clearSession()
		}
		return auth.Principal{}, err
	}
	x.setSession(session)
	return session.Principal(), nil
}

// safe tells whether the request changes nothing (RFC 9110, 9.2.1).
func (x *exchange) safe() bool {
	switch x.fiber.Method() {
	case fiber.MethodGet, fiber.MethodHead, fiber.MethodOptions:
		return true
	}
	return false
}

// sameOrigin refuses a request that a page of another site has made: browsers send their cookies with it, and say where
// the page is from. One that says nothing is no browser's, or one so old that its cookies prove nothing; it is refused when
// proof is needed, because the request lives on cookies.
func (x *exchange) sameOrigin(proof bool) error {
	origin, site := x.header("Origin"), x.header("Sec-Fetch-Site")
	switch {
	case origin != "" && !x.ourOrigin(origin):
	case site != "" && site != "same-origin" && site != "none":
	case origin == "" && site == "" && proof:
		return ledger.Refuse(ledger.Forbidden, "a request with cookies that changes something has to say its Origin")
	default:
		return nil
	}
	return ledger.Refuse(ledger.Forbidden, "the request comes from a page of another site")
}

// ourOrigin tells whether an origin (RFC 6454) is this system's. Only where cookies are plain may a node be addressed past
// the balancer.
func (x *exchange) ourOrigin(origin string) bool {
	web := x.server.deps.Web
	scheme := "https://"
	if web.plain() {
		scheme = "http://"
	}
	if web.PublicURL != "" && origin == strings.TrimSuffix(web.PublicURL, "/") {
		return true
	}
	return (web.PublicURL == "" || web.plain()) && origin == scheme+string(x.fiber.Request().Host())
}

// address is where a request comes from: who opened the connection, or whom a balancer of ours names as the one that
// connected to it.
func (x *exchange) address() string {
	remote, ok := netip.AddrFromSlice(x.fiber.Context().RemoteIP())
	if !ok {
		return ""
	}
	remote = remote.Unmap()
	for _, proxy := range x.server.deps.Web.Proxies {
		if !proxy.Contains(remote) {
			continue
		}
		lines := x.fiber.Request().Header.PeekAll(fiber.HeaderXForwardedFor)
		if len(lines) == 0 {
			break
		}
		said := string(lines[len(lines)-1])
		said = strings.TrimSpace(said[strings.LastIndexByte(said, ',')+1:]) // all before the last is the client's own word
		if client, err := netip.ParseAddr(said); err == nil {
			return client.Unmap().String()
		}
	}
	return remote.String()
}

// from is where a session is started from.
func (x *exchange) from(by string) auth.From {
	return auth.From{By: by, Address: x.address(), Agent: x.header(fiber.HeaderUserAgent)}
}

// CheckPublicURL refuses what is no address of a system: cookies without TLS are for this machine only.
func CheckPublicURL(text string) error {
	if text == "" {
		return nil
	}
	address, err := url.Parse(text)
	if err != nil || address.Host == "" || strings.Trim(address.Path, "/") != "" || address.RawQuery != "" || address.User != nil || address.Fragment != "" {
		return errors.New("an address such as https://pay.example.com, without a path")
	}
	ip := net.ParseIP(address.Hostname())
	switch {
	case address.Scheme == "https":
		return nil
	case address.Scheme == "http" && (address.Hostname() == "localhost" || ip != nil && ip.IsLoopback()):
		return nil
	}
	return errors.New("https; http is for 127.0.0.1 only")
}
