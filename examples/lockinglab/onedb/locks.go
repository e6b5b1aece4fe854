package onedb

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	goredislib "github.com/redis/go-redis/v9"

	"lockstep/examples/lockinglab/lab"
)

const (
	lockTTL     = 8 * time.Second // longer than any transaction here may take
	lockCallMax = 2 * time.Second // for one server to answer
)

// locks are redsync's over independent servers.
type locks struct {
	clients []*goredislib.Client
	sync    *redsync.Redsync
}

func openLocks(addresses []string, workers int) *locks {
	l := &locks{}
	pools := make([]redis.Pool, len(addresses))
	for i, address := range addresses {
		client := goredislib.NewClient(&goredislib.Options{
			Addr: address, PoolSize: 2 * workers, MinIdleConns: workers, // warm, as those to the database are
			ContextTimeoutEnabled: true, // or redsync's timeout of each server is ignored
			MaxRetries:            -1,   // a SETNX that is sent twice says "taken" to the one who took it
		})
		l.clients = append(l.clients, client)
		pools[i] = goredis.NewPool(client)
	}
	l.sync = redsync.New(pools...)
	return l
}

func (l *locks) ping(ctx context.Context) error {
	for _, client := range l.clients {
		if err := client.Ping(ctx).Err(); err != nil {
			return fmt.Errorf("reach Redis at %s: %w", client.Options().Addr, err)
		}
	}
	return nil
}

func (l *locks) close() {
	for _, client := range l.clients {
		_ = client.Close()
	}
}

// held are the locks that a move has taken.
type held []*redsync.Mutex

// take locks all accounts in order, or none: who finds one taken gives the others back and comes again. redsync has no
// queue, so who comes at the right moment gets it.
func (l *locks) take(ctx context.Context, accounts []side) (held, error) {
	var all held
	ordered := slices.SortedFunc(slices.Values(accounts), func(a, b side) int { return cmp.Compare(a.account, b.account) })
	for _, s := range ordered {
		mutex := l.sync.NewMutex(fmt.Sprintf("lockinglab:account:%d", s.account),
			redsync.WithExpiry(lockTTL), redsync.WithTimeoutFactor(lockCallMax.Seconds()/lockTTL.Seconds()))
		if err := mutex.TryLockContext(ctx); err != nil { // taken, or too few servers have answered in time
			all.release(ctx)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, lab.Busy
		}
		all = append(all, mutex)
	}
	return all, nil
}

// release gives all back, also when the load has ended: a lock that is left behind stands for its whole time.
func (h held) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockCallMax)
	defer cancel()
	for _, mutex := range h {
		_, _ = mutex.UnlockContext(ctx) // one that was lost meanwhile is no failure: the row lock decided
	}
}
