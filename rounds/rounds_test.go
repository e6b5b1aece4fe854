package rounds_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/rounds"
)

// Work is done once per pause, never twice at a time, and no more when the context has ended.
func TestRoundsAreMadeUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		takes time.Duration
		want  int // in ten pauses and a half
	}{"short work": {0, 10}, "work that takes longer than the pause": {2500 * time.Millisecond, 4}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, end := context.WithTimeout(t.Context(), 10500*time.Millisecond)
			defer end()
			began, made := time.Now(), 0
			rounds.Make(ctx, time.Second, func(context.Context) {
				if made++; made == 1 && time.Since(began) != time.Second {
					t.Errorf("%s: the first round comes after %v", name, time.Since(began))
				}
				time.Sleep(test.takes)
			})
			if made != test.want {
				t.Errorf("%s: %d rounds were made, want %d", name, made, test.want)
			}
		})
	}
}
