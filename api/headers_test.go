package api_test

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lockstep/api"
	"lockstep/node/ledger"
)

func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"", "MQ", api.Cursor("accounts", "1000"), api.Cursor("entries of alpha-00000000100042", "7"), "====", "MQ\nphY2NvdW50cwoxMDAw", "MQphY2Nvd\nW50cwoxMDAw", strings.Repeat("A", 500)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, position, err := api.ParseCursor(text)
		if err != nil {
			if ledger.CodeOf(err) != ledger.InvalidRequest {
				t.Errorf("%q is refused with %v", text, err)
			}
			return
		}
		if list == "" || position == "" || api.Cursor(list, position) != text {
			t.Errorf("%q reads as %q %q, which writes %q", text, list, position, api.Cursor(list, position))
		}
	})
}

func TestCursorReadsWhatItWrote(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list, position := rapid.StringMatching(`[a-z0-9 -]{1,60}`).Draw(t, "list"), rapid.StringMatching(`[A-Za-z0-9.-]{1,64}`).Draw(t, "position")
		gotList, gotPosition, err := api.ParseCursor(api.Cursor(list, position))
		if err != nil || gotList != list || gotPosition != position {
			t.Fatalf("got %q %q %v", gotList, gotPosition, err)
		}
	})
}

func TestKeysAreReadBareAndQuoted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"abc": "abc", `"abc"`: "abc", `"a\"b\\c"`: `a"b\c`, ` abc `: "abc", `a"b`: `a"b`, "~!": "~!"} {
		if got, err := api.ParseKey([][]byte{[]byte(text)}); err != nil || got != want {
			t.Errorf("%q is read as %q, %v", text, got, err)
		}
	}
}

func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	for prefer, want := range map[string]time.Duration{
		"": 5 * time.Second, "wait=7": 7 * time.Second, "Wait=7": 7 * time.Second, `wait="7"`: 7 * time.Second, "wait = 7": 7 * time.Second,
		"wait=0": time.Second, "wait=31": 30 * time.Second, "wait=x": 5 * time.Second, "wait=-1": 5 * time.Second, "wait": 5 * time.Second,
		"wait=99999999999999999999": 5 * time.Second, "return=minimal; foo, wait=2": 2 * time.Second,
	} {
		if got := api.PreferredWait(prefer); got != want {
			t.Errorf("%q waits %s, want %s", prefer, got, want)
		}
	}
}

func TestLanguageIsTheMoreWantedOfTwo(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]string{
		"": "en", "ko": "ko", "ko-KR": "ko", "KO-kr": "ko", "en;q=0.5, ko": "ko", "fr, ko;q=0.3, en;q=0.2": "ko", "en-US,en;q=0.9,ko;q=0.8": "en",
		"fr": "en", "*": "en", ";;;": "en", "ko;q=0": "en", strings.Repeat("ko,", 100): "en",
	} {
		if got := api.PreferredLanguage(accept); got != want {
			t.Errorf("%q wants %q, got %q", accept, want, got)
		}
	}
}

func TestTraceIsReadFromItsParent(t *testing.T) {
	t.Parallel()
	for parent, want := range map[string]string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "4bf92f3577b34da6a3ce929d0e0e4736",
		"": "", "00-x": "", "00-00000000000000000000000000000000-00f067aa0ba902b7-01": "", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01": "",
	} {
		if got := api.TraceID(parent); got != want {
			t.Errorf("%q names %q, want %q", parent, got, want)
		}
	}
}

// What goes on to others has the form of version 00, whatever came.
func TestAParentGoesOnInTheFirstForm(t *testing.T) {
	t.Parallel()
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for came, want := range map[string]string{
		parent: parent, "cc" + parent[2:] + "-and-more": parent, "": "", parent[:54]: "", parent[:53] + "\r\n": "", strings.ToUpper(parent): "",
	} {
		if got := api.ParentOf(came); got != want {
			t.Errorf("of %q goes on %q, want %q", came, got, want)
		}
	}
}

// The long form of a decimal agrees with the ledger's where both can write it.
func TestBigDecimalsAreWrittenAsTheLedgerDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		money := ledger.Money{Minor: rapid.Int64().Draw(t, "minor"), Currency: rapid.SampledFrom([]ledger.Currency{"KRW", "USD", "KWD"}).Draw(t, "currency")}
		if money.Minor == -1<<63 {
			return
		}
		if got := api.BigDecimal(big.NewInt(money.Minor), money.Currency); got != money.Decimal() {
			t.Fatalf("got %s, want %s", got, money.Decimal())
		}
	})
	beyond, _ := new(big.Int).SetString("-123456789012345678901234567890", 10)
	if got := api.BigDecimal(beyond, "USD"); got != "-1234567890123456789012345678.90" {
		t.Errorf("got %s", got)
	}
}
