// Package node is one running node of a payment system: it puts the edge, the engine and the store together. Programs and
// tests start the same node.
package node

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"time"
	_ "time/tzdata" // of machines that bring none

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"

	"lockstep/api"
	"lockstep/api/auth"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
)

// Config is what an operator decides about a node. One YAML file holds it; variables LOCKSTEP_... and then flags override
// the file.
type Config struct {
	System        string             `koanf:"system"` // id of the payment system
	Listen        string             `koanf:"listen"` // host:port of the REST listener
	ListenTLS     ListenTLS          `koanf:"listen_tls"`
	AdminListen   string             `koanf:"admin_listen"` // host:port of metrics and profiles; keep it private
	MySQL         MySQL              `koanf:"mysql"`
	Redis         []string           `koanf:"redis"` // independent lock servers, three or five
	RedisAccess   RedisAccess        `koanf:"redis_access"`
	NATS          NATS               `koanf:"nats"`
	Peers         Peers              `koanf:"peers"`
	Webhooks      Webhooks           `koanf:"webhooks"`
	Secret        string             `koanf:"secret"`        // seals the signing keys; at least 32 characters
	Locks         string             `koanf:"locks"`         // on, or off for tests and benchmarks
	EarlyRelease  string             `koanf:"early_release"` // on: locks go once the rows are locked; off, after COMMIT, for benchmarks
	Reads         string             `koanf:"reads"`         // replica, or source for benchmarks: then replicas are not used at all
	Currencies    []string           `koanf:"currencies"`
	TimeZone      string             `koanf:"time_zone"`     // an IANA name: in it the days of daily limits begin; the same on every node
	PublicURL     string             `koanf:"public_url"`    // the address that people type; https, or http on 127.0.0.1
	Registrations int                `koanf:"registrations"` // of new people, from one address at once and again every hour
	Proxies       []string           `koanf:"proxies"`       // addresses or networks of the balancers, which say where a request comes from
	OIDC          OIDC               `koanf:"oidc"`
	RateLimits    RateLimits         `koanf:"rate_limits"`
	RequestsMax   int                `koanf:"requests_max"` // changes, and as many reads, in hand at a time; more are refused as overloaded
	Retention     time.Duration      `koanf:"retention"`    // idempotency keys are kept for this long after their answer, at least 24h
	Drain         time.Duration      `koanf:"drain"`        // readyz is red for this long before the listener closes
	LogLevel      string             `koanf:"log_level"`
	Traces        Traces             `koanf:"traces"`
	AllowUnsafe   bool               `koanf:"allow_unsafe"` // start on weak database settings: never with real money
	Faults        map[string]float64 `koanf:"faults"`       // fault points by probability, and clock_ahead in seconds; builds with the tag faults only
}

// MySQL names the data sources: `user:password@tcp(host:port)/database`, without parameters.
type MySQL struct {
	TLS      `koanf:",squash"`
	Source   string   `koanf:"source"`   // account without DDL rights
	Replicas []string `koanf:"replicas"` // account that only reads
	Migrate  string   `koanf:"migrate"`  // account that may change the schema; only `lockstep migrate` needs it
	// Addresses of all servers that may be promoted, the source's own among them, where its account is known too. A node
	// takes the one that accepts writes in the highest epoch, and notices within a second when that is another one.
	Candidates []string `koanf:"candidates"`
}

// RedisAccess is what all lock servers ask for.
type RedisAccess struct {
	TLS      `koanf:",squash"`
	Username string `koanf:"username"` // of an ACL; empty: the default user
	Password string `koanf:"password"` // empty: none is asked for
}

// RateLimits are requests a second to one route, of which two seconds' worth may come at once; 0 is without limit.
type RateLimits struct {
	Client  int `koanf:"client"`  // of one program
	Person  int `koanf:"person"`  // of one person, in all of their sessions
	Address int `koanf:"address"` // of one address: to a route that is open to everybody, and with credentials that are refused
}

// NATS names the broker that carries events between systems. Without an address a system publishes nothing, and its
// transfers to others end by inquiries alone.
type NATS struct {
	TLS        `koanf:",squash"`
	URL        string        `koanf:"url"` // nats://host:port, several separated by commas
	User       string        `koanf:"user"`
	Password   string        `koanf:"password"`
	Replicas   int           `koanf:"replicas"`    // of each stream: 1, or 3 with three brokers
	MaxDeliver int           `koanf:"max_deliver"` // deliveries of a message, or failed publications, before an operator has to look at it; 0 is the bus's own
	BackoffMax time.Duration `koanf:"backoff_max"` // the longest pause before what could not be published is tried again
}

// Peers bounds transfers to and from other systems.
type Peers struct {
	TLS         `koanf:",squash"` // on: https alone, with tls_ca as the only authority; off: as each peer's address says
	Authorities []string          `koanf:"authorities"` // host:port under which other systems call this one
	ExpiresIn   time.Duration     `koanf:"expires_in"`  // a transfer that was not promised by then is given up
	LookAfter   time.Duration     `koanf:"look_after"`  // another node goes on with a transfer after so long; also the longest pause
	AskAfter    time.Duration     `koanf:"ask_after"`   // a promise that nobody has decided by then is asked about
	StuckAfter  time.Duration     `koanf:"stuck_after"` // operators are told of what is older
}

// OIDC names the OpenID provider that people sign in at; without a client id there is none. The system has to be registered
// there with one redirect address: public_url followed by /v1/auth/google/callback.
type OIDC struct {
	Issuer       string `koanf:"issuer"` // as the provider's discovery document says it
	ClientID     string `koanf:"client_id"`
	ClientSecret string `koanf:"client_secret"`
	Prompt       string `koanf:"prompt"` // what the provider is to ask somebody it knows, such as which account to use
}

// Traces names the collector that spans are sent to, by OTLP over HTTP; without an endpoint there are none. Exporters' variables
// OTEL_EXPORTER_OTLP_HEADERS and OTEL_EXPORTER_OTLP_CERTIFICATE count.
type Traces struct {
	Endpoint string  `koanf:"endpoint"` // base address, such as http://127.0.0.1:4318
	Sample   float64 `koanf:"sample"`   // share of requests without a traceparent that are traced, 0 to 1; a traceparent says it itself
}

// Default is what a configuration file may leave out.
func Default() Config {
	return Config{
		MySQL: MySQL{TLS: TLS{On: "off"}}, RedisAccess: RedisAccess{TLS: TLS{On: "off"}},
		Listen: "127.0.0.1:8081", AdminListen: "127.0.0.1:9081", Locks: "on", EarlyRelease: "on", Reads: "replica", LogLevel: "info", TimeZone: "UTC",
		Currencies: []string{"KRW", "USD", "EUR", "JPY", "KWD"}, Drain: 2 * time.Second,
		OIDC:      OIDC{Issuer: "https://accounts.google.com", Prompt: "select_account"},
		Retention: store.DefaultRetention().Keep, NATS: NATS{TLS: TLS{On: "off"}, Replicas: 1, BackoffMax: 5 * time.Minute},
		Peers:       Peers{TLS: TLS{On: "off"}, ExpiresIn: 15 * time.Second, LookAfter: 5 * time.Second, AskAfter: 20 * time.Second, StuckAfter: 5 * time.Minute},
		Webhooks:    defaultWebhooks(),
		Traces:      Traces{Sample: 0.01},
		RequestsMax: api.RequestsMaxDefault, RateLimits: RateLimits{Client: 1000, Person: 20, Address: 50}, Registrations: 60,
	}
}

const (
	secretCharsMin = 32
	backoffMin     = time.Second // the first pause
	rateMax        = 1_000_000   // requests a second
)

// Validate refuses a configuration that a node could not run with; every message names the key.
func (c Config) Validate() error {
	switch {
	case !ledger.ValidSystem(c.System):
		return fmt.Errorf("system: %q must match [a-z][a-z0-9]{1,15} and not be `events` or `peer`", c.System)
	case c.MySQL.Source == "":
		return errors.New("mysql.source: the data source name of the writing database is missing")
	case len(c.Secret) < secretCharsMin:
		return fmt.Errorf("secret: at least %d characters, which `openssl rand -base64 33` makes", secretCharsMin)
	case c.Locks != "on" && c.Locks != "off":
		return fmt.Errorf("locks: %q must be on or off", c.Locks)
	case c.EarlyRelease != "on" && c.EarlyRelease != "off":
		return fmt.Errorf("early_release: %q must be on or off", c.EarlyRelease)
	case c.Reads != "replica" && c.Reads != "source":
		return fmt.Errorf("reads: %q must be replica or source", c.Reads)
	case c.Locks == "on" && len(c.Redis) == 0:
		return errors.New("redis: name the lock servers, three or five, or set locks: off")
	case c.RequestsMax < 1 || c.RequestsMax > posting.DefaultConfig().QueueMax: // the engine's queue holds them all
		return fmt.Errorf("requests_max: between 1 and %d", posting.DefaultConfig().QueueMax)
	case c.Drain < 0 || c.Drain > time.Minute:
		return errors.New("drain: between 0s and 1m")
	case len(c.Currencies) == 0:
		return errors.New("currencies: name at least one ISO 4217 code")
	}
	return c.validateParts()
}

// validateParts refuses what is out of bounds or unreadable.
func (c Config) validateParts() error {
	if err := c.remit().Validate(); err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	if pause := c.NATS.BackoffMax; pause < backoffMin || pause > time.Hour {
		return fmt.Errorf("nats.backoff_max: between %v and 1h", backoffMin)
	}
	if l := c.RateLimits; min(l.Client, l.Person, l.Address) < 0 || max(l.Client, l.Person, l.Address) > rateMax {
		return fmt.Errorf("rate_limits: between 0, which is without limit, and %d a second", rateMax)
	}
	if c.NATS.MaxDeliver < 0 {
		return errors.New("nats.max_deliver: at least 1, or 0 for the default")
	}
	if err := c.retention().Validate(); err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	if c.Registrations < 1 || c.Registrations > 1_000_000 {
		return errors.New("registrations: between 1 and 1000000")
	}
	if err := api.CheckPublicURL(c.PublicURL); err != nil {
		return fmt.Errorf("public_url: %w", err)
	}
	if _, err := c.proxies(); err != nil {
		return fmt.Errorf("proxies: %w", err)
	}
	for _, code := range c.Currencies {
		if _, err := ledger.ParseCurrency(code); err != nil {
			return fmt.Errorf("currencies: %q is no ISO 4217 code", code)
		}
	}
	if len(c.Faults) > 0 && !faultsBuilt {
		return errors.New("faults: this build has no fault points; they need the build tag `faults`")
	}
	if _, err := time.LoadLocation(c.TimeZone); err != nil || c.TimeZone == "" || c.TimeZone == "Local" {
		return fmt.Errorf("time_zone: %q is no IANA name such as Asia/Seoul", c.TimeZone)
	}
	return c.validateRooms()
}

// validateRooms refuses what is wrong in a section of its own.
func (c Config) validateRooms() error {
	if err := c.validateTLS(); err != nil {
		return err
	}
	if err := c.validateOIDC(); err != nil {
		return err
	}
	if _, err := c.Webhooks.config(); err != nil {
		return err
	}
	if err := c.traces().Validate(); err != nil {
		return fmt.Errorf("traces.%w", err)
	}
	return posting.DefaultConfig().Validate()
}

// zone is the time zone, which was checked before.
func (c Config) zone() *time.Location {
	zone, _ := time.LoadLocation(c.TimeZone)
	return zone
}

// proxies reads the networks of the balancers.
func (c Config) proxies() ([]netip.Prefix, error) {
	return networks(c.Proxies)
}

func (c Config) validateOIDC() error {
	switch {
	case c.OIDC.ClientID == "" && c.OIDC.ClientSecret == "":
		return nil
	case c.PublicURL == "":
		return errors.New("public_url: the provider has to know where to send people back to")
	}
	if err := c.oidc().Validate(); err != nil {
		return fmt.Errorf("oidc.%w", err)
	}
	return nil
}

// oidc is what the provider knows the system by.
func (c Config) oidc() auth.OIDCConfig {
	return auth.OIDCConfig{
		Issuer: c.OIDC.Issuer, ClientID: c.OIDC.ClientID, ClientSecret: c.OIDC.ClientSecret, Prompt: c.OIDC.Prompt,
		RedirectURL: strings.TrimSuffix(c.PublicURL, "/") + api.CallbackPath,
	}
}

// web is how browsers reach the system; the configuration was checked before.
func (c Config) web() api.Web {
	proxies, _ := c.proxies()
	return api.Web{PublicURL: c.PublicURL, Proxies: proxies}
}

func (c Config) retention() store.Retention {
	retention := store.DefaultRetention()
	retention.Keep = c.Retention
	return retention
}

// Load reads a configuration file and what overrides it. Overrides are keys as in the file, with dots between levels.
func Load(path string, overrides map[string]any) (Config, error) {
	k := koanf.New(".")
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return Config{}, fmt.Errorf("read configuration %s: %w", path, err)
	}
	if err := k.Load(env.Provider(".", env.Opt{Prefix: "LOCKSTEP_", TransformFunc: variable}), nil); err != nil {
		return Config{}, fmt.Errorf("read LOCKSTEP_ variables: %w", err)
	}
	if err := k.Load(confmap.Provider(overrides, "."), nil); err != nil {
		return Config{}, fmt.Errorf("apply flags: %w", err)
	}
	if err := readSecrets(k); err != nil {
		return Config{}, err
	}
	config := Default()
	decoder := &mapstructure.DecoderConfig{
		ErrorUnused: true, WeaklyTypedInput: true, Result: &config, TagName: "koanf",
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			switchWords, mapstructure.StringToTimeDurationHookFunc(), mapstructure.StringToSliceHookFunc(",")),
	}
	if err := k.UnmarshalWithConf("", &config, koanf.UnmarshalConf{Tag: "koanf", DecoderConfig: decoder}); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	if err := config.Validate(); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	if err := config.MySQL.secure(); err != nil {
		return Config{}, fmt.Errorf("configuration %s: mysql.%w", path, err)
	}
	return config, nil
}

// switchWords undoes YAML 1.1, which reads the words on and off as booleans.
func switchWords(from, to reflect.Type, data any) (any, error) {
	if from.Kind() == reflect.Bool && to.Kind() == reflect.String {
		if data.(bool) {
			return "on", nil
		}
		return "off", nil
	}
	return data, nil
}

// variable maps LOCKSTEP_MYSQL_SOURCE to mysql.source; keys of the top level keep their underscores. Those that name an
// operator's client are for commands that ask a node over REST; they are no part of the configuration.
func variable(key, value string) (string, any) {
	key = strings.ToLower(strings.TrimPrefix(key, "LOCKSTEP_"))
	if key == "client_id" || key == "client_secret" || key == "client_secret_file" {
		return "", nil
	}
	for _, section := range []string{"listen_tls", "mysql", "nats", "oidc", "peers", "rate_limits", "redis_access", "traces", "webhooks"} {
		if rest, found := strings.CutPrefix(key, section+"_"); found {
			return section + "." + rest, value
		}
	}
	return key, value
}

// readSecrets takes the secrets that stand in files of their own: a key with _file names such a file.
func readSecrets(k *koanf.Koanf) error {
	for _, key := range []string{"secret", "nats.password", "redis_access.password", "oidc.client_secret", "mysql.source", "mysql.replicas", "mysql.migrate"} {
		path := k.String(key + "_file")
		if path == "" {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("%s_file: %w", key, err)
		}
		lines := strings.Join(strings.Fields(string(content)), ",") // replicas stand one to a line
		if err := k.Set(key, lines); err != nil {
			return fmt.Errorf("%s_file: %w", key, err)
		}
		k.Delete(key + "_file")
	}
	return nil
}
