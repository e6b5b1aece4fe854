package auth_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"flag"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"

	"lockstep/api/auth"
	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

const (
	system       = "alpha"
	systemSecret = "the secret of a system in a test, long enough"
	shopSecret   = "0123456789abcdef0123456789abcdef"
)

// TestMain lets more tests run at once than there are cores, for they wait for servers most of the time.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "4"); err != nil { // the command line is read later
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// clock is a time that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now().UTC()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// inTx runs work in a transaction and commits it.
func inTx(t testing.TB, db *store.Store, work func(auth.Tx) error) error {
	t.Helper()
	tx, err := db.Begin(t.Context())
	must(t, err)
	if err := work(tx); err != nil {
		must(t, tx.Rollback())
		return err
	}
	_, err = tx.Commit(t.Context())
	return err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t testing.TB, err error, code ledger.Code) {
	t.Helper()
	if ledger.CodeOf(err) != code {
		t.Fatalf("got %v, want %s", err, code)
	}
}

// open starts an authority as a node does; change may differ from the usual configuration.
func open(t testing.TB, db *store.Store, clock *clock, change ...func(*auth.Config)) *auth.Authority {
	t.Helper()
	config := auth.Config{System: system, Secret: systemSecret, DB: db.Source(), Clock: clock.Now, Logger: storetest.Logger(t), PasswordKiB: 64}
	for _, c := range change {
		c(&config)
	}
	authority, err := auth.Open(t.Context(), config)
	must(t, err)
	t.Cleanup(authority.Close)
	return authority
}

// putShop makes the client most tests use.
func putShop(t testing.TB, authority *auth.Authority) {
	t.Helper()
	scopes := mustScopes(t, "accounts:read money:transfer money:read")
	must(t, authority.PutClient(t.Context(), auth.NewClient{ID: "shop", Name: "The shop", Scopes: scopes}, shopSecret))
}

func mustScopes(t testing.TB, text string) auth.Scopes {
	t.Helper()
	scopes, err := auth.ParseScopes(text)
	must(t, err)
	return scopes
}

func shopToken(t testing.TB, authority *auth.Authority) string {
	t.Helper()
	answer, err := authority.Token(t.Context(), "shop", shopSecret, "")
	must(t, err)
	return "Bearer " + answer.AccessToken
}

// unseal takes a private key out of the database as somebody with the system's secret can; it is written from the
// description of the format, so it also notices when the format changes under stored keys.
func unseal(t testing.TB, db *store.Store, kid string) ed25519.PrivateKey {
	t.Helper()
	var sealed []byte
	must(t, db.Source().QueryRow("SELECT private_key FROM signing_keys WHERE kid = ?", kid).Scan(&sealed))
	key, err := hkdf.Key(sha256.New, []byte(systemSecret), nil, "lockstep signing keys v1 "+system, 32)
	must(t, err)
	block, err := aes.NewCipher(key)
	must(t, err)
	gcm, err := cipher.NewGCM(block)
	must(t, err)
	seed, err := gcm.Open(nil, sealed[:12], sealed[12:], []byte(kid))
	must(t, err)
	return ed25519.NewKeyFromSeed(seed)
}

// forge signs any header and claims; nil values take a part of the good token away.
func forge(t testing.TB, method jwt.SigningMethod, key any, now time.Time, header, claims map[string]any) string {
	t.Helper()
	good := jwt.MapClaims{
		"iss": "lockstep:alpha", "aud": []string{"lockstep:alpha:api"}, "sub": "client:shop", "client_id": "shop",
		"scope": "money:read", "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "jti": "forged",
	}
	token := jwt.NewWithClaims(method, good)
	token.Header["typ"], token.Header["kid"] = "at+jwt", "alpha-1"
	replace(good, claims)
	replace(token.Header, header)
	text, err := token.SignedString(key)
	must(t, err)
	return "Bearer " + text
}

func replace(in, with map[string]any) {
	for name, value := range with {
		in[name] = value
		if value == nil {
			delete(in, name)
		}
	}
}

// node is an authority with its database, to change clients as the edge does.
type node struct {
	*auth.Authority
	db *store.Store
}

// twoNodes are two nodes of one system.
func twoNodes(t testing.TB, change ...func(*auth.Config)) (here, elsewhere node, time *clock) {
	t.Helper()
	db, time := storetest.Open(t), newClock()
	return node{open(t, db, time, change...), db}, node{open(t, db, time, change...), db}, time
}

func (n node) delete(t testing.TB, id string) error {
	t.Helper()
	return inTx(t, n.db, func(tx auth.Tx) error { return n.DeleteClient(t.Context(), tx, id) })
}
