package api

import (
	"strconv"
	"strings"
	"time"

	bcp47 "golang.org/x/text/language"

	"lockstep/node/ledger"
)

// Bounds of what headers say.
const (
	keyCharactersMax  = 255
	requestIDMax      = 64
	waitDefault       = 5 * time.Second
	waitMin           = time.Second
	waitMax           = 30 * time.Second
	acceptLanguageMax = 200 // bytes; a longer Accept-Language is ignored
)

// parseKey reads the Idempotency-Key, which may be quoted as an RFC 8941 string or bare.
func parseKey(values [][]byte) (string, error) {
	if len(values) == 0 || len(values[0]) == 0 {
		return "", ledger.Refuse(ledger.IdempotencyKeyMissing, "this request needs the header Idempotency-Key, such as a fresh UUID")
	}
	if len(values) > 1 {
		return "", ledger.Refuse(ledger.InvalidRequest, "there is more than one Idempotency-Key")
	}
	key, ok := strings.TrimSpace(string(values[0])), true
	if strings.HasPrefix(key, `"`) {
		key, ok = unquote(key)
	}
	if !ok || len(key) < 1 || len(key) > keyCharactersMax || strings.ContainsFunc(key, invisible) {
		return "", ledger.Refuse(ledger.InvalidRequest, "an Idempotency-Key has 1 to %d visible ASCII characters, bare or in double quotes", keyCharactersMax)
	}
	return key, nil
}

func invisible(r rune) bool { return r <= ' ' || r > '~' }

// unquote reads an RFC 8941 string (3.3.3): a backslash comes before a quote or a backslash only.
func unquote(text string) (string, bool) {
	var plain strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return plain.String(), i == len(text)-1
		case c == '\\':
			i++
			if i == len(text) || (text[i] != '"' && text[i] != '\\') {
				return "", false
			}
			plain.WriteByte(text[i])
		default:
			plain.WriteByte(c)
		}
	}
	return "", false
}

// requestID accepts the caller's id when it is fit to be logged and stored, else it makes one.
func requestID(asked string, fresh func() string) string {
	if asked == "" || len(asked) > requestIDMax {
		return fresh()
	}
	for _, c := range []byte(asked) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return fresh()
		}
	}
	return asked
}

// preferredWait reads the wait preference (RFC 7240, 4.3), kept within its bounds; others are ignored, as there said.
func preferredWait(prefer string) time.Duration {
	for preference := range strings.SplitSeq(prefer, ",") {
		preference, _, _ = strings.Cut(preference, ";")
		name, value, _ := strings.Cut(strings.TrimSpace(preference), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		seconds, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
		if err != nil {
			return waitDefault
		}
		return min(max(time.Duration(seconds)*time.Second, waitMin), waitMax)
	}
	return waitDefault
}

// preferredLanguage is Korean for those who prefer it to English (RFC 9110, 12.5.4), else English.
func preferredLanguage(accept string) language {
	if accept == "" || len(accept) > acceptLanguageMax {
		return english
	}
	tags, _, err := bcp47.ParseAcceptLanguage(accept)
	if err != nil {
		return english
	}
	for _, tag := range tags { // the most wanted first
		switch base, _ := tag.Base(); base.String() {
		case "ko":
			return korean
		case "en":
			return english
		}
	}
	return english
}

// traceID is the trace that a valid traceparent names (W3C Trace Context), for the log.
func traceID(parent string) string {
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || len(parts[0]) != 2 || len(parts[1]) != 32 || !lowerHex(parts[1]) || strings.Trim(parts[1], "0") == "" {
		return ""
	}
	return parts[1]
}

// parentOf is a valid traceparent as it goes on to others, in the form of version 00; else "".
func parentOf(parent string) string {
	const length = len("00-00000000000000000000000000000000-0000000000000000-00")
	if traceID(parent) == "" || len(parent) < length || !lowerHex(strings.ReplaceAll(parent[:length], "-", "")) {
		return ""
	}
	return "00" + parent[2:length]
}

func lowerHex(text string) bool {
	return strings.Trim(text, "0123456789abcdef") == ""
}
