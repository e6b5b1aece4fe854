package chaos

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisFaults are the ways in which locks are lost.
func redisFaults() []fault {
	return []fault{
		{"kill -9 of a Redis", one("redis"), every(kill), every(start)},
		{"SIGSTOP of a Redis", one("redis"), every(stop), every(thaw)},
		{"kill -9 of all Redis of a system", allOfOne("redis"), every(kill), every(start)},
		{"SIGSTOP of all Redis of a system", allOfOne("redis"), every(stop), every(thaw)},
		{"FLUSHALL again and again", allOfOne("redis"), during(flushPause, together(flush)), ended},
		{"Redis out of memory", allOfOne("redis"), every(redisDo("CONFIG", "SET", "maxmemory", "1")), every(redisDo("CONFIG", "SET", "maxmemory", "128mb"))},
		{"Redis read-only", allOfOne("redis"), every(redisDo("REPLICAOF", "127.0.0.1", "1")), every(redisDo("REPLICAOF", "NO", "ONE"))},
	}
}

// A lock is held for a few milliseconds, and lost when two of three servers forget it within them.
const flushPause = 20 * time.Millisecond

func flush(ctx context.Context, t *target, name string) error { return t.cluster.Flush(ctx, name) }

// redisDo sends one command to a server.
func redisDo(words ...any) func(ctx context.Context, t *target, name string) error {
	return func(ctx context.Context, t *target, name string) error {
		client := redis.NewClient(&redis.Options{Addr: t.address(name), MaxRetries: -1})
		defer client.Close() //nolint:errcheck // nothing is lost with the connection
		return client.Do(ctx, words...).Err()
	}
}

// during does something at once and then again and again, until the fault is healed and not only while it is being applied. What
// fails later is no matter, for its victim may be gone; but a fault that did not come again was another one.
func during(pause time.Duration, do func(context.Context, *target, []string) error) func(context.Context, *target, []string) error {
	return func(ctx context.Context, t *target, on []string) error {
		if err := do(ctx, t, on); err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		again := make(chan int, 1)
		go func() {
			times := 0
			for ; sleep(ctx, pause); times++ {
				_ = do(ctx, t, on)
			}
			again <- times
		}()
		t.heal.Store(on[0], func(context.Context) error {
			cancel()
			if <-again == 0 {
				return errOnce
			}
			return nil
		})
		return nil
	}
}

var errOnce = errors.New("it happened once, and not again and again")

// ended runs what the fault left for its end.
func ended(ctx context.Context, t *target, on []string) error {
	left, found := t.heal.LoadAndDelete(on[0])
	if !found {
		return nil // it did not begin
	}
	return left.(func(context.Context) error)(ctx)
}
