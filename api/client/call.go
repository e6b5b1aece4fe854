package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// call is one method call: a request that may be sent many times.
type call struct {
	method    string
	path      string
	query     url.Values
	body      any
	anonymous bool // sent without a token
	keyed     bool // sent under an idempotency key
	key       string
	keyGiven  bool // by the caller: it is never exchanged
	resumed   bool // something may have been sent under the key before
	fresh     bool
}

func (c *call) reads() bool { return c.method == http.MethodGet }

// progress is how far a call has come.
type progress struct {
	call
	payload []byte
	// open says that an earlier attempt may have been applied and that no answer has told yet. From then on only an
	// answer decided under the key's claim ends the call well, and the key stays what it is.
	open            bool
	unauthenticated int // answers of 401 in a row
	last            error
}

// unauthenticatedMax is how many tokens in a row are tried before it is not the token's age that is wrong.
const unauthenticatedMax = 3

// verdict is what an attempt means for the call.
type verdict int

const (
	again    verdict = iota // send the same once more
	anew                    // send the same under another key
	finished                // the attempt answered the call
	refused                 // the call ends with the attempt's error
)

// do sends the request until it is answered, and decodes the answer into what into points to, if anything.
func (c *Client) do(ctx context.Context, asked call, options []Option, into any) error {
	for _, option := range options {
		option(&asked)
	}
	run := &progress{call: asked}
	if err := run.prepare(c.config.NewKey); err != nil {
		return err
	}
	if _, limited := ctx.Deadline(); !limited {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, c.config.Patience)
		defer cancel()
	}
	for attempt := 1; ; attempt++ {
		if ctx.Err() != nil {
			return run.end(errors.Join(ctx.Err(), run.last))
		}
		reply, err := c.attempt(ctx, run)
		switch run.judge(reply, err) {
		case finished:
			return run.decode(reply, into)
		case refused:
			return run.end(run.last)
		case anew:
			run.key, attempt = c.config.NewKey(), 1
		}
		if err := c.config.Wait(ctx, max(reply.retryAfter(c.config.Clock()), c.backoff(attempt))); err != nil {
			return run.end(errors.Join(err, run.last))
		}
	}
}

func (p *progress) prepare(newKey func() string) error {
	switch {
	case !p.keyed && p.keyGiven:
		return fmt.Errorf("client: %s %s takes no key", p.method, p.path)
	case p.keyed && !p.keyGiven:
		p.key = newKey()
	}
	p.open = p.resumed
	if p.keyed && !validKey(p.key) {
		return fmt.Errorf("client: an idempotency key has 1 to 255 visible ASCII characters, none of them a quote, not %q", p.key)
	}
	if p.reads() || p.method == http.MethodDelete {
		return nil
	}
	payload, err := json.Marshal(p.body)
	if err != nil {
		return fmt.Errorf("client: encode the request: %w", err)
	}
	p.payload = payload
	return nil
}

func validKey(key string) bool {
	for _, c := range []byte(key) {
		if c <= ' ' || c > '~' || c == '"' {
			return false
		}
	}
	return len(key) >= 1 && len(key) <= 255
}

// judge learns from an attempt.
func (p *progress) judge(reply *reply, err error) verdict {
	if err != nil {
		return p.judgeSilence(err)
	}
	if reply.problem == nil {
		return finished
	}
	problem := reply.problem
	p.last = problem
	if problem.Status == http.StatusUnauthorized {
		p.unauthenticated++
		if p.unauthenticated < unauthenticatedMax {
			return again
		}
		return refused
	}
	p.unauthenticated = 0
	if p.keyed && problem.decided() {
		return p.judgeDecided(problem)
	}
	return p.judgeUndecided(problem)
}

// judgeDecided looks at a refusal that ends its key for good without any effect. One of them is about the moment, not
// about the request, and invites to another key: the server error that is stored. A refusal such as insufficient_funds
// invites too, but only the caller knows whether the cause is gone.
func (p *progress) judgeDecided(problem *Problem) verdict {
	p.open = false
	if problem.Status == http.StatusServiceUnavailable && !p.keyGiven {
		return anew
	}
	return refused
}

// judgeUndecided looks at a problem that speaks of its own request alone.
func (p *progress) judgeUndecided(problem *Problem) verdict {
	if problem.Outcome != NotApplied {
		p.open = true
	}
	switch {
	case problem.Retry == SameKey || problem.Retry == Later:
		return again
	case p.method == http.MethodDelete && p.open && problem.Status == http.StatusNotFound:
		return finished // an earlier attempt has done it, or somebody else
	}
	return refused
}

// judgeSilence looks at an attempt without an answer.
func (p *progress) judgeSilence(err error) verdict {
	// An attempt that was cut short by the context tells less than the answer before it.
	cut := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	if p.last == nil || !cut {
		p.last = err
	}
	var silent *silence
	if !errors.As(err, &silent) {
		p.last = err
		return refused
	}
	p.open = p.open || silent.mayHaveArrived
	return again
}

// end is the error that the call returns.
func (p *progress) end(cause error) error {
	if p.open && !p.reads() {
		return &UnknownError{Method: p.method, Path: p.path, Key: p.key, Cause: cause}
	}
	var problem *Problem
	if errors.As(cause, &problem) {
		return fmt.Errorf("%s %s: %w", p.method, p.path, cause)
	}
	return fmt.Errorf("%s %s was not carried out: %w", p.method, p.path, cause)
}

func (p *progress) decode(reply *reply, into any) error {
	if into == nil || reply.problem != nil {
		return nil
	}
	if err := json.Unmarshal(reply.body, into); err != nil {
		return fmt.Errorf("%s %s was answered with %d, but the body cannot be read: %w", p.method, p.path, reply.status, err)
	}
	return nil
}

// silence is an attempt that ended without a whole answer. Another attempt may fare better.
type silence struct {
	cause          error
	mayHaveArrived bool
}

func (s *silence) Error() string { return s.cause.Error() }
func (s *silence) Unwrap() error { return s.cause }

// silenceAfterSending is certain that nothing arrived only when there was no connection to send on.
func silenceAfterSending(cause error) *silence {
	var op *net.OpError
	return &silence{cause: fmt.Errorf("no answer: %w", cause), mayHaveArrived: !errors.As(cause, &op) || op.Op != "dial"}
}

// retryAfter is the Retry-After of an answer (RFC 9110, 10.2.3), seconds or a date; 0 is none.
func (r *reply) retryAfter(now time.Time) time.Duration {
	if r == nil {
		return 0
	}
	text, asked := r.header.Get("Retry-After"), time.Duration(0)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		asked = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		asked = max(at.Sub(now), 0)
	}
	return min(asked, retryAfterMax)
}

// retryAfterMax keeps a wrong Retry-After from stopping a caller for good.
const retryAfterMax = time.Minute
