package local

import (
	"context"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// peersConfig bounds transfers between the systems. Times are short, for a local cluster is there to be killed.
func (s *system) peersConfig(number int) map[string]any {
	return map[string]any{
		"authorities": []string{address(s.ports.balancer), address(s.ports.nodes[number-1])},
		"look_after":  "2s", "expires_in": "10s", "ask_after": "12s",
	}
}

// startNodes makes the systems known to one another and starts their nodes.
func (c *Cluster) startNodes(ctx context.Context) error {
	if c.options.ServersOnly {
		return nil
	}
	group, starting := errgroup.WithContext(ctx)
	for _, s := range c.systems {
		group.Go(func() error {
			if err := s.meetPeers(starting); err != nil {
				return err
			}
			return s.startNodes(starting)
		})
	}
	return group.Wait()
}

// jwksFile is where a system's public keys are for the others.
func (s *system) jwksFile() string { return filepath.Join(s.dir, "peer-keys.json") }

// meetPeers makes every other system known to this one, by the commands that an operator would use.
func (s *system) meetPeers(ctx context.Context) error {
	for _, other := range s.cluster.systems {
		if other == s {
			continue
		}
		err := s.run(ctx, "peers", "add", "--config", filepath.Join(s.dir, "setup.yaml"), "--id", other.id,
			"--url", "http://"+address(other.ports.balancer), "--jwks-file", other.jwksFile())
		if err != nil {
			return err
		}
	}
	return nil
}
