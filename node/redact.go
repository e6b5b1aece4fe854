package node

import (
	"log/slog"
	"regexp"
	"slices"
	"strings"
)

const redacted = "[redacted]"

// secretKeys are names under which nothing is logged, whatever it is.
var secretKeys = []string{
	"password", "secret", "client_secret", "token", "access_token", "refresh_token", "id_token", "authorization", "cookie", "dsn",
}

// secretForms find secrets inside texts, such as errors of libraries, which nobody has asked whether they quote one.
var secretForms = []struct {
	form *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}`), redacted},                                    // a JWT (RFC 7519)
	{regexp.MustCompile(`(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}`), "$1 " + redacted},                               // of an Authorization header
	{regexp.MustCompile(`([\w.-]+):[^@\s/]+@(tcp|unix)\(`), "$1:" + redacted + "@$2("},                            // a DSN of MySQL
	{regexp.MustCompile(`://([^:/@\s]*):[^@/\s]+@`), "://$1:" + redacted + "@"},                                   // a URL with credentials
	{regexp.MustCompile(`(?i)\b(password|[a-z_]*secret|[a-z]+_token|code_verifier)=[^&\s"']+`), "$1=" + redacted}, // a form
	{regexp.MustCompile(`(?i)\b(code|state|nonce)=[^&\s"']{16,}`), "$1=" + redacted},                              // an address of a login
	{regexp.MustCompile(`(?i)\b(lockstep_[a-z0-9]+_(?:access|refresh|login))=[^;\s"']+`), "$1=" + redacted},       // a cookie
}

// shortestSecret is what no secret of ours is shorter than; shorter texts are left alone.
const shortestSecret = 12

// redact keeps secrets out of a log: it is a handler's ReplaceAttr. It is the second guard: what logs should not name
// secrets, and a test that reads all logs looks for those that do.
func redact(_ []string, attr slog.Attr) slog.Attr {
	if slices.Contains(secretKeys, strings.ToLower(attr.Key)) {
		return slog.String(attr.Key, redacted)
	}
	switch value := attr.Value; value.Kind() {
	case slog.KindString:
		attr.Value = slog.StringValue(withoutSecrets(value.String()))
	case slog.KindAny:
		if err, is := value.Any().(error); is && err != nil {
			attr.Value = slog.StringValue(withoutSecrets(err.Error()))
		}
	}
	return attr
}

func withoutSecrets(text string) string {
	if len(text) < shortestSecret {
		return text
	}
	for _, secret := range secretForms {
		text = secret.form.ReplaceAllString(text, secret.with)
	}
	return text
}
