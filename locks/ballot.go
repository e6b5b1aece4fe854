package locks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-redsync/redsync/v4/redis"
)

// vote is what one server said about one name of a set.
type vote byte

const (
	unasked   vote = iota // nothing was sent
	unknown               // sent, and no answer: it may be ours there
	granted               // ours there
	refused               // in another's hands there
	returned              // was ours until we gave it back
	gone                  // should have been ours and was not
	overtaken             // gone, and in another's hands before we gave it back
)

// ballot is one server's part in one set. To redsync it is a pool, and its conn
// a connection, for a mutex with a single name; what it sends is the whole set.
// redsync works one goroutine per server and waits for all of them, so a ballot
// needs no mutex.
type ballot struct {
	server  *server
	keys    []string
	votes   []vote
	holders map[int]string // of the refused names
	wanted  func(name int) bool
}

// conn carries the deadline that redsync set for one round.
type conn struct {
	ctx    context.Context
	ballot *ballot
}

// Get implements redsync's Pool.
func (b *ballot) Get(ctx context.Context) (redis.Conn, error) {
	return conn{ctx: ctx, ballot: b}, nil
}

// SetNX asks for the whole set and remembers the bits. To redsync it says that
// the server answered, so that redsync's quorum means "enough answered in time";
// which names are ours is counted from the bits.
func (c conn) SetNX(_, token string, ttl time.Duration) (bool, error) {
	err := c.ballot.take(c.ctx, token, ttl)
	return err == nil, err
}

// Eval is called with (name, token) to release and with (name, token,
// milliseconds) to extend. The script that redsync brings is for one key; ours
// do the same for the set.
func (c conn) Eval(_ *redis.Script, args ...any) (any, error) {
	token, _ := args[1].(string)
	if len(args) == 2 {
		return int64(1), c.ballot.give(c.ctx, token)
	}
	ttl, ok := args[2].(int)
	if !ok {
		return nil, fmt.Errorf("extend locks: redsync gave %T milliseconds", args[2])
	}
	return int64(1), c.ballot.extend(c.ctx, token, time.Duration(ttl)*time.Millisecond)
}

func (b *ballot) take(ctx context.Context, token string, ttl time.Duration) error {
	answer, err := b.server.take(ctx, b.keys, token, ttl)
	if errors.Is(err, errSkipped) {
		return err
	}
	if err != nil {
		for i := range b.votes {
			b.votes[i] = unknown
		}
		return err
	}
	b.holders = make(map[int]string, len(answer.holders))
	for i := range b.votes {
		b.votes[i] = granted
		if answer.bits[i] == '1' {
			continue
		}
		b.votes[i] = refused
		if n := len(b.holders); n < len(answer.holders) {
			b.holders[i] = answer.holders[n]
		}
	}
	return nil
}

// give releases what may be ours here of the wanted names.
func (b *ballot) give(ctx context.Context, token string) error {
	names, keys := b.ours()
	if len(names) == 0 {
		return nil
	}
	bits, err := b.server.give(ctx, keys, token)
	if err != nil {
		return err
	}
	for i, name := range names {
		switch bits[i] {
		case '1':
			b.votes[name] = returned
		case '2':
			b.votes[name] = overtaken
		default:
			b.votes[name] = gone
		}
	}
	return nil
}

// extend leaves granted only what this server confirmed just now.
func (b *ballot) extend(ctx context.Context, token string, ttl time.Duration) error {
	names, keys := b.ours()
	if len(names) == 0 {
		return nil
	}
	bits, err := b.server.extend(ctx, keys, token, ttl)
	for i, name := range names {
		switch {
		case err != nil:
			b.votes[name] = unknown
		case bits[i] == '1':
			b.votes[name] = granted
		default:
			b.votes[name] = gone
		}
	}
	return err
}

// ours lists the wanted names that this server gave us or may have given us.
func (b *ballot) ours() (names []int, keys []string) {
	for name, v := range b.votes {
		if (v == granted || v == unknown) && b.wanted(name) {
			names = append(names, name)
			keys = append(keys, b.keys[name])
		}
	}
	return names, keys
}

// Close implements redsync's Conn; the connection belongs to the server's client.
func (c conn) Close() error { return nil }

// The rest of redsync's Conn serves features that a set never uses.

// Get is not supported.
func (c conn) Get(string) (string, error) { return "", errors.ErrUnsupported }

// Set is not supported.
func (c conn) Set(string, string) (bool, error) { return false, errors.ErrUnsupported }

// ScriptLoad is not supported.
func (c conn) ScriptLoad(*redis.Script) error { return errors.ErrUnsupported }

// PTTL is not supported.
func (c conn) PTTL(string) (time.Duration, error) { return 0, errors.ErrUnsupported }
