package auth_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"lockstep/api/auth"
	"lockstep/node/ledger"
)

const (
	issuer   = "https://accounts.example"
	password = "seven wide boats"
	home     = "192.0.2.1"
)

func (n node) register(t testing.TB, username string) auth.Session {
	t.Helper()
	session, err := n.Register(t.Context(), username, password, auth.From{Address: home})
	must(t, err)
	return session
}

func (n node) login(t testing.TB, username, password, address string) (auth.Session, error) {
	t.Helper()
	return n.Login(t.Context(), username, password, auth.From{Address: address})
}

// admits tells whether a session's access token is good at a node.
func (n node) admits(t testing.TB, s auth.Session) bool {
	t.Helper()
	principal, err := n.Authenticate(t.Context(), "Bearer "+s.Access)
	if err == nil && (principal.Session != s.ID || principal.Caller != s.User.Principal() || principal.Client) {
		t.Errorf("the principal is %+v", principal)
	}
	return err == nil
}

// count asks the database for one number.
func (n node) count(t testing.TB, query string, args ...any) (number int) {
	t.Helper()
	must(t, n.db.Source().QueryRow(query, args...).Scan(&number))
	return number
}

// Of a thousand wrong passwords in a minute, from one address over both nodes, for one name or for many, at most twenty
// are held against a hash; the right password from elsewhere signs in all the same.
func TestAThousandGuessesReachThePasswordTwentyTimesAtMost(t *testing.T) {
	t.Parallel()
	for name, victim := range map[string]func(i int) string{
		"one name": func(int) string { return "alice" }, "many names": func(i int) string { return fmt.Sprintf("person%d", i) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, elsewhere, clock := twoNodes(t)
			here.register(t, "alice")
			var guesses sync.WaitGroup
			nodes, tried := []node{here, elsewhere}, make(chan int)
			for g := range 10 {
				guesses.Go(func() {
					for i := range tried {
						_, err := nodes[g%2].login(t, victim(i), "wrong wrong wrong", "198.51.100.7")
						var throttled *auth.Throttled
						switch {
						case ledger.CodeOf(err) == ledger.InvalidCredentials:
						case errors.As(err, &throttled) && throttled.After > 0 && throttled.After <= time.Minute:
						default:
							t.Errorf("guess %d got %v", i, err)
						}
					}
				})
			}
			checked := func() uint64 { return here.Stats().PasswordChecks + elsewhere.Stats().PasswordChecks }
			for i := range 1000 {
				if checked() > 30 { // the test has failed, and each check takes long
					break
				}
				if i%17 == 16 {
					clock.Advance(time.Second)
				}
				tried <- i
			}
			close(tried)
			guesses.Wait()
			if checks := checked(); checks > 20 || checks < 5 {
				t.Errorf("%d guesses reached the password check", checks)
			}
			for _, n := range nodes {
				_, err := n.login(t, "alice", password, "203.0.113.9")
				must(t, err)
			}
		})
	}
}

// Attacked from very many addresses a person still signs in from where they did so before, and from there only until the
// attack is over.
func TestAnAttackFromEverywhereDoesNotLockItsVictimOut(t *testing.T) {
	t.Parallel()
	here, elsewhere, clock := twoNodes(t)
	here.register(t, "alice")
	for i := range 52 {
		_, err := here.login(t, "alice", "wrong wrong wrong", fmt.Sprintf("198.51.100.%d", i))
		if code := ledger.CodeOf(err); code != ledger.InvalidCredentials && code != ledger.RateLimited {
			t.Fatal(err)
		}
	}
	if checks := here.Stats().PasswordChecks; checks != 50 {
		t.Errorf("%d guesses reached the password check, want 50", checks)
	}
	_, err := elsewhere.login(t, "alice", password, "203.0.113.9")
	wantCode(t, err, ledger.RateLimited)
	_, err = elsewhere.login(t, "alice", password, home)
	must(t, err)
	clock.Advance(time.Hour)
	_, err = elsewhere.login(t, "alice", password, "203.0.113.9")
	must(t, err)
}

// Who has one IPv6 address has as many as they like of its /64.
func TestANetworkOfIPv6GuessesAsOneAddress(t *testing.T) {
	t.Parallel()
	here, _, _ := twoNodes(t)
	for i := range 12 {
		_, err := here.login(t, fmt.Sprint("somebody", i), "wrong wrong wrong", fmt.Sprintf("2001:db8:0:1::%d", i))
		if code := ledger.CodeOf(err); code != ledger.InvalidCredentials && code != ledger.RateLimited {
			t.Fatal(err)
		}
	}
	if checks := here.Stats().PasswordChecks; checks != 10 {
		t.Errorf("%d guesses from one network reached the password check, want 10", checks)
	}
	_, err := here.login(t, "somebody", "wrong wrong wrong", "2001:db8:0:2::1")
	wantCode(t, err, ledger.InvalidCredentials)
	for address, want := range map[string]string{
		"2001:db8:0:1:ffff::1": "2001:db8:0:1::/64", "fe80::1%eth0": "fe80::/64", "203.0.113.9": "203.0.113.9", "": "",
	} {
		if got := auth.Network(address); got != want {
			t.Errorf("the network of %q is %q, want %q", address, got, want)
		}
	}
}

// Signing in well is not counted, however often; a right password does not end a throttle that is reached.
func TestOnlyFailuresAreCounted(t *testing.T) {
	t.Parallel()
	here, elsewhere, clock := twoNodes(t)
	here.register(t, "alice")
	for range 11 {
		_, err := here.login(t, "alice", password, home)
		must(t, err)
	}
	for range 5 {
		_, err := here.login(t, "alice", "wrong wrong wrong", home)
		wantCode(t, err, ledger.InvalidCredentials)
	}
	for _, n := range []node{here, elsewhere} {
		_, err := n.login(t, "alice", password, home)
		wantCode(t, err, ledger.RateLimited)
	}
	clock.Advance(12 * time.Second)
	_, err := elsewhere.login(t, "alice", password, home)
	must(t, err)
}

// Whether a name exists, its person has no password, or is shut out: who does not know the password hears the same, after
// the same work.
func TestNobodyLearnsWhoExists(t *testing.T) {
	t.Parallel()
	here, _, _ := twoNodes(t)
	shut := here.register(t, "shutout").User
	must(t, here.SetRole(t.Context(), shut.ID, auth.RoleUser, true))
	here.register(t, "alice")
	said := map[string]bool{}
	for i, name := range []string{"alice", "nobody", "shutout"} {
		before := here.Stats().PasswordChecks
		_, err := here.login(t, name, "wrong wrong wrong", fmt.Sprintf("192.0.2.%d", 10+i))
		said[fmt.Sprint(err)] = true
		if here.Stats().PasswordChecks != before+1 {
			t.Errorf("%s cost another work than others do", name)
		}
	}
	if len(said) != 1 {
		t.Errorf("they heard %v", said)
	}
	_, err := here.login(t, "shutout", password, home)
	wantCode(t, err, ledger.Forbidden)
}

// The hash in the database is argon2id of the password's composed form in the PHC string format, written here from its
// description; one of another cost is renewed when its person signs in.
func TestPasswordsAreKeptAsArgon2id(t *testing.T) {
	t.Parallel()
	here, elsewhere, _ := twoNodes(t, func(c *auth.Config) { c.PasswordKiB = 0 })
	composed := norm.NFC.String("비밀번호는한글로길게")
	decomposed := norm.NFD.String(composed)
	_, err := here.Register(t.Context(), "alice", decomposed, auth.From{Address: home})
	must(t, err)
	var stored string
	must(t, here.db.Source().QueryRow("SELECT password_hash FROM users WHERE username = 'alice'").Scan(&stored))
	parts := strings.Split(stored, "$")
	if len(parts) != 6 || parts[1] != "argon2id" || parts[2] != "v=19" || parts[3] != "m=19456,t=2,p=1" {
		t.Fatalf("stored %q", stored)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	must(t, err)
	want := argon2.IDKey([]byte(composed), salt, 2, 19456, 1, 32)
	if len(salt) != 16 || parts[5] != base64.RawStdEncoding.EncodeToString(want) {
		t.Errorf("the salt has %d bytes and the hash is %s", len(salt), parts[5])
	}
	_, err = elsewhere.login(t, "alice", composed, home)
	must(t, err)
	weak := "$argon2id$v=19$m=64,t=1,p=1$" + parts[4] + "$" + base64.RawStdEncoding.EncodeToString(argon2.IDKey([]byte(composed), salt, 1, 64, 1, 32))
	_, err = here.db.Source().Exec("UPDATE users SET password_hash = ?", weak)
	must(t, err)
	_, err = elsewhere.login(t, "alice", composed, home)
	must(t, err)
	if renewed := here.count(t, "SELECT COUNT(*) FROM users WHERE password_hash LIKE '%m=19456,t=2,p=1%'"); renewed != 1 {
		t.Error("the weak hash stays")
	}
	_, err = elsewhere.login(t, "alice", composed, home)
	must(t, err)
}

// However many first logins of one identity come at once over both nodes, one person is made; later ones find it. The same
// e-mail from another provider or subject is another person.
func TestAnIdentityIsOnePerson(t *testing.T) {
	t.Parallel()
	here, elsewhere, _ := twoNodes(t)
	profile := auth.Profile{Name: "Emma\n 김", Email: "emma@example.com", Picture: "http://plain.example/x"}
	var logins sync.WaitGroup
	var mu sync.Mutex
	made, ids := 0, map[string]bool{}
	for i := range 8 {
		logins.Go(func() {
			user, created, err := []node{here, elsewhere}[i%2].EnsureIdentity(t.Context(), issuer, "subject-1", profile)
			if err != nil {
				t.Errorf("login %d: %v", i, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if ids[user.ID] = true; created {
				made++
			}
			if user.Name != "Emma 김" || user.Picture != "" || user.Role != auth.RoleUser || user.HasPassword {
				t.Errorf("the person is %+v", user)
			}
		})
	}
	logins.Wait()
	if made != 1 || len(ids) != 1 || here.count(t, "SELECT COUNT(*) FROM users") != 1 {
		t.Errorf("%d people were made, with the ids %v", made, ids)
	}
	for _, other := range [][2]string{{issuer, "Subject-1"}, {"https://other.example", "subject-1"}} {
		user, created, err := here.EnsureIdentity(t.Context(), other[0], other[1], profile)
		must(t, err)
		if !created || ids[user.ID] {
			t.Errorf("%v is the person of another identity", other)
		}
	}
	_, _, err := here.EnsureIdentity(t.Context(), issuer, strings.Repeat("s", 256), profile)
	wantCode(t, err, ledger.InvalidRequest)
}

// When ending a session is answered, every node refuses its access token, and a node that starts later does too; its
// refresh token is dead, and other sessions live.
func TestAnEndedSessionIsRefusedEverywhereAtOnce(t *testing.T) {
	t.Parallel()
	here, elsewhere, clock := twoNodes(t)
	ended := here.register(t, "alice")
	other, err := here.StartSession(t.Context(), ended.User, auth.From{})
	must(t, err)
	if !elsewhere.admits(t, ended) || !elsewhere.admits(t, other) {
		t.Fatal("a session is not known at the other node")
	}
	must(t, here.EndSession(t.Context(), ended.ID))
	later := node{open(t, here.db, clock), here.db}
	for i, n := range []node{here, elsewhere, later} {
		if n.admits(t, ended) || !n.admits(t, other) {
			t.Errorf("node %d admits the wrong one", i)
		}
		_, err := n.Refresh(t.Context(), ended.Refresh)
		wantCode(t, err, ledger.Unauthenticated)
	}
	must(t, here.EndSession(t.Context(), ended.ID))
	must(t, elsewhere.EndSessions(t.Context(), ended.User.ID))
	if here.admits(t, other) {
		t.Error("a session outlives its person's signing out everywhere")
	}
	if list, err := here.Sessions(t.Context(), ended.User.ID); err != nil || len(list) != 0 {
		t.Errorf("listed %v, %v", list, err)
	}
}

// A password that is changed while somebody is signing in with it, or changing it, is of no use any more: no session begins that
// the change has not ended.
func TestAPasswordThatWasChangedMeanwhileProvesNothing(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(n node, s auth.Session) error{
		"login": func(n node, _ auth.Session) error {
			_, err := n.login(t, "alice", password, home)
			return err
		},
		"change": func(n node, s auth.Session) error {
			return n.ChangePassword(t.Context(), s.User.ID, s.ID, password, "eight narrow bridges", home)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			here, elsewhere, _ := twoNodes(t)
			session := here.register(t, "alice")
			changing, err := here.db.Source().BeginTx(t.Context(), nil)
			must(t, err)
			defer func() { _ = changing.Rollback() }()
			_, err = changing.ExecContext(t.Context(), "UPDATE users SET password_hash = 'another' WHERE id = ?", session.User.ID)
			must(t, err)
			used := make(chan error, 1)
			go func() { used <- use(elsewhere, session) }()
			for elsewhere.Stats().PasswordChecks == 0 && t.Context().Err() == nil { // it has read the old hash by then
				time.Sleep(time.Millisecond)
			}
			must(t, changing.Commit())
			wantCode(t, <-used, ledger.InvalidCredentials)
			if sessions := here.count(t, "SELECT COUNT(*) FROM sessions"); sessions != 1 {
				t.Errorf("there are %d sessions, not the first one alone", sessions)
			}
		})
	}
}

// A session ends when nobody uses it for a week, and after thirty days in any case; a refresh token that the database
// does not have is nobody's.
func TestSessionsEndByThemselves(t *testing.T) {
	t.Parallel()
	here, elsewhere, clock := twoNodes(t)
	idle, used := here.register(t, "idle"), here.register(t, "used")
	for day := 5; day <= 30; day += 5 {
		clock.Advance(5*24*time.Hour - time.Second)
		var err error
		used, err = elsewhere.Refresh(t.Context(), used.Refresh)
		must(t, err)
		if day >= 10 {
			_, err = here.Refresh(t.Context(), idle.Refresh)
			wantCode(t, err, ledger.Unauthenticated)
		}
	}
	clock.Advance(10 * time.Second)
	_, err := elsewhere.Refresh(t.Context(), used.Refresh)
	wantCode(t, err, ledger.Unauthenticated)
	for _, token := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("=", 43)} {
		_, err := here.Refresh(t.Context(), token)
		wantCode(t, err, ledger.Unauthenticated)
	}
	clock.Advance(200 * 24 * time.Hour)
	crowd := strings.TrimSuffix(strings.Repeat("(RANDOM_BYTES(32), '2020-01-01'),", 1200), ",") // more than one statement removes
	_, err = here.db.Source().ExecContext(t.Context(), "INSERT INTO throttles (bucket, free_from) VALUES "+crowd)
	must(t, err)
	here.Sweep(t.Context())
	for _, table := range []string{"refresh_tokens", "sessions", "throttles", "denials"} {
		if left := here.count(t, "SELECT COUNT(*) FROM "+table); left != 0 {
			t.Errorf("%d rows of %s stay for ever", left, table)
		}
	}
}

// The database holds hashes of refresh tokens: whoever reads it has nobody's session.
func TestNoRefreshTokenIsInTheDatabase(t *testing.T) {
	t.Parallel()
	here, elsewhere, _ := twoNodes(t)
	first := here.register(t, "alice")
	second, err := elsewhere.Refresh(t.Context(), first.Refresh)
	must(t, err)
	for _, token := range []string{first.Refresh, second.Refresh} {
		hash := sha256.Sum256([]byte(token))
		if here.count(t, "SELECT COUNT(*) FROM refresh_tokens WHERE hash = ?", hash[:]) != 1 {
			t.Error("the hash of a refresh token is not there")
		}
		raw, err := base64.RawURLEncoding.DecodeString(token)
		must(t, err)
		if here.count(t, "SELECT COUNT(*) FROM refresh_tokens WHERE hash = ? OR INSTR(hash, ?) > 0", raw, token) != 0 {
			t.Error("a refresh token is in the database")
		}
	}
}

// A role is what sessions may do. Another one, or being shut out, ends the sessions from before.
func TestAChangeOfRoleEndsSessions(t *testing.T) {
	t.Parallel()
	here, elsewhere, _ := twoNodes(t)
	before := here.register(t, "alice")
	must(t, here.SetRole(t.Context(), before.User.ID, auth.RoleAuditor, false))
	if elsewhere.admits(t, before) {
		t.Error("a session outlives its role")
	}
	now, err := elsewhere.login(t, "alice", password, home)
	must(t, err)
	principal, err := here.Authenticate(t.Context(), "Bearer "+now.Access)
	must(t, err)
	if !principal.Scopes.Has(auth.ProofsRead) || principal.Scopes.Has(auth.MoneyTransfer) || principal.Operator() {
		t.Errorf("an auditor may %v", principal.Scopes)
	}
	must(t, here.SetRole(t.Context(), before.User.ID, auth.RoleAuditor, true))
	_, err = elsewhere.Refresh(t.Context(), now.Refresh)
	wantCode(t, err, ledger.Unauthenticated)
	_, err = elsewhere.StartSession(t.Context(), before.User, auth.From{})
	wantCode(t, err, ledger.Forbidden)
	_, err = elsewhere.PutUser(t.Context(), "alice", password, auth.RoleUser)
	must(t, err)
	again, err := elsewhere.login(t, "alice", password, home)
	must(t, err)
	if _, err = here.PutUser(t.Context(), "alice", password, auth.RoleUser); err != nil || !here.admits(t, again) {
		t.Errorf("putting the same person again has signed them out: %v", err)
	}
	_, err = here.PutUser(t.Context(), "alice", "eight narrow bridges", auth.RoleUser)
	must(t, err)
	if elsewhere.admits(t, again) {
		t.Error("a session outlives its person's password")
	}
	wantCode(t, here.SetRole(t.Context(), "nobody", auth.RoleUser, false), ledger.NotFound)
	wantCode(t, here.SetRole(t.Context(), before.User.ID, "root", false), ledger.InvalidRequest)
}

// Nothing but what a session's start signs is a session's access token: not a token that we sign for another purpose, for
// another audience or issuer, nor one that mixes a client with a person.
func TestOnlySessionsMakeSessionTokens(t *testing.T) {
	t.Parallel()
	here, _, clock := twoNodes(t)
	session := here.register(t, "alice")
	key := unseal(t, here.db, "alpha-1")
	type object = map[string]any
	good := object{"sub": session.User.Principal(), "client_id": "lockstep", "sid": session.ID, "scope": "money:read session"}
	sign := func(header, change object) string {
		said := object{}
		replace(said, good)
		replace(said, change)
		for name, value := range change {
			if value == nil {
				said[name] = nil
			}
		}
		return forge(t, jwt.SigningMethodEdDSA, key, clock.Now(), header, said)
	}
	_, err := here.Authenticate(t.Context(), sign(nil, nil))
	must(t, err)
	for name, token := range map[string]string{
		"another type": sign(object{"typ": "JWT"}, nil), "the type of an ID token": sign(object{"typ": "id+jwt"}, nil), "no type": sign(object{"typ": nil}, nil),
		"another audience": sign(nil, object{"aud": "lockstep:alpha:login"}), "another issuer": sign(nil, object{"iss": "lockstep:beta"}),
		"no end": sign(nil, object{"exp": nil}), "ended": sign(nil, object{"exp": clock.Now().Add(-time.Minute).Unix()}),
		"no session": sign(nil, object{"sid": nil}), "a client's subject": sign(nil, object{"sub": "client:shop"}),
		"a real client": sign(nil, object{"client_id": "shop"}), "a client with a session": sign(nil, object{"sub": "client:lockstep"}),
		"a refresh token": "Bearer " + session.Refresh,
		"no algorithm":    forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, clock.Now(), nil, good),
		"the public key":  forge(t, jwt.SigningMethodHS256, []byte(key.Public().(ed25519.PublicKey)), clock.Now(), nil, good),
	} {
		if _, err := here.Authenticate(t.Context(), token); ledger.CodeOf(err) != ledger.Unauthenticated {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// A new key of tokens comes into use while both nodes sign and check without a pause, and no request is refused: not one
// with a token of the key before, nor one with a token of the new key at a node that has just heard of it.
func TestATokenKeyIsRotatedWithoutARefusal(t *testing.T) {
	t.Parallel()
	here, elsewhere, clock := twoNodes(t)
	putShop(t, here.Authority)
	session := here.register(t, "alice")
	nodes, stop := []node{here, elsewhere}, make(chan struct{})
	var load sync.WaitGroup
	kids, mu := map[string]int{}, sync.Mutex{}
	for g := range 4 {
		load.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				giver, checker := nodes[(g+i)%2], nodes[(g/2+i)%2]
				token := shopToken(t, giver.Authority)
				if _, err := checker.Authenticate(t.Context(), token); err != nil {
					t.Errorf("a token was refused: %v", err)
					return
				}
				if !checker.admits(t, session) {
					t.Error("a session was refused")
					return
				}
				mu.Lock()
				kids[string(decodePart(t, token, 0))]++
				mu.Unlock()
			}
		})
	}
	signers := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(kids)
	}
	for range 3 {
		before, end := signers(), time.Now().Add(time.Minute)
		must(t, here.RotateKey(t.Context()))
		for range 40 { // the nodes look at the table every ten seconds of the real time, or when they meet an unknown key
			clock.Advance(time.Second)
			time.Sleep(5 * time.Millisecond)
		}
		for signers() == before && time.Now().Before(end) {
			time.Sleep(5 * time.Millisecond)
		}
	}
	close(stop)
	load.Wait()
	if len(kids) != 4 {
		t.Errorf("the tokens were signed by %v", kids)
	}
}

// With an overlap both secrets are good everywhere until it ends, then the new one alone; an old one that was replaced
// before is refused at once.
func TestSecretsOverlap(t *testing.T) {
	t.Parallel()
	here, elsewhere, clock := twoNodes(t)
	putShop(t, here.Authority)
	rotate := func(overlap time.Duration) (secret string) {
		must(t, inTx(t, here.db, func(tx auth.Tx) (err error) {
			secret, err = here.RotateClient(t.Context(), tx, "shop", overlap)
			return err
		}))
		clock.Advance(auth.ClientFreshFor)
		return secret
	}
	good := func(secret string, want bool) {
		t.Helper()
		for i, n := range []node{here, elsewhere} {
			if _, err := n.Token(t.Context(), "shop", secret, ""); (err == nil) != want {
				t.Errorf("node %d takes the secret: %v, want %t", i, err, want)
			}
		}
	}
	second := rotate(time.Hour)
	good(shopSecret, true)
	good(second, true)
	third := rotate(time.Hour)
	good(shopSecret, false)
	good(second, true)
	good(third, true)
	clock.Advance(time.Hour)
	good(second, false)
	good(third, true)
	fourth := rotate(0)
	good(third, false)
	good(fourth, true)
	must(t, here.delete(t, "shop"))
	clock.Advance(auth.ClientFreshFor)
	good(fourth, false)
}
