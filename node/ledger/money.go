package ledger

import (
	"strconv"
	"strings"
)

// Bounds in minor units. They leave room below 2^63, so that no checked sum can overflow.
const (
	AmountMax  = 1_000_000_000_000_000     // one amount
	BalanceMax = 9_000_000_000_000_000_000 // posted and promised money of one account
)

// Money is an amount in the minor unit of its currency.
type Money struct {
	Minor    int64
	Currency Currency
}

// ParseMoney reads a positive amount, written as a decimal in the currency's major unit with at most its number of
// decimals: no sign, exponent, blank or superfluous leading zero. It refuses with InvalidAmount.
func ParseMoney(amount, currency string) (Money, error) {
	money, err := parseDecimal(amount, currency)
	if err != nil {
		return Money{}, err
	}
	if money.Minor == 0 {
		return Money{}, Refuse(InvalidAmount, "the amount must be more than zero")
	}
	return money, nil
}

// ParseLimit reads a bound such as an overdraft limit: as ParseMoney, but zero is welcome.
func ParseLimit(amount string, currency Currency) (Money, error) {
	return parseDecimal(amount, string(currency))
}

func parseDecimal(amount, code string) (Money, error) {
	currency, err := ParseCurrency(code)
	if err != nil {
		return Money{}, err
	}
	whole, fraction, point := strings.Cut(amount, ".")
	if !allDigits(whole) || (point && !allDigits(fraction)) || (len(whole) > 1 && whole[0] == '0') {
		return Money{}, Refuse(InvalidAmount, "an amount is a decimal string such as 1500 or 12.34, without sign, exponent or blanks")
	}
	decimals := currency.Decimals()
	if len(fraction) > decimals {
		return Money{}, Refuse(InvalidAmount, "%s has at most %d decimals", currency, decimals)
	}
	digits := whole + fraction + strings.Repeat("0", decimals-len(fraction))
	minor, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || minor > AmountMax {
		return Money{}, Refuse(InvalidAmount, "one amount is at most %s", Money{AmountMax, currency})
	}
	return Money{Minor: minor, Currency: currency}, nil
}

// Decimal writes the amount in the major unit with all decimals of the currency.
func (m Money) Decimal() string {
	sign, digits := "", strconv.FormatInt(m.Minor, 10)
	if m.Minor < 0 {
		sign, digits = "-", digits[1:]
	}
	decimals := m.Currency.Decimals()
	if decimals == 0 {
		return sign + digits
	}
	if short := decimals + 1 - len(digits); short > 0 {
		digits = strings.Repeat("0", short) + digits
	}
	point := len(digits) - decimals
	return sign + digits[:point] + "." + digits[point:]
}

func (m Money) String() string { return m.Decimal() + " " + string(m.Currency) }
