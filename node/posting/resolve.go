package posting

import (
	"context"
	"errors"
	"time"

	"lockstep/node/store"
)

// errNotCommitted says that a batch whose COMMIT had no answer did not commit.
var errNotCommitted = errors.New("posting: the batch did not commit")

const (
	resolvePauseMin = 20 * time.Millisecond
	resolvePauseMax = 500 * time.Millisecond
)

// resolve settles a COMMIT without an answer by the lane's own row: it waits until the old transaction has ended, and
// then the row shows this batch, so all of it committed, or an older one, so none of it did. Nothing else starts on the
// lane meanwhile; callers whose deadline comes first hear `unknown`.
func (l *lane) resolve(b *batch) (store.Token, error) {
	for pause := resolvePauseMin; ; pause = min(2*pause, resolvePauseMax) {
		incarnation, number, err := l.readRow(l.life)
		switch {
		case err == nil && incarnation != l.identity.Incarnation:
			return "", errLaneLost
		case err == nil && number == b.number:
			l.log.Info("the COMMIT had succeeded", "batch", b.number)
			return l.store.Position(l.life), nil
		case err == nil:
			l.log.Info("the COMMIT had not happened", "batch", b.number)
			return "", errNotCommitted
		case store.ClassOf(err) == store.ClassServer:
			waiting := l.queue.empty() // none of it was sent, and it would wait in vain
			l.metrics.shunned.Add(float64(len(waiting)))
			l.settleAll(waiting, errSource())
		}
		select {
		case <-time.After(pause):
		case <-l.life.Done():
			return "", l.life.Err()
		}
	}
}

// readRow reads the lane's row on a connection of its own, after any older transaction of the lane has ended.
func (l *lane) readRow(ctx context.Context) (incarnation string, number int64, err error) {
	tx, err := l.store.Begin(ctx)
	if err != nil {
		return "", 0, err
	}
	defer tx.Rollback()
	return store.LaneBatch(ctx, tx, l.lane)
}
