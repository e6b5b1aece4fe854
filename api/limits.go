package api

import (
	"strconv"
	"time"

	"lockstep/api/auth"
	"lockstep/api/ratelimit"
	"lockstep/node/ledger"
)

// Limits are how often each caller may use each route. A route that is open to everybody counts by address instead, and so
// do refused credentials of all routes together. What balancers ask for, and what other systems sign, has no limit.
type Limits struct {
	Limiter *ratelimit.Limiter // nil: there are none
	Client  ratelimit.Limit    // a program
	Person  ratelimit.Limit
	Address ratelimit.Limit
}

// limit counts the request against what its caller may do, tells the caller how much that is, and refuses with RateLimited.
func (x *exchange) limit() error {
	limits := &x.server.deps.Limits
	switch {
	case limits.Limiter == nil || x.route.access.peer || x.route.path == "/livez" || x.route.path == "/readyz":
		return nil
	case x.route.access.open:
		return x.use("address", auth.Network(x.address())+" "+x.route.name(), limits.Address)
	case x.principal.Client:
		return x.use("client", x.principal.Caller+" "+x.route.name(), limits.Client)
	}
	return x.use("person", x.principal.Caller+" "+x.route.name(), limits.Person)
}

// limitRefused counts credentials that were refused against the address that sent them: who guesses is told to wait.
func (x *exchange) limitRefused(refusal error) error {
	limits := &x.server.deps.Limits
	if limits.Limiter == nil || ledger.CodeOf(refusal) != ledger.Unauthenticated {
		return refusal
	}
	if err := x.use("refused", auth.Network(x.address())+" refused", limits.Address); err != nil {
		return err
	}
	return refusal
}

// use takes one use, and words what is left as draft-ietf-httpapi-ratelimit-headers does: a policy by its name, q uses in
// w seconds, of which r remain and all are there again after t seconds.
func (x *exchange) use(policy, key string, limit ratelimit.Limit) error {
	if limit == (ratelimit.Limit{}) {
		return nil
	}
	d := x.server.deps.Limits.Limiter.Use(x.context(), key, limit)
	window := (limit.Burst + limit.Rate - 1) / limit.Rate
	text := make([]byte, 0, 64)
	text = append(append(append(text, '"'), policy...), `";q=`...)
	text = append(strconv.AppendInt(text, int64(limit.Burst), 10), ";w="...)
	x.set("RateLimit-Policy", string(strconv.AppendInt(text, int64(window), 10)))
	text = append(append(append(text[:0], '"'), policy...), `";r=`...)
	text = append(strconv.AppendInt(text, int64(d.Remaining), 10), ";t="...)
	x.set("RateLimit", string(strconv.AppendInt(text, seconds(d.Reset), 10)))
	if d.Allowed {
		return nil
	}
	refusal := ledger.Refuse(ledger.RateLimited, "at most %d requests at once and %d a second; the headers RateLimit say more", limit.Burst, limit.Rate)
	return tooMany{refusal, d.Retry}
}

// tooMany says when to come back.
type tooMany struct {
	error
	after time.Duration
}

// Unwrap is what the client is told.
func (t tooMany) Unwrap() error { return t.error }

// RetryAfter is what stands in Retry-After.
func (t tooMany) RetryAfter() time.Duration { return t.after }

// seconds rounds up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
