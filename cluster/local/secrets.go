package local

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// secrets of a cluster stay the same over restarts, for the data that they
// protect does too.
type secrets struct {
	Systems map[string]systemSecrets `json:"systems"`
	Guests  map[string]string        `json:"guests"` // their passwords at NATS
}

type systemSecrets struct {
	Root     string `json:"mysql_root"`
	Node     string `json:"mysql_lockstep"`
	Read     string `json:"mysql_lockstep_read"`
	Migrate  string `json:"mysql_lockstep_migrate"`
	Replica  string `json:"mysql_replication"`
	Seal     string `json:"seal"` // seals the system's signing keys
	Operator string `json:"operator"`
	Client   string `json:"client"`
	NATS     string `json:"nats"`
	IDP      string `json:"idp"` // as a client of the OpenID provider
	Alice    string `json:"alice"`
	Bob      string `json:"bob"`
}

func newSystemSecrets() systemSecrets {
	return systemSecrets{
		Root: newSecret(), Node: newSecret(), Read: newSecret(), Migrate: newSecret(), Replica: newSecret(),
		Seal: newSecret(), Operator: newSecret(), Client: newSecret(), NATS: newSecret(),
		IDP: newSecret(), Alice: newSecret(), Bob: newSecret(),
	}
}

// newSecret returns 256 random bits in letters that need no quoting anywhere.
func newSecret() string {
	var bits [32]byte
	_, _ = rand.Read(bits[:]) // never fails, see crypto/rand
	return base64.RawURLEncoding.EncodeToString(bits[:])
}

// loadSecrets reads the secrets of the directory and makes those that lack.
func loadSecrets(dir string, systems, guests []string) (secrets, error) {
	path := filepath.Join(dir, "secrets.json")
	known := secrets{}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return known, fmt.Errorf("read the cluster's secrets: %w", err)
	}
	if known.Systems == nil {
		known.Systems = map[string]systemSecrets{}
	}
	for _, id := range systems {
		system, ok := known.Systems[id]
		if !ok {
			system = newSystemSecrets()
		}
		if system.NATS == "" { // made before there was NATS
			system.NATS = newSecret()
		}
		if system.IDP == "" { // made before there was a provider
			system.IDP = newSecret()
		}
		if system.Alice == "" { // made before people signed in
			system.Alice, system.Bob = newSecret(), newSecret()
		}
		known.Systems[id] = system
	}
	if known.Guests == nil {
		known.Guests = map[string]string{}
	}
	for _, id := range guests {
		if known.Guests[id] == "" {
			known.Guests[id] = newSecret()
		}
	}
	return known, writePrivate(path, known)
}

// writePrivate replaces a JSON file that only its owner may read.
func writePrivate(path string, content any) error {
	text, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	return replaceFile(path, append(text, '\n'))
}

// replaceFile writes a file of mode 0600 in one step, whatever a crash leaves.
func replaceFile(path string, text []byte) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	if err := os.Chmod(fresh, 0o600); err != nil {
		return fmt.Errorf("protect %s: %w", filepath.Base(path), err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}
