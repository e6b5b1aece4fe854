package local

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"lockstep/cluster/local/process"
)

// The OAuth clients that every local system has: one that may do everything, and
// an ordinary one for tests.
const (
	operatorID     = "operator"
	operatorScopes = "accounts:read accounts:write money:deposit money:withdraw money:transfer money:read " +
		"proofs:read webhooks:write admin"
	clientID     = "client"
	clientScopes = "accounts:read accounts:write money:deposit money:withdraw money:transfer money:read webhooks:write"
)

// nodeGrace is what a node gets to end: its drain waits for the longest request, which may take 30 s.
const nodeGrace = 45 * time.Second

// node is one node of the system, run from the lockstep program.
func (s *system) node(number int) *member {
	m := s.member(fmt.Sprintf("node-%d", number), kindNode, s.ports.nodes[number-1], s.ports.admin[number-1])
	config := filepath.Join(s.dir, fmt.Sprintf("node-%d.yaml", number))
	m.prepare = func(context.Context) error { return s.writeNodeConfig(config, number) }
	m.spec.Path, m.spec.Args = s.cluster.options.Binary, []string{"node", "--config", config}
	m.spec.Env = s.nodeEnv()
	m.grace = nodeGrace
	m.probe = func(ctx context.Context) error { return getReady(ctx, m.address) }
	return m
}

// nodeEnv is our environment without what would override each node's own
// configuration alike, such as one LOCKSTEP_LISTEN for all. Each node takes its
// share of the machine: threads that it cannot run at once only get in the way.
func (s *system) nodeEnv() []string {
	ours := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "LOCKSTEP_") })
	if os.Getenv("GOMAXPROCS") == "" {
		nodes := len(s.cluster.options.Systems) * s.cluster.options.Nodes
		ours = append(ours, fmt.Sprintf("GOMAXPROCS=%d", max(1, runtime.NumCPU()/nodes)))
	}
	return append(ours, s.cluster.options.NodeEnv...)
}

func (s *system) writeNodeConfig(path string, number int) error {
	via := func(m *member) string {
		return s.cluster.options.Via(fmt.Sprintf("%s-node-%d", s.id, number), m.name, m.address)
	}
	source, readers := s.servers()
	var candidates []string
	if s.cluster.options.failsOver() { // any of them may be the source one day, and then the others are its replicas
		readers = s.databases
		for _, db := range s.databases {
			candidates = append(candidates, via(db.member))
		}
	}
	replicas := make([]string, len(readers))
	for i, reader := range readers {
		replicas[i] = dsnAt(via(reader.member), accountRead, s.secrets.Read, schemaName)
	}
	locks := make([]string, len(s.redisMembers))
	for i, m := range s.redisMembers {
		locks[i] = via(m)
	}
	config := map[string]any{
		"system":       s.id,
		"listen":       address(s.ports.nodes[number-1]),
		"admin_listen": address(s.ports.admin[number-1]),
		"mysql": map[string]any{
			"source":     dsnAt(via(source.member), accountNode, s.secrets.Node, schemaName),
			"replicas":   replicas,
			"migrate":    dsnAt(via(source.member), accountMigrate, s.secrets.Migrate, schemaName),
			"candidates": candidates,
		},
		"redis": locks,
		// Cookies on plain http, and the balancer's word on where a request comes from.
		"public_url": s.publicURL(),
		"proxies":    []string{"127.0.0.1"},
		// All of its people come from one address.
		"registrations": 100_000,
		// And all of its load from a few callers on one machine.
		"rate_limits": map[string]any{"client": 100_000, "person": 100_000, "address": 100_000},
		// What hears of events runs on this machine.
		"webhooks": map[string]any{"allow": []string{"127.0.0.0/8", "::1/128"}},
		"secret":   s.secrets.Seal,
	}
	if s.cluster.natsMember != nil {
		config["nats"] = s.natsConfig(via(s.cluster.natsMember))
	}
	if s.cluster.idpMember != nil {
		config["oidc"] = s.oidcConfig()
	}
	config["peers"] = s.peersConfig(number)
	overlay(config, s.cluster.options.NodeConfig)
	text, err := yaml.Marshal(config)
	if err != nil {
		return fmt.Errorf("encode the configuration: %w", err)
	}
	return replaceFile(path, text)
}

// overlay adds keys; those of a section join the ones that the section has, which differ from node to node.
func overlay(config, keys map[string]any) {
	for name, value := range keys {
		section, ours := config[name].(map[string]any)
		added, theirs := value.(map[string]any)
		if ours && theirs {
			maps.Copy(section, added)
			continue
		}
		config[name] = value
	}
}

func (s *system) redisAddrs() []string {
	addrs := make([]string, len(s.ports.redis))
	for i, port := range s.ports.redis {
		addrs[i] = address(port)
	}
	return addrs
}

func (s *system) setupFile() string { return filepath.Join(s.dir, "setup.yaml") }

// setUp gives a system its schema and its clients, by the same commands that an
// operator would use. All of them may run at every start.
func (s *system) setUp(ctx context.Context) error {
	source, _ := s.servers()
	if err := source.exec(ctx, "CREATE DATABASE IF NOT EXISTS "+schemaName+
		" CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"); err != nil {
		return fmt.Errorf("make the schema of %s: %w", s.id, err)
	}
	config := s.setupFile()
	if err := s.writeNodeConfig(config, 1); err != nil {
		return err
	}
	if err := s.run(ctx, "migrate", "--config", config); err != nil {
		return err
	}
	if err := s.run(ctx, "keygen", "--config", config, "--out", s.jwksFile()); err != nil {
		return err
	}
	for _, client := range []struct{ id, scopes, secret string }{
		{operatorID, operatorScopes, s.secrets.Operator}, {clientID, clientScopes, s.secrets.Client},
	} {
		secretFile := filepath.Join(s.dir, client.id+".secret")
		if err := replaceFile(secretFile, []byte(client.secret)); err != nil {
			return err
		}
		if err := s.run(ctx, "clients", "add", "--config", config, "--id", client.id,
			"--name", "Local "+client.id, "--scopes", client.scopes, "--secret-file", secretFile); err != nil {
			return err
		}
	}
	if err := s.addUsers(ctx, config); err != nil {
		return err
	}
	s.cluster.event(s.id, "schema, clients and people are there")
	return nil
}

func (s *system) addUsers(ctx context.Context, config string) error {
	args := []string{"users", "add", "--config", config}
	for _, user := range s.users() {
		passwordFile := filepath.Join(s.dir, user.Username+".password")
		if err := replaceFile(passwordFile, []byte(user.Password)); err != nil {
			return err
		}
		args = append(args, "--username", user.Username, "--password-file", passwordFile)
	}
	return s.run(ctx, args...)
}

// run executes one of our own commands and adds what it says to a log.
func (s *system) run(ctx context.Context, args ...string) error {
	path, err := process.Find(s.cluster.options.Binary)
	if err != nil {
		return err
	}
	logPath := s.cluster.path("logs", s.id+"-setup.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.nodeEnv(), log, log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run 'lockstep %s' for %s: %w; the last lines of %s:\n%s",
			args[0], s.id, err, logPath, process.LogTail(logPath, logTailMax))
	}
	return nil
}

// getReady asks a node, or a balancer for any of its nodes, whether it serves.
func getReady(ctx context.Context, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("ask for readiness: %w", err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return fmt.Errorf("ask for readiness: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz answers %s", answer.Status)
	}
	return nil
}
