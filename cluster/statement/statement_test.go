package statement_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"lockstep/cluster/statement"
)

const typ = "lockstep-event"

// The key and the JWS of RFC 8037, appendix A.
const (
	rfcSeed = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
	rfcX    = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
	rfcJWS  = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc." +
		"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)

func rfcKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	seed, err := base64.RawURLEncoding.DecodeString(rfcSeed)
	if err != nil {
		t.Fatal(err)
	}
	return ed25519.NewKeyFromSeed(seed)
}

// known finds the key under these ids.
func known(t testing.TB, ids ...string) func(string) (ed25519.PublicKey, bool) {
	t.Helper()
	public := rfcKey(t).Public().(ed25519.PublicKey)
	return func(keyID string) (ed25519.PublicKey, bool) {
		for _, id := range ids {
			if id == keyID {
				return public, true
			}
		}
		return nil, false
	}
}

// RFC 8037, A.4 and A.5; its header has neither key id nor type.
func TestTheExampleOfTheRFC(t *testing.T) {
	t.Parallel()
	key := rfcKey(t)
	if x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey)); x != rfcX {
		t.Fatalf("the public key is %s", x)
	}
	if made := statement.Sign("", key, "", []byte("Example of Ed25519 signing")); made != rfcJWS {
		t.Errorf("we sign %s", made)
	}
	keyID, payload, err := statement.Verify(rfcJWS, known(t, ""), "")
	if err != nil || keyID != "" || string(payload) != "Example of Ed25519 signing" {
		t.Errorf("the RFC's own is %q by %q: %v", payload, keyID, err)
	}
}

// What was signed comes back byte for byte, whatever it is.
func TestAStatementIsReadAsItWasSigned(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{"", "{}", "\x00\xff\r\n.", strings.Repeat("x", 1<<16)} {
		for _, id := range []string{"alpha-1", `a"b\c<&>é`} {
			keyID, got, err := statement.Verify(statement.Sign(id, rfcKey(t), typ, []byte(payload)), known(t, id), typ)
			if err != nil || keyID != id || string(got) != payload {
				t.Errorf("%q by %q: %v", got, keyID, err)
			}
		}
	}
}

func TestEveryByteOfAStatementCounts(t *testing.T) {
	t.Parallel()
	jws := statement.Sign("alpha-1", rfcKey(t), typ, []byte(`{"id":"0197","amount":1250}`))
	try := func(changed string) {
		_, _, err := statement.Verify(changed, known(t, "alpha-1"), typ)
		if !errors.Is(err, statement.ErrInvalid) && !errors.Is(err, statement.ErrUnknownKey) {
			t.Errorf("%s: got %v", changed, err)
		}
	}
	for i := range len(jws) {
		for bit := range 8 {
			try(jws[:i] + string([]byte{jws[i] ^ 1<<bit}) + jws[i+1:])
		}
		try(jws[:i] + jws[i+1:])
		try(jws[:i] + "\n" + jws[i:])
		try(jws[:i])
	}
	if _, _, err := statement.Verify(jws, known(t, "alpha-1"), typ); err != nil {
		t.Errorf("the statement itself: %v", err)
	}
}

// Each is signed by the right key, and breaks one rule.
func TestOnlyTheOneFormIsAccepted(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]error{
		`{"alg":"EdDSA","kid":"alpha-1","typ":"lockstep-event"}`:                        nil,
		` { "typ" : "lockstep-event", "kid":"alpha-1","alg":"EdDSA" } `:                 nil, // another's order and white space
		`{"alg":"none","kid":"alpha-1","typ":"lockstep-event"}`:                         statement.ErrInvalid,
		`{"alg":"Ed25519","kid":"alpha-1","typ":"lockstep-event"}`:                      statement.ErrInvalid,
		`{"alg":"HS256","kid":"alpha-1","typ":"lockstep-event"}`:                        statement.ErrInvalid,
		`{"kid":"alpha-1","typ":"lockstep-event"}`:                                      statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"alpha-1","typ":"other"}`:                                 statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"alpha-1"}`:                                               statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"alpha-1","typ":""}`:                                      statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"alpha-1","typ":null}`:                                    statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"alpha-1","typ":["lockstep-event"]}`:                      statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"beta-1","typ":"lockstep-event"}`:                         statement.ErrUnknownKey,
		`{"alg":"EdDSA","typ":"lockstep-event"}`:                                        statement.ErrUnknownKey,
		`{"alg":"EdDSA","kid":"alpha-1","typ":"lockstep-event","crit":["exp"],"exp":1}`: statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"alpha-1","typ":"lockstep-event","jwk":{}}`:               statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"alpha-1","typ":"lockstep-event","b64":false}`:            statement.ErrInvalid,
		`{"alg":"none","alg":"EdDSA","kid":"alpha-1","typ":"lockstep-event"}`:           statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"beta-1","kid":"alpha-1","typ":"lockstep-event"}`:         statement.ErrInvalid,
		`{"Alg":"EdDSA","kid":"alpha-1","typ":"lockstep-event"}`:                        statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"alpha-1","typ":"lockstep-event"}{}`:                      statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"alpha-1","typ":"lockstep-event"`:                         statement.ErrInvalid,
		`{"alg":"EdDSA","kid":"alpha-1","typ":"lockstep-event",}`:                       statement.ErrInvalid,
		`["alg","EdDSA"]`: statement.ErrInvalid,
		`"EdDSA"`:         statement.ErrInvalid,
		"{\"alg\":\"EdDSA\",\"kid\":\"alpha-1\xff\",\"typ\":\"lockstep-event\"}": statement.ErrInvalid,
		``: statement.ErrInvalid,
	} {
		if _, _, err := statement.Verify(crafted(t, header), known(t, "alpha-1"), typ); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", header, err, want)
		}
	}
}

// An empty member would be a second way to leave it out.
func TestAnEmptyMemberIsRefused(t *testing.T) {
	t.Parallel()
	for _, header := range []string{`{"alg":"EdDSA","kid":""}`, `{"alg":"EdDSA","typ":""}`} {
		if _, _, err := statement.Verify(crafted(t, header), known(t, ""), ""); !errors.Is(err, statement.ErrInvalid) {
			t.Errorf("%s: got %v", header, err)
		}
	}
}

// crafted is a statement with a true signature under any header.
func crafted(t testing.TB, header string) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(header)) + "." + encode([]byte("{}"))
	return signed + "." + encode(ed25519.Sign(rfcKey(t), []byte(signed)))
}

// A key that is none must not bring the process down.
func TestAKeyOfAnotherLengthIsUnknown(t *testing.T) {
	t.Parallel()
	short := func(string) (ed25519.PublicKey, bool) { return []byte("short"), true }
	if _, _, err := statement.Verify(rfcJWS, short, ""); !errors.Is(err, statement.ErrUnknownKey) {
		t.Errorf("got %v", err)
	}
}

// Nothing but what the key signed is ever accepted, in no other form.
func FuzzVerify(f *testing.F) {
	jws := statement.Sign("alpha-1", rfcKey(f), typ, []byte("{}"))
	f.Add(jws)
	f.Add(rfcJWS)
	f.Add("..")
	f.Add(strings.ReplaceAll(jws, ".", ".."))
	f.Fuzz(func(t *testing.T, text string) {
		_, _, err := statement.Verify(text, known(t, "alpha-1"), typ)
		if (err == nil) != (text == jws) {
			t.Errorf("%q: got %v", text, err)
		}
	})
}
