package locks

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// listenFor is how long a listener waits for a message before it looks
	// whether its server still counts.
	listenFor = time.Second

	// freedMax bounds the sets of which some servers have said that they were
	// given back, and not all. What is forgotten is a courtesy.
	freedMax = 64
)

// freed counts the servers that say that a set was given back. A name is worth
// another try when a quorum has it free, and not before.
type freed struct {
	mu     sync.Mutex
	tokens []string // the oldest first
	counts map[string]int
}

// heard notes one server's message about a set, and tells whether it makes the quorum.
func (f *freed) heard(token string, quorum, all int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil {
		f.counts = map[string]int{}
	}
	if f.counts[token] == 0 {
		if len(f.tokens) == freedMax {
			f.forget(f.tokens[0])
		}
		f.tokens = append(f.tokens, token)
	}
	f.counts[token]++
	count := f.counts[token]
	if count == all {
		f.forget(token)
	}
	return count == quorum
}

func (f *freed) forget(token string) {
	delete(f.counts, token)
	f.tokens = slices.DeleteFunc(f.tokens, func(other string) bool { return other == token })
}

// OnFree sets who hears of names that this locker was refused, and that are kept
// for it now: it may take them at once instead of asking again and again. It is
// called on a goroutine of the locker and must return quickly. It is a courtesy
// as the keeping is: messages get lost with connections and servers, so whoever
// waits asks now and then all the same.
func (l *Locker) OnFree(hear func(names []string)) { l.onFree.Store(&hear) }

// hear handles one server's message: the token of the set that was given back,
// and the keys that are kept for this locker.
func (l *Locker) hear(message string) {
	token, keys, _ := strings.Cut(message, "\n")
	hear := l.onFree.Load()
	if hear == nil || !l.freed.heard(token, l.quorum(), len(l.servers)) {
		return
	}
	names := strings.Split(keys, "\n")
	for i, key := range names {
		names[i] = strings.TrimPrefix(key, l.cfg.Prefix+":")
	}
	(*hear)(names)
}

// listen hears the server's messages while it is up, until ctx ends.
func (s *server) listen(ctx context.Context, pause time.Duration, hear func(message string)) {
	for ctx.Err() == nil {
		if s.up.Load() {
			s.subscribe(ctx, hear)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// subscribe hears messages until the connection fails or the server counts no
// more: one that was cut off silently must not be listened to for ever.
func (s *server) subscribe(ctx context.Context, hear func(message string)) {
	messages := s.client.Subscribe(ctx, s.channels+s.locker)
	defer func() { _ = messages.Close() }()
	defer context.AfterFunc(ctx, func() { _ = messages.Close() })() // a read knows no context
	for ctx.Err() == nil && s.up.Load() {
		received, err := messages.ReceiveTimeout(ctx, listenFor)
		if slow := net.Error(nil); errors.As(err, &slow) && slow.Timeout() {
			continue
		}
		if err != nil {
			return
		}
		if message, is := received.(*redis.Message); is {
			hear(message.Payload)
		}
	}
}
