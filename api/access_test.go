package api_test

import (
	"strings"
	"testing"

	"lockstep/api"
)

// What the file says of a route is what the edge asks for; what it does not say lets nobody in.
func TestAccessIsWhatTheFileDeclares(t *testing.T) {
	t.Parallel()
	const file = `
security: [{oauth: []}]
paths:
  /default: {get: {}}
  /open: {get: {security: []}}
  /one: {get: {security: [{oauth: ['money:read']}]}}
  /both: {get: {security: [{oauth: ['money:read', 'accounts:read']}]}}
  /either: {get: {security: [{oauth: [admin]}, {session: ['money:read']}]}}
  /own: {get: {security: [{session: [session]}]}}
  /peer: {get: {security: [{peer: []}]}}
`
	for path, want := range map[string]string{
		"/default": "", "/open": "open", "/one": "money:read", "/both": "accounts:read+money:read", "/either": "admin|money:read", "/own": "session", "/peer": "peer",
	} {
		if got, err := api.AccessOf(file, "GET", path); err != nil || got != want {
			t.Errorf("%s is for %q, want %q (%v)", path, got, want, err)
		}
	}
	for name, c := range map[string]struct{ security, said string }{
		"a scope that nobody has":   {"[{oauth: ['money:fly']}]", "money:fly"},
		"for callers and for peers": {"[{oauth: [admin]}, {peer: []}]", "not for"},
		"no list":                   {"5", "read the security"},
	} {
		_, err := api.AccessOf(strings.Replace(file, "/open: {get: {security: []}}", "/open: {get: {security: "+c.security+"}}", 1), "GET", "/open")
		if err == nil || !strings.Contains(err.Error(), c.said) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := api.AccessOf(file, "POST", "/open"); err == nil || !strings.Contains(err.Error(), "who may use POST /open") {
		t.Errorf("a route that the file does not know: %v", err)
	}
}
