package node_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"lockstep/node"
)

// What libraries and mistakes put into a log line has no secret in it any more, and the rest of the line is there.
func TestLogsHaveNoSecrets(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-s3cr3t-s3cr3t"
	const token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1c2VyOmFsaWNlIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ"
	for text, rest := range map[string]string{
		"cannot read " + token + " here":                                       "here",
		"Authorization: Bearer " + secret + " was sent":                        "was sent",
		"Basic " + secret + "== was sent":                                      "was sent",
		"lockstep:" + secret + "@tcp(127.0.0.1:3306)/lockstep: refused":        "@tcp(127.0.0.1:3306)/lockstep: refused",
		"dial nats://alpha:" + secret + "@127.0.0.1:4222: refused":             "@127.0.0.1:4222: refused",
		"post grant_type=x&client_secret=" + secret + "&scope=y":               "&scope=y",
		"password=" + secret + " is wrong":                                     "is wrong",
		"refresh_token=" + secret + " is wrong":                                "is wrong",
		"GET /v1/auth/google/callback?code=" + secret + "&iss=z":               "&iss=z",
		"GET /v1/auth/google/callback?iss=z&state=" + secret:                   "iss=z",
		"Cookie: __Host-lockstep_alpha_refresh=" + secret + "; wallet_lang=ko": "wallet_lang=ko",
	} {
		for name, value := range map[string]any{"text": text, "error": fmt.Errorf("wrapped: %w", errors.New(text))} {
			var log bytes.Buffer
			node.NewLogger(&log).Warn("something", name, value)
			if line := log.String(); strings.Contains(line, secret) || strings.Contains(line, "eyJ") || !strings.Contains(line, strings.ReplaceAll(rest, "&", `\u0026`)) && !strings.Contains(line, rest) {
				t.Errorf("%s %q is logged as %s", name, text, line)
			}
			log.Reset()
			node.NewLogger(&log).Warn(text)
			if line := log.String(); strings.Contains(line, secret) || strings.Contains(line, "eyJ") {
				t.Errorf("the message %q is logged as %s", text, line)
			}
		}
	}
	var log bytes.Buffer
	node.NewLogger(&log).With("Password", "short").Warn("x", "dsn", 5, "code", "insufficient_funds", "count", 7, "error", nil)
	for _, want := range []string{`"Password":"[redacted]"`, `"dsn":"[redacted]"`, `"code":"insufficient_funds"`, `"count":7`, `"error":null`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is not in %s", want, log.String())
		}
	}
}
