package locks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// owedMax bounds the releases that a server which is down still has to hear.
// They come from the sets that were in hand when it went down; what does not
// fit ends by its TTL.
const owedMax = 64

var (
	// errSkipped marks a call that sent nothing, because the server is down.
	errSkipped = errors.New("left out")

	// errUnseen is the fault of a server that no probe has reached yet.
	errUnseen = errors.New("not reached yet")
)

// ServerState is the health of one lock server as its last call or probe saw it.
type ServerState struct {
	Addr   string
	Up     bool
	Err    error     // why it is down; nil while it is up
	Since  time.Time // when it went up or down
	Faults uint64    // how often it went down since Open
}

// server is one Redis server behind a breaker. The first call that fails takes
// it down; from then on calls fail at once, without network, until a probe in
// the background has seen it take and give back a lock.
type server struct {
	addr     string
	client   *redis.Client
	scripts  scripts
	locker   string // who wants a name, told to others
	sets     string // what stands before a token in the key of its set's time
	channels string // what stands before a locker in the channel that tells it of names
	timeout  time.Duration
	probeKey string
	onChange func(ServerState)

	up atomic.Bool // read on every call, so kept outside the mutex

	mu    sync.Mutex
	state ServerState
	// silent: it is down, and so far only because nothing was heard in time.
	silent bool
	owed   []debt
}

// debt is a release that a server has not heard: it was down, or did not say
// whether it did it.
type debt struct {
	keys  []string
	token string
}

func newServer(addr, locker string, cfg Config) *server {
	s := &server{
		addr:     addr,
		scripts:  newScripts(),
		locker:   locker,
		sets:     cfg.Prefix + "#",
		channels: cfg.Prefix + "!",
		timeout:  cfg.Timeout,
		probeKey: cfg.Prefix + ":probe",
		onChange: cfg.OnChange,
		state:    ServerState{Addr: addr, Err: errUnseen, Since: time.Now()},
	}
	s.client = redis.NewClient(&redis.Options{
		Addr:      addr,
		Username:  cfg.Username,
		Password:  cfg.Password,
		TLSConfig: cfg.TLS,
		// Without this the client ignores the deadline of a call and waits its
		// own default of seconds.
		ContextTimeoutEnabled: true,
		// A take that is sent a second time behind our back would find its own
		// keys and report them as refused.
		MaxRetries:      -1,
		DialerRetries:   1,
		DialTimeout:     cfg.Timeout,
		PoolSize:        connsMax,
		Protocol:        2,
		DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	})
	return s
}

// take sets the free ones of keys to token for ttl.
func (s *server) take(ctx context.Context, keys []string, token string, ttl time.Duration) (taken, error) {
	if err := s.skip(); err != nil {
		return taken{}, err
	}
	answer, err := s.runTake(ctx, keys, token, ttl)
	return answer, s.judge("take locks", err)
}

// give deletes those of keys that hold token, and answers a bit for each. What
// the server does not hear now it hears when it is back.
func (s *server) give(ctx context.Context, keys []string, token string) (string, error) {
	if err := s.skip(); err != nil {
		s.owe(debt{keys, token})
		return "", err
	}
	bits, err := s.runGive(ctx, keys, token)
	if err != nil {
		s.owe(debt{keys, token})
	}
	return bits, s.judge("give locks back", err)
}

// extend lets those of keys that hold token live for another ttl.
func (s *server) extend(ctx context.Context, keys []string, token string, ttl time.Duration) (string, error) {
	if err := s.skip(); err != nil {
		return "", err
	}
	bits, err := s.runExtend(ctx, keys, token, ttl)
	return bits, s.judge("extend locks", err)
}

func (s *server) runTake(ctx context.Context, keys []string, token string, ttl time.Duration) (taken, error) {
	reply, err := s.scripts.take.Run(ctx, s.client, keys, token, s.sets, ttl.Milliseconds(), s.locker).Result()
	if err != nil {
		return taken{}, err
	}
	return parseTaken(reply, len(keys))
}

func (s *server) runExtend(ctx context.Context, keys []string, token string, ttl time.Duration) (string, error) {
	reply, err := s.scripts.extend.Run(ctx, s.client, keys, token, s.sets, ttl.Milliseconds()).Result()
	if err != nil {
		return "", err
	}
	return parseBits(reply, len(keys))
}

func (s *server) runGive(ctx context.Context, keys []string, token string) (string, error) {
	reply, err := s.scripts.give.Run(ctx, s.client, keys, token, s.sets, wantedFor.Milliseconds(), s.channels).Result()
	if err != nil {
		return "", err
	}
	return parseBits(reply, len(keys))
}

func (s *server) skip() error {
	if s.up.Load() {
		return nil
	}
	return fmt.Errorf("lock server %s: %w", s.addr, errSkipped)
}

// judge takes the server down when a call failed. Every error counts, refusals
// to write included: a server that cannot lock is no lock server.
func (s *server) judge(verb string, err error) error {
	if err == nil {
		return nil
	}
	s.set(err)
	return fmt.Errorf("%s at lock server %s: %w", verb, s.addr, err)
}

// set records the server's health; nil is well.
func (s *server) set(err error) {
	s.mu.Lock()
	changed := s.state.Up != (err == nil) || errors.Is(s.state.Err, errUnseen)
	// The first failure is often that something took too long; why is said by a later one.
	explained := !changed && s.silent && err != nil && !silence(err)
	s.silent = err != nil && silence(err) && (changed || s.silent)
	s.state.Up, s.state.Err = err == nil, err
	if changed {
		s.state.Since = time.Now()
		if err != nil {
			s.state.Faults++
		}
	}
	s.up.Store(s.state.Up)
	state := s.state
	s.mu.Unlock()
	if (changed || explained) && s.onChange != nil {
		s.onChange(state)
	}
}

// silence tells whether an error says no more than that there was no answer in time.
func silence(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

func (s *server) health() ServerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// owe remembers a release for later; the oldest make room.
func (s *server) owe(d debt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.owed) == owedMax {
		s.owed = append(s.owed[:0], s.owed[1:]...)
	}
	s.owed = append(s.owed, d)
}

// watch probes the server until ctx ends.
func (s *server) watch(ctx context.Context, pause time.Duration) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			s.probe(ctx)
		}
	}
}

// probe asks the server how it is. One that is up gets a PING, so that an idle
// system notices too; one that is down has to work again before it may count.
func (s *server) probe(ctx context.Context) {
	wasUp := s.up.Load()
	err := s.examine(ctx, wasUp)
	if ctx.Err() != nil {
		return // our own Close cut the probe
	}
	if err != nil || !wasUp { // a PING that overlaps a failed call cures nothing
		s.set(err)
	}
}

func (s *server) examine(ctx context.Context, up bool) error {
	check := s.rehearse
	if up {
		check = s.ping
	}
	if err := check(ctx); err != nil {
		return err
	}
	return s.settle(ctx)
}

func (s *server) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return s.client.Ping(ctx).Err()
}

// rehearse takes, extends and gives back a lock of its own, which a server that
// still loads, is read-only or out of memory cannot, and which leaves the
// scripts loaded. It dials by itself first: failed dials make the client sulk
// for up to a second and write to standard error.
func (s *server) rehearse(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	_ = conn.Close()
	keys, token := []string{s.probeKey}, "probe"
	if _, err := s.runTake(ctx, keys, token, s.timeout); err != nil {
		return err
	}
	if _, err := s.runExtend(ctx, keys, token, s.timeout); err != nil {
		return err
	}
	_, err = s.runGive(ctx, keys, token)
	return err
}

// settle tells the server the releases it missed. A take that was on its way
// when the server froze is carried out when it thaws; without this its names
// would stay blocked there for a whole TTL.
func (s *server) settle(ctx context.Context) error {
	s.mu.Lock()
	owed := s.owed
	s.owed = nil
	s.mu.Unlock()
	for i, d := range owed {
		if err := s.pay(ctx, d); err != nil {
			for _, unpaid := range owed[i:] {
				s.owe(unpaid)
			}
			return err
		}
	}
	return nil
}

func (s *server) pay(ctx context.Context, d debt) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.runGive(ctx, d.keys, d.token)
	return err
}
