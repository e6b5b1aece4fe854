// Package twodb moves money between two databases by calling a service on the other side, in the two ways that come to
// mind first. Both are wrong, each in its own manner; they are here to be seen failing.
package twodb

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"lockstep/examples/lockinglab/lab"
	"lockstep/examples/lockinglab/tables"
)

// The orders in which a payer's service does its two halves.
const (
	OwnFirst    = "own-first"    // locks its own row, calls, and debits
	RemoteFirst = "remote-first" // calls, and then debits
)

const (
	lockWait        = "innodb_lock_wait_timeout=1" // seconds; all that ends a circle over two servers
	callMax         = 10 * time.Second             // longer than the other side waits for its lock
	drainMax        = 5 * time.Second
	headerMax       = 5 * time.Second
	bodyBytesMax    = 4096
	debitTriesMax   = 20
	connectionsMax  = 160 // of a service: a transfer that waits for the other side holds one
	problemDocument = "application/problem+json"
)

// Command is `lockinglab service`: one bank, with its database, that pays accounts of the other.
type Command struct {
	Listen     string `help:"Address to listen on." default:"127.0.0.1:9101"`
	DSN        string `name:"dsn" required:"" help:"MariaDB server of this bank, as user:password@tcp(host:port)/; its schema is lockinglab." env:"LOCKINGLAB_DSN"`
	Peer       string `required:"" help:"Base URL of the other bank's service."`
	Order      string `enum:"own-first,remote-first" default:"remote-first" help:"What a payer does first: lock its own row, or call the other bank (own-first, remote-first)."`
	Tied       bool   `help:"End when standard input does: with whoever started this."`
	CrashAfter int64  `help:"Die by SIGKILL between the credit and the debit of this transfer, counted from 1; 0 is never."`
}

// Run serves until the context ends.
func (c *Command) Run(ctx context.Context, log *slog.Logger) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if c.Tied {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	}
	t, err := tables.Open(ctx, c.DSN, connectionsMax, lockWait)
	if err != nil {
		return err
	}
	defer t.Close()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", c.Listen, err)
	}
	s := &service{command: c, tables: t, log: log, peer: &http.Client{
		Timeout: callMax, Transport: &http.Transport{MaxIdleConns: connectionsMax, MaxIdleConnsPerHost: connectionsMax},
	}}
	defer s.peer.CloseIdleConnections()
	server := &http.Server{Handler: s.routes(), ReadHeaderTimeout: headerMax, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	log.Info("serving", "address", listener.Addr().String(), "order", c.Order)
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainMax)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		return fmt.Errorf("drain: %w", err)
	}
	log.Info("stopped")
	return nil
}

// service is one bank.
type service struct {
	command   *Command
	tables    *tables.Tables
	log       *slog.Logger
	peer      *http.Client
	transfers atomic.Int64 // whose credit was given
	draining  atomic.Bool
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, status{"ok"}) })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("POST /transfers", s.handle(s.transfer))
	mux.HandleFunc("POST /credits", s.handle(s.credit))
	return mux
}

type status struct {
	Status string `json:"status"`
}

func (s *service) ready(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() || s.tables.DB.PingContext(r.Context()) != nil {
		refuse(w, problem{Title: "Not ready", Status: http.StatusServiceUnavailable, Code: "not_ready"})
		return
	}
	answer(w, http.StatusOK, status{"ok"})
}

// order is the body of both requests: a transfer names both accounts, a credit is that to the payee.
type order struct {
	Ticket int64 `json:"ticket"`
	Payer  int   `json:"payer"`
	Payee  int   `json:"payee"`
	Amount int64 `json:"amount"`
}

// problem is an error as RFC 9457 has it.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// The codes by which a caller knows what it may do.
const (
	codeRefused  = "insufficient_funds"
	codeDeadlock = "deadlock"
	codeTimeout  = "lock_timeout"
	codeBusy     = "peer_unavailable"
)

// setbacks are the refusals after which the same order may be sent again.
var setbacks = map[string]lab.Setback{codeDeadlock: lab.Deadlock, codeTimeout: lab.Timeout, codeBusy: lab.Busy}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // who asked may have left
}

func refuse(w http.ResponseWriter, p problem) {
	w.Header().Set("Content-Type", problemDocument)
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // who asked may have left
}

// handle decodes an order, and turns what became of it into an answer.
func (s *service) handle(work func(context.Context, order) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o order
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyBytesMax))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&o); err != nil || o.Amount < 1 || o.Payer < 1 || o.Payee < 1 {
			refuse(w, problem{Title: "Bad request", Status: http.StatusBadRequest, Code: "invalid_order"})
			return
		}
		err := work(context.WithoutCancel(r.Context()), o) // nobody knows how far it has come when the caller leaves
		var setback lab.Setback
		switch {
		case err == nil:
			answer(w, http.StatusCreated, o)
		case errors.Is(err, lab.ErrRefused):
			refuse(w, problem{Title: "Insufficient funds", Status: http.StatusUnprocessableEntity, Code: codeRefused})
		case errors.As(err, &setback):
			refuse(w, problem{Title: "Try again", Status: http.StatusServiceUnavailable, Code: codeOf(setback), Detail: setback.Error()})
		default:
			s.log.Error("order failed", "ticket", o.Ticket, "error", err)
			refuse(w, problem{Title: "Internal error", Status: http.StatusInternalServerError, Code: "internal"})
		}
	}
}

func codeOf(setback lab.Setback) string {
	for code, known := range setbacks {
		if known == setback {
			return code
		}
	}
	return codeBusy
}

// credit pays an account of this bank.
func (s *service) credit(ctx context.Context, o order) error {
	return s.do(ctx, func(ctx context.Context, tx *sql.Tx) error {
		balance, err := lock(ctx, tx, o.Payee)
		if err != nil {
			return err
		}
		return book(ctx, tx, o.Payee, balance+o.Amount, "payee", o)
	})
}

// transfer pays an account of the other bank.
func (s *service) transfer(ctx context.Context, o order) error {
	if s.command.Order == OwnFirst {
		return s.ownFirst(ctx, o)
	}
	return s.remoteFirst(ctx, o)
}

// ownFirst holds the payer's row while it waits for the other bank, which may at that moment wait for this one: no server
// sees the circle, for half of it is an HTTP call.
func (s *service) ownFirst(ctx context.Context, o order) error {
	return s.do(ctx, func(ctx context.Context, tx *sql.Tx) error {
		balance, err := lock(ctx, tx, o.Payer)
		if err != nil {
			return err
		}
		if balance < o.Amount {
			return lab.ErrRefused
		}
		if err := s.call(ctx, o); err != nil {
			return err
		}
		return book(ctx, tx, o.Payer, balance-o.Amount, "payer", o)
	})
}

// remoteFirst holds nothing while it calls. From the other bank's answer to the COMMIT here, the payee has what nobody has
// paid, and if this process dies then, nobody ever will.
func (s *service) remoteFirst(ctx context.Context, o order) error {
	if err := s.call(ctx, o); err != nil {
		return err
	}
	if s.transfers.Add(1) == s.command.CrashAfter {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	}
	for range debitTriesMax { // it must succeed now
		err := s.debit(ctx, o)
		var setback lab.Setback
		if !errors.As(err, &setback) {
			return err
		}
	}
	return errors.New("the payee was paid, and the payer could not be debited")
}

func (s *service) debit(ctx context.Context, o order) error {
	return s.do(ctx, func(ctx context.Context, tx *sql.Tx) error {
		balance, err := lock(ctx, tx, o.Payer)
		if err != nil {
			return err
		}
		if balance < o.Amount {
			return lab.ErrRefused
		}
		return book(ctx, tx, o.Payer, balance-o.Amount, "payer", o)
	})
}

// do runs a transaction on a connection of its own.
func (s *service) do(ctx context.Context, work func(context.Context, *sql.Tx) error) error {
	conn, err := s.tables.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return tables.Do(ctx, conn, work)
}

func lock(ctx context.Context, tx *sql.Tx, account int) (balance int64, err error) {
	if err := tx.QueryRowContext(ctx, "SELECT balance FROM accounts WHERE id = ? FOR UPDATE", account).Scan(&balance); err != nil {
		return 0, fmt.Errorf("lock account %d: %w", account, err)
	}
	return balance, nil
}

// book writes the new balance and notes the move on this account's side of it, payer or payee.
func book(ctx context.Context, tx *sql.Tx, account int, balance int64, side string, o order) error {
	if _, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = ?, version = version + 1 WHERE id = ?", balance, account); err != nil {
		return fmt.Errorf("write account %d: %w", account, err)
	}
	_, err := tx.ExecContext(ctx, "INSERT INTO moves (ticket, "+side+", amount) VALUES (?, ?, ?)", o.Ticket, account, o.Amount)
	if err != nil {
		return fmt.Errorf("note the move: %w", err)
	}
	return nil
}

// call has the other bank credit the payee.
func (s *service) call(ctx context.Context, o order) error {
	return post(ctx, s.peer, s.command.Peer+"/credits", o)
}

// post sends an order, and translates a definite refusal. Any other trouble leaves it unknown what became of the order.
func post(ctx context.Context, caller *http.Client, url string, o order) error {
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode an order: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := caller.Do(request)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return lab.Busy // nobody has seen the order
	}
	if err != nil {
		return fmt.Errorf("%w: %w", lab.ErrUnknown, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, bodyBytesMax))
	if err != nil {
		return fmt.Errorf("%w: %w", lab.ErrUnknown, err)
	}
	if response.StatusCode == http.StatusCreated {
		return nil
	}
	var said problem
	if err := json.Unmarshal(text, &said); err != nil {
		return fmt.Errorf("%w: status %d", lab.ErrUnknown, response.StatusCode)
	}
	if said.Code == codeRefused {
		return lab.ErrRefused
	}
	if setback, known := setbacks[said.Code]; known {
		return setback
	}
	return fmt.Errorf("%w: %s (%d)", lab.ErrUnknown, said.Code, said.Status)
}
