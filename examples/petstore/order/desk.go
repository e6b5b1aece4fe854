package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"lockstep/examples/petstore/service"
	"lockstep/examples/petstore/stock"
	"lockstep/saga"
)

// Request is what a customer asks for.
type Request struct {
	Customer  string       `json:"customer"`
	Wallet    string       `json:"wallet"`              // the Lockstep account that pays
	Reference string       `json:"reference,omitempty"` // the customer's own name for the order, unique among the live ones
	Items     []stock.Item `json:"items"`
}

func (r Request) check() (Request, error) {
	items, err := stock.Check(r.Items)
	switch {
	case err != nil:
		return r, service.Refuse(http.StatusUnprocessableEntity, "invalid_items", err.Error())
	case r.Customer == "" || len(r.Customer) > 64 || len(r.Reference) > 100:
		return r, service.Refuse(http.StatusUnprocessableEntity, "invalid_request", "A customer has 1 to 64 bytes, a reference at most 100.")
	case r.Wallet == "" || len(r.Wallet) > 64 || strings.ContainsFunc(r.Wallet, func(c rune) bool { return c <= ' ' || c > '~' }):
		return r, service.Refuse(http.StatusUnprocessableEntity, "invalid_request", "The wallet is to be the number of an account.")
	}
	r.Items = items
	return r, nil
}

func (r Request) same(as Request) bool {
	return r.Customer == as.Customer && r.Wallet == as.Wallet && r.Reference == as.Reference && slices.Equal(r.Items, as.Items)
}

// State is where an order stands.
type State string

// The states of an order. Paid and Failed are final.
const (
	Reserving State = "reserving" // the product service has been asked, or is about to be
	Reserved  State = "reserved"  // the order is about to be written
	Placed    State = "placed"    // it is written, and being paid
	Paid      State = "paid"
	Failing   State = "failing" // what was done is being undone
	Failed    State = "failed"
	Parked    State = "parked" // it waits for an operator
)

// Order is what the service knows of one.
type Order struct {
	ID string `json:"id"`
	Request
	State     State            `json:"state"`
	Step      string           `json:"step"`              // the one at which it stands, or ended
	Refusal   string           `json:"refusal,omitempty"` // the code of what ended it
	Why       string           `json:"why,omitempty"`     // it failed, or does not get on
	Shortages []stock.Shortage `json:"shortages,omitempty"`
	Lines     []stock.Line     `json:"lines,omitempty"`
	Total     int64            `json:"total,omitempty"` // in the smallest unit of the currency
	Currency  string           `json:"currency"`
	Transfer  string           `json:"transfer,omitempty"` // the payment's id in Lockstep
	Attempts  int              `json:"attempts"`           // failures of this step so far
	NextTry   *time.Time       `json:"next_try,omitempty"`
	DecideBy  time.Time        `json:"decide_by"` // unless it is being paid by then, it fails
	CreatedAt time.Time        `json:"created_at"`
	UpdatedAt time.Time        `json:"updated_at"`
}

// Final tells whether nothing will change any more.
func (o Order) Final() bool { return o.State == Paid || o.State == Failed }

// Patience says how long the desk waits, and how often it asks.
type Patience struct {
	Pay         time.Duration // one try of a payment ends by then, answered or not
	Decide      time.Duration // an order whose goods are not certain after so long fails
	RetryMin    time.Duration // before the second try of a step; doubled with each one more
	RetryMax    time.Duration
	AttemptsMax int           // then an order that nothing else ends is parked
	Lease       time.Duration // a try gets so long; above the bounds of the calls
	Workers     int           // orders in hand at once
}

// Desk takes orders, and brings each to its end.
type Desk struct {
	db         saga.Database
	sagas      *saga.Log
	definition *saga.Definition
	runner     *saga.Runner
	shop       Shop
	patience   Patience

	mu      sync.Mutex
	waiting map[string]chan struct{} // by order: closed when somebody has worked on it
}

// stuckAfter is when an order that is under way is worth a warning.
const stuckAfter = 2 * time.Minute

// NewDesk makes a desk on a migrated database; Open starts it.
func NewDesk(db *sql.DB, shelf Shelf, bank Bank, shop Shop, patience Patience, log *slog.Logger) (*Desk, error) {
	database := saga.SQL(db)
	d := &Desk{db: database, sagas: saga.NewLog(database, stuckAfter), shop: shop, patience: patience, waiting: map[string]chan struct{}{}}
	var err error
	if d.definition, err = (steps{shelf, bank, shop, patience.Pay}).define(); err != nil {
		return nil, err
	}
	d.definition.AttemptsMax = patience.AttemptsMax
	handle := d.definition.Handler(d.sagas)
	d.runner = saga.DefaultRunner(d.sagas, map[string]saga.Handler{kind: func(ctx context.Context, s saga.Saga) saga.Outcome {
		defer d.worked(s.ID)
		return handle(ctx, s)
	}})
	d.runner.Poll, d.runner.Lease, d.runner.Workers, d.runner.Logger = 200*time.Millisecond, patience.Lease, patience.Workers, log
	d.runner.Backoff = saga.Backoff{Min: patience.RetryMin, Max: patience.RetryMax, Jitter: 0.5}
	return d, nil
}

// Open goes on with the orders that are under way.
func (d *Desk) Open(ctx context.Context) error { return d.runner.Open(ctx) }

// Close leaves them to the next process.
func (d *Desk) Close() error { return d.runner.Close() }

// ID of the order that a customer asks for under an idempotency key.
func ID(customer, key string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("petstore:"+customer+"\x00"+key)).String()
}

// Take stores an order, with the keys of all calls that it will make, and answers with its id. The same key is the same
// order; with another request it is refused.
func (d *Desk) Take(ctx context.Context, key string, asked Request) (string, error) {
	asked, err := asked.check()
	if err != nil {
		return "", err
	}
	s := saga.Saga{ID: ID(asked.Customer, key)}
	if err := (data{Request: asked}).keep(&s); err != nil {
		return "", err
	}
	err = service.Within(ctx, d.db, func(tx saga.Tx) error {
		return d.definition.Start(saga.New{ID: s.ID, Data: s.Data, Within: d.patience.Decide}).Exec(ctx, tx)
	})
	if err != nil {
		return "", fmt.Errorf("take order %s: %w", s.ID, err)
	}
	known, err := d.Find(ctx, s.ID)
	if err == nil && !known.same(asked) {
		err = service.Refuse(http.StatusUnprocessableEntity, "idempotency_key_reused", "Another order was made under this key.")
	}
	if err != nil {
		return "", err
	}
	d.runner.Wake()
	return s.ID, nil
}

// Await answers with the order when it is final, or as it stands when the time is over.
func (d *Desk) Await(ctx context.Context, id string, atMost time.Duration) (Order, error) {
	const look = time.Second // others may have worked on it, or an operator
	defer d.worked(id)       // nobody may work on it any more: who else waits looks again
	limit := time.NewTimer(atMost)
	defer limit.Stop()
	for {
		worked := d.wait(id)
		found, err := d.Find(ctx, id)
		if err != nil || found.Final() {
			return found, err
		}
		select {
		case <-worked:
		case <-time.After(look):
		case <-limit.C:
			return found, nil
		case <-ctx.Done():
			return found, ctx.Err()
		}
	}
}

func (d *Desk) wait(id string) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting[id] == nil {
		d.waiting[id] = make(chan struct{})
	}
	return d.waiting[id]
}

func (d *Desk) worked(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if waiting := d.waiting[id]; waiting != nil {
		close(waiting)
		delete(d.waiting, id)
	}
}

// Find reads an order.
func (d *Desk) Find(ctx context.Context, id string) (Order, error) {
	s, err := d.sagas.Get(ctx, id)
	if errors.Is(err, saga.ErrNotFound) {
		return Order{}, service.Refuse(http.StatusNotFound, service.NotFound, "There is no such order.")
	}
	if err != nil {
		return Order{}, err
	}
	return d.view(s)
}

// List shows orders in flight, parked or done.
func (d *Desk) List(ctx context.Context, filter saga.Filter, limit int) ([]Order, error) {
	sagas, err := d.sagas.List(ctx, filter, limit)
	if err != nil {
		return nil, err
	}
	orders := make([]Order, len(sagas))
	for i, s := range sagas {
		if orders[i], err = d.view(s); err != nil {
			return nil, err
		}
	}
	return orders, nil
}

// Resume has a parked order tried again, at once.
func (d *Desk) Resume(ctx context.Context, id string) error {
	if err := d.sagas.Resume(ctx, id); err != nil {
		return err
	}
	d.runner.Wake()
	return nil
}

// hasten has an order, whose payment is said to be certain by now, ask again without waiting for its next try, and counts it if
// it has not ended. A try in hand ends first: it may have the answer, or it may be about to miss it.
func (d *Desk) hasten(ctx context.Context, tx saga.Tx, id string) (int64, error) {
	due := saga.Hasten(d.patience.Pay, id)
	result, err := tx.Exec(ctx, due.Query, due.Args...)
	if err != nil {
		return 0, fmt.Errorf("hasten order %s: %w", id, err)
	}
	return result.RowsAffected()
}

// view tells from the saga where its order stands, and why.
func (d *Desk) view(s saga.Saga) (Order, error) {
	known, err := decode(s)
	if err != nil {
		return Order{}, err
	}
	o := Order{
		ID: s.ID, Request: known.Request, Step: s.Step, Refusal: known.Refusal, Why: known.Why, Shortages: known.Shortages, Lines: known.Lines,
		Total: known.Total, Currency: d.shop.Currency, Transfer: known.Transfer, Attempts: s.Attempt,
		DecideBy: s.Deadline, CreatedAt: s.CreatedAt, UpdatedAt: s.UpdatedAt,
	}
	if o.Step == "" {
		o.Step = stepReserve
	}
	if o.Why == "" {
		o.Why = s.Cause
	}
	switch s.State {
	case saga.StateDone:
		o.State = Paid
	case saga.StateFailed:
		o.State = Failed
	case saga.StateParked:
		o.State, o.Why = Parked, s.Reason
	case saga.StateCompensating:
		o.State = Failing
	default:
		o.State, o.Why = map[string]State{stepReserve: Reserving, stepInsert: Reserved, stepPay: Placed}[o.Step], s.Reason
	}
	if !o.Final() && o.State != Parked {
		o.NextTry = &s.NextAt
	}
	return o, nil
}
