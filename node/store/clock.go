package store

import (
	"context"
	"fmt"
	"time"
)

// clockEvery is how often the database's clock is compared with ours.
const clockEvery = 10 * time.Second

// measureOffset tells how far the database's clock is ahead of ours, as seen in the middle of the round trip.
func (s *Store) measureOffset(ctx context.Context) (time.Duration, error) {
	var theirs time.Time
	sent := s.config.Clock()
	if err := s.control.QueryRowContext(ctx, "SELECT UTC_TIMESTAMP(6)").Scan(&theirs); err != nil {
		return 0, fmt.Errorf("read the database's clock: %w", err)
	}
	received := s.config.Clock()
	return theirs.Sub(sent.Add(received.Sub(sent) / 2)), nil
}
