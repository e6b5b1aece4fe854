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

// inTurn has the nodes run under each variant in turn, several times over and each time beginning with another one, so that
// whatever changes in the course of a run meets all of them alike. (Whoever came first in every round was the slowest by up
// to a fifth, whichever it was.) The nodes keep their database. work measures under the variant of the index.
func (s *stage) inTurn(ctx context.Context, variants []variant, work func(index int) error) error {
	for round := range variantRounds {
		for place := range variants {
			i := (round + place) % len(variants)
			v := variants[i]
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
