package auth

import (
	"context"
	"time"
)

// Bounds of the removal of what has ended.
const (
	sweepEvery = 5 * time.Minute
	sweepMax   = 500 // rows of a statement, which keeps nobody waiting
	sweepTurns = 200 // statements for each table; what is left waits for the next time
	// A session is listed no more when it has ended; its row stays for a while, for it says where its person signed in from.
	sessionKept = 90 * 24 * time.Hour
)

// Sweep removes refresh tokens, denials, counts of attempts and sessions whose time is over. A node does it
// by itself every five minutes.
func (a *Authority) Sweep(ctx context.Context) {
	now := a.now()
	a.remove(ctx, "DELETE FROM refresh_tokens WHERE expires_at < ? LIMIT ?", now)
	a.remove(ctx, "DELETE FROM denials WHERE until_at < ? LIMIT ?", now.Add(-denialsOverlap))
	a.remove(ctx, "DELETE FROM throttles WHERE free_from < ? LIMIT ?", now.Add(-throttlesKept))
	a.remove(ctx, "DELETE FROM sessions WHERE expires_at < ? LIMIT ?", now.Add(-sessionKept))
}

func (a *Authority) remove(ctx context.Context, query string, before time.Time) {
	for range sweepTurns {
		result, err := a.config.DB.ExecContext(ctx, query, before, sweepMax)
		if err != nil {
			if ctx.Err() == nil {
				a.config.Logger.Warn("cannot remove what has ended", "statement", query, "error", err)
			}
			return
		}
		if removed, err := result.RowsAffected(); err != nil || removed < sweepMax {
			return
		}
	}
}
