package node_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/node"
)

const sound = `
system: alpha
mysql: {source: "u:p@tcp(127.0.0.1:3306)/lockstep"}
redis: ["127.0.0.1:6379"]
secret: "0123456789012345678901234567890123"
`

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Flags override variables, variables override the file, and the file overrides the defaults.
func TestTheNearestSettingWins(t *testing.T) {
	path := write(t, "node.yaml", sound+"listen: 127.0.0.1:1\nadmin_listen: 127.0.0.1:2\ndrain: 7s\nlocks: off\nearly_release: off\nreads: source\n")
	t.Setenv("LOCKSTEP_LISTEN", "127.0.0.1:3")
	t.Setenv("LOCKSTEP_ADMIN_LISTEN", "127.0.0.1:4")
	t.Setenv("LOCKSTEP_MYSQL_REPLICAS", "a,b")
	t.Setenv("LOCKSTEP_WEBHOOKS_ALLOW", "10.0.0.0/8,127.0.0.1")
	config, err := node.Load(path, map[string]any{"admin_listen": "127.0.0.1:5"})
	if err != nil {
		t.Fatal(err)
	}
	if config.Listen != "127.0.0.1:3" || config.AdminListen != "127.0.0.1:5" {
		t.Errorf("listen %s and admin_listen %s, want the variable's and the flag's", config.Listen, config.AdminListen)
	}
	if config.Drain != 7*time.Second || config.Locks != "off" || config.LogLevel != "info" {
		t.Errorf("drain %v, locks %s, log_level %s", config.Drain, config.Locks, config.LogLevel)
	}
	if config.EarlyRelease != "off" || config.Reads != "source" {
		t.Errorf("early_release %s, reads %s", config.EarlyRelease, config.Reads)
	}
	if !slices.Equal(config.MySQL.Replicas, []string{"a", "b"}) || !slices.Equal(config.Webhooks.Allow, []string{"10.0.0.0/8", "127.0.0.1"}) {
		t.Errorf("replicas %q, webhooks to %q", config.MySQL.Replicas, config.Webhooks.Allow)
	}
}

// Every secret may stand in a file of its own, named by the file or by a variable.
func TestSecretsComeFromFiles(t *testing.T) {
	seal := write(t, "seal", strings.Repeat("s", 40)+"\n")
	source := write(t, "source", "u:p@tcp(h:1)/d\n")
	replicas := write(t, "replicas", "r1\nr2\n")
	path := write(t, "node.yaml", "system: alpha\nredis: [\"127.0.0.1:6379\"]\nsecret_file: "+seal+"\n")
	t.Setenv("LOCKSTEP_MYSQL_SOURCE_FILE", source)
	t.Setenv("LOCKSTEP_MYSQL_REPLICAS_FILE", replicas)
	t.Setenv("LOCKSTEP_PUBLIC_URL", "https://pay.example")
	t.Setenv("LOCKSTEP_OIDC_CLIENT_ID", "x")
	t.Setenv("LOCKSTEP_OIDC_CLIENT_SECRET_FILE", write(t, "oidc", "sesame\n"))
	config, err := node.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if config.Secret != strings.Repeat("s", 40) || config.MySQL.Source != "u:p@tcp(h:1)/d" {
		t.Errorf("secret %q, source %q", config.Secret, config.MySQL.Source)
	}
	if config.OIDC.ClientSecret != "sesame" || config.OIDC.Issuer != "https://accounts.google.com" {
		t.Errorf("the provider is %+v", config.OIDC)
	}
	if !slices.Equal(config.MySQL.Replicas, []string{"r1", "r2"}) {
		t.Errorf("replicas %q", config.MySQL.Replicas)
	}
}

// What cannot work is refused with the name of its key.
func TestUnsoundConfigurationsAreRefusedByName(t *testing.T) {
	for key, text := range map[string]string{
		"colour":             sound + "colour: red\n",
		"system":             strings.Replace(sound, "alpha", "events", 1),
		"secret":             strings.Replace(sound, "0123456789012345678901234567890123", "short", 1),
		"source":             strings.Replace(sound, "source", "sources", 1),
		"locks":              sound + "locks: perhaps\n",
		"early_release":      sound + "early_release: later\n",
		"reads":              sound + "reads: everywhere\n",
		"redis":              strings.Replace(sound, `["127.0.0.1:6379"]`, "[]", 1),
		"currencies":         sound + "currencies: [XXX]\n",
		"drain":              sound + "drain: 2h\n",
		"retention":          sound + "retention: 23h\n",
		"requests":           sound + "requests_max: 0\n",
		"backoff_max":        sound + "nats: {backoff_max: 10ms}\n",
		"public_url":         sound + "oidc: {client_id: x, client_secret: y}\n",
		"oidc.client_secret": sound + "public_url: https://pay.example\noidc: {client_id: x}\n",
		"oidc.client_id":     sound + "public_url: https://pay.example\noidc: {client_secret: x}\n",
		"oidc.issuer":        sound + "public_url: https://pay.example\noidc: {client_id: x, client_secret: y, issuer: \"http://accounts.example\"}\n",
		"webhooks.allow":     sound + "webhooks: {allow: [here]}\n",
		"webhooks.timeout":   sound + "webhooks: {timeout: 1m}\n",
		"webhooks.retry_min": sound + "webhooks: {retry_min: 10s, retry_max: 5s}\n",
		"webhooks.settle":    sound + "webhooks: {settle: 500ms}\n",
		"webhooks.give_up":   sound + "webhooks: {give_up_after: 1s}\n",
		"webhooks.keep":      sound + "webhooks: {keep: 0s}\n",
		"max_deliver":        sound + "nats: {max_deliver: -1}\n",
	} {
		_, err := node.Load(write(t, "node.yaml", text), nil)
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("a configuration with an unsound %s is refused with: %v", key, err)
		}
	}
}
