package ledger_test

import (
	"math/big"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"lockstep/node/ledger"
)

func currencies() *rapid.Generator[ledger.Currency] {
	return rapid.SampledFrom([]ledger.Currency{"KRW", "USD", "KWD", "JPY", "EUR"})
}

func amounts() *rapid.Generator[int64] { return rapid.Int64Range(1, ledger.AmountMax) }

func TestMoneyReadsWhatItWrote(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		money := ledger.Money{Minor: amounts().Draw(t, "minor"), Currency: currencies().Draw(t, "currency")}
		if read, err := ledger.ParseMoney(money.Decimal(), string(money.Currency)); err != nil || read != money {
			t.Fatalf("%s reads as %s, %v", money, read, err)
		}
	})
}

func TestAmountsAreReadExactly(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]ledger.Money{
		"1500 KRW": {Minor: 1500, Currency: "KRW"}, "12.34 USD": {Minor: 1234, Currency: "USD"}, "12.3 USD": {Minor: 1230, Currency: "USD"}, "12 USD": {Minor: 1200, Currency: "USD"},
		"0.001 KWD": {Minor: 1, Currency: "KWD"}, "0.01 USD": {Minor: 1, Currency: "USD"}, "1000000000000000 KRW": {Minor: ledger.AmountMax, Currency: "KRW"},
		"10000000000000.00 USD": {Minor: ledger.AmountMax, Currency: "USD"},
	} {
		amount, currency, _ := strings.Cut(text, " ")
		if got, err := ledger.ParseMoney(amount, currency); err != nil || got != want {
			t.Errorf("%s reads as %+v, %v", text, got, err)
		}
	}
}

func TestWhatIsNoAmountIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "0", "0.00", "-1", "+1", "1e3", "1E3", "0x10", "1_000", "1,000", " 1", "1 ", "1\n", "01", "00.1", ".5", "5.", "1.2.3", "1.234", "1.", "NaN", "Inf", "٣", "１",
		"10000000000000.01", "9223372036854775807", "9223372036854775808", "99999999999999999999999999", strings.Repeat("9", 5000),
	} {
		if got, err := ledger.ParseMoney(text, "USD"); ledger.CodeOf(err) != ledger.InvalidAmount {
			t.Errorf("%.30q reads as %v, %v", text, got, err)
		}
	}
	if got, err := ledger.ParseMoney("1.0", "KRW"); ledger.CodeOf(err) != ledger.InvalidAmount {
		t.Errorf("KRW has no decimals, got %v, %v", got, err)
	}
	for _, currency := range []string{"", "krw", "KRWW", "XXX", "XAU", "XTS"} {
		if got, err := ledger.ParseMoney("1", currency); ledger.CodeOf(err) != ledger.InvalidRequest {
			t.Errorf("%q is a currency of %v, %v", currency, got, err)
		}
	}
	if zero, err := ledger.ParseLimit("0", "USD"); err != nil || zero.Minor != 0 {
		t.Errorf("a limit of nothing is %v, %v", zero, err)
	}
}

// What is read is exactly what a big rational says, and of the one form that is allowed.
func FuzzParseMoney(f *testing.F) {
	for _, seed := range []string{"1500", "12.34", "0.001", "1e3", "-1", "1000000000000000", "9223372036854775808", "00", "1."} {
		f.Add(seed, "USD")
		f.Add(seed, "KWD")
		f.Add(seed, "KRW")
	}
	form := regexp.MustCompile(`^(0|[1-9][0-9]*)(\.[0-9]+)?$`)
	f.Fuzz(func(t *testing.T, amount, currency string) {
		money, err := ledger.ParseMoney(amount, currency)
		if err != nil {
			if code := ledger.CodeOf(err); code != ledger.InvalidAmount && code != ledger.InvalidRequest {
				t.Errorf("%q %q is refused with %v", amount, currency, err)
			}
			return
		}
		exact, ok := new(big.Rat).SetString(amount)
		if !ok || !form.MatchString(amount) || money.Minor < 1 || money.Minor > ledger.AmountMax {
			t.Fatalf("%q %q reads as %+v", amount, currency, money)
		}
		scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(money.Currency.Decimals())), nil)
		if exact.Mul(exact, new(big.Rat).SetInt(scale)).Cmp(new(big.Rat).SetInt64(money.Minor)) != 0 {
			t.Errorf("%q %s reads as %d", amount, currency, money.Minor)
		}
	})
}
