package auth_test

import (
	"testing"

	"lockstep/api/auth"
)

// What was sealed for a transfer is read by its system alone, and for that transfer alone.
func TestOriginsAreReadByTheirSystemForTheirTransfer(t *testing.T) {
	t.Parallel()
	open := func(system, secret string) *auth.Origins {
		origins, err := auth.OpenOrigins(auth.Config{System: system, Secret: secret})
		if err != nil {
			t.Fatal(err)
		}
		return origins
	}
	const secret, other = "a secret of at least thirty-two characters", "another secret of at least thirty-two characters"
	sealed := open("alpha", secret).Seal("one", []byte("who asked"))
	if text, err := open("alpha", secret).Open("one", sealed); err != nil || string(text) != "who asked" {
		t.Errorf("the next life of the system reads %q, %v", text, err)
	}
	flipped := []byte(sealed)
	flipped[len(flipped)/2] ^= 1
	for name, read := range map[string]func() ([]byte, error){
		"another transfer": func() ([]byte, error) { return open("alpha", secret).Open("two", sealed) },
		"another system":   func() ([]byte, error) { return open("beta", secret).Open("one", sealed) },
		"another secret":   func() ([]byte, error) { return open("alpha", other).Open("one", sealed) },
		"an altered text":  func() ([]byte, error) { return open("alpha", secret).Open("one", string(flipped)) },
		"no text":          func() ([]byte, error) { return open("alpha", secret).Open("one", "") },
		"not base64":       func() ([]byte, error) { return open("alpha", secret).Open("one", "?") },
	} {
		if text, err := read(); err == nil {
			t.Errorf("%s reads %q", name, text)
		}
	}
}
