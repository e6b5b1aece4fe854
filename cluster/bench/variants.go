package bench

import (
	"context"
	"time"
)

// variant is one configuration of the nodes in a comparison.
type variant struct {
	name string
	keys map[string]any // of the nodes' configuration file
}

const (
	variantRounds = 3
	warmUp        = time.Second
)

// inTurn has the nodes run under each variant in turn, several times over, so that whatever changes in the course of a run
// meets all of them alike. The nodes keep their database. work measures under the variant of the index.
func (s *stage) inTurn(ctx context.Context, variants []variant, work func(index int) error) error {
	for round := range variantRounds {
		for i, v := range variants {
			s.say("round %d of %d: %s", round+1, variantRounds, v.name)
			if err := s.Reconfigure(ctx, v.keys); err != nil {
				return err
			}
			if err := s.bank.renew(ctx); err != nil {
				return err
			}
			if _, err := s.bank.run(ctx, load{name: "warm-up", conns: manyConns, duration: warmUp, request: uniform}); err != nil {
				return err
			}
			if err := work(i); err != nil {
				return err
			}
		}
	}
	return nil
}
