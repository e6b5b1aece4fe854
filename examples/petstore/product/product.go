// Package product is the pet store's product service: it reserves goods, all of an order by one call, keeps a log that can
// be asked what became of a call, and puts back what belongs to an order that failed.
package product

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/events"
	"lockstep/examples/petstore/courier"
	"lockstep/examples/petstore/service"
	"lockstep/examples/petstore/stock"
	"lockstep/saga"
)

// Command is `petstore product`.
type Command struct {
	Listen       string        `default:"127.0.0.1:8801" help:"Address to serve on, host:port."`
	DSN          string        `required:"" env:"PETSTORE_PRODUCT_DSN" help:"The service's own schema: user:password@tcp(host:port)/schema; its account may CREATE."`
	NATS         string        `required:"" name:"nats" env:"PETSTORE_NATS" help:"URL of the event broker."`
	NATSPassword string        `required:"" name:"nats-password" env:"PETSTORE_NATS_PASSWORD" help:"Password of the user 'product' there."`
	Deliveries   int           `default:"20" help:"After so many failed deliveries an event is parked as a dead letter."`
	RetryMax     time.Duration `default:"15s" help:"The longest pause before an event that could not be applied comes again; the first is 200ms, doubled each time."`
	AckWait      time.Duration `default:"10s" help:"An event in the hands of a process that died comes again after so long."`
}

// Help is shown by --help.
func (*Command) Help() string {
	return "Reserves goods and gives them back. Serves POST /reservations, GET /reservations/{id}, GET and PUT /products, an admin page at /admin, /livez and /readyz until SIGTERM."
}

// Run serves until ctx ends.
func (c *Command) Run(ctx context.Context, log *slog.Logger) (err error) {
	db, err := service.Database(ctx, c.DSN, Migrations())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	health := service.Watch(ctx, db)
	defer health.Close()
	config := events.Default()
	config.URL, config.User, config.Password, config.System, config.Log = c.NATS, courier.Product, c.NATSPassword, courier.Product, log
	config.MaxDeliver, config.AckWait = c.Deliveries, c.AckWait
	config.BackOff = c.pauses()
	bus, err := events.Open(ctx, config)
	if err != nil {
		return err
	}
	defer bus.Close()
	store := NewStore(db)
	if err := bus.Consume(courier.Handler(bus, store.Apply, log), events.Options{Ready: health.Ready, Parallel: 8}); err != nil {
		return err
	}
	clean, stop := context.WithCancel(context.WithoutCancel(ctx))
	cleaned := make(chan struct{})
	go func() { defer close(cleaned); forget(clean, db, config.MaxAge, log) }()
	defer func() { stop(); <-cleaned }()
	mux := (&server{store, bus, log, make(chan struct{}, reservingMax)}).routes()
	health.Probe(mux, log, func() map[string]any {
		s := bus.Stats()
		return map[string]any{"events": s.Connected, "events_done": s.Done, "events_later": s.Later, "events_dead": s.Dead}
	})
	return service.Serve(ctx, c.Listen, mux, log, health)
}

// pauses grow from the shortest to the longest.
func (c *Command) pauses() (all []time.Duration) {
	const shortest = 200 * time.Millisecond
	for pause := shortest; pause < c.RetryMax; pause *= 2 {
		all = append(all, pause)
	}
	return append(all, max(c.RetryMax, time.Millisecond))
}

// forget deletes receipts of events that the broker cannot deliver again any more.
func forget(ctx context.Context, db *sql.DB, after time.Duration, log *slog.Logger) {
	const every, batch = 10 * time.Minute, 1000
	for {
		for n := batch; n == batch && ctx.Err() == nil; {
			var err error
			if n, err = saga.CleanInbox(ctx, saga.SQL(db), 2*after, batch); err != nil && ctx.Err() == nil {
				log.Warn("old receipts were not deleted", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// reservingMax is how many reservations are in the database at once: they would only wait for one another's products there,
// and keep connections from the events that give goods back.
const reservingMax = 12

type server struct {
	store *Store
	bus   *events.Bus
	log   *slog.Logger
	slots chan struct{}
}

func (s *server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, work := range map[string]func(*http.Request) (int, any, error){
		"POST /reservations":     s.reserve,
		"GET /reservations/{id}": s.find,
		"GET /products":          s.shelf,
		"PUT /products/{id}":     s.stock,
	} {
		mux.Handle(pattern, service.Handle(s.log, work))
	}
	mux.HandleFunc("GET /admin", s.page)
	mux.HandleFunc("POST /admin/letters/{id}/replay", s.replay)
	return mux
}

// requestMax ends a transaction whose caller has given up long ago.
const requestMax = 10 * time.Second

// bounded detaches the work from its caller: one that leaves gets its answer from the log.
func bounded(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), requestMax)
}

func (s *server) reserve(r *http.Request) (int, any, error) {
	asked, err := service.Decode[stock.Request](r)
	if err != nil {
		return 0, nil, err
	}
	if parsed, err := uuid.Parse(asked.ID); err != nil || parsed.String() != asked.ID {
		return 0, nil, service.Refuse(http.StatusBadRequest, "invalid_request", "The id is to be a UUID in small letters.")
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-r.Context().Done(): // who has left asks again, and what was not begun is not in the way then
		return 0, nil, fmt.Errorf("wait for a turn: %w", r.Context().Err())
	}
	ctx, cancel := bounded(r)
	defer cancel()
	answer, err := s.store.Reserve(ctx, asked)
	switch {
	case err != nil:
		return 0, nil, err
	case answer.State == stock.Refused:
		problem := service.Refuse(http.StatusConflict, service.OutOfStock, answer.Why)
		problem.Items = answer.Shortages
		return 0, nil, problem
	case answer.State == stock.Closed || answer.State == stock.Restored:
		return 0, nil, service.Refuse(http.StatusConflict, service.OrderFailed, "The order has failed: "+answer.Why)
	}
	return http.StatusCreated, answer, nil
}

func (s *server) find(r *http.Request) (int, any, error) {
	ctx, cancel := bounded(r)
	defer cancel()
	found, err := s.store.Find(ctx, r.PathValue("id"))
	return http.StatusOK, found, err
}

func (s *server) shelf(r *http.Request) (int, any, error) {
	all, err := s.store.Shelf(r.Context())
	return http.StatusOK, map[string]any{"products": all}, err
}

func (s *server) stock(r *http.Request) (int, any, error) {
	p, err := service.Decode[Product](r)
	if err != nil {
		return 0, nil, err
	}
	p.ID = r.PathValue("id")
	ctx, cancel := bounded(r)
	defer cancel()
	return http.StatusOK, p, s.store.Stock(ctx, p)
}

//go:embed admin.html
var adminPage string

var adminTemplate = template.Must(template.New("admin").Parse(adminPage))

// page shows the shelf, the log and the events that could not be applied.
func (s *server) page(w http.ResponseWriter, r *http.Request) {
	products, err := s.store.Shelf(r.Context())
	log, logErr := s.store.Log(r.Context())
	if err := errors.Join(err, logErr); err != nil {
		s.log.Error("the admin page cannot be shown", "error", err)
		http.Error(w, "The database does not answer.", http.StatusServiceUnavailable)
		return
	}
	letters, lettersErr := s.bus.DeadLetters(r.Context(), pageMax)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	err = adminTemplate.Execute(w, map[string]any{"Products": products, "Log": log, "Letters": letters, "Silent": lettersErr})
	if err != nil {
		s.log.Warn("the admin page was not sent whole", "error", err)
	}
}

func (s *server) replay(w http.ResponseWriter, r *http.Request) {
	if err := s.bus.Replay(r.Context(), r.PathValue("id")); err != nil && !errors.Is(err, events.ErrNoLetter) {
		s.log.Error("a dead letter was not replayed", "letter", r.PathValue("id"), "error", err)
		http.Error(w, "The broker does not answer.", http.StatusServiceUnavailable)
		return
	}
	http.Redirect(w, r, "/admin", http.StatusSeeOther)
}
