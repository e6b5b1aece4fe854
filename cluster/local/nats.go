package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"lockstep/cluster/broker"
)

const kindNATS = "nats"

// natsName is the one server of the cluster, for all of its systems.
const natsName = "nats-1"

// nats is the server that carries events between the systems, run from the lockstep program.
func (c *Cluster) nats() *member {
	dir := c.path(natsName)
	m := c.member(natsName, kindNATS, dir, c.layout.nats)
	config := filepath.Join(dir, "broker.yaml")
	m.prepare = func(context.Context) error { return c.writeNATSConfig(dir, config) }
	m.spec.Path, m.spec.Args = c.options.Binary, []string{"broker", "--config", config}
	m.probe = func(ctx context.Context) error { return natsReady(ctx, m.address) }
	return m
}

func (c *Cluster) writeNATSConfig(dir, path string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of %s: %w", natsName, err)
	}
	config := broker.Default()
	config.Name, config.Port, config.StoreDir = natsName, c.layout.nats, filepath.Join(dir, "store")
	for _, id := range c.options.Systems {
		config.Systems = append(config.Systems, broker.System{ID: id, Password: c.secrets.Systems[id].NATS})
	}
	for _, id := range c.options.Guests {
		config.Systems = append(config.Systems, broker.System{ID: id, Password: c.secrets.Guests[id]})
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	return replaceFile(path, text)
}

// natsURL is empty without a server.
func (c *Cluster) natsURL() string {
	if c.natsMember == nil {
		return ""
	}
	return "nats://" + c.natsMember.address
}

// natsConfig is what a node needs to reach the server as its system.
func (s *system) natsConfig(address string) map[string]any {
	return map[string]any{"url": "nats://" + address, "user": s.id, "password": s.secrets.NATS, "backoff_max": "2s"}
}

// natsReady reads the greeting of a server, which comes when its streams are read and tells whether they are on.
func natsReady(ctx context.Context, address string) error {
	const greetingMax = 2 * time.Second
	conn, err := (&net.Dialer{Timeout: greetingMax}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("reach NATS: %w", err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(greetingMax))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the greeting of NATS: %w", err)
	}
	var greeting struct {
		JetStream bool `json:"jetstream"`
	}
	text, found := strings.CutPrefix(line, "INFO ")
	if !found || json.Unmarshal([]byte(text), &greeting) != nil {
		return fmt.Errorf("unexpected greeting of NATS: %q", line)
	}
	if !greeting.JetStream {
		return errors.New("NATS keeps no streams")
	}
	return nil
}
