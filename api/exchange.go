package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"lockstep/api/auth"
	"lockstep/cluster/traces"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// exchange is one request on its way to its answer. It belongs to one goroutine.
type exchange struct {
	server    *Server
	fiber     *fiber.Ctx
	route     guarded // zero while none has matched
	id        string
	language  language
	started   time.Time
	principal auth.Principal
	signed    string // the principal that the request has signed in
	peer      string // whose signature the request has, on the routes of peers
	key       string // the Idempotency-Key, checked
	replayed  bool
	failure   error // what is logged and not shown
	span      traces.Span
	gate      *gate // in which the request has a place

	// submitted says that a change has left for the database: from here on an unexpected failure is "unknown", for
	// "not applied" could be a lie.
	submitted bool
}

const exchangeKey = "lockstep.exchange"

// exchange makes the exchange of a request that has just come in.
func (s *Server) exchange(c *fiber.Ctx) *exchange {
	x := &exchange{server: s, fiber: c, started: s.deps.Clock()}
	x.id = requestID(x.header("Request-Id"), s.deps.NewID)
	x.language = preferredLanguage(x.header("Accept-Language"))
	if x.forPeople() {
		x.language = x.spoken()
	}
	c.Locals(exchangeKey, x)
	x.set("Request-Id", x.id)
	x.set("X-Content-Type-Options", "nosniff")
	return x
}

// observe is around every request: it answers errors and panics, and writes the log line and the metrics.
func (s *Server) observe(c *fiber.Ctx) error {
	x := s.exchange(c)
	defer s.record(x)
	if err := x.next(); err != nil {
		x.fail(err)
	}
	x.audit()
	return nil
}

// next runs the handler; a panic becomes an error.
func (x *exchange) next() (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	if body := x.body(); body.refusal != nil {
		return body.refusal
	}
	return x.fiber.Next()
}

// handler makes fiber's handler of a route: is there room, who asks, may they, then the route itself.
func (s *Server) handler(r guarded) fiber.Handler {
	gate := s.gates.of(r.route)
	return func(c *fiber.Ctx) error {
		x := c.Locals(exchangeKey).(*exchange)
		x.route = r
		x.trace()
		if gate != nil {
			if err := gate.enter(); err != nil {
				return err
			}
			x.gate = gate
			defer x.leaveGate()
		}
		switch {
		case r.access.open:
			if err := x.limit(); err != nil {
				return err
			}
		case r.access.peer:
			return x.servePeer(r.serve)
		default:
			if err := x.authenticate(); err != nil {
				return x.limitRefused(err)
			}
		}
		if r.keyed {
			var err error
			if x.key, err = parseKey(c.Request().Header.PeekAll("Idempotency-Key")); err != nil {
				return err
			}
		}
		return r.serve(x)
	}
}

// leaveGate gives the request's place up, once.
func (x *exchange) leaveGate() {
	if x.gate != nil {
		x.gate.leave()
		x.gate = nil
	}
}

func (x *exchange) authenticate() error {
	x.set("Cache-Control", "no-store")
	ctx, cancel := context.WithTimeout(x.context(), readWaitMax)
	defer cancel()
	principal, err := x.authenticated(ctx)
	if err != nil {
		return err
	}
	x.principal = principal
	if err := x.limit(); err != nil {
		return err
	}
	if !x.route.access.admits(principal.Scopes) {
		return ledger.Refuse(ledger.Forbidden, "this needs the scope %s", x.route.access.need)
	}
	return nil
}

// context is what the work of a request runs under. It does not end when the client leaves: what was asked for is done
// all the same, and the client learns about it by asking again.
func (x *exchange) context() context.Context { return x.fiber.UserContext() }

func (x *exchange) header(name string) string { return x.fiber.Get(name) }

func (x *exchange) set(name, value string) { x.fiber.Set(name, value) }

// param is a part of the path.
func (x *exchange) param(name string) string {
	text := x.fiber.Params(name)
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}

func (x *exchange) noCache() bool {
	for directive := range strings.SplitSeq(x.header("Cache-Control"), ",") {
		if strings.EqualFold(strings.TrimSpace(directive), "no-cache") {
			return true
		}
	}
	return false
}

// body is what intake read.
func (x *exchange) body() intakeBody {
	body, _ := x.fiber.Context().UserValue(bodyKey).(intakeBody)
	return body
}

// actor is the principal as the ledger's rules see it.
func (x *exchange) actor() ledger.Actor {
	return ledger.Actor{
		Principal: x.principal.Owner, Operator: x.principal.Operator(),
		Depositor: x.principal.Client && x.principal.Scopes.Has(auth.MoneyDeposit),
	}
}

// write sends an answer.
func (x *exchange) write(answer store.Answer) error {
	if answer.Location != "" {
		x.set("Location", answer.Location)
	}
	x.set("Content-Type", answer.ContentType)
	return x.fiber.Status(answer.Status).Send(answer.Body)
}

// answer sends a value as JSON.
func (x *exchange) answer(status int, value any) error {
	return x.write(store.Answer{Status: status, ContentType: jsonType, Body: encode(value)})
}

// fail sends the problem that an error is. A header of an answer that was begun must not stay.
func (x *exchange) fail(err error) {
	refusal := x.refusal(err)
	problem := newProblem(refusal, x.language, x.id, x.header("Idempotency-Key") != "")
	x.span.Note("lockstep.code", string(problem.Code))
	if problem.Status >= 500 {
		x.failure = err
	}
	after := rules[problem.Code].after
	var told interface{ RetryAfter() time.Duration }
	if errors.As(err, &told) {
		after = max(after, int(math.Ceil(told.RetryAfter().Seconds())))
	}
	if after > 0 {
		x.set("Retry-After", strconv.Itoa(after))
	}
	if challenge := x.challenge(problem.Code); challenge != "" {
		x.set("WWW-Authenticate", challenge)
	}
	x.set("Cache-Control", "no-store")
	if x.forPeople() && x.failPage(problem) == nil {
		return
	}
	_ = x.write(problem.answer()) // writes to memory only
}

// challenge tells a client what it lacks (RFC 6750, 3).
func (x *exchange) challenge(code ledger.Code) string {
	switch {
	case code == ledger.Unauthenticated && x.header("Authorization") == "":
		return `Bearer realm="lockstep"`
	case code == ledger.Unauthenticated:
		return `Bearer realm="lockstep", error="invalid_token"`
	case code == ledger.Forbidden && x.route.access.need != "" && !x.route.access.admits(x.principal.Scopes):
		return `Bearer realm="lockstep", error="insufficient_scope", scope="` + x.route.access.need + `"`
	}
	return ""
}

// refusal finds the refusal that an error stands for.
func (x *exchange) refusal(err error) *ledger.Error {
	var refusal *ledger.Error
	var transport *fiber.Error
	switch {
	case errors.As(err, &refusal):
		return refusal
	case errors.As(err, &transport):
		return x.transportRefusal(transport)
	case x.submitted, errors.Is(err, store.ErrCommitUnknown):
		return &ledger.Error{Code: ledger.OutcomeUnknown}
	case store.ClassOf(err) == store.ClassServer:
		return &ledger.Error{Code: ledger.SourceUnavailable}
	}
	return &ledger.Error{Code: ledger.Internal}
}

// transportRefusal words what fiber found wrong. Its own texts repeat what the client sent, and are not shown.
func (x *exchange) transportRefusal(err *fiber.Error) *ledger.Error {
	switch err.Code {
	case fiber.StatusNotFound:
		return &ledger.Error{Code: ledger.NotFound}
	case fiber.StatusMethodNotAllowed:
		return &ledger.Error{Code: ledger.MethodNotAllowed}
	case fiber.StatusRequestEntityTooLarge:
		return &ledger.Error{Code: ledger.PayloadTooLarge}
	case fiber.StatusRequestHeaderFieldsTooLarge:
		return ledger.Refuse(ledger.InvalidRequest, "the headers have at most %d bytes", headerBytesMax)
	case fiber.StatusRequestTimeout:
		return &ledger.Error{Code: requestTimeout}
	}
	return ledger.Refuse(ledger.InvalidRequest, "this is no HTTP request that can be read")
}

// unless replaces a missing row by the refusal that belongs to it.
func unless(missing *ledger.Error, err error) error {
	if missing != nil && errors.Is(err, store.ErrMiss) {
		return missing
	}
	return err
}
