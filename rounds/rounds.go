// Package rounds is for work that is done again and again beside everything else: reading lists that others change, removing
// what has ended, looking at servers.
package rounds

import (
	"context"
	"time"
)

// Make does the work once per pause, first after one, until ctx ends; then no round begins any more. It is one round at a
// time: the next one begins at once after one that took longer than the pause, and those that it took the time of are left out.
func Make(ctx context.Context, pause time.Duration, work func(context.Context)) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if ctx.Err() != nil { // select takes either when both have come
			return
		}
		work(ctx)
	}
}
