// Package order is the pet store's order service: it takes orders, has all goods of one reserved by one call, is paid by a
// Lockstep transfer, and tells the product service how each order has ended.
package order

import (
	"context"
	"embed"
	"errors"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"time"

	"lockstep/api/client"
	"lockstep/cluster/events"
	"lockstep/examples/petstore/courier"
	"lockstep/examples/petstore/service"
	"lockstep/examples/petstore/stock"
	"lockstep/saga"
)

//go:embed migrations/*.sql
var embedded embed.FS

// Migrations are the tables of the service.
func Migrations() fs.FS {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic("order: its migrations are not embedded") // our bug: the path is a constant
	}
	return files
}

// Command is `petstore order`.
type Command struct {
	Listen       string `default:"127.0.0.1:8800" help:"Address to serve on, host:port."`
	DSN          string `required:"" env:"PETSTORE_ORDER_DSN" help:"The service's own schema: user:password@tcp(host:port)/schema; its account may CREATE."`
	Products     string `default:"http://127.0.0.1:8801" help:"URL of the product service."`
	NATS         string `required:"" name:"nats" env:"PETSTORE_NATS" help:"URL of the event broker."`
	NATSPassword string `required:"" name:"nats-password" env:"PETSTORE_NATS_PASSWORD" help:"Password of the user 'order' there."`

	Lockstep     string `required:"" env:"PETSTORE_LOCKSTEP" help:"URL of the payment system."`
	ClientID     string `required:"" env:"PETSTORE_CLIENT_ID" help:"OAuth client there, to which the wallets belong."`
	ClientSecret string `required:"" env:"PETSTORE_CLIENT_SECRET" help:"Its secret."`
	Account      string `required:"" env:"PETSTORE_ACCOUNT" help:"Number of the shop's account."`
	Currency     string `default:"KRW" help:"Currency of the shop's account."`
	Decimals     int    `default:"0" help:"Decimals of that currency: prices are in its smallest unit."`

	WebhookURL string `name:"webhook-url" help:"Where the payment system reaches this service's /webhooks, from its side. Without it an unknown payment waits for its next inquiry."`

	ProductWait  time.Duration `default:"2s" help:"One call to the product service is given up after so long, and then asked about."`
	PayWait      time.Duration `default:"5s" help:"One payment is given up after so long, and then asked about."`
	Decide       time.Duration `default:"1m" help:"An order whose goods are not certain after so long fails."`
	RetryMin     time.Duration `default:"200ms" help:"Pause before a step is tried again, doubled each time."`
	RetryMax     time.Duration `default:"5s" help:"The longest such pause."`
	Attempts     int           `default:"200" help:"An order whose step fails so often is parked, if no deadline ends it."`
	TellAttempts int           `default:"50" help:"An event that cannot be published so often is parked; an absent broker does not count."`
	Lease        time.Duration `default:"15s" help:"After so long another process goes on with an order of one that died."`
	Wait         time.Duration `default:"5s" help:"POST /orders waits so long for the order's end before it answers 202."`
}

// Help is shown by --help.
func (*Command) Help() string {
	return "Takes orders. Serves POST /orders (with an Idempotency-Key), GET /orders/{id}, an admin page at /admin, /livez and /readyz until SIGTERM."
}

// Validate refuses durations that do not fit together.
func (c *Command) Validate() error {
	if c.Lease <= c.PayWait || c.Lease <= 2*c.ProductWait {
		return errors.New("--lease must be longer than --pay-wait and than two times --product-wait")
	}
	return nil
}

// Run serves until ctx ends.
func (c *Command) Run(ctx context.Context, log *slog.Logger) (err error) {
	bank, err := client.New(client.Config{
		BaseURL: c.Lockstep, ClientID: c.ClientID, ClientSecret: c.ClientSecret, AttemptTimeout: c.PayWait, Patience: c.PayWait,
	})
	if err != nil {
		return err
	}
	defer bank.Close()
	db, err := service.Database(ctx, c.DSN, Migrations())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	health := service.Watch(ctx, db)
	defer health.Close()
	config := events.Default()
	config.URL, config.User, config.Password, config.System, config.Log = c.NATS, courier.Order, c.NATSPassword, courier.Order, log
	bus, err := events.Open(ctx, config)
	if err != nil {
		return err
	}
	defer bus.Close()
	outbox := saga.DefaultOutbox(saga.SQL(db), courier.Publisher{From: courier.Order, Bus: bus})
	outbox.Poll, outbox.AttemptsMax, outbox.Ready, outbox.Logger = 200*time.Millisecond, c.TellAttempts, bus.Connected, log
	outbox.Backoff.Min = min(c.RetryMin, outbox.Backoff.Max)
	if err := outbox.Open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, outbox.Close()) }()
	products := &stock.Client{URL: c.Products, HTTP: &http.Client{Timeout: c.ProductWait, Transport: transport()}}
	desk, err := NewDesk(db, products, bank, Shop{c.Account, c.Currency, c.Decimals}, c.patience(), log)
	if err != nil {
		return err
	}
	if err := desk.Open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, desk.Close()) }()
	mux := NewServer(desk, outbox, c.Wait, log)
	hooks := NewHooks(db, desk, c.WebhookURL)
	hooks.Routes(mux, log)
	hooks.Open(ctx, bank, log)
	defer hooks.Close()
	health.Probe(mux, log, func() map[string]any {
		return map[string]any{"events": bus.Connected(), "webhook": hooks.Ready(), "webhooks_brought_on": hooks.BroughtOn()}
	})
	return service.Serve(ctx, c.Listen, mux, log, health)
}

func (c *Command) patience() Patience {
	const workers = 24 // with a connection each, below what the pool has
	return Patience{Pay: c.PayWait, Decide: c.Decide, RetryMin: c.RetryMin, RetryMax: c.RetryMax, AttemptsMax: c.Attempts, Lease: c.Lease, Workers: workers}
}

func transport() *http.Transport {
	const idleMax = 32
	return &http.Transport{MaxIdleConnsPerHost: idleMax, IdleConnTimeout: time.Minute}
}

type server struct {
	desk   *Desk
	outbox *saga.Outbox
	wait   time.Duration
	log    *slog.Logger
}

// NewServer makes the routes of the service.
func NewServer(desk *Desk, outbox *saga.Outbox, wait time.Duration, log *slog.Logger) *http.ServeMux {
	s := &server{desk, outbox, wait, log}
	mux := http.NewServeMux()
	mux.Handle("POST /orders", service.Handle(log, s.take))
	mux.Handle("GET /orders/{id}", service.Handle(log, s.find))
	mux.HandleFunc("GET /admin", s.page)
	mux.HandleFunc("POST /admin/orders/{id}/resume", s.act(desk.Resume))
	mux.HandleFunc("POST /admin/messages/{id}/replay", s.act(outbox.Replay))
	return mux
}

// take answers 201 with a paid order, 202 with one that is under way, or with the problem that ended it.
func (s *server) take(r *http.Request) (int, any, error) {
	key := r.Header.Get("Idempotency-Key")
	if key == "" || len(key) > 255 {
		return 0, nil, service.Refuse(http.StatusBadRequest, "idempotency_key_missing", "Send an Idempotency-Key of at most 255 bytes, so that a repeat is no second order.")
	}
	asked, err := service.Decode[Request](r)
	if err != nil {
		return 0, nil, err
	}
	id, err := s.desk.Take(r.Context(), key, asked)
	if err != nil {
		return 0, nil, err
	}
	order, err := s.desk.Await(r.Context(), id, s.wait)
	switch {
	case err != nil:
		return 0, nil, err
	case order.State == Failed:
		return 0, nil, ended(order)
	case order.State != Paid:
		return http.StatusAccepted, order, nil
	}
	return http.StatusCreated, order, nil
}

// ended is the problem of an order that failed.
func ended(order Order) *service.Problem {
	code := order.Refusal
	if code == "" {
		code = service.OrderFailed
	}
	problem := service.Refuse(http.StatusConflict, code, order.Why)
	problem.Instance = "/orders/" + order.ID
	if len(order.Shortages) > 0 {
		problem.Items = order.Shortages
	}
	return problem
}

func (s *server) find(r *http.Request) (int, any, error) {
	order, err := s.desk.Find(r.Context(), r.PathValue("id"))
	return http.StatusOK, order, err
}

//go:embed admin.html
var adminPage string

var adminTemplate = template.Must(template.New("admin").Parse(adminPage))

// pageMax is how many rows of each kind the page shows.
const pageMax = 100

// page shows what waits for an operator, what is under way and what has ended, and why.
func (s *server) page(w http.ResponseWriter, r *http.Request) {
	var failures []error
	list := func(filter saga.Filter) []Order {
		orders, err := s.desk.List(r.Context(), filter, pageMax)
		failures = append(failures, err)
		return orders
	}
	messages, err := s.outbox.Parked(r.Context(), pageMax)
	waiting, statsErr := s.outbox.Stats(r.Context())
	content := map[string]any{
		"Parked": list(saga.ListParked), "Pending": list(saga.ListPending), "Done": list(saga.ListDone), "Messages": messages, "Outbox": waiting,
	}
	if err := errors.Join(append(failures, err, statsErr)...); err != nil {
		s.log.Error("the admin page cannot be shown", "error", err)
		http.Error(w, "The database does not answer.", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err := adminTemplate.Execute(w, content); err != nil {
		s.log.Warn("the admin page was not sent whole", "error", err)
	}
}

// act does what a button of the page asks for, and shows the page again.
func (s *server) act(do func(ctx context.Context, id string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := do(r.Context(), r.PathValue("id"))
		if err != nil && !errors.Is(err, saga.ErrNotFound) && !errors.Is(err, saga.ErrFinal) {
			s.log.Error("an operator's wish failed", "path", r.URL.Path, "error", err)
			http.Error(w, "The database does not answer.", http.StatusServiceUnavailable)
			return
		}
		http.Redirect(w, r, "/admin", http.StatusSeeOther)
	}
}
