// Package ratelimit bounds how often something may happen, over all nodes of a system and without asking Redis every
// time. It counts by GCRA (ITU-T I.371, annex A): a key may be used Burst times at once and comes back at Rate.
//
// Redis has the count of all nodes, by redis_rate. A node takes some of it in advance, for a moment, and spends that by
// itself, so that a busy key costs a few questions a second and not one a request. A node also counts for itself what it
// admits; when no Redis server answers, that count alone decides: each node then admits up to the limit, and none more.
package ratelimit

import (
	"context"
	"crypto/tls"
	"errors"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
)

// Limit is how often a key may be used: Burst times at once, Rate times a second in the long run. The zero Limit bounds
// nothing.
type Limit struct{ Rate, Burst int }

// PerSecond is a limit that admits two seconds' worth at once.
func PerSecond(rate int) Limit { return Limit{Rate: rate, Burst: 2 * rate} }

// Decision is what becomes of one use of a key.
type Decision struct {
	Allowed   bool
	Remaining int           // uses that would be admitted now
	Reset     time.Duration // until all of Burst is there again
	Retry     time.Duration // until the next use is admitted; 0 when this one was
}

// Bounds of the memory of keys and of what is asked of Redis.
const (
	shardsMax   = 64
	shardKeys   = 2048            // in each shard; then those that are idle are forgotten
	leaseShare  = 8               // of Burst, taken in advance at most
	leaseWindow = time.Second / 4 // whose worth is taken in advance at most
	leaseLife   = time.Second     // after which what was taken and not used is forfeited
	waitDefault = 25 * time.Millisecond
	downPause   = time.Second // in which a server that did not answer is left alone
)

// Config is what a Limiter needs.
type Config struct {
	Addrs  []string         // Redis servers; none: each node counts for itself
	Prefix string           // of the keys in Redis
	Wait   time.Duration    // for an answer of Redis; 0: 25 ms
	Clock  func() time.Time // nil: time.Now

	// Username, Password and TLS are for servers that ask for them.
	Username, Password string
	TLS                *tls.Config
}

// Stats count since the limiter was opened.
type Stats struct {
	Refused uint64 // uses
	Alone   uint64 // uses that were decided without Redis, although there should be one
	Asked   uint64 // questions to Redis
}

// Limiter counts uses. It is safe for many goroutines.
type Limiter struct {
	config  Config
	seed    maphash.Seed
	shards  [shardsMax]shard
	servers []*server

	refused, alone, asked atomic.Uint64
}

type shard struct {
	mu   sync.Mutex
	keys map[string]*bucket
}

// bucket is what this node knows of a key.
type bucket struct {
	mu sync.Mutex

	next  time.Time // when the bucket will be full again, by what this node has admitted (GCRA's theoretical arrival time)
	lease int       // taken from Redis and not used
	until time.Time // the end of the lease
	left  int       // in Redis, when the lease was taken
	shut  time.Time // until when Redis admits nothing
}

// Open prepares a limiter; it connects when it has to. It fails without a prefix, which would mix systems.
func Open(config Config) (*Limiter, error) {
	if config.Prefix == "" {
		return nil, errors.New("ratelimit: the prefix is missing")
	}
	if config.Wait == 0 {
		config.Wait = waitDefault
	}
	if config.Clock == nil {
		config.Clock = time.Now
	}
	l := &Limiter{config: config, seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].keys = map[string]*bucket{}
	}
	for _, addr := range config.Addrs {
		l.servers = append(l.servers, newServer(addr, config))
	}
	return l, nil
}

// Close closes the connections.
func (l *Limiter) Close() error {
	var failures []error
	for _, s := range l.servers {
		failures = append(failures, s.client.Close())
	}
	return errors.Join(failures...)
}

// Stats tells what has been counted.
func (l *Limiter) Stats() Stats {
	return Stats{Refused: l.refused.Load(), Alone: l.alone.Load(), Asked: l.asked.Load()}
}

// Use takes one use of a key, or refuses and takes nothing. A key must always come with the same limit. It waits for
// Redis for Config.Wait at most, and not at all just after its servers failed.
func (l *Limiter) Use(ctx context.Context, key string, limit Limit) Decision {
	if limit == (Limit{}) {
		return Decision{Allowed: true}
	}
	b := l.bucket(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	now, interval := l.config.Clock(), time.Second/time.Duration(limit.Rate)
	full := time.Duration(limit.Burst) * interval
	next := b.next
	if next.Before(now) {
		next = now
	}
	d := Decision{Reset: next.Sub(now), Retry: next.Add(interval).Sub(now) - full}
	if d.Retry <= 0 {
		d.Retry = l.share(ctx, b, key, limit, now)
	}
	if d.Retry > 0 {
		l.refused.Add(1)
		return d
	}
	b.next = next.Add(interval)
	d.Allowed, d.Retry, d.Reset = true, 0, b.next.Sub(now)
	d.Remaining = int((full - d.Reset) / interval)
	if b.until.After(now) {
		d.Remaining = min(d.Remaining, b.lease+b.left)
	}
	return d
}

// share takes a use from what Redis has for all nodes. It answers with how long there is none, which is 0 or less when the
// use was taken, or when this node has to decide alone.
func (l *Limiter) share(ctx context.Context, b *bucket, key string, limit Limit, now time.Time) time.Duration {
	if len(l.servers) == 0 {
		return 0
	}
	if b.lease > 0 && now.Before(b.until) {
		b.lease--
		return 0
	}
	if now.Before(b.shut) {
		return b.shut.Sub(now)
	}
	result, err := l.ask(ctx, key, limit, advance(limit), now)
	switch {
	case err != nil:
		l.alone.Add(1)
		b.lease, b.until = 0, time.Time{}
		return 0
	case result.Allowed < 1:
		retry := max(result.RetryAfter, time.Millisecond)
		b.shut = now.Add(retry)
		return retry
	}
	b.lease, b.left, b.until = result.Allowed-1, result.Remaining, now.Add(leaseLife)
	return 0
}

// advance is how many uses are taken from Redis at a time: few enough that a node which does not use them takes nothing
// from the others that they would miss.
func advance(limit Limit) int {
	window := float64(limit.Rate) * leaseWindow.Seconds()
	return max(1, min(limit.Burst/leaseShare, int(math.Ceil(window))))
}

func (l *Limiter) bucket(key string) *bucket {
	s := &l.shards[maphash.String(l.seed, key)%shardsMax]
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.keys[key]
	if b == nil {
		if len(s.keys) >= shardKeys {
			s.forget(l.config.Clock())
		}
		b = &bucket{}
		s.keys[key] = b
	}
	return b
}

// forget makes room for a quarter: it drops the keys that are full again, and then others. Redis remembers them.
func (s *shard) forget(now time.Time) {
	for key, b := range s.keys {
		if b.mu.TryLock() {
			if b.next.Before(now) && b.shut.Before(now) {
				delete(s.keys, key)
			}
			b.mu.Unlock()
		}
	}
	for key := range s.keys {
		if len(s.keys) <= shardKeys*3/4 {
			return
		}
		delete(s.keys, key)
	}
}

// ask takes uses from the first server that answers, beginning with the one that the key belongs to: the same for all
// nodes. After a failure another server begins to count anew, so that a key may be used another Burst of times.
func (l *Limiter) ask(ctx context.Context, key string, limit Limit, uses int, now time.Time) (*redis_rate.Result, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.config.Wait)
	defer cancel()
	first := place(key, len(l.servers))
	err := errors.New("ratelimit: no Redis server answers")
	for i := range l.servers {
		s := l.servers[(first+i)%len(l.servers)]
		if !s.mayAsk(now) {
			continue
		}
		l.asked.Add(1)
		result, failure := s.limiter.AllowAtMost(ctx, l.config.Prefix+":"+key, redis_rate.Limit{
			Rate: limit.Rate, Burst: limit.Burst, Period: time.Second,
		}, uses)
		if failure == nil {
			s.answered()
			return result, nil
		}
		s.failed(now)
		err = failure
	}
	return nil, err
}
