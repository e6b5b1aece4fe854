package tour

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"lockstep/examples/petstore/courier"
	"lockstep/examples/petstore/order"
	"lockstep/examples/petstore/stock"
)

// Scene is one thing that may happen to a store.
type Scene struct {
	Name  string // what is to be seen
	Alone bool   // it freezes or kills services, which others could not bear
	Play  func(ctx context.Context, s *Stage) error
}

// Scenes are played in this order; those that are not Alone may be played at once.
func Scenes() []Scene {
	return []Scene{
		{Name: "an order of ten items is reserved by one call and paid", Play: tenItems},
		{Name: "a shortage is told item by item and takes nothing", Play: shortage},
		{Name: "an order that cannot be written gives its stock back once, though the event comes three times", Play: insertFails},
		{Name: "a refused payment touches no money and gives the stock back", Play: refusedPayment},
		{Name: "the same key is the same order", Play: sameKey},
		{Name: "a reservation whose answer is lost goes on by asking the log", Play: answerLost},
		{Name: "a reservation that did not arrive is sent again under its id", Play: notArrived},
		{Name: "a payment whose answers are lost is paid once", Play: paymentLost},
		{Name: "an event that comes before its reservation closes the door", Play: eventFirst},
		{Name: "a consumer that fails is tried again, then parked and shown", Play: consumerFails},
		{Name: "payments without an answer go on by a webhook, late when its receiver was down, and not by a forged one", Alone: true, Play: hinted},
		{Name: "orders end definite when the product service was frozen under them", Alone: true, Play: frozen},
		{Name: "two hundred orders at once over the same goods neither deadlock nor oversell", Alone: true, Play: crowd},
		{Name: "after kills at random orders, stock and money agree", Alone: true, Play: killed},
	}
}

func tenItems(ctx context.Context, s *Stage) error {
	ids, err := s.stock(ctx, "ten", 5, 1000, 10)
	if err != nil {
		return err
	}
	wallet, err := s.wallet(ctx, 50_000)
	if err != nil {
		return err
	}
	id := order.ID(s.customer("ten"), "k")
	s.products.watch(id, func(string) fate { return pass })
	a, err := paidFor(ctx, s.order, "k", order.Request{Customer: s.customer("ten"), Wallet: wallet, Items: basket(2, ids...)})
	return all(
		func() error { return err },
		func() error {
			return expect(a.ID == id && a.Total == 20_000 && len(a.Lines) == 10, "it is %+v", a.Order)
		},
		func() error {
			calls := s.products.count(http.MethodPost, id)
			return expect(calls == 1 && s.products.count(http.MethodGet, id) == 0, "%d calls reserved it", calls)
		},
		func() error { return s.wantLeft(ctx, ids, 3) },
		func() error { return s.wantMoney(ctx, wallet, 30_000) },
		func() error { return s.awaitReservation(ctx, id, stock.Sold) },
	)
}

func shortage(ctx context.Context, s *Stage) error {
	ids, err := s.stock(ctx, "short", 4, 1000, 3)
	if err != nil {
		return err
	}
	wallet, err := s.wallet(ctx, 50_000)
	if err != nil {
		return err
	}
	items := append(basket(1, ids[0]), stock.Item{Product: ids[1], Quantity: 9}, stock.Item{Product: "unicorn", Quantity: 1})
	a, err := buy(ctx, s.order, "k", order.Request{Customer: s.customer("short"), Wallet: wallet, Items: items})
	wanted := []stock.Shortage{{Item: items[1], Available: 4}, {Item: items[2], Unknown: true}}
	id := order.ID(s.customer("short"), "k")
	return all(
		func() error { return err },
		func() error {
			return expect(a.Status == http.StatusConflict && a.Code == "out_of_stock" && slices.Equal(a.Short, wanted), "it was answered with %+v", a)
		},
		func() error {
			o, err := s.find(ctx, id)
			return all(func() error { return err }, func() error {
				return expect(o.State == order.Failed && slices.Equal(o.Shortages, wanted) && o.Why != "", "the order shows %+v", o)
			})
		},
		func() error { return s.wantLeft(ctx, ids, 4) },
		func() error { return s.awaitReservation(ctx, id, stock.Refused) },
		func() error { return s.wantMoney(ctx, wallet, 50_000) },
	)
}

func insertFails(ctx context.Context, s *Stage) error {
	ids, err := s.stock(ctx, "twice", 10, 1000, 3)
	if err != nil {
		return err
	}
	wallet, err := s.wallet(ctx, 50_000)
	if err != nil {
		return err
	}
	asked := order.Request{Customer: s.customer("twice"), Wallet: wallet, Reference: "spring", Items: basket(2, ids...)}
	if _, err := paidFor(ctx, s.order, "first", asked); err != nil {
		return err
	}
	a, err := buy(ctx, s.order, "second", asked)
	id := order.ID(s.customer("twice"), "second")
	var before int
	return all(
		func() error { return err },
		func() error {
			return expect(a.Status == http.StatusConflict && strings.Contains(a.Detail, "spring") && a.Instance == "/orders/"+id, "it was answered with %+v", a)
		},
		func() error { return s.awaitReservation(ctx, id, stock.Restored) },
		func() error { return s.wantLeft(ctx, ids, 8) },
		func() (err error) { before, _, err = s.handled(ctx); return err },
		func() error { return s.tell(ctx, courier.OrderFailed, id, 2) },
		func() error {
			return await(ctx, func() (bool, string, error) {
				done, _, err := s.handled(ctx)
				return done >= before+2, fmt.Sprintf("%d events are done, %d were before", done, before), err
			})
		},
		func() error { return s.wantLeft(ctx, ids, 8) },
		func() error { return s.wantMoney(ctx, wallet, 44_000) },
	)
}

func refusedPayment(ctx context.Context, s *Stage) error {
	ids, err := s.stock(ctx, "poor", 10, 1000, 2)
	if err != nil {
		return err
	}
	wallet, err := s.wallet(ctx, 100)
	if err != nil {
		return err
	}
	asked := order.Request{Customer: s.customer("poor"), Wallet: wallet, Reference: "dream", Items: basket(3, ids...)}
	a, err := buy(ctx, s.order, "first", asked)
	return all(
		func() error { return err },
		func() error {
			return expect(a.Status == http.StatusConflict && a.Code == "insufficient_funds", "it was answered with %+v", a)
		},
		func() error { return s.awaitReservation(ctx, order.ID(s.customer("poor"), "first"), stock.Restored) },
		func() error { return s.wantLeft(ctx, ids, 10) },
		func() error { return s.wantMoney(ctx, wallet, 100) },
		func() error { return s.deposit(ctx, wallet, 10_000) },
		func() error { // the failed order has given its reference free
			_, err := paidFor(ctx, s.order, "second", asked)
			return err
		},
		func() error { return s.wantMoney(ctx, wallet, 4_100) },
	)
}

func sameKey(ctx context.Context, s *Stage) error {
	ids, err := s.stock(ctx, "same", 10, 1000, 2)
	if err != nil {
		return err
	}
	wallet, err := s.wallet(ctx, 50_000)
	if err != nil {
		return err
	}
	asked := order.Request{Customer: s.customer("same"), Wallet: wallet, Items: basket(1, ids...)}
	first, err := paidFor(ctx, s.order, "k", asked)
	if err != nil {
		return err
	}
	again, err := paidFor(ctx, s.hasty, "k", asked)
	if err != nil {
		return err
	}
	asked.Items = basket(2, ids...)
	other, err := buy(ctx, s.order, "k", asked)
	return all(
		func() error { return err },
		func() error {
			return expect(first.ID == again.ID && first.Transfer == again.Transfer, "the repeat is %+v", again)
		},
		func() error {
			return expect(other.Status == http.StatusUnprocessableEntity && other.Code == "idempotency_key_reused", "another order was answered with %+v", other)
		},
		func() error { return s.wantLeft(ctx, ids, 9) },
		func() error { return s.wantMoney(ctx, wallet, 48_000) },
	)
}

// interrupted buys while a gate decides about the requests of the order, and wants it to be paid once all the same.
func (s *Stage) interrupted(ctx context.Context, name string, at *gate, decide func(method string) fate) (id string, err error) {
	ids, err := s.stock(ctx, name, 10, 1000, 2)
	if err != nil {
		return "", err
	}
	wallet, err := s.wallet(ctx, 50_000)
	if err != nil {
		return "", err
	}
	id = order.ID(s.customer(name), "k")
	at.watch(id, decide)
	_, err = paidFor(ctx, s.order, "k", order.Request{Customer: s.customer(name), Wallet: wallet, Items: basket(1, ids...)})
	return id, all(
		func() error { return err },
		func() error { return s.awaitReservation(ctx, id, stock.Sold) },
		func() error { return s.wantLeft(ctx, ids, 9) },
		func() error { return s.wantMoney(ctx, wallet, 48_000) },
	)
}

// firstPosts gives the first n POSTs the fate.
func firstPosts(n int32, what fate) func(string) fate {
	var posts atomic.Int32
	return func(method string) fate {
		if method == http.MethodPost && posts.Add(1) <= n {
			return what
		}
		return pass
	}
}

func answerLost(ctx context.Context, s *Stage) error {
	id, err := s.interrupted(ctx, "lost", s.products, firstPosts(1, cut))
	if err != nil {
		return err
	}
	posts, asked := s.products.count(http.MethodPost, id), s.products.count(http.MethodGet, id)
	return expect(posts == 1 && asked >= 1, "it was sent %d times and asked about %d times", posts, asked)
}

func notArrived(ctx context.Context, s *Stage) error {
	id, err := s.interrupted(ctx, "absent", s.products, firstPosts(2, fail))
	if err != nil {
		return err
	}
	posts, asked := s.products.count(http.MethodPost, id), s.products.count(http.MethodGet, id)
	return expect(posts == 3 && asked >= 2, "it was sent %d times and asked about %d times", posts, asked)
}

func paymentLost(ctx context.Context, s *Stage) error {
	id, err := s.interrupted(ctx, "unheard", s.payments, firstPosts(3, cut))
	if err != nil {
		return err
	}
	payments := s.payments.count(http.MethodPost, id)
	return expect(payments >= 4, "it was sent %d times", payments)
}

func eventFirst(ctx context.Context, s *Stage) error {
	ids, err := s.stock(ctx, "early", 10, 1000, 2)
	if err != nil {
		return err
	}
	wallet, err := s.wallet(ctx, 50_000)
	if err != nil {
		return err
	}
	id := order.ID(s.customer("early"), "k")
	s.products.watch(id, func(method string) fate {
		if method == http.MethodPost {
			return detain
		}
		return pass
	})
	a, err := buy(ctx, s.hasty, "k", order.Request{Customer: s.customer("early"), Wallet: wallet, Items: basket(1, ids...)})
	return all(
		func() error { return err },
		func() error { return expect(a.Status == http.StatusConflict, "it was answered with %+v", a) },
		func() error { return s.awaitReservation(ctx, id, stock.Closed) },
		func() error { // now the requests arrive
			s.products.release(id)
			var late struct {
				Code string `json:"code"`
			}
			status, err := send(ctx, http.MethodPost, s.products.url+"/reservations", "", stock.Request{ID: id, Items: basket(1, ids...)}, &late)
			return all(func() error { return err }, func() error {
				return expect(status == http.StatusConflict && late.Code == "order_failed", "a late request is answered with %d %s", status, late.Code)
			})
		},
		func() error { return s.wantLeft(ctx, ids, 10) },
		func() error { return s.wantMoney(ctx, wallet, 50_000) },
	)
}

// consumerFails tells that a paid order has failed, which nobody can apply.
func consumerFails(ctx context.Context, s *Stage) error {
	ids, err := s.stock(ctx, "liar", 10, 1000, 1)
	if err != nil {
		return err
	}
	wallet, err := s.wallet(ctx, 50_000)
	if err != nil {
		return err
	}
	a, err := paidFor(ctx, s.order, "k", order.Request{Customer: s.customer("liar"), Wallet: wallet, Items: basket(1, ids...)})
	if err != nil {
		return err
	}
	var letter string
	shown := func() (err error) {
		letter, err = s.awaitLetter(ctx, a.ID, "its goods are sold")
		return err
	}
	return all(
		func() error { return s.awaitReservation(ctx, a.ID, stock.Sold) },
		func() error { return s.tell(ctx, courier.OrderFailed, a.ID, 1) },
		shown,
		func() error { return press(ctx, s.product, "/admin/letters/"+letter+"/replay") },
		shown, // it fails again, and is not lost
		func() error { return s.wantLeft(ctx, ids, 9) },
	)
}

// awaitLetter waits until the product service's page shows a dead letter about an order, and why, and answers with its id.
func (s *Stage) awaitLetter(ctx context.Context, order, why string) (id string, err error) {
	err = await(ctx, func() (bool, string, error) {
		text, err := page(ctx, s.product)
		letters, _, _ := strings.Cut(text, "<h2>Shelf</h2>")
		_, about, there := strings.Cut(letters, order)
		if !there || !strings.Contains(about, why) {
			return false, "the admin page shows no dead letter of " + order, err
		}
		_, about, _ = strings.Cut(about, "/admin/letters/")
		id, _, there = strings.Cut(about, "/replay")
		return there, "it has no button", err
	})
	return id, err
}

// The customers of frozen: those at the order service, and those at the hasty one.
const patient, impatient = 8, 8

func (s *Stage) patientOrder(i int) string {
	return order.ID(s.customer("frozen"), fmt.Sprint("patient-", i))
}

func (s *Stage) impatientOrder(i int) string {
	return order.ID(s.customer("frozen"), fmt.Sprint("impatient-", i))
}

// frozen stops the product service in the middle of calls.
func frozen(ctx context.Context, s *Stage) error {
	ids, err := s.stock(ctx, "frozen", 100, 1000, 3)
	if err != nil {
		return err
	}
	wallet, err := s.wallet(ctx, 1_000_000)
	if err != nil {
		return err
	}
	answers := make(chan error, patient+impatient)
	buyAt := func(at *process, key string) {
		_, err := buy(ctx, at, key, order.Request{Customer: s.customer("frozen"), Wallet: wallet, Items: basket(1, ids...)})
		answers <- err
	}
	for i := range patient {
		go buyAt(s.order, fmt.Sprint("patient-", i))
	}
	if err := s.product.freeze(); err != nil {
		return err
	}
	for i := range impatient {
		go buyAt(s.hasty, fmt.Sprint("impatient-", i))
	}
	select {
	case <-time.After(s.config.Frozen):
	case <-ctx.Done():
	}
	_, err = s.awaitOrder(ctx, s.impatientOrder(0), order.Failed) // its end does not wait for the product service
	if err := errors.Join(err, s.product.thaw()); err != nil {
		return fmt.Errorf("while the product service was stopped: %w", err)
	}
	for range patient + impatient {
		if err := <-answers; err != nil {
			return err
		}
	}
	return all(
		func() error { return s.thawed(ctx) },
		func() error { return s.wantLeft(ctx, ids, 100-patient) },
		func() error { return s.wantMoney(ctx, wallet, 1_000_000-patient*3000) },
	)
}

// thawed wants the patient customers' orders paid, and the others' failed without any goods.
func (s *Stage) thawed(ctx context.Context) error {
	for i := range patient {
		if _, err := s.awaitOrder(ctx, s.patientOrder(i), order.Paid); err != nil {
			return err
		}
	}
	for i := range impatient {
		if _, err := s.awaitOrder(ctx, s.impatientOrder(i), order.Failed); err != nil {
			return err
		}
		if err := s.awaitReservation(ctx, s.impatientOrder(i), stock.Closed, stock.Restored); err != nil {
			return err
		}
	}
	return nil
}
