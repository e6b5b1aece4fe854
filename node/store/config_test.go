package store_test

import (
	"strings"
	"testing"
	"time"

	"lockstep/node/store"
)

func TestTheDefaultIsValidAndRelationsAreChecked(t *testing.T) {
	t.Parallel()
	valid := store.Default()
	valid.System, valid.Source = "alpha", "lockstep@tcp(127.0.0.1:3306)/lockstep"
	must(t, valid.Validate())
	for named, breach := range map[string]func(*store.Config){
		"system":           func(c *store.Config) { c.System = "Alpha" },
		"mysql.source":     func(c *store.Config) { c.Source = "" },
		"logger":           func(c *store.Config) { c.Logger = nil },
		"SourceConnsMax":   func(c *store.Config) { c.SourceConnsMax = 0 },
		"DialMax":          func(c *store.Config) { c.DialMax = 0 },
		"whole seconds":    func(c *store.Config) { c.LockWaitMax = 50 * time.Millisecond },
		"LockWaitMax 5s":   func(c *store.Config) { c.LockWaitMax = 5 * time.Second },
		"StatementMax 6s":  func(c *store.Config) { c.StatementMax = 6 * time.Second },
		"LagMax":           func(c *store.Config) { c.LagMax = time.Second },
		"ReplicaReadMax":   func(c *store.Config) { c.ReplicaReadMax = c.TokenWaitMax },
		"LeaseFor 8s must": func(c *store.Config) { c.LeaseFor = 8 * time.Second },
	} {
		config := valid
		breach(&config)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), named) {
			t.Errorf("a breach that should name %q said: %v", named, err)
		}
	}
}

// The DSN is an operator's line: what is wrong with it is said without its password.
func TestABadDSNIsToldWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"lockstep:hush@tcp(127.0.0.1:1)", "lockstep:hush@tcp(127.0.0.1:1/lockstep", "lockstep:hush@tcp(127.0.0.1:1)/"} {
		config := store.Default()
		config.System, config.Source = "alpha", dsn
		if _, err := store.Open(testContext(t), config); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("the DSN %q gave: %v", dsn, err)
		}
	}
}
