package local

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"

	"lockstep/deploy"
)

// loadBalancer is the HAProxy in front of the system's nodes.
func (s *system) loadBalancer() *member {
	m := s.member("lb", kindBalancer, s.ports.balancer)
	config := filepath.Join(s.dir, "haproxy.cfg")
	m.prepare = func(context.Context) error { return s.writeBalancerConfig(config) }
	m.spec.Path, m.spec.Args = "haproxy", []string{"-db", "-f", config}
	m.stop = syscall.SIGUSR1 // lets requests under way end; the configuration bounds that
	m.probe = func(ctx context.Context) error { return getReady(ctx, m.address) }
	return m
}

func (s *system) writeBalancerConfig(path string) error {
	script, err := deploy.TooLargeScript()
	if err != nil {
		return fmt.Errorf("read the balancer's script: %w", err)
	}
	config := deploy.HAProxy{
		System: s.id, Listen: address(s.ports.balancer), Script: filepath.Join(s.dir, "too_large.lua"),
	}
	if err := replaceFile(config.Script, script); err != nil {
		return err
	}
	for _, port := range s.ports.nodes {
		config.Nodes = append(config.Nodes, address(port))
	}
	var text strings.Builder
	if err := config.Render(&text); err != nil {
		return err
	}
	return replaceFile(path, []byte(text.String()))
}
