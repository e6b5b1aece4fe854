package ledger_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lockstep/node/ledger"
)

func systems() *rapid.Generator[string] {
	return rapid.StringMatching(`[a-z][a-z0-9]{1,15}`).Filter(ledger.ValidSystem)
}

func serials() *rapid.Generator[ledger.AccountID] {
	return rapid.Map(rapid.Int64Range(1, 999_999_999_999), func(n int64) ledger.AccountID { return ledger.AccountID(n) })
}

func TestNumberTellsItsSystemAndSerial(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		system, serial := systems().Draw(t, "system"), serials().Draw(t, "serial")
		number := ledger.NewNumber(system, serial)
		read, err := ledger.ParseNumber(string(number))
		if err != nil || read != number || read.System() != system || read.Serial() != serial {
			t.Fatalf("%s reads as %s of %s %d, %v", number, read, read.System(), read.Serial(), err)
		}
	})
}

// Any one wrong digit, any two neighbours exchanged and any one wrong letter of the system are noticed.
func TestCheckDigitsNoticeTypingErrors(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		number := string(ledger.NewNumber(systems().Draw(t, "system"), serials().Draw(t, "serial")))
		at := rapid.IntRange(0, len(number)-2).Draw(t, "at")
		typed := []byte(number)
		if rapid.Bool().Draw(t, "exchange") && number[at] != '-' && number[at+1] != '-' && isDigit(number[at]) == isDigit(number[at+1]) {
			typed[at], typed[at+1] = typed[at+1], typed[at]
		} else if isDigit(number[at]) {
			typed[at] = '0' + (number[at]-'0'+byte(rapid.IntRange(1, 9).Draw(t, "by")))%10
		} else if number[at] != '-' {
			typed[at] = 'a' + (number[at]-'a'+byte(rapid.IntRange(1, 25).Draw(t, "by")))%26
		}
		if _, err := ledger.ParseNumber(string(typed)); string(typed) != number && err == nil {
			t.Fatalf("%s was typed as %s and not noticed", number, typed)
		}
	})
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// The canonical order of the locks in Redis is the order in which rows lock in SQL.
func TestTextOrderIsSerialOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		system, a, b := systems().Draw(t, "system"), serials().Draw(t, "a"), serials().Draw(t, "b")
		if (ledger.NewNumber(system, a) < ledger.NewNumber(system, b)) != (a < b) {
			t.Fatalf("%d and %d of %s change places", a, b, system)
		}
	})
}

func TestWhatIsNoNumberIsRefused(t *testing.T) {
	t.Parallel()
	good := string(ledger.NewNumber("alpha", 1000))
	if good != "alpha-00000000100042" {
		t.Errorf("the first account is %s", good)
	}
	for _, text := range []string{
		"", "-", "cash", "alpha", "alpha-", "-00000000100042", "alpha-0000000010004", "alpha-000000001000420", "Alpha-00000000100042",
		"alpha-00000000000095", " " + good, good + " ", good + "\n", "alpha_00000000100042", "alpha-0000000010004２", "events-00000000100042", "a-00000000100042",
		strings.Repeat("a", 17) + "-00000000100042", "alpha-+0000000100042", "alpha-0x000000100042",
	} {
		if number, err := ledger.ParseNumber(text); ledger.CodeOf(err) != ledger.InvalidRequest {
			t.Errorf("%q reads as %s, %v", text, number, err)
		}
	}
}

// 01 and 98 leave the same remainder, as do 00 and 97, 02 and 99; two spellings of one account would be two accounts to
// every rule that compares numbers.
func TestNumberHasOneSpelling(t *testing.T) {
	t.Parallel()
	for serial := ledger.AccountID(0); serial < 300; serial++ {
		accepted := 0
		for digits := range 100 {
			if _, err := ledger.ParseNumber(fmt.Sprintf("alpha-%012d%02d", serial, digits)); err == nil {
				accepted++
			}
		}
		if want := min(int(serial), 1); accepted != want {
			t.Errorf("serial %d has %d numbers", serial, accepted)
		}
	}
}

func FuzzParseNumber(f *testing.F) {
	for _, seed := range []string{"alpha-00000000100042", "beta-00000000100093", "a0-89999999999901", "a1-99999999999901", "alpha-", "cash", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		number, err := ledger.ParseNumber(text)
		if err != nil {
			if ledger.CodeOf(err) != ledger.InvalidRequest {
				t.Errorf("%q is refused with %v", text, err)
			}
			return
		}
		if again := ledger.NewNumber(number.System(), number.Serial()); again != number || string(number) != text {
			t.Errorf("%q reads as %s, which is written %s", text, number, again)
		}
	})
}

// Stripes of different lanes, systems accounts and currencies never share a row, and tell what they are of.
func TestStripesAreApart(t *testing.T) {
	t.Parallel()
	seen := map[ledger.AccountID]string{}
	for _, lane := range []ledger.Lane{{Node: 1}, {Node: 1, Lane: 1}, {Node: 2}, {Node: 99_999, Lane: 99}} {
		for _, system := range []ledger.AccountID{ledger.CashSerial, ledger.SuspenseSerial, 999} {
			for _, currency := range []ledger.Currency{"KRW", "USD", "ALL", "ZMW"} {
				id := lane.Stripe(system, currency)
				if other := seen[id]; other != "" || !(&ledger.Account{ID: id}).Stripe() {
					t.Errorf("%v %d %s is %d, and so is %s", lane, system, currency, id, other)
				}
				seen[id] = "another"
				if ofSystem, ofCurrency := ledger.StripeOf(id); ofSystem != system || ofCurrency != currency {
					t.Errorf("stripe %d of %d %s says %d %s", id, system, currency, ofSystem, ofCurrency)
				}
			}
		}
	}
	if system, _ := ledger.StripeOf(999_999_999_999); system != 0 {
		t.Error("an account is taken for a stripe")
	}
}
