package local

import (
	"context"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"
)

// peersConfig bounds transfers between the systems. Times are short, for a local cluster is there to be killed.
func (s *system) peersConfig(number int) map[string]any {
	return map[string]any{
		"authorities": s.authorities(number),
		"look_after":  "2s", "expires_in": "10s", "ask_after": "12s",
	}
}

// authorities are the addresses under which others call a node: its own, the balancer's, and what stands before that.
func (s *system) authorities(number int) []string {
	own := []string{address(s.ports.balancer), address(s.ports.nodes[number-1])}
	for _, other := range s.cluster.options.Systems {
		if other == s.id {
			continue // nobody goes that way, and what stands there would wait for ever
		}
		if called := s.calledBy(other); !slices.Contains(own, called) {
			own = append(own, called)
		}
	}
	return own
}

// calledBy is the address by which another system calls this one.
func (s *system) calledBy(other string) string {
	return s.cluster.options.Via(other, s.id+"-lb", address(s.ports.balancer))
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
			"--url", "http://"+other.calledBy(s.id), "--jwks-file", other.jwksFile())
		if err != nil {
			return err
		}
	}
	return nil
}
