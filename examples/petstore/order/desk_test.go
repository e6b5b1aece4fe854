package order_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/api/client"
	"lockstep/cluster/local/servers"
	"lockstep/examples/petstore/order"
	"lockstep/examples/petstore/service"
	"lockstep/examples/petstore/stock"
	"lockstep/saga"
)

// world is an order service with a shelf, a bank and a carrier by hand; the zero ones answer well.
type world struct {
	testing.TB
	ctx     context.Context
	db      *sql.DB
	desk    *order.Desk
	outbox  *saga.Outbox
	url     string
	reserve func(n int32) (stock.Reservation, error)
	ask     func() (stock.Reservation, error)
	pay     func(n int32) (client.Transfer, error)
	publish func(saga.Message) error
	change  func(*order.Patience)
	hooks   *order.Hooks
	payWait time.Duration // of the patience

	reserved, asked, paid atomic.Int32
}

func (w *world) Reserve(_ context.Context, asked stock.Request) (stock.Reservation, error) {
	n := w.reserved.Add(1)
	if w.reserve != nil {
		return w.reserve(n)
	}
	return reservation(asked.ID), nil
}

func (w *world) Ask(context.Context, string) (stock.Reservation, error) {
	w.asked.Add(1)
	return w.ask()
}

func (w *world) Transfer(ctx context.Context, _ client.Payment, _ ...client.Option) (client.Transfer, error) {
	n := w.paid.Add(1)
	if end, bounded := ctx.Deadline(); !bounded || time.Until(end) > w.payWait {
		w.Errorf("a payment may take until %s, longer than %s", end, w.payWait)
	}
	if w.pay != nil {
		return w.pay(n)
	}
	return client.Transfer{ID: "t", State: "posted"}, nil
}

func (w *world) Publish(_ context.Context, m saga.Message) error {
	if w.publish != nil {
		return w.publish(m)
	}
	return nil
}

func reservation(id string) stock.Reservation {
	return stock.Reservation{ID: id, State: stock.Reserved, Lines: []stock.Line{{Item: stock.Item{Product: "a", Quantity: 2}, Price: 10}}, Total: 20}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// open starts the service; what happens is to be set before.
func open(t *testing.T, w *world, decide time.Duration) *world {
	t.Helper()
	var cancel context.CancelFunc
	w.TB = t
	w.ctx, cancel = context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	var err error
	w.db, err = service.Database(w.ctx, servers.Shared(t).Database(t).Migrate, order.Migrations())
	w.must(err)
	t.Cleanup(func() { _ = w.db.Close() })
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	patience := order.Patience{
		Pay: 100 * time.Millisecond, Decide: decide, RetryMin: 20 * time.Millisecond, RetryMax: 100 * time.Millisecond, AttemptsMax: 5, Lease: 5 * time.Second, Workers: 4,
	}
	if w.change != nil {
		w.change(&patience)
	}
	w.payWait = patience.Pay
	w.desk, err = order.NewDesk(w.db, w, w, order.Shop{Account: "shop", Currency: "KRW"}, patience, log)
	w.must(err)
	w.outbox = saga.DefaultOutbox(saga.SQL(w.db), w)
	w.outbox.Poll, w.outbox.AttemptsMax, w.outbox.Backoff = 20*time.Millisecond, 3, saga.Backoff{Min: time.Millisecond, Max: 10 * time.Millisecond}
	w.must(w.desk.Open(w.ctx))
	w.must(w.outbox.Open(w.ctx))
	mux := order.NewServer(w.desk, w.outbox, 50*time.Second, log)
	w.hooks = order.NewHooks(w.db, w.desk, hookURL)
	w.hooks.Routes(mux, log)
	server := httptest.NewServer(mux)
	w.url = server.URL
	t.Cleanup(func() {
		server.Close()
		_ = w.outbox.Close()
		_ = w.desk.Close()
	})
	return w
}

// buy posts an order and answers with the status and what was said.
func (w *world) buy(key, reference string) (status int, said struct{ ID, State, Code, Detail string }) {
	w.Helper()
	body := fmt.Sprintf(`{"customer":"c","wallet":"w","reference":%q,"items":[{"product":"a","quantity":2}]}`, reference)
	request, err := http.NewRequestWithContext(w.ctx, http.MethodPost, w.url+"/orders", strings.NewReader(body))
	w.must(err)
	request.Header.Set("Idempotency-Key", key)
	response, err := http.DefaultClient.Do(request)
	w.must(err)
	defer response.Body.Close()
	w.must(json.NewDecoder(response.Body).Decode(&said))
	return response.StatusCode, said
}

func (w *world) page() string {
	w.Helper()
	request, err := http.NewRequestWithContext(w.ctx, http.MethodGet, w.url+"/admin", nil)
	w.must(err)
	response, err := http.DefaultClient.Do(request)
	w.must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	w.must(err)
	return string(text)
}

// press finds the button behind a text on the admin page, and presses it.
func (w *world) press(text, verb string) {
	w.Helper()
	_, rest, shown := strings.Cut(w.page(), text)
	_, rest, button := strings.Cut(rest, `action="`)
	action, _, _ := strings.Cut(rest, `"`)
	if !shown || !button || !strings.HasSuffix(action, verb) {
		w.Fatalf("the page has no button to %s behind %q, but %q", verb, text, action)
	}
	request, err := http.NewRequestWithContext(w.ctx, http.MethodPost, w.url+action, nil)
	w.must(err)
	response, err := http.DefaultClient.Do(request)
	w.must(err)
	w.must(response.Body.Close())
}

func (w *world) within(what string, condition func() bool) {
	w.Helper()
	for !condition() {
		select {
		case <-w.ctx.Done():
			w.Fatalf("waited in vain: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

var errSilence = errors.New("silence")

func TestSilenceIsAskedAboutAndNotTakenForAFailure(t *testing.T) {
	t.Parallel()
	w := &world{
		reserve: func(int32) (stock.Reservation, error) { return stock.Reservation{}, errSilence },
	}
	w.ask = func() (stock.Reservation, error) {
		if w.asked.Load() < 3 {
			return stock.Reservation{}, errSilence
		}
		return reservation("x"), nil
	}
	open(t, w, time.Minute)
	if status, said := w.buy("k", ""); status != http.StatusCreated || said.State != "paid" {
		t.Errorf("it was answered with %d %+v", status, said)
	}
	if w.reserved.Load() != 1 || w.asked.Load() != 3 {
		t.Errorf("it was sent %d times and asked about %d times", w.reserved.Load(), w.asked.Load())
	}
}

// An order whose goods stay uncertain fails at its time, says so to the product service, and has touched no money.
func TestUncertainGoodsEndTheOrderAtItsTime(t *testing.T) {
	t.Parallel()
	var told atomic.Value
	w := &world{
		reserve: func(int32) (stock.Reservation, error) { return stock.Reservation{}, errSilence },
		ask:     func() (stock.Reservation, error) { return stock.Reservation{}, stock.ErrNotArrived },
		publish: func(m saga.Message) error { told.Store(string(m.Events)); return nil },
	}
	open(t, w, 500*time.Millisecond)
	if status, said := w.buy("k", ""); status != http.StatusConflict || said.Code != "order_failed" {
		t.Errorf("it was answered with %d %+v", status, said)
	}
	w.within("order.failed is told", func() bool { text, _ := told.Load().(string); return strings.Contains(text, "order.failed") })
	if w.paid.Load() != 0 {
		t.Error("it was paid")
	}
}

// Past its time an order that may be paid is neither failed nor given up: it is parked in the end, and an operator goes on.
func TestAnUnansweredPaymentIsAskedAboutThenParkedThenResumed(t *testing.T) {
	t.Parallel()
	var answers atomic.Bool
	w := &world{}
	w.pay = func(int32) (client.Transfer, error) {
		if answers.Load() {
			return client.Transfer{ID: "t", State: "posted"}, nil
		}
		_, err := w.db.ExecContext(w.ctx, "UPDATE sagas SET deadline = UTC_TIMESTAMP(6)")
		return client.Transfer{}, errors.Join(err, &client.UnknownError{Key: "k", Cause: &client.Problem{Status: 403, Code: "forbidden"}})
	}
	open(t, w, time.Minute)
	answered := make(chan int, 1)
	go func() {
		status, _ := w.buy("k", "")
		answered <- status
	}()
	w.within("it is parked", func() bool { return strings.Contains(w.page(), "Try again") })
	if o, err := w.desk.Find(w.ctx, order.ID("c", "k")); err != nil || o.State != order.Parked || !strings.Contains(o.Why, "forbidden") {
		t.Errorf("the order shows %s (%s), %v", o.State, o.Why, err)
	}
	answers.Store(true)
	w.press(order.ID("c", "k"), "/resume")
	select {
	case status := <-answered:
		if status != http.StatusCreated || w.paid.Load() != 6 {
			t.Errorf("after %d payments it was answered with %d", w.paid.Load(), status)
		}
	case <-w.ctx.Done():
		t.Error("nobody answered")
	}
}

func TestARefusedPaymentFailsTheOrderAndFreesItsReference(t *testing.T) {
	t.Parallel()
	w := &world{pay: func(n int32) (client.Transfer, error) {
		if n == 1 {
			return client.Transfer{}, &client.Problem{Status: 422, Code: "insufficient_funds", Detail: "too little"}
		}
		return client.Transfer{ID: "t", State: "posted"}, nil
	}}
	open(t, w, time.Minute)
	if status, said := w.buy("first", "r"); status != http.StatusConflict || said.Code != "insufficient_funds" {
		t.Errorf("it was answered with %d %+v", status, said)
	}
	if status, said := w.buy("second", "r"); status != http.StatusCreated {
		t.Errorf("the second was answered with %d %+v", status, said)
	}
	if status, said := w.buy("third", "r"); status != http.StatusConflict || !strings.Contains(said.Detail, "has an order with the reference") {
		t.Errorf("the third was answered with %d %+v", status, said)
	}
	var failed, paid int
	w.must(w.db.QueryRowContext(w.ctx, "SELECT COUNT(IF(state = 'failed', 1, NULL)), COUNT(IF(state = 'paid', 1, NULL)) FROM orders").Scan(&failed, &paid))
	if failed != 1 || paid != 1 || w.paid.Load() != 2 {
		t.Errorf("%d orders are kept as failed, %d as paid, after %d payments", failed, paid, w.paid.Load())
	}
}

func TestNewsThatCannotBePublishedAreParkedShownAndPublishedAgain(t *testing.T) {
	t.Parallel()
	var works atomic.Bool
	var tried, told atomic.Int32
	w := &world{publish: func(saga.Message) error {
		tried.Add(1)
		if !works.Load() {
			return errors.New("the stream is full")
		}
		told.Add(1)
		return nil
	}}
	open(t, w, time.Minute)
	if status, said := w.buy("k", ""); status != http.StatusCreated { // the customer need not wait for it
		t.Errorf("it was answered with %d %+v", status, said)
	}
	w.within("it is parked", func() bool { return strings.Contains(w.page(), "the stream is full") })
	if tried.Load() != 3 {
		t.Errorf("it was tried %d times", tried.Load())
	}
	works.Store(true)
	w.press("the stream is full", "/replay")
	w.within("it is told", func() bool { return told.Load() == 1 })
	w.within("it is shown no more", func() bool { return !strings.Contains(w.page(), "the stream is full") })
}
