// Package auth says who is calling: it keeps OAuth clients, gives them access tokens (RFC 6749 client credentials,
// RFC 9068 JWT) and checks the tokens that requests carry.
//
// All nodes of a system sign with the same keys, so a token from one is good at all. Every request is checked against
// its token and against its client as this node last read it, at most ClientFreshFor ago; both checks cost about a
// microsecond when they are in memory.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/sync/singleflight"

	"lockstep/node/ledger"
	"lockstep/rounds"
)

// Principal is who asks.
type Principal struct {
	Caller string // client:<id>; the scope of idempotency keys
	Owner  string // whose accounts it uses: the client's owner, else the caller itself
	Scopes Scopes // what the token says and the client may still do
	Client bool   // a program, not a person

	Session string // of a person; empty: a client
}

// Operator tells whether the principal may administer the system.
func (p Principal) Operator() bool { return p.Scopes.Has(Admin) }

// SeesAll tells whether the principal may look at everybody's accounts and transfers.
func (p Principal) SeesAll() bool { return p.Scopes.Has(Admin) || p.Scopes.Has(AdminRead) }

// Config is what an Authority needs.
type Config struct {
	System   string // id of the payment system
	Secret   string // seals the signing keys; the same on every node, at least 32 characters
	Issuer   string // iss of the tokens; empty: lockstep:<system>
	Audience string // aud of the tokens; empty: lockstep:<system>:api
	DB       *sql.DB
	Clock    func() time.Time // nil: time.Now
	Random   io.Reader        // nil: crypto/rand
	Logger   *slog.Logger     // nil: slog.Default

	// RegistrationsMax is how many people may register from one address at once, and again every hour; 0 is 60.
	RegistrationsMax int
	// PasswordKiB is the memory that the hash of a password takes; 0 is 19 MiB. Less is for tests.
	PasswordKiB uint32
}

const systemSecretMin = 32

// withDefaults fills what may be left out and checks the rest.
func (c Config) withDefaults() (Config, error) {
	switch {
	case !ledger.ValidSystem(c.System):
		return Config{}, fmt.Errorf("auth: %q is no id of a payment system", c.System)
	case len(c.Secret) < systemSecretMin:
		return Config{}, fmt.Errorf("auth: the system's secret needs at least %d characters; `openssl rand -base64 32` makes one", systemSecretMin)
	case c.DB == nil:
		return Config{}, errors.New("auth: no database")
	}
	if c.Issuer == "" {
		c.Issuer = "lockstep:" + c.System
	}
	if c.Audience == "" {
		c.Audience = "lockstep:" + c.System + ":api"
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// registrations is the rate of new people from one address.
func (c Config) registrations() rate {
	if c.RegistrationsMax <= 0 {
		return rateRegister
	}
	return rate{c.RegistrationsMax, time.Hour / time.Duration(c.RegistrationsMax)}
}

// Stats counts since the start.
type Stats struct {
	PasswordChecks uint64 // passwords that were held against a hash, or against nobody's
}

// Stats tells what the authority has done.
func (a *Authority) Stats() Stats { return Stats{PasswordChecks: a.hasher.checks.Load()} }

// Authority gives and checks tokens. It is safe for concurrent use.
type Authority struct {
	config  Config
	keys    *keyring
	clients *knownClients
	tokens  *verifiedTokens
	parser  *jwt.Parser
	denials *denials

	hasher       *hasher
	throttle     *throttle
	successorKey []byte // makes refresh tokens
	refreshing   singleflight.Group
	refreshes    chan struct{} // a place per refresh token that is looked up

	stop func()
	done sync.WaitGroup
}

// Open loads the signing keys, or makes the first one, and goes on noticing new ones until Close. It fails when the
// database does not answer or when the configured secret is not the one that sealed the keys.
func Open(ctx context.Context, config Config) (*Authority, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	seal, err := newSealer(config.Secret, config.System, sealTokens)
	if err != nil {
		return nil, err
	}
	successorKey, err := newSuccessorKey(config)
	if err != nil {
		return nil, err
	}
	a := &Authority{
		config: config, successorKey: successorKey, refreshes: make(chan struct{}, refreshesAtMax),
		hasher:   newHasher(config),
		throttle: &throttle{db: config.DB, clock: config.Clock, turn: make(chan struct{}, 1), full: map[[sha256.Size]byte]time.Time{}},
		denials:  &denials{db: config.DB, clock: config.Clock, logger: config.Logger, until: map[string]time.Time{}},
		keys: &keyring{
			db: config.DB, table: "signing_keys", prefix: config.System, keep: tokenLife + skewMax, sealer: seal,
			clock: config.Clock, random: config.Random,
		},
		clients: &knownClients{
			db: config.DB, clock: config.Clock, logger: config.Logger,
			byID: map[string]*knownClient{}, reads: make(chan struct{}, clientReadsAtMax),
		},
		tokens: &verifiedTokens{most: tokensVerifiedMax, byHash: map[tokenHash]*verifiedToken{}},
		parser: newParser(config),
	}
	if err := a.keys.open(ctx); err != nil {
		return nil, err
	}
	if err := a.denials.open(ctx); err != nil {
		return nil, err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	a.stop = stop
	a.done.Go(func() { rounds.Make(background, keyRefreshEvery, a.refreshKeys) })
	a.done.Go(func() { a.denials.follow(background) })
	a.done.Go(func() { rounds.Make(background, sweepEvery, a.Sweep) })
	return a, nil
}

// Close stops noticing new keys and waits until that has stopped. It may be called twice.
func (a *Authority) Close() {
	a.stop()
	a.done.Wait()
}

func (a *Authority) refreshKeys(ctx context.Context) {
	if err := a.keys.reload(ctx); err != nil && ctx.Err() == nil {
		a.config.Logger.Warn("cannot refresh the signing keys; the known ones go on", "error", err)
	}
}

// JWKS is the JWK set (RFC 7517) with the public keys of all tokens that may be met.
func (a *Authority) JWKS() []byte { return a.keys.current.Load().jwks }

// RotateKey makes a new signing key. Every node knows it before it signs, 30 s from now; tokens of the old key are
// good to their end.
func (a *Authority) RotateKey(ctx context.Context) error {
	return a.keys.rotate(ctx, keyActivationDelay)
}

// now is the present as the database stores it.
func (a *Authority) now() time.Time { return a.config.Clock().UTC().Truncate(time.Microsecond) }

// Authenticate tells who sends a request from its Authorization header (RFC 6750, 2.1). It refuses with
// Unauthenticated, and with SourceUnavailable when the token is good but the database does not tell whether a client
// unknown to this node still exists. A client that this node has met goes on through an outage of the database: its
// tokens end by themselves.
func (a *Authority) Authenticate(ctx context.Context, authorization string) (Principal, error) {
	token, err := bearer(authorization)
	if err != nil {
		return Principal{}, err
	}
	verified, err := a.verify(ctx, token)
	if err != nil {
		return Principal{}, err
	}
	if verified.session != "" {
		return a.inSession(verified)
	}
	known, _ := a.clients.get(ctx, verified.clientID) // a failed reading is logged there; an old one will do
	if known == nil {
		return Principal{}, unavailable()
	}
	if !known.exists || verified.issuedAt.Before(known.client.CreatedAt.Add(-skewMax)) {
		return Principal{}, ledger.Refuse(ledger.Unauthenticated, "the client of this access token was deleted")
	}
	return Principal{
		Caller: known.principal, Owner: known.owner, Scopes: verified.scopes & known.client.Scopes, Client: true,
	}, nil
}

// inSession admits a person by what their access token says and by the denial list; neither asks the database.
func (a *Authority) inSession(verified *verifiedToken) (Principal, error) {
	if a.denials.has(verified.session) {
		return Principal{}, signInAgain()
	}
	return Principal{
		Caller: verified.subject, Owner: verified.subject, Scopes: verified.scopes, Session: verified.session,
	}, nil
}

// tokenMax is the longest token worth a hash, in bytes; ours have about 600.
const tokenMax = 4096

func bearer(authorization string) (string, error) {
	scheme, token, _ := strings.Cut(authorization, " ")
	switch {
	case authorization == "":
		return "", ledger.Refuse(ledger.Unauthenticated, "send the header `Authorization: Bearer <access token>`; POST /v1/oauth/token gives one")
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return "", ledger.Refuse(ledger.Unauthenticated, "the Authorization header must be `Bearer <access token>`")
	case len(token) > tokenMax:
		return "", ledger.Refuse(ledger.Unauthenticated, "the access token is longer than any of ours")
	}
	return token, nil
}

// unavailable does not tell the caller why; who met the error has logged it.
func unavailable() error {
	return ledger.Refuse(ledger.SourceUnavailable, "the database does not answer, so the client cannot be checked")
}
