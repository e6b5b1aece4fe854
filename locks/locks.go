// Package locks takes sets of named locks over several independent Redis
// servers, all names of a set in one round trip per server.
//
// It is admission control: it keeps two processes from working on the same
// thing at the same time, which saves them from queueing on each other's row
// locks. It is never the proof that only one of them does; whoever needs that
// has a fence of its own behind it. So the answer to every trouble with Redis
// is ErrUnavailable, at once, and the caller goes on without.
//
// DESIGN.md tells how a set travels and what the package leaves out.
package locks

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

var (
	// ErrUnavailable says that no quorum of the servers answered in time. Nothing
	// is held, and nobody can be said to hold anything: go on without locks.
	ErrUnavailable = errors.New("no quorum of lock servers")

	// ErrLost says that names of a set are no longer confirmed by a quorum.
	ErrLost = errors.New("locks lost")

	// ErrReleased says that the set was released before.
	ErrReleased = errors.New("set of locks already released")

	// ErrClosed says that the Locker is closed.
	ErrClosed = errors.New("locker is closed")
)

const (
	// namesMax bounds one set, and so the time that one script keeps a server
	// from everybody else: about a microsecond a name.
	namesMax = 2048

	// connsMax bounds the connections to one server. A set in hand uses one for
	// the length of a round trip, so this is the number of sets that can be on
	// their way at once before they queue for a connection.
	connsMax = 32

	// timeoutsPerTTL is how many timeouts a TTL has to hold at least: taking a
	// set, giving back its minority grants and one extension may each use one
	// up, and the work itself wants the rest.
	timeoutsPerTTL = 4
)

// Grant says what became of one name of a set.
type Grant uint8

const (
	// Split is a name that neither we nor anybody else holds on a quorum: two
	// or more takers met, or too few servers answered. Try again after a random
	// pause. It is also the answer for a name that the set does not contain.
	Split Grant = iota
	// Held is a name that a quorum of the servers gave to us.
	Held
	// Busy is a name that a quorum of the servers shows in the hands of one
	// other holder.
	Busy
	// Lost is a name that was Held until Extend or Release found that a quorum
	// no longer confirms it: a flushed or restarted server, or a TTL that ended.
	Lost
)

// String returns the word for the grant, as metrics use it.
func (g Grant) String() string {
	switch g {
	case Held:
		return "held"
	case Busy:
		return "busy"
	case Lost:
		return "lost"
	default:
		return "split"
	}
}

// Config says where the servers are and how long things may take.
type Config struct {
	// Addrs are the servers, host:port. They share nothing, and a quorum is a
	// majority of this list whether its servers are up or not: three or five.
	Addrs []string

	// Username, Password and TLS are for servers that ask for them.
	Username, Password string
	TLS                *tls.Config

	// Prefix and a colon stand before every name, so that several systems can
	// share servers. The order of names is not changed by it.
	Prefix string

	// TTL is how long a set is held when nobody releases or extends it: longer
	// than the longest work under a set, and the time that the names of a
	// crashed process stay blocked.
	TTL time.Duration

	// Timeout bounds each round trip. A server that misses it is left out until
	// a probe finds it well again.
	Timeout time.Duration

	// Probe is the pause between two probes of a server.
	Probe time.Duration

	// OnChange, if set, hears of every server that goes down or comes back. It
	// is called on the goroutine that noticed, so it must return quickly.
	OnChange func(ServerState)
}

// Default returns the durations that suit servers on the same network. Addrs
// and Prefix are the caller's to fill in. A process that died blocks its names
// for a second and a half: whoever waits for them is served within two.
func Default() Config {
	return Config{
		Prefix:  "lock",
		TTL:     1500 * time.Millisecond,
		Timeout: 50 * time.Millisecond,
		Probe:   100 * time.Millisecond,
	}
}

// Validate refuses a configuration that could not keep what the package
// promises, and names the field.
func (c Config) Validate() error {
	if err := c.validateAddrs(); err != nil {
		return err
	}
	switch {
	case c.Prefix == "" || strings.ContainsAny(c.Prefix, " \r\n"):
		return fmt.Errorf("prefix %q of the lock names: must be a word", c.Prefix)
	case c.Timeout < time.Millisecond:
		return fmt.Errorf("lock timeout %v: must be at least 1ms", c.Timeout)
	case c.TTL < timeoutsPerTTL*c.Timeout:
		return fmt.Errorf("lock TTL %v: must be at least %d timeouts of %v", c.TTL, timeoutsPerTTL, c.Timeout)
	case c.Probe < time.Millisecond:
		return fmt.Errorf("pause between lock server probes %v: must be at least 1ms", c.Probe)
	}
	return nil
}

// validateAddrs also refuses an address given twice: one server would then
// count as two, and a minority could pass for a quorum.
func (c Config) validateAddrs() error {
	if len(c.Addrs) == 0 {
		return errors.New("addresses of the lock servers: at least one is needed")
	}
	for i, addr := range c.Addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("address %q of a lock server: %w", addr, err)
		}
		if slices.Contains(c.Addrs[:i], addr) {
			return fmt.Errorf("address %q of a lock server is given twice", addr)
		}
	}
	return nil
}
