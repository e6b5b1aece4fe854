package stage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"lockstep/examples/ticketoffice/audit"
	"lockstep/examples/ticketoffice/choreography"
)

// ErrBreach says that the books do not agree.
var ErrBreach = errors.New("the books do not agree")

// Audit compares all books until they agree, or fails with what does not when the wait is over.
func (s *Stage) Audit(ctx context.Context, wait time.Duration) (audit.Result, error) {
	books := audit.Books{Admin: s.schemas.admin, Schemas: map[string]string{}, Lockstep: s.Owner, Shop: s.Shop, Buyers: map[string]int64{}}
	for _, service := range choreography.Services {
		books.Schemas[service] = s.schemas.name(s.options.Mode)
		if s.options.Mode == Choreography {
			books.Schemas[service] = s.schemas.name(service)
		}
	}
	s.buyers.Range(func(account, amount any) bool {
		books.Buyers[account.(string)] = amount.(int64) //nolint:forcetypeassert // Accounts alone stores them
		return true
	})
	end := time.Now().Add(wait)
	for {
		result, err := books.Run(ctx)
		if err != nil || len(result.Breaches) == 0 {
			return result, err
		}
		if time.Now().After(end) {
			return result, fmt.Errorf("%w:\n  %s", ErrBreach, strings.Join(result.Breaches, "\n  "))
		}
		select {
		case <-ctx.Done():
			return result, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
