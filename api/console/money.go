package console

import (
	"strings"

	"lockstep/node/ledger"
)

// Amount is money as people read it: grouped digits with the sign of its currency before them or its name after them.
type Amount struct {
	Sign   string // "−", "+" or ""
	Before string
	Digits string
	After  string
	Plain  string // as the API writes it
	Code   string // of the currency
}

// signs are the currencies' own signs. Those of several countries' currencies stay with the one that they are known for.
var signs = map[ledger.Currency]string{"KRW": "₩", "USD": "$", "EUR": "€", "JPY": "¥", "GBP": "£", "VND": "₫", "INR": "₹"}

// koreanNames follow the digits in Korean.
var koreanNames = map[ledger.Currency]string{"KRW": "원", "JPY": "엔"}

// minus is the sign of its own, as wide as the plus.
const minus = "−"

// NewAmount writes an amount of minor units in a language.
func NewAmount(language Language, minor int64, currency ledger.Currency) Amount {
	plain := ledger.Money{Minor: minor, Currency: currency}.Decimal()
	amount := Amount{Plain: plain, Code: string(currency)}
	digits, negative := strings.CutPrefix(plain, "-")
	if negative {
		amount.Sign = minus
	}
	amount.Digits = grouped(digits)
	switch name, sign := koreanNames[currency], signs[currency]; {
	case language == Korean && name != "":
		amount.After = name
	case sign != "":
		amount.Before = sign
	default:
		amount.Before = string(currency) + "\u00a0"
	}
	return amount
}

// Signed writes the plus of a positive amount, too.
func (a Amount) Signed() Amount {
	if a.Sign == "" && strings.Trim(a.Digits, "0.,") != "" {
		a.Sign = "+"
	}
	return a
}

// String is the amount in one piece.
func (a Amount) String() string { return a.Sign + a.Before + a.Digits + a.After }

// grouped puts a comma before every third digit of the whole part.
func grouped(decimal string) string {
	whole, fraction, found := strings.Cut(decimal, ".")
	var text strings.Builder
	for i, digit := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			text.WriteByte(',')
		}
		text.WriteRune(digit)
	}
	if found {
		text.WriteString("." + fraction)
	}
	return text.String()
}
