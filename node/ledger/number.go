package ledger

import (
	"slices"
	"strconv"
	"strings"
)

// AccountID is an account's row id within its system: the serial of an ordinary or a system account, or the computed
// id of a stripe. Ascending ids are the canonical order in which rows are locked.
type AccountID int64

// The ranges of account ids.
const (
	systemSerialsMax = 1_000             // serials below belong to the system's own accounts
	serialsMax       = 1_000_000_000_000 // serials have at most 12 digits
	stripeIDsMin     = 10_000_000_000_000
)

// Number is an account's public number, `<system>-<12 digit serial><2 check digits>`. The check digits follow ISO 7064
// MOD 97-10 over system and serial with letters counted as 10 to 35, so that a mistyped system is noticed as well.
type Number string

// NewNumber makes the number of the account with this serial. It panics on a serial out of range, which only our own
// code can cause.
func NewNumber(system string, serial AccountID) Number {
	if serial < 1 || serial >= serialsMax {
		panic("ledger: NewNumber: serial out of range: " + strconv.FormatInt(int64(serial), 10))
	}
	var room [numberMax]byte // every request makes some numbers, so this does without fmt
	text := append(append(room[:0], system...), '-')
	for unit := AccountID(serialsMax / 10); unit > 0; unit /= 10 {
		text = append(text, '0'+byte(serial/unit%10))
	}
	check := 98 - remainder97(text)*100%97 // as if 00 stood behind
	return Number(append(text, '0'+byte(check/10), '0'+byte(check%10)))
}

// numberMax is the length of the longest number.
const numberMax = 16 + 1 + 14

// ParseNumber checks the form and the check digits of an account number; it refuses with InvalidRequest.
func ParseNumber(text string) (Number, error) {
	system, digits, found := strings.Cut(text, "-")
	if !found || !ValidSystem(system) || len(digits) != 14 || !allDigits(digits) {
		return "", Refuse(InvalidRequest, "an account number looks like alpha-00000000100042: a system, 12 digits and 2 check digits")
	}
	number := Number(text)
	if number.Serial() < 1 {
		return "", Refuse(InvalidRequest, "there is no account number with the serial 0")
	}
	// Not by the remainder: 01 and 98 leave the same, and an account must have one number only.
	if NewNumber(system, number.Serial()) != number {
		return "", Refuse(InvalidRequest, "the check digits of the account number do not fit; please look for a typing error")
	}
	return number, nil
}

// System tells which payment system keeps the account.
func (n Number) System() string {
	system, _, _ := strings.Cut(string(n), "-")
	return system
}

// Serial tells the account's serial within its system; 0 for a text that is no number.
func (n Number) Serial() AccountID {
	_, digits, found := strings.Cut(string(n), "-")
	if !found || len(digits) != 14 {
		return 0
	}
	serial, err := strconv.ParseInt(digits[:12], 10, 64)
	if err != nil {
		return 0
	}
	return AccountID(serial)
}

// reservedSystems would be taken for something else in the subjects of events: `events` and `peer`, and where dead letters and
// their replays go.
var reservedSystems = []string{"dead", "events", "peer", "replay"}

// ValidSystem tells whether id may name a payment system: [a-z][a-z0-9]{1,15}, except the reserved words.
func ValidSystem(id string) bool {
	if len(id) < 2 || len(id) > 16 || slices.Contains(reservedSystems, id) || id[0] < 'a' || id[0] > 'z' {
		return false
	}
	for _, c := range []byte(id) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

func allDigits(text string) bool {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return text != ""
}

// remainder97 reads letters as 10 to 35, digits as themselves and the hyphen as nothing.
func remainder97(text []byte) int {
	remainder := 0
	for _, c := range text {
		switch {
		case c >= 'a':
			remainder = (remainder*100 + int(c-'a') + 10) % 97
		case c != '-':
			remainder = (remainder*10 + int(c-'0')) % 97
		}
	}
	return remainder
}
