package broker

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats-server/v2/server"
)

// object is a block of the server's own configuration language, of which JSON is a part.
type object map[string]any

// Options is the configuration as the server has it; a configuration file of a server of one's own is held against it.
func (c Config) Options() (*server.Options, error) {
	config := object{
		"server_name": c.Name, "host": c.Host, "port": c.port(), "max_payload": payloadMax,
		"jetstream": object{"store_dir": c.StoreDir, "sync_interval": "always", "max_memory_store": memoryMax},
		"accounts":  c.accounts(),
	}
	if c.Monitor != "" {
		config["http"] = c.Monitor
	}
	if c.TLS != nil {
		config["tls"] = object{"cert_file": c.TLS.Cert, "key_file": c.TLS.Key}
	}
	if k := c.Cluster; k != nil {
		config["cluster"] = object{
			"name": k.Name, "listen": k.Listen, "routes": k.Routes,
			"authorization": object{"user": k.User, "password": k.Password},
		}
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // the server's language knows no \u
	if err := encoder.Encode(config); err != nil {
		return nil, fmt.Errorf("encode the server's configuration: %w", err)
	}
	options := new(server.Options)
	if err := options.ProcessConfigString(text.String()); err != nil {
		return nil, fmt.Errorf("configure the server: %w", err)
	}
	options.NoSigs = true // the program hears signals for us
	options.DisableJetStreamBanner = true
	return options, nil
}

func (c Config) port() int {
	if c.Port == 0 {
		return server.DEFAULT_PORT
	}
	return c.Port
}

func (c Config) accounts() object {
	accounts := object{}
	for _, system := range c.Systems {
		accounts[system.ID] = c.account(system)
	}
	return accounts
}

// account is the world of one system, with a door from each of the others and one to each of them.
func (c Config) account(system System) object {
	exports, imports := []object{}, []object{}
	for _, other := range c.Systems {
		if other.ID == system.ID {
			continue
		}
		exports = append(exports, object{"service": transfers(other.ID, system.ID), "accounts": []string{other.ID}})
		imports = append(imports, object{"service": object{"account": other.ID, "subject": transfers(system.ID, other.ID)}})
	}
	var jetstream any = "enabled"
	if system.StoreMax > 0 {
		jetstream = object{"max_file": system.StoreMax}
	}
	return object{
		"jetstream": jetstream, "users": []object{user(system)}, "exports": exports, "imports": imports,
	}
}

func transfers(from, to string) string { return "lockstep." + from + "." + to + ".transfer.*" }

// user may speak only as its system and hear only what is for it. $JS.API and $JS.ACK reach the streams of its own account.
func user(system System) object {
	own := func(pattern string) string { return fmt.Sprintf(pattern, system.ID) }
	publish := []string{own("lockstep.%s.>"), own("lockstep.dead.%s.*"), own("lockstep.replay.%s.*"), "$JS.API.>", "$JS.ACK.>"}
	subscribe := []string{own("lockstep.*.%s.>"), own("lockstep.%s.events.>"), "_INBOX.>"}
	return object{
		"user": system.ID, "password": system.Password,
		"permissions": object{"publish": object{"allow": publish}, "subscribe": object{"allow": subscribe}},
	}
}
