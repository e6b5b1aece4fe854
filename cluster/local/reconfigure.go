package local

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
)

// Reconfigure gives all nodes these keys in place of Options.NodeConfig: each node ends in good order and starts again
// with its new configuration file. It returns when all are ready, or with an error when one is not within
// Options.StartWait after its end. Not for two goroutines at once.
func (c *Cluster) Reconfigure(ctx context.Context, keys map[string]any) error {
	c.options.NodeConfig = keys
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range c.systems {
		for _, m := range s.nodeMembers {
			group.Go(func() error {
				if err := m.prepare(ctx); err != nil {
					return fmt.Errorf("prepare %s: %w", m.name, err)
				}
				return m.recycle(ctx, c.options.StartWait)
			})
		}
	}
	return group.Wait()
}
