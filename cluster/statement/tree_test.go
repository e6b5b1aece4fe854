package statement_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"testing"

	"lockstep/cluster/statement"
)

func many(count int) (payloads [][]byte) {
	for i := range count {
		payloads = append(payloads, fmt.Appendf(nil, `{"id":"%d"}`, i))
	}
	return payloads
}

// However many share a signature, each is believed without the others, and says what it said.
func TestEachOfManyStatementsIsBelievedByItself(t *testing.T) {
	t.Parallel()
	for count := 1; count <= 70; count++ {
		memory := &statement.Memory{}
		for i, stated := range statement.SignAll("alpha-1", rfcKey(t), typ, many(count)) {
			for _, verify := range []func(string, func(string) (ed25519.PublicKey, bool), string) (string, []byte, error){statement.Verify, memory.Verify} {
				keyID, payload, err := verify(stated, known(t, "alpha-1"), typ)
				if want := string(many(count)[i]); err != nil || keyID != "alpha-1" || string(payload) != want {
					t.Fatalf("statement %d of %d is %q by %q, %v", i, count, payload, keyID, err)
				}
			}
		}
	}
}

// A memory that has seen the signature believes nothing that it would not believe without.
func TestEveryByteOfAStatementOfManyCounts(t *testing.T) {
	t.Parallel()
	stated := statement.SignAll("alpha-1", rfcKey(t), typ, many(5))
	memory := &statement.Memory{}
	for _, jws := range stated {
		if _, _, err := memory.Verify(jws, known(t, "alpha-1"), typ); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(name, changed string) {
		for _, m := range []*statement.Memory{memory, {}} {
			_, _, err := m.Verify(changed, known(t, "alpha-1"), typ)
			if !errors.Is(err, statement.ErrInvalid) && !errors.Is(err, statement.ErrUnknownKey) {
				t.Errorf("%s: %q: %v", name, changed, err)
			}
		}
	}
	for _, jws := range []string{stated[0], stated[4]} { // the last has a shorter path
		for i := range jws {
			for _, other := range []string{"A", "B", ".", ""} {
				if changed := jws[:i] + other + jws[i+1:]; changed != jws {
					refused("a byte changed", changed)
				}
			}
		}
		parts := strings.Split(jws, ".")
		refused("no path", strings.Join([]string{parts[0], parts[1], "", parts[3]}, "."))
		refused("as if signed alone", strings.Join([]string{parts[0], parts[1], parts[3]}, "."))
		refused("a longer path", strings.Join([]string{parts[0], parts[1], parts[2] + parts[2], parts[3]}, "."))
	}
	first, second := strings.Split(stated[0], "."), strings.Split(stated[1], ".")
	refused("the path of another", strings.Join([]string{first[0], first[1], second[2], first[3]}, "."))
	refused("one payload in the place of another", strings.Join([]string{first[0], second[1], first[2], first[3]}, "."))
	alone := strings.Split(statement.Sign("alpha-1", rfcKey(t), typ, many(1)[0]), ".")
	refused("alone as one of many", strings.Join([]string{alone[0], alone[1], first[2], alone[2]}, "."))
}

// A key that is known no more, or belongs to another by now, proves nothing, whatever was remembered of it.
func TestAMemoryIsOfTheKeyAndNotOfItsName(t *testing.T) {
	t.Parallel()
	memory := &statement.Memory{}
	stated := statement.SignAll("alpha-1", rfcKey(t), typ, many(2))
	if _, _, err := memory.Verify(stated[0], known(t, "alpha-1"), typ); err != nil {
		t.Fatal(err)
	}
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := memory.Verify(stated[1], known(t, "beta-1"), typ); !errors.Is(err, statement.ErrUnknownKey) {
		t.Errorf("an unknown key: %v", err)
	}
	replaced := func(string) (ed25519.PublicKey, bool) { return other, true }
	if _, _, err := memory.Verify(stated[1], replaced, typ); !errors.Is(err, statement.ErrInvalid) {
		t.Errorf("another key of the name: %v", err)
	}
}

// What is remembered has a bound.
func TestAMemoryForgets(t *testing.T) {
	t.Parallel()
	memory := &statement.Memory{}
	for i := range 2 * statement.RootsMax {
		stated := statement.SignAll("alpha-1", rfcKey(t), typ, [][]byte{fmt.Append(nil, i), fmt.Append(nil, -i)})
		if _, _, err := memory.Verify(stated[1], known(t, "alpha-1"), typ); err != nil {
			t.Fatal(err)
		}
	}
	if n := memory.Len(); n != statement.RootsMax {
		t.Errorf("%d roots are remembered", n)
	}
}

// What a memory has read of one header it does not take for another's. The good one comes first: what it was read as is
// what the others must not be taken for.
func TestAMemoryTakesNoHeaderForAnother(t *testing.T) {
	t.Parallel()
	memory := &statement.Memory{}
	for range 2 {
		for _, c := range []struct {
			header string
			want   error
		}{
			{`{"alg":"EdDSA","kid":"alpha-1","typ":"lockstep-event"}`, nil},
			{`{"alg":"EdDSA","kid":"alpha-1","typ":"another"}`, statement.ErrInvalid},
			{`{"alg":"none","kid":"alpha-1","typ":"lockstep-event"}`, statement.ErrInvalid},
			{`{"alg":"EdDSA","kid":"beta-1","typ":"lockstep-event"}`, statement.ErrUnknownKey},
		} {
			if _, _, err := memory.Verify(crafted(t, c.header), known(t, "alpha-1"), typ); !errors.Is(err, c.want) {
				t.Errorf("%s: got %v, want %v", c.header, err, c.want)
			}
		}
	}
}
