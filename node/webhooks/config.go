// Package webhooks sends the events that the posting engine has written for webhooks to the addresses that their owners gave,
// signed as the Standard Webhooks specification says.
package webhooks

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Config bounds deliveries. Start from DefaultConfig.
type Config struct {
	// Allow are networks that may be sent to although they are private, loopback or reserved otherwise; only to them also by
	// plain http.
	Allow []netip.Prefix

	Timeout     time.Duration // one attempt, answer included
	Settle      time.Duration // writing down what came of an attempt; later another node may try it again
	RetryMin    time.Duration // pause after the first failure; doubled with each further one
	RetryMax    time.Duration // the longest pause
	GiveUpAfter time.Duration // since the event, or its replay
	Keep        time.Duration // what ended stays in the log for so long

	WorkersMax int           // attempts at a time of this node
	ShareMax   int           // of these, attempts to one webhook
	OwnerMax   int           // of these, attempts to all webhooks of one owner
	Poll       time.Duration // how often to look for what other nodes have left, about
}

// DefaultConfig tries for three days, first again after five seconds and then ever more seldom, and keeps the log for 30 days.
func DefaultConfig() Config {
	return Config{
		Timeout: 10 * time.Second, Settle: 10 * time.Second, RetryMin: 5 * time.Second, RetryMax: 6 * time.Hour, GiveUpAfter: 72 * time.Hour, Keep: 30 * 24 * time.Hour,
		WorkersMax: 32, ShareMax: 8, OwnerMax: 16, Poll: time.Second,
	}
}

// timeoutMax bounds an attempt, for a node that stops waits for those under way.
const timeoutMax = 20 * time.Second

// Validate names the first setting that cannot work.
func (c Config) Validate() error {
	switch {
	case c.Timeout < time.Second || c.Timeout > timeoutMax:
		return fmt.Errorf("timeout: between 1s and %v", timeoutMax)
	case c.Settle < time.Second:
		return errors.New("settle: at least 1s")
	case c.RetryMin < 100*time.Millisecond || c.RetryMax < c.RetryMin:
		return errors.New("retry_min: at least 100ms, and retry_max no less")
	case c.GiveUpAfter < c.RetryMin:
		return errors.New("give_up_after: at least retry_min")
	case c.Keep < time.Second:
		return errors.New("keep: at least 1s")
	case c.WorkersMax < 1 || c.ShareMax < 1 || c.OwnerMax < 1 || c.Poll <= 0:
		return errors.New("workers, shares and poll must be above zero")
	}
	return nil
}

// lease is how long a claimed delivery is in one dispatcher's hands.
func (c Config) lease() time.Duration { return c.Timeout + c.Settle }

// pause is how long to wait after so many attempts, of which the last one has failed. random, in [0, 1), draws up to half of it,
// so that what failed together does not come back together. The last attempt is at the end of GiveUpAfter; after it the answer
// is false.
func (c Config) pause(attempts int, age, asked time.Duration, random float64) (time.Duration, bool) {
	left := c.GiveUpAfter - age
	if left <= 0 {
		return 0, false
	}
	pause := c.RetryMax
	if doublings := attempts - 1; doublings < 62 && c.RetryMin <= c.RetryMax>>doublings {
		pause = c.RetryMin << doublings
	}
	pause -= time.Duration(random * float64(pause) / 2)
	return min(max(pause, min(asked, c.RetryMax)), left), true
}
