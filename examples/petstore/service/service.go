// Package service is what the pet store's two services have in common as processes: a database of their own, a listener
// with probes, problems as answers, and an end in order.
package service

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	headerMax = 5 * time.Second
	idleMax   = time.Minute
	drainMax  = 10 * time.Second
	lookEvery = time.Second
	lookMax   = 2 * time.Second
)

// Health tells whether the database can be reached.
type Health struct {
	db    *sql.DB
	ready atomic.Bool
	life  context.Context
	end   context.CancelFunc
	ended chan struct{}
}

// Watch looks after a database until Close.
func Watch(ctx context.Context, db *sql.DB) *Health {
	h := &Health{db: db, ended: make(chan struct{})}
	h.life, h.end = context.WithCancel(context.WithoutCancel(ctx))
	h.look()
	go h.run()
	return h
}

func (h *Health) run() {
	defer close(h.ended)
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-h.life.Done():
			return
		case <-ticker.C:
			h.look()
		}
	}
}

func (h *Health) look() {
	ctx, cancel := context.WithTimeout(h.life, lookMax)
	defer cancel()
	h.ready.Store(h.db.PingContext(ctx) == nil)
}

// Ready answers at once.
func (h *Health) Ready() bool { return h.ready.Load() }

// Close turns readyz red, and stops looking.
func (h *Health) Close() {
	h.end()
	<-h.ended
	h.ready.Store(false)
}

// Probe adds /livez and /readyz, whose body also says what else is as it should be, or not.
func (h *Health) Probe(mux *http.ServeMux, log *slog.Logger, more func() map[string]any) {
	mux.Handle("GET /livez", Handle(log, func(*http.Request) (int, any, error) {
		return http.StatusOK, map[string]string{"status": "alive"}, nil
	}))
	mux.Handle("GET /readyz", Handle(log, func(*http.Request) (int, any, error) {
		state := more()
		state["database"] = h.Ready()
		if !h.Ready() {
			return http.StatusServiceUnavailable, state, nil
		}
		return http.StatusOK, state, nil
	}))
}

// Serve answers on the address until ctx ends, finishes what is in flight, for 10 s at most, and returns.
func Serve(ctx context.Context, listen string, handler http.Handler, log *slog.Logger, health *Health) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	// Forms of the admin pages are taken from these pages only.
	server := &http.Server{Handler: http.NewCrossOriginProtection().Handler(handler), ReadHeaderTimeout: headerMax, IdleTimeout: idleMax}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	log.Info("serving", "address", listener.Addr().String())
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", listen, err)
	case <-ctx.Done():
	}
	log.Info("draining")
	health.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainMax)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return fmt.Errorf("some requests did not end in time: %w", errors.Join(err, server.Close()))
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", listen, err)
	}
	return nil
}
