package auth_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/api/auth"
	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

// Nodes that start at once on an empty table end with one key, and each accepts the tokens of all.
func TestNodesThatStartAtOnceShareOneKey(t *testing.T) {
	t.Parallel()
	db, clock := storetest.Open(t), newClock()
	nodes := make([]*auth.Authority, 8)
	var starting sync.WaitGroup
	for i := range nodes {
		starting.Go(func() {
			authority, err := auth.Open(t.Context(), auth.Config{System: system, Secret: systemSecret, DB: db.Source(), Clock: clock.Now})
			if err != nil {
				t.Errorf("node %d: %v", i, err)
				return
			}
			nodes[i] = authority
			t.Cleanup(authority.Close)
		})
	}
	starting.Wait()
	if t.Failed() {
		return
	}
	if keys := countKeys(t, db); keys != 1 {
		t.Errorf("there are %d keys", keys)
	}
	putShop(t, nodes[0])
	for i, giver := range nodes {
		token := shopToken(t, giver)
		for j, checker := range nodes {
			if _, err := checker.Authenticate(t.Context(), token); err != nil {
				t.Errorf("node %d refuses a token of node %d: %v", j, i, err)
			}
		}
		if !bytes.Equal(giver.JWKS(), nodes[0].JWKS()) {
			t.Errorf("node %d publishes other keys", i)
		}
	}
}

func countKeys(t testing.TB, db *store.Store) (keys int) {
	t.Helper()
	must(t, db.Source().QueryRow("SELECT COUNT(*) FROM signing_keys").Scan(&keys))
	return keys
}

func kids(t testing.TB, authority *auth.Authority) string {
	t.Helper()
	var set struct {
		Keys []struct{ Kid, Kty, Crv, Alg, Use, X, D string }
	}
	must(t, json.Unmarshal(authority.JWKS(), &set))
	var kids []string
	for _, key := range set.Keys {
		if key.Kty != "OKP" || key.Crv != "Ed25519" || key.Alg != "EdDSA" || key.Use != "sig" || len(key.X) != 43 || key.D != "" {
			t.Errorf("published key: %+v", key)
		}
		kids = append(kids, key.Kid)
	}
	return strings.Join(kids, " ")
}

// A rotation is published before it signs; tokens of the old key stay good to their end, and a node that slept through
// it accepts the new ones.
func TestRotationKeepsOldTokensValid(t *testing.T) {
	t.Parallel()
	db, clock := storetest.Open(t), newClock()
	here, elsewhere := open(t, db, clock), open(t, db, clock)
	putShop(t, here)
	old := shopToken(t, here)
	clock.Advance(time.Second)
	must(t, here.RotateKey(t.Context()))
	if got := kids(t, here); got != "alpha-2 alpha-1" {
		t.Errorf("published: %s", got)
	}
	if got := kidOf(t, shopToken(t, here)); got != "alpha-1" {
		t.Errorf("%s signs before every node can know it", got)
	}
	clock.Advance(31 * time.Second)
	young := shopToken(t, here)
	if got := kidOf(t, young); got != "alpha-2" {
		t.Errorf("%s still signs", got)
	}
	for _, token := range []string{young, old} {
		for _, authority := range []*auth.Authority{elsewhere, here, open(t, db, clock)} {
			_, err := authority.Authenticate(t.Context(), token)
			must(t, err)
		}
	}
	clock.Advance(16 * time.Minute)
	must(t, here.RotateKey(t.Context()))
	if got := kids(t, here); got != "alpha-3 alpha-2" {
		t.Errorf("published after the end of the first key: %s", got)
	}
}

func kidOf(t testing.TB, bearer string) string {
	t.Helper()
	var header struct{ Kid string }
	must(t, json.Unmarshal(decodePart(t, bearer, 0), &header))
	return header.Kid
}

// Anyone can send unknown kids, so they ask the table at most once a second.
func TestUnknownKidsAskTheTableOnceASecond(t *testing.T) {
	t.Parallel()
	db, clock := storetest.Open(t), newClock()
	here, elsewhere := open(t, db, clock), open(t, db, clock)
	putShop(t, here)
	old := shopToken(t, here)
	ask := func(header string) error {
		_, err := elsewhere.Authenticate(t.Context(), header)
		return err
	}
	must(t, ask(old))
	must(t, here.RotateKey(t.Context()))
	clock.Advance(31 * time.Second)
	young := shopToken(t, here)

	// The first question meets a table that cannot be read; it uses up this second all the same.
	var sealed []byte
	must(t, db.Source().QueryRow("SELECT private_key FROM signing_keys WHERE kid = 'alpha-2'").Scan(&sealed))
	_, err := db.Source().Exec("UPDATE signing_keys SET private_key = '' WHERE kid = 'alpha-2'")
	must(t, err)
	wantCode(t, ask(young), ledger.Unauthenticated)
	_, err = db.Source().Exec("UPDATE signing_keys SET private_key = ? WHERE kid = 'alpha-2'", sealed)
	must(t, err)
	clock.Advance(900 * time.Millisecond)
	wantCode(t, ask(young), ledger.Unauthenticated)
	clock.Advance(100 * time.Millisecond)
	must(t, ask(young))
}

// The private key cannot be read in the database, and a node with another secret must not start: it could neither sign
// nor check.
func TestAnotherSecretCannotOpenTheKeys(t *testing.T) {
	t.Parallel()
	db, clock := storetest.Open(t), newClock()
	open(t, db, clock)
	_, err := auth.Open(t.Context(), auth.Config{System: system, Secret: strings.ToUpper(systemSecret), DB: db.Source(), Clock: clock.Now})
	if err == nil || !strings.Contains(err.Error(), "same secret") {
		t.Errorf("got %v", err)
	}
	if keys := countKeys(t, db); keys != 1 {
		t.Errorf("there are %d keys", keys)
	}
	var sealed []byte
	must(t, db.Source().QueryRow("SELECT private_key FROM signing_keys").Scan(&sealed))
	if seed := unseal(t, db, "alpha-1").Seed(); bytes.Contains(sealed, seed[:8]) {
		t.Error("the private key is readable in the database")
	}
}

// Whoever can only write to the database cannot have a key of their own accepted.
func TestKeysChangedInTheDatabaseAreRefused(t *testing.T) {
	t.Parallel()
	db := storetest.Open(t)
	config := auth.Config{System: system, Secret: systemSecret, DB: db.Source()}
	for name, change := range map[string]string{
		"public key exchanged":        "UPDATE signing_keys SET public_key = REPEAT('x', 32)",
		"sealed under another kid":    "UPDATE signing_keys SET kid = 'alpha-2'",
		"private key in the clear":    "UPDATE signing_keys SET private_key = REPEAT('x', 32)",
		"private key of nothing left": "UPDATE signing_keys SET private_key = ''",
		"no change at all":            "DO 0",
	} {
		_, err := db.Source().Exec("DELETE FROM signing_keys")
		must(t, err)
		open(t, db, newClock())
		_, err = db.Source().Exec(change)
		must(t, err)
		other, err := auth.Open(t.Context(), config)
		if err == nil {
			other.Close()
		}
		if (err == nil) != (change == "DO 0") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAConfigurationThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	unused, err := sql.Open("mysql", "nobody@tcp(127.0.0.1:1)/nothing")
	must(t, err)
	defer unused.Close()
	for name, config := range map[string]auth.Config{
		"no system":    {Secret: systemSecret, DB: unused},
		"short secret": {System: system, Secret: "short", DB: unused},
		"no database":  {System: system, Secret: systemSecret},
	} {
		if _, err := auth.Open(t.Context(), config); err == nil || !strings.HasPrefix(err.Error(), "auth: ") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
