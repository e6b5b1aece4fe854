package broker

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Config is what an operator decides about one server. Its file is YAML, or JSON, which is YAML too.
type Config struct {
	Name     string   `yaml:"name"`              // unique among the servers of a cluster
	Host     string   `yaml:"host"`              // where clients connect
	Port     int      `yaml:"port"`              // 0 is 4222; -1 picks a free one, which URL tells
	StoreDir string   `yaml:"store_dir"`         // where the streams are; of this server alone
	Monitor  string   `yaml:"monitor,omitempty"` // host:port of /healthz and /varz, without a password: keep it private
	Systems  []System `yaml:"systems"`           // who may connect
	Cluster  *Cluster `yaml:"cluster,omitempty"` // nil is a server on its own
	TLS      *TLS     `yaml:"tls,omitempty"`     // nil serves clients in clear: on loopback or a private network only
}

// System is a payment system that may connect, as the user of its id.
type System struct {
	ID       string `yaml:"id"`
	Password string `yaml:"password"`            // in clear, or hashed by bcrypt; at least 16 characters
	StoreMax int64  `yaml:"store_max,omitempty"` // bytes of all its streams; above it publishing is refused; 0 is no limit
}

// Cluster joins servers, so that streams can be replicated: three servers for three replicas.
type Cluster struct {
	Name     string   `yaml:"name"`   // alike at all servers
	Listen   string   `yaml:"listen"` // host:port for the other servers
	Routes   []string `yaml:"routes"` // nats-route://user:password@host:port of the others; own ones do no harm
	User     string   `yaml:"user"`
	Password string   `yaml:"password"`
}

// TLS names the files of a certificate and its key, in PEM.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

const (
	passwordMin = 16

	// payloadMax in bytes leaves room above the largest event message for the headers of its dead letter.
	payloadMax = 2 << 20

	// memoryMax in bytes bounds streams in memory, which nobody is to make.
	memoryMax = 16 << 20
)

// Default is what a configuration file may leave out.
func Default() Config { return Config{Name: "nats-1", Host: "127.0.0.1", Port: 4222} }

// Load reads a configuration file and refuses keys that it does not know.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the broker's configuration: %w", err)
	}
	config, decoder := Default(), yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&config); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	if err := config.Validate(); err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return config, nil
}

// Validate refuses what could not run, or would not keep systems apart, and names the key.
func (c Config) Validate() error {
	switch {
	case c.Name == "" || strings.ContainsAny(c.Name, " \t\r\n"):
		return errors.New("name: must be a word")
	case c.Host == "":
		return errors.New("host: must be set")
	case c.StoreDir == "":
		return errors.New("store_dir: must be set")
	case len(c.Systems) == 0:
		return errors.New("systems: at least one must be there")
	}
	seen := map[string]bool{}
	for _, system := range c.Systems {
		if err := system.validate(); err != nil {
			return fmt.Errorf("systems: %q: %w", system.ID, err)
		}
		if seen[system.ID] {
			return fmt.Errorf("systems: %q is there twice", system.ID)
		}
		seen[system.ID] = true
	}
	if c.Cluster != nil {
		return c.Cluster.validate()
	}
	return nil
}

func (s System) validate() error {
	reserved := []string{"events", "peer", "dead", "replay"} // words at the same places of subjects
	switch {
	case !regexp.MustCompile(`^[a-z][a-z0-9]{1,15}$`).MatchString(s.ID):
		return errors.New("id must be 2 to 16 small letters and digits, a letter first")
	case slices.Contains(reserved, s.ID):
		return errors.New("id is a reserved word")
	case len(s.Password) < passwordMin:
		return fmt.Errorf("password must have at least %d characters", passwordMin)
	case strings.ContainsFunc(s.Password, func(r rune) bool { return r < ' ' || r > '~' }):
		return errors.New("password must be printable ASCII")
	case s.StoreMax < 0:
		return errors.New("store_max must not be negative")
	}
	return nil
}

func (c Cluster) validate() error {
	switch {
	case c.Name == "" || c.Listen == "":
		return errors.New("cluster: name and listen must be set")
	case len(c.Routes) == 0:
		return errors.New("cluster: routes must name the other servers")
	case c.User == "" || len(c.Password) < passwordMin:
		return fmt.Errorf("cluster: user and password of at least %d characters must be set", passwordMin)
	}
	return nil
}
