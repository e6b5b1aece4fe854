package scenes

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"lockstep/examples/lockinglab/engine"
)

// Credentials are what the lab needs of the file that a local cluster writes.
type Credentials struct {
	Systems      []System `json:"systems"`
	ControlURL   string   `json:"control_url"`
	ControlToken string   `json:"control_token"`
}

// System is one payment system of the cluster. The lab's own tables are on its database server, in a schema of their own.
type System struct {
	ID       string `json:"id"`
	BaseURL  string `json:"base_url"`
	Operator struct {
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
	} `json:"operator"`
	Source   string   `json:"mysql_source_dsn"`
	Replicas []string `json:"mysql_replica_dsns"`
	Redis    []string `json:"redis_addrs"`
}

// systemsMin is how many the moves between two databases need.
const systemsMin = 2

// ReadCredentials reads the file.
func ReadCredentials(path string) (c Credentials, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read the cluster's credentials (start one with `lockstep up`): %w", err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("read %s: %w", path, err)
	}
	return c, c.Validate()
}

// Validate refuses a cluster that is too small.
func (c Credentials) Validate() error {
	if len(c.Systems) < systemsMin {
		return errors.New("the lab needs a cluster of two systems")
	}
	if len(c.Systems[0].Redis) == 0 {
		return errors.New("the lab needs a cluster with Redis servers")
	}
	return nil
}

func (s System) engine() engine.System {
	return engine.System{BaseURL: s.BaseURL, ClientID: s.Operator.ClientID, ClientSecret: s.Operator.ClientSecret}
}
