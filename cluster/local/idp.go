package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lockstep/cluster/local/idp"
)

const kindIDP = "idp"

// idpName is the OpenID provider of the cluster, for all of its systems.
const idpName = "idp"

// The providers that a cluster can have.
const (
	IDPAuto    = "auto"    // npm's oidc-provider where Node is, else the built-in one
	IDPNode    = "node"    // npm's, or the start fails
	IDPBuiltin = "builtin" // the one of the lockstep program
	IDPNone    = "none"
)

const (
	nodeMajorMin = 18
	npmMax       = 90 * time.Second
)

// provider is the server at which people sign in instead of Google.
func (c *Cluster) provider() *member {
	dir := c.path(idpName)
	m := c.member(idpName, kindIDP, dir, c.layout.idp)
	config := filepath.Join(dir, "config.json")
	m.prepare = func(ctx context.Context) error {
		if err := c.writeIDPConfig(dir, config); err != nil {
			return err
		}
		return c.chooseIDP(ctx, m, config)
	}
	m.probe = func(ctx context.Context) error { return idpReady(ctx, c.idpURL()) }
	return m
}

// chooseIDP finds out which provider can run here. Nothing that npm lacks, such as the internet, keeps a cluster from starting.
func (c *Cluster) chooseIDP(ctx context.Context, m *member, config string) error {
	m.spec.Path, m.spec.Args = c.options.Binary, []string{"idp", "--config", config}
	if c.options.IDP == IDPBuiltin {
		return nil
	}
	script, err := c.installIDP(ctx)
	switch {
	case err == nil:
		m.spec.Path, m.spec.Args = "node", []string{script, config}
	case c.options.IDP == IDPNode:
		return err
	default:
		c.event(idpName, "the built-in provider is used: "+err.Error())
	}
	return nil
}

// installIDP puts npm's provider into the directory of modules, once for each version of it, and returns its script. It
// works beside it and renames, so that nobody sees half of it.
func (c *Cluster) installIDP(ctx context.Context) (string, error) {
	if err := checkNode(ctx); err != nil {
		return "", err
	}
	ready := filepath.Join(c.options.IDPModules, idp.Version())
	script := filepath.Join(ready, idp.Script)
	if _, err := os.Stat(script); err == nil {
		return script, nil
	}
	c.event(idpName, "installing npm's oidc-provider, once")
	if err := os.MkdirAll(c.options.IDPModules, 0o755); err != nil {
		return "", fmt.Errorf("make a place for the provider: %w", err)
	}
	building, err := os.MkdirTemp(c.options.IDPModules, "building-")
	if err != nil {
		return "", fmt.Errorf("make a place for the provider: %w", err)
	}
	defer func() { _ = os.RemoveAll(building) }()
	if err := idp.Unpack(building); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, npmMax)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--prefer-offline",
		"--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=20000") // offline, the built-in one is not to be long in coming
	npm.Dir = building
	if out, err := npm.CombinedOutput(); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("npm ci: %w: %.200s", err, first)
	}
	if err := os.Rename(building, ready); err != nil {
		if _, missing := os.Stat(script); missing != nil { // else another cluster was faster
			return "", fmt.Errorf("put the provider in its place: %w", err)
		}
	}
	return script, nil
}

func checkNode(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "node", "--version").Output()
	if err != nil {
		return errors.New("there is no Node")
	}
	major, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(string(out)), "v"), ".")
	if number, err := strconv.Atoi(major); err != nil || number < nodeMajorMin {
		return fmt.Errorf("there is Node %s, and it has to be %d or newer", strings.TrimSpace(string(out)), nodeMajorMin)
	}
	return nil
}

// writeIDPConfig tells the provider of its clients, which are the systems, and of its people, who are theirs too: at the
// provider each has the passwords of all systems.
func (c *Cluster) writeIDPConfig(dir, path string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of the provider: %w", err)
	}
	config := idp.Config{Issuer: c.idpURL(), CookieKey: newSecret()}
	for _, person := range []struct{ username, name string }{{"alice", "Alice Kim"}, {"bob", "Bob Lee"}} {
		user := idp.User{
			Subject: "local-" + person.username, Username: person.username, Name: person.name, Email: person.username + "@example.com",
		}
		for _, s := range c.systems {
			for _, known := range s.users() {
				if known.Username == person.username {
					user.Passwords = append(user.Passwords, known.Password)
				}
			}
		}
		config.Users = append(config.Users, user)
	}
	for _, s := range c.systems {
		config.Clients = append(config.Clients, idp.Client{
			ID: s.idpClient(), Secret: s.secrets.IDP, Name: "Lockstep " + s.id, RedirectURIs: []string{s.publicURL() + "/v1/auth/google/callback"},
		})
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the provider's configuration: %w", err)
	}
	return replaceFile(path, text)
}

func (s *system) idpClient() string { return "lockstep-" + s.id }

// publicURL is what people type: cookies on plain http come back to it alone.
func (s *system) publicURL() string { return "http://" + address(s.ports.balancer) }

// oidcConfig is what a node needs to send people to the provider.
func (s *system) oidcConfig() map[string]any {
	return map[string]any{"issuer": s.cluster.idpURL(), "client_id": s.idpClient(), "client_secret": s.secrets.IDP}
}

// idpURL is empty without a provider.
func (c *Cluster) idpURL() string {
	if c.idpMember == nil {
		return ""
	}
	return "http://" + c.idpMember.address
}

func idpReady(ctx context.Context, issuer string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, issuer+"/.well-known/openid-configuration", nil)
	if err != nil {
		return fmt.Errorf("ask the provider: %w", err)
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		return fmt.Errorf("ask the provider: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the provider answers with status %d", answer.StatusCode)
	}
	return nil
}
