package httpsig_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"lockstep/api/httpsig"
)

const rfcX = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" // of RFC 8037, A.2

func TestAKeySetIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	keys := []httpsig.PublicKey{{KeyID: "alpha-2", Public: publicOf("alpha-2")}, {KeyID: "alpha-1", Public: publicOf("alpha-1")}}
	read, err := httpsig.ParseJWKS(httpsig.MarshalJWKS(keys))
	must(t, err)
	if len(read) != 2 || fmt.Sprint(read) != fmt.Sprint(keys) {
		t.Errorf("got %v, want %v", read, keys)
	}
	if text := string(httpsig.MarshalJWKS(nil)); text != `{"keys":[]}` {
		t.Errorf("no keys are %s", text)
	}
	x, err := base64.RawURLEncoding.DecodeString(rfcX)
	must(t, err)
	text := string(httpsig.MarshalJWKS([]httpsig.PublicKey{{KeyID: "k", Public: x}}))
	if text != `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","use":"sig","alg":"EdDSA","x":"`+rfcX+`"}]}` {
		t.Errorf("the RFC's key is %s", text)
	}
}

func TestAKeySetIsReadWithoutWhatIsNotForUs(t *testing.T) {
	t.Parallel()
	ours := `{"kty":"OKP","crv":"Ed25519","kid":"k","x":"` + rfcX + `"}`
	for text, want := range map[string]int{
		ours: 1,
		ours + `,{"kty":"RSA","kid":"k","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256","kid":"k","d":"x"}`: 1,
		`{"kty":"OKP","crv":"X25519","kid":"k","x":"` + rfcX + `"}`:                                          0,
		`{"kty":"OKP","crv":"Ed25519","use":"enc","kid":"k","x":"` + rfcX + `"}`:                             0,
		`{"kty":"OKP","crv":"Ed25519","alg":"Ed25519","kid":"k","x":"` + rfcX + `","more":[1]}`:              1,
		`{"kty":"OKP","crv":"Ed25519","alg":"none","kid":"k","x":"` + rfcX + `"}`:                            0,
		``: 0,
	} {
		keys, err := httpsig.ParseJWKS([]byte(`{"keys":[` + text + `]}`))
		if err != nil || len(keys) != want {
			t.Errorf("%s: %d keys, %v", text, len(keys), err)
		}
	}
}

func TestABadKeyRefusesItsSet(t *testing.T) {
	t.Parallel()
	key := func(kid, x, more string) string {
		return fmt.Sprintf(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"%s","x":"%s"%s}]}`, kid, x, more)
	}
	for name, text := range map[string]string{
		"no id":           key("", rfcX, ""),
		"long id":         key(strings.Repeat("k", 65), rfcX, ""),
		"private part":    key("k", rfcX, `,"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"`),
		"short":           key("k", "AQID", ""),
		"spare bits":      key("k", rfcX[:42]+"p", ""),
		"a line end":      key("k", `\n`+rfcX, ""),
		"padding":         key("k", rfcX+"=", ""),
		"standard base64": key("k", strings.ReplaceAll(rfcX, "_", "/"), ""),
		"no keys":         `{}`,
		"no set":          `[]`,
		"no JSON":         `{"keys":[]`,
		"more after it":   `{"keys":[]}{}`,
	} {
		if keys, err := httpsig.ParseJWKS([]byte(text)); err == nil {
			t.Errorf("%s: got %v", name, keys)
		}
	}
	twice := []httpsig.PublicKey{{KeyID: "k", Public: publicOf("a")}, {KeyID: "k", Public: publicOf("b")}}
	if keys, err := httpsig.ParseJWKS(httpsig.MarshalJWKS(twice)); err == nil {
		t.Errorf("two keys of one id: got %v", keys)
	}
}
