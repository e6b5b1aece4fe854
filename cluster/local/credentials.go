package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Credentials is the content of credentials.json: all that a client, a test or
// `lockstep ctl` needs to use the cluster.
type Credentials struct {
	Systems      []SystemCredentials `json:"systems"`
	NATSURL      string              `json:"nats_url,omitempty"`
	Guests       []GuestCredentials  `json:"guests,omitempty"`
	IDPURL       string              `json:"idp_url,omitempty"`
	ControlURL   string              `json:"control_url"`
	ControlToken string              `json:"control_token"`
}

// SystemCredentials are those of one payment system.
type SystemCredentials struct {
	ID               string            `json:"id"`
	BaseURL          string            `json:"base_url"` // of the balancer
	Nodes            []string          `json:"nodes"`
	Operator         ClientCredentials `json:"operator"` // has every scope
	Client           ClientCredentials `json:"client"`   // an ordinary one
	AdminURLs        []string          `json:"admin_urls"`
	Users            []UserCredentials `json:"users"`
	MySQLSourceDSN   string            `json:"mysql_source_dsn"` // as the server's root
	MySQLReplicaDSNs []string          `json:"mysql_replica_dsns"`
	RedisAddrs       []string          `json:"redis_addrs"`
}

// GuestCredentials are those of a program beside the systems, at NATS.
type GuestCredentials struct {
	ID           string `json:"id"` // the user's name too
	NATSPassword string `json:"nats_password"`
}

// ClientCredentials are those of an OAuth client.
type ClientCredentials struct {
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
}

// UserCredentials are those of a person who signs in with a password.
type UserCredentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Credentials returns what credentials.json says.
func (c *Cluster) Credentials() Credentials {
	all := Credentials{
		NATSURL: c.natsURL(), IDPURL: c.idpURL(), ControlURL: "http://" + address(c.layout.control), ControlToken: c.control.token,
	}
	for _, s := range c.systems {
		all.Systems = append(all.Systems, s.credentials())
	}
	for _, id := range c.options.Guests {
		all.Guests = append(all.Guests, GuestCredentials{id, c.secrets.Guests[id]})
	}
	return all
}

func (s *system) credentials() SystemCredentials {
	urls := func(ports []int) []string {
		list := make([]string, len(ports))
		for i, port := range ports {
			list[i] = "http://" + address(port)
		}
		return list
	}
	source, others := s.servers()
	replicas := make([]string, len(others))
	for i, replica := range others {
		replicas[i] = replica.rootDSN(schemaName)
	}
	return SystemCredentials{
		ID: s.id, BaseURL: s.publicURL(),
		Nodes: urls(s.ports.nodes), AdminURLs: urls(s.ports.admin),
		Operator: ClientCredentials{operatorID, s.secrets.Operator},
		Client:   ClientCredentials{clientID, s.secrets.Client},
		Users:    s.users(),

		MySQLSourceDSN: source.rootDSN(schemaName), MySQLReplicaDSNs: replicas, RedisAddrs: s.redisAddrs(),
	}
}

// users are the people whom every system of a local cluster has.
func (s *system) users() []UserCredentials {
	return []UserCredentials{{"alice", s.secrets.Alice}, {"bob", s.secrets.Bob}}
}

// ReadCredentials reads the credentials of the cluster in a directory. Where none
// was ever started it says so.
func ReadCredentials(dir string) (Credentials, error) {
	var all Credentials
	text, err := os.ReadFile(credentialsPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return all, fmt.Errorf("no cluster was started in %s: start one with 'lockstep up', or name its --dir", dir)
	}
	if err != nil {
		return all, fmt.Errorf("read credentials: %w", err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return all, fmt.Errorf("read credentials: %w", err)
	}
	return all, nil
}

func credentialsPath(dir string) string { return filepath.Join(dir, "credentials.json") }

// announce makes the cluster known when all of it is ready.
func (c *Cluster) announce() error {
	if err := c.writeCredentials(); err != nil {
		return err
	}
	c.control.serve()
	return nil
}

func (c *Cluster) writeCredentials() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return writePrivate(credentialsPath(c.options.Dir), c.Credentials())
}
