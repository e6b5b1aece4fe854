// Package web is the HTTP edge that all programs of the ticket office share.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	bodyMax     = 64 << 10
	readMax     = 5 * time.Second
	writeMax    = 60 * time.Second // longer than a payment waits for its answer
	shutdownMax = 10 * time.Second
	readyMax    = time.Second
)

// Problem is a refusal that a client may read (RFC 9457).
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

func (p *Problem) Error() string { return fmt.Sprintf("%s (%d): %s", p.Code, p.Status, p.Detail) }

// Refuse makes a problem.
func Refuse(status int, code, detail string, args ...any) *Problem {
	return &Problem{Type: "/problems/" + code, Title: http.StatusText(status), Status: status, Detail: fmt.Sprintf(detail, args...), Code: code}
}

// Mux routes requests to handlers that return what they cannot do.
type Mux struct {
	mux *http.ServeMux
	log *slog.Logger
}

// NewMux has /livez, and /readyz, which asks ready.
func NewMux(log *slog.Logger, ready func(context.Context) error) *Mux {
	m := &Mux{mux: http.NewServeMux(), log: log}
	m.Handle("GET /livez", func(w http.ResponseWriter, _ *http.Request) error {
		return Reply(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	m.Handle("GET /readyz", func(w http.ResponseWriter, r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), readyMax)
		defer cancel()
		if err := ready(ctx); err != nil {
			return Refuse(http.StatusServiceUnavailable, "not_ready", "%v", err)
		}
		return Reply(w, http.StatusOK, map[string]string{"status": "ready"})
	})
	return m
}

// Handle adds a route. A *Problem goes to the client as it is; any other error is logged and shown as internal.
func (m *Mux) Handle(pattern string, handle func(w http.ResponseWriter, r *http.Request) error) {
	m.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, bodyMax)
		err := handle(w, r)
		if err == nil {
			return
		}
		var problem *Problem
		if !errors.As(err, &problem) {
			m.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
			problem = Refuse(http.StatusInternalServerError, "internal", "the outcome is unknown: send the same request again")
		}
		write(w, problem.Status, "application/problem+json", problem)
	})
}

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.mux.ServeHTTP(w, r) }

// Decode reads a JSON body and refuses fields that nobody knows.
func Decode[T any](r *http.Request) (value T, err error) {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&value); err != nil {
		return value, Refuse(http.StatusBadRequest, "invalid_request", "%v", err)
	}
	return value, nil
}

// Reply answers with JSON.
func Reply(w http.ResponseWriter, status int, body any) error {
	write(w, status, "application/json", body)
	return nil
}

func write(w http.ResponseWriter, status int, kind string, body any) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone
}

// Serve serves until ctx ends, and then ends what is in hand.
func (m *Mux) Serve(ctx context.Context, listen string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: m.mux, ReadTimeout: readMax, WriteTimeout: writeMax}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	m.log.Info("serving", "listen", listener.Addr().String())
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownMax)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("end what is in hand: %w", err), server.Close())
	}
	return nil
}
