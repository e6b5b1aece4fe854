// Package api is the HTTP edge: it turns REST requests into commands and reads, and results into answers. It decides
// nothing about money.
package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/api/console"
	"lockstep/cluster/traces"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
)

// Bounds of a connection. The answer to a transfer may take waitMax, which counts for neither timeout.
const (
	readTimeout    = 10 * time.Second // of one whole request
	writeTimeout   = 10 * time.Second // of one whole answer
	idleTimeout    = 90 * time.Second // longer than the balancer keeps connections, so that it never writes to a closed one
	headerBytesMax = 16 << 10
	connectionsMax = 16 << 10
	readWaitMax    = 5 * time.Second // of a read for its data
	changeWaitMax  = 10 * time.Second
)

// Deps is all that the edge needs of the rest of a node.
type Deps struct {
	System     string
	Version    string
	Currencies []ledger.Currency // in which accounts may be opened
	Zone       *time.Location    // in which the days of limits begin; nil is UTC
	// RequestsMax bounds the changes, and as many reads, that are in hand at a time; more are refused as overloaded. 0 is
	// RequestsMaxDefault.
	RequestsMax int
	Engine      posting.Submitter
	Store       Store
	Peers       *Peers   // nil: there are no other systems
	Webhooks    Webhooks // required, as accounts are told of when they are opened
	Authority   Authority
	People      People // nil: nobody signs in
	Logins      Logins // nil: there is no OpenID provider
	Web         Web
	Limits      Limits
	Audit       Audit // nil: nothing is recorded
	Health      func() Health
	Locks       func() Locks     // of GET /v1/admin/locks
	Now         func() time.Time // the database's time
	Clock       func() time.Time // the node's own, which measures durations
	NewID       func() string    // a fresh UUIDv7
	Traces      *traces.Traces   // nil is off
	Logger      *slog.Logger
	Metrics     prometheus.Registerer
}

// Server is the REST listener of one node.
type Server struct {
	deps     Deps
	app      *fiber.App
	metrics  metrics
	gates    gates
	pages    pages
	console  *console.Console
	streams  *gate // that tell how transfers go on
	names    *names
	draining atomic.Bool

	mu       sync.Mutex
	listener net.Listener // what Serve was given
	stopped  bool
}

// New prepares a server; it listens to nothing yet. It fails when its metrics are registered already.
func New(deps Deps) (*Server, error) {
	s := &Server{deps: deps, streams: &gate{max: streamsMax}, names: &names{byID: map[string]knownName{}}}
	var err error
	if s.metrics, err = newMetrics(deps.Metrics); err != nil {
		return nil, err
	}
	if s.gates, err = newGates(deps.Metrics, deps.RequestsMax); err != nil {
		return nil, err
	}
	file, err := readOpenAPI()
	if err != nil {
		return nil, err
	}
	if s.pages, err = newPages(file); err != nil {
		return nil, err
	}
	if s.console, err = console.New(); err != nil {
		return nil, err
	}
	routes, err := guard(s.routes(), file)
	if err != nil {
		return nil, err
	}
	s.app = fiber.New(fiber.Config{
		Immutable: true, CaseSensitive: true, StrictRouting: true, DisableStartupMessage: true,
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ReadBufferSize: headerBytesMax, Concurrency: connectionsMax,
		// Bodies are read, bounded and thrown away by intake, whatever becomes of the request.
		StreamRequestBody: true, BodyLimit: bodyBytesMax, DisablePreParseMultipartForm: true,
		ErrorHandler: s.handleServerError,
	})
	s.app.Use(s.observe)
	for _, r := range routes {
		s.app.Add(r.method, fiberPath(r.path), s.handler(r))
		if r.method == fiber.MethodGet {
			s.app.Add(fiber.MethodHead, fiberPath(r.path), s.handler(r))
		}
	}
	server := s.app.Server()
	server.Handler = s.intake(s.app.Handler())
	server.CloseOnShutdown = true
	server.Logger = transportLog{deps.Logger}
	return s, nil
}

// transportLog takes what fasthttp has to say about broken connections, which are the clients' affair.
type transportLog struct{ logger *slog.Logger }

func (l transportLog) Printf(format string, args ...any) {
	l.logger.Debug("connection", "said", fmt.Sprintf(format, args...))
}

// Listen serves on addr until Shutdown; then it returns nil.
func (s *Server) Listen(addr string) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	return s.Serve(listener)
}

// Serve is Listen on a listener that is open already; it closes it. After Shutdown it returns at once.
func (s *Server) Serve(listener net.Listener) error {
	s.mu.Lock()
	s.listener = listener
	stopped := s.stopped
	s.mu.Unlock()
	if stopped {
		return listener.Close()
	}
	if err := s.app.Server().Serve(listener); err != nil {
		return fmt.Errorf("serve REST: %w", err)
	}
	return nil
}

// Drain turns /readyz red, so that the balancer sends no more requests here; those that come are still served.
func (s *Server) Drain() { s.draining.Store(true) }

// Shutdown stops listening, lets the requests under way end, and returns when they have or ctx ends. Call Drain first
// and wait for longer than the balancer needs to notice.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	if err := s.app.Server().ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("shut the REST listener down: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped = true; s.listener != nil {
		_ = s.listener.Close() // fasthttp knows nothing of it while Serve is about to begin; else it is closed already
	}
	return nil
}

// handleServerError answers what went wrong before a request could be read.
func (s *Server) handleServerError(c *fiber.Ctx, err error) error {
	x := s.exchange(c)
	x.fail(err)
	s.record(x)
	return nil
}

// read runs fn on a database that is as fresh as the request asks, and notes which one it was. A row that the source
// does not have either is refused with missing.
func (x *exchange) read(missing *ledger.Error, fn func(ctx context.Context, q Queries) error) error {
	ctx, cancel := context.WithTimeout(x.context(), readWaitMax)
	defer cancel()
	from, err := x.server.deps.Store.Read(ctx, x.consistency(), fn)
	if err != nil {
		return unless(missing, err)
	}
	x.set("Read-From", string(from))
	return nil
}

// consistency is how fresh the caller wants to read.
func (x *exchange) consistency() store.Consistency {
	token := x.header("Consistency-Token")
	if token == "" && x.forPeople() {
		token = x.fiber.Cookies(seenCookie)
	}
	return store.Consistency{Token: store.Token(token), Source: x.noCache()}
}
