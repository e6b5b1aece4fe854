package ratelimit

import (
	"hash/fnv"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

// server is one Redis server. While it does not answer, one question a second finds out whether it does again.
type server struct {
	client  *redis.Client
	limiter *redis_rate.Limiter
	down    atomic.Int64 // until when it is left alone, in nanoseconds; 0 while it answers
}

const connectionsMax = 8

func newServer(addr string, config Config) *server {
	wait := config.Wait
	client := redis.NewClient(&redis.Options{
		Addr: addr, Username: config.Username, Password: config.Password, TLSConfig: config.TLS, DialTimeout: wait, ReadTimeout: wait, WriteTimeout: wait, PoolTimeout: wait,
		ContextTimeoutEnabled: true, MaxRetries: -1, Protocol: 2, DisableIdentity: true, PoolSize: connectionsMax,
	})
	return &server{client: client, limiter: redis_rate.NewLimiter(client)}
}

// mayAsk tells whether to ask the server. One that is down may be asked once in each pause, by whoever comes first.
func (s *server) mayAsk(now time.Time) bool {
	down := s.down.Load()
	return down == 0 || now.UnixNano() >= down && s.down.CompareAndSwap(down, now.Add(downPause).UnixNano())
}

func (s *server) answered() {
	if s.down.Load() != 0 {
		s.down.Store(0)
	}
}

func (s *server) failed(now time.Time) { s.down.Store(now.Add(downPause).UnixNano()) }

// place is the server that a key belongs to. All nodes have to agree, so the hash is a fixed one.
func place(key string, servers int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return int(h.Sum32() % uint32(servers))
}
