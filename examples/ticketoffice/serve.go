package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"lockstep/api/client"
	"lockstep/cluster/events"
	"lockstep/examples/ticketoffice/choreography"
	"lockstep/examples/ticketoffice/concert"
	"lockstep/examples/ticketoffice/counter"
	"lockstep/examples/ticketoffice/hooks"
	"lockstep/examples/ticketoffice/payment"
	"lockstep/examples/ticketoffice/points"
	"lockstep/examples/ticketoffice/push"
	"lockstep/examples/ticketoffice/queue"
	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/examples/ticketoffice/web"
	"lockstep/locks"
	"lockstep/saga"
)

// serveCommand is `ticketoffice serve`.
type serveCommand struct {
	Mode    string `help:"monolith (one long transaction), events (in process) or choreography (services of their own)." enum:"monolith,events,choreography" required:""`
	Service string `help:"Which service of a choreography: ${enum}." enum:",queue,payment,points,concert,push" default:""`
	Listen  string `help:"Address, host:port." default:"127.0.0.1:8070"`
	DSN     string `help:"The program's own schema." env:"TICKETOFFICE_DSN" required:""`
	Faults  bool   `help:"Let POST /v1/faults make steps fail. For tests."`

	Redis               []string      `help:"Redis servers; the queue uses the first, the monolith locks on all." sep:","`
	RedisPrefix         string        `help:"Begins all keys." default:"ticketoffice"`
	Capacity            int           `help:"Buyers at the counter at a time." default:"50"`
	TokenLifetime       time.Duration `help:"Of an active token." default:"5m"`
	ReservationLifetime time.Duration `help:"Of a reserved seat." default:"5m"`
	QueueURL            string        `help:"Where the concert service asks about tokens."`

	NATSURL      string `name:"nats-url" help:"The broker of a choreography."`
	NATSPassword string `name:"nats-password" help:"The service's password there; its user is its name." env:"TICKETOFFICE_NATS_PASSWORD"`

	LockstepURL  string        `help:"The payment system."`
	ClientID     string        `help:"As whom to pay: the owner of the buyers' accounts." env:"TICKETOFFICE_CLIENT_ID"`
	ClientSecret string        `help:"Its secret." env:"TICKETOFFICE_CLIENT_SECRET"`
	Shop         string        `help:"The account that is paid."`
	HoldExpires  time.Duration `help:"Of a hold: longer than a payment may take." default:"15m"`
	WebhookURL   string        `name:"webhook-url" help:"Where Lockstep reaches the /webhooks of the points service, from its side. Without it only that service's own events bring a sale on."`
}

// Help is shown by --help.
func (c *serveCommand) Help() string {
	return "Give secrets by the environment: a command line is there for all to read."
}

// program is what runs in one process: what it serves, works on, and has to close.
type program struct {
	serveCommand
	log    *slog.Logger
	db     *store.Store
	faults *sale.Faults
	mux    *web.Mux
	ready  []func(context.Context) error
	tasks  sync.WaitGroup
	ends   []func() error // in the reverse order
}

// Run serves until ctx ends.
func (c *serveCommand) Run(ctx context.Context) (err error) {
	redis.SetLogger(quiet{})
	p := &program{serveCommand: *c, log: slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("mode", c.Mode, "service", c.Service)}
	if c.Faults {
		p.faults = &sale.Faults{}
	}
	parts := []string{c.Service}
	if c.Mode != "choreography" {
		parts = choreography.Services
	}
	if p.db, err = store.Open(ctx, c.DSN, parts...); err != nil {
		return err
	}
	p.ready = append(p.ready, p.db.Ping)
	p.mux = web.NewMux(p.log, p.isReady)
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	p.tasks.Go(func() { p.db.CleanUp(background, saga.NewLog(p.db, time.Hour)) })
	if err = p.compose(ctx, background); err == nil {
		p.administer()
		err = p.mux.Serve(ctx, c.Listen)
	}
	end()
	for i := len(p.ends) - 1; i >= 0; i-- {
		err = errors.Join(err, p.ends[i]())
	}
	p.tasks.Wait()
	p.log.Info("ended")
	return errors.Join(err, p.db.Close())
}

func (p *program) compose(ctx, background context.Context) error {
	switch {
	case p.Mode != "choreography":
		return p.counter(ctx, background)
	case p.Service == "":
		return errors.New("--service says which service of the choreography this is")
	}
	config := choreography.Bus()
	config.URL, config.User, config.Password, config.System, config.Log = p.NATSURL, p.Service, p.NATSPassword, p.Service, p.log
	bus, err := events.Open(ctx, config)
	if err != nil {
		return err
	}
	p.ready = append(p.ready, func(context.Context) error { return bus.Stats().Layout })
	part, err := p.service(background, bus)
	if err != nil {
		bus.Close()
		return err
	}
	p.ends = append(p.ends, part.Close)
	p.letters(bus)
	return part.Open(ctx)
}

// service makes the part that this process has.
func (p *program) service(background context.Context, bus *events.Bus) (*choreography.Part, error) {
	switch p.Service {
	case choreography.Queue:
		tokens := p.queue(background)
		service := choreography.NewQueue(p.db, bus, p.TokenLifetime, p.faults, p.log)
		tokens.Routes(p.mux)
		p.mux.Handle("PUT /v1/payments/{id}", func(w http.ResponseWriter, r *http.Request) error {
			s, err := asked(r)
			if err == nil {
				err = service.Order(r.Context(), s)
			}
			if err != nil {
				return err
			}
			return web.Reply(w, http.StatusAccepted, map[string]string{"id": s.Payment, "state": payment.Pending})
		})
		return service.Part, nil
	case choreography.Payment:
		payment.Routes(p.mux, p.db)
		return choreography.NewPayment(p.db, bus, p.faults, p.log), nil
	case choreography.Concert:
		concert.New(p.db, p.ReservationLifetime, askQueue(p.QueueURL)).Routes(p.mux)
		return choreography.NewConcert(p.db, bus, p.faults, p.log), nil
	case choreography.Push:
		push.Routes(p.mux, p.db)
		return choreography.NewPush(p.db, bus, p.faults, p.log), nil
	}
	desk, err := p.desk()
	if err != nil {
		return nil, err
	}
	service := choreography.NewPoints(p.db, bus, desk, p.faults, p.log)
	if p.WebhookURL != "" {
		heard := hooks.New(p.db, p.WebhookURL, service.Hint)
		heard.Routes(p.mux)
		p.tasks.Go(func() { heard.Keep(background, desk.Client, p.log) })
	}
	return service.Part, nil
}

// counter is the whole office in one process.
func (p *program) counter(ctx, background context.Context) error {
	desk, err := p.desk()
	if err != nil {
		return err
	}
	c := &counter.Counter{DB: p.db, Desk: desk, Faults: p.faults, Log: p.log, TokenLifetime: p.TokenLifetime}
	if p.Mode == "monolith" {
		config := locks.Default()
		config.Addrs, config.Prefix, config.TTL = p.Redis, p.RedisPrefix, counter.LockTTL
		if c.Locks, err = locks.Open(config); err != nil {
			return err
		}
		p.ends = append(p.ends, c.Locks.Close)
	}
	tokens := p.queue(background)
	tokens.Routes(p.mux)
	concert.New(p.db, p.ReservationLifetime, tokens.MayBuy).Routes(p.mux)
	payment.Routes(p.mux, p.db)
	push.Routes(p.mux, p.db)
	p.mux.Handle("PUT /v1/payments/{id}", func(w http.ResponseWriter, r *http.Request) error {
		s, err := asked(r)
		if err != nil {
			return err
		}
		record, err := c.Pay(r.Context(), s)
		if err != nil {
			return err
		}
		return web.Reply(w, http.StatusOK, record)
	})
	p.ends = append(p.ends, c.Close)
	return c.Open(ctx)
}

func (p *program) queue(background context.Context) *queue.Queue {
	address := ""
	if len(p.Redis) > 0 {
		address = p.Redis[0]
	}
	client := redis.NewClient(&redis.Options{Addr: address, MaxRetries: -1, ContextTimeoutEnabled: true, ReadTimeout: 500 * time.Millisecond})
	p.ends = append(p.ends, client.Close)
	tokens := queue.New(p.db, client, p.RedisPrefix+":waiting", p.Capacity, p.TokenLifetime, p.log)
	p.tasks.Go(func() { tokens.Run(background) })
	return tokens
}

func (p *program) desk() (*points.Desk, error) {
	lockstep, err := client.New(client.Config{BaseURL: p.LockstepURL, ClientID: p.ClientID, ClientSecret: p.ClientSecret})
	if err != nil {
		return nil, err
	}
	if p.Shop == "" {
		return nil, errors.New("--shop names the account that is paid")
	}
	return &points.Desk{Client: lockstep, Shop: p.Shop, Expires: p.HoldExpires}, nil
}

func (p *program) isReady(ctx context.Context) error {
	for _, ready := range p.ready {
		if err := ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// administer adds what operators ask for.
func (p *program) administer() {
	p.mux.Handle("GET /v1/lengths", func(w http.ResponseWriter, _ *http.Request) error {
		return web.Reply(w, http.StatusOK, p.db.Lengths())
	})
	if p.faults == nil {
		return
	}
	p.mux.Handle("POST /v1/faults", func(w http.ResponseWriter, r *http.Request) error {
		fault, err := web.Decode[struct {
			Step    string `json:"step"`
			Payment string `json:"payment"`
			Times   int    `json:"times"`
		}](r)
		if err != nil {
			return err
		}
		p.faults.Set(fault.Step, fault.Payment, fault.Times)
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	p.mux.Handle("GET /v1/faults/{step}/{payment}", func(w http.ResponseWriter, r *http.Request) error {
		return web.Reply(w, http.StatusOK, map[string]int{"left": p.faults.Left(r.PathValue("step"), r.PathValue("payment"))})
	})
}

// letters are the events that no step could take.
func (p *program) letters(bus *events.Bus) {
	p.mux.Handle("GET /v1/dead-letters", func(w http.ResponseWriter, r *http.Request) error {
		const most = 100
		letters, err := bus.DeadLetters(r.Context(), most)
		if err != nil {
			return err
		}
		return web.Reply(w, http.StatusOK, letters)
	})
	p.mux.Handle("POST /v1/dead-letters/{id}/replay", func(w http.ResponseWriter, r *http.Request) error {
		if err := bus.Replay(r.Context(), r.PathValue("id")); errors.Is(err, events.ErrNoLetter) {
			return web.Refuse(http.StatusNotFound, "letter_not_found", "%v", err)
		} else if err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}

// asked reads an order: its id is in the path, so that a repeat is the same request.
func asked(r *http.Request) (sale.Sale, error) {
	s, err := web.Decode[sale.Sale](r)
	if err != nil {
		return s, err
	}
	s.Payment = r.PathValue("id")
	if err := s.Validate(); err != nil {
		return s, web.Refuse(http.StatusBadRequest, "invalid_request", "%v", err)
	}
	return s, nil
}

// askQueue asks the queue service whether a token may buy. Nothing is locked meanwhile.
func askQueue(base string) concert.Gate {
	asker := &http.Client{Timeout: 2 * time.Second}
	away := func(err any) error {
		return web.Refuse(http.StatusServiceUnavailable, "queue_unavailable", "the queue does not answer: %v", err)
	}
	return func(ctx context.Context, token, buyer string) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/tokens/"+url.PathEscape(token), nil)
		if err != nil {
			return fmt.Errorf("ask the queue: %w", err)
		}
		answer, err := asker.Do(request)
		if err != nil {
			return away(err)
		}
		defer answer.Body.Close()
		var found queue.Token
		if answer.StatusCode >= http.StatusInternalServerError {
			return away(strconv.Itoa(answer.StatusCode))
		}
		if answer.StatusCode != http.StatusOK || json.NewDecoder(answer.Body).Decode(&found) != nil || found.State != queue.Active || found.Buyer != buyer {
			return web.Refuse(http.StatusConflict, "token_not_active", "the token is not active, or another buyer's")
		}
		return nil
	}
}

// quiet drops what the Redis client prints; the queue says what it misses.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}
