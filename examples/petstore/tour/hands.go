package tour

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lockstep/api/client"
	"lockstep/cluster/events"
	"lockstep/examples/petstore/courier"
	"lockstep/examples/petstore/order"
	"lockstep/examples/petstore/product"
	"lockstep/examples/petstore/service"
	"lockstep/examples/petstore/stock"
)

// What a tour does by hand: it speaks to the services over HTTP, as customers and operators do.

const answerMax = 60 * time.Second

var browser = &http.Client{Timeout: answerMax, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// send is one request; what it is answered with goes into into, unless that is nil.
func send(ctx context.Context, method, address, key string, body, into any) (status int, err error) {
	text := []byte{}
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return 0, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Idempotency-Key", key)
		request.GetBody = nil // the transport is not to repeat it by itself
	}
	response, err := browser.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			return response.StatusCode, fmt.Errorf("%s %s: %d %s: %w", method, address, response.StatusCode, answer, err)
		}
	}
	return response.StatusCode, nil
}

// answer is what POST /orders was answered with: an order, or a problem.
type answer struct {
	Status int
	order.Order
	Code, Detail, Instance string // of a problem
	Short                  []stock.Shortage
}

// UnmarshalJSON tells orders, which have an id, from problems.
func (a *answer) UnmarshalJSON(text []byte) error {
	if json.Unmarshal(text, &a.Order) == nil && a.Order.ID != "" {
		return nil
	}
	problem := service.Problem{Items: &a.Short}
	err := json.Unmarshal(text, &problem)
	a.Code, a.Detail, a.Instance = problem.Code, problem.Detail, problem.Instance
	return err
}

// buy orders at one of the order services.
func buy(ctx context.Context, at *process, key string, asked order.Request) (a answer, err error) {
	a.Status, err = send(ctx, http.MethodPost, at.url+"/orders", key, asked, &a)
	return a, err
}

// paidFor buys and wants it to be paid.
func paidFor(ctx context.Context, at *process, key string, asked order.Request) (answer, error) {
	a, err := buy(ctx, at, key, asked)
	if err != nil {
		return a, err
	}
	return a, expect(a.Status == http.StatusCreated && a.State == order.Paid && a.Transfer != "",
		"order %s was answered with %d: %s %s %s", key, a.Status, a.State, a.Code, a.Detail)
}

func (s *Stage) find(ctx context.Context, id string) (o order.Order, err error) {
	_, err = send(ctx, http.MethodGet, s.order.url+"/orders/"+id, "", nil, &o)
	return o, err
}

// awaitOrder waits until the order stands as wanted.
func (s *Stage) awaitOrder(ctx context.Context, id string, wanted order.State) (o order.Order, err error) {
	err = await(ctx, func() (bool, string, error) {
		o, err = s.find(ctx, id)
		return o.State == wanted, fmt.Sprintf("order %s is %s (%s), not %s", id, o.State, o.Why, wanted), err
	})
	return o, err
}

// log asks the product service's transaction log.
func (s *Stage) log(ctx context.Context, id string) (r stock.Reservation, err error) {
	_, err = send(ctx, http.MethodGet, s.product.url+"/reservations/"+id, "", nil, &r)
	return r, err
}

func (s *Stage) awaitReservation(ctx context.Context, id string, wanted ...stock.State) error {
	return await(ctx, func() (bool, string, error) {
		r, err := s.log(ctx, id)
		for _, state := range wanted {
			if r.State == state {
				return true, "", nil
			}
		}
		return false, fmt.Sprintf("the goods of %s are %q, not %v", id, r.State, wanted), err
	})
}

// stock puts goods onto the shelf under ids that no other scene has.
func (s *Stage) stock(ctx context.Context, prefix string, each, price int64, n int) (ids []string, err error) {
	for i := range n {
		id := fmt.Sprintf("%s-%02d", prefix, i+1)
		ids = append(ids, id)
		status, err := send(ctx, http.MethodPut, s.product.url+"/products/"+id, "", product.Product{Name: strings.ToUpper(id), Price: price, Stocked: each}, nil)
		if err != nil || status != http.StatusOK {
			return nil, fmt.Errorf("stock %s: status %d: %w", id, status, err)
		}
	}
	return ids, nil
}

// left is what is on the shelf of each product.
func (s *Stage) left(ctx context.Context, ids []string) (all []int64, err error) {
	for _, id := range ids {
		var left int64
		if err := s.books.Products.QueryRowContext(ctx, "SELECT stock FROM products WHERE id = ?", id).Scan(&left); err != nil {
			return nil, fmt.Errorf("look at %s: %w", id, err)
		}
		all = append(all, left)
	}
	return all, nil
}

// wantLeft compares the shelf.
func (s *Stage) wantLeft(ctx context.Context, ids []string, wanted ...int64) error {
	left, err := s.left(ctx, ids)
	if err != nil {
		return err
	}
	for i := range left {
		if left[i] != wanted[min(i, len(wanted)-1)] {
			return fmt.Errorf("of %v there are %v left, not %v", ids, left, wanted)
		}
	}
	return nil
}

// wallet opens an account of a customer, with money.
func (s *Stage) wallet(ctx context.Context, money int64) (string, error) {
	account, err := s.bank.OpenAccount(ctx, client.NewAccount{Currency: currency, Label: "Wallet"})
	if err != nil || money == 0 {
		return account.Number, err
	}
	return account.Number, s.deposit(ctx, account.Number, money)
}

func (s *Stage) deposit(ctx context.Context, wallet string, money int64) error {
	_, err := s.bank.Deposit(ctx, client.Cash{Account: wallet, Amount: strconv.FormatInt(money, 10), Currency: currency})
	return err
}

func (s *Stage) wantMoney(ctx context.Context, wallet string, wanted int64) error {
	account, err := s.bank.Account(ctx, wallet, client.Fresh())
	if err != nil {
		return err
	}
	return expect(account.Balance.Posted == strconv.FormatInt(wanted, 10), "the wallet has %s, not %d", account.Balance.Posted, wanted)
}

// basket asks for so many of each.
func basket(quantity int64, ids ...string) (items []stock.Item) {
	for _, id := range ids {
		items = append(items, stock.Item{Product: id, Quantity: quantity})
	}
	return items
}

// tell publishes news as the order service would, under another message id, so that the broker takes it for something new.
func (s *Stage) tell(ctx context.Context, kind courier.Kind, id string, times int) error {
	config := events.Default()
	config.URL, config.User, config.Password, config.System = s.cluster.NATSURL, courier.Order, s.cluster.password(courier.Order), courier.Order
	bus, err := events.Open(ctx, config)
	if err != nil {
		return err
	}
	defer bus.Close()
	news := courier.About(id, kind, "told once more")
	packed, err := events.Pack([]events.Event{{ID: news.ID, Source: "/petstore/order", Type: string(kind), Subject: id, Data: json.RawMessage(`{"why":"told once more"}`)}})
	if err != nil {
		return err
	}
	for i := range times {
		message := events.Message{Subject: events.Transfer(courier.Order, courier.Product, "news"), ID: fmt.Sprintf("%s again %d", news.ID, i), Data: packed}
		err := await(ctx, func() (bool, string, error) {
			err := bus.Publish(ctx, message)
			return err == nil, fmt.Sprint("publish: ", err), nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// handled counts the deliveries that the product service is done with, and those that it has given up.
func (s *Stage) handled(ctx context.Context) (done, dead int, err error) {
	var state struct {
		Done int `json:"events_done"`
		Dead int `json:"events_dead"`
	}
	_, err = send(ctx, http.MethodGet, s.product.url+"/readyz", "", nil, &state)
	return state.Done, state.Dead, err
}

// page reads an admin page.
func page(ctx context.Context, p *process) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/admin", nil)
	if err != nil {
		return "", err
	}
	response, err := browser.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// press sends a form of an admin page.
func press(ctx context.Context, p *process, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, strings.NewReader(url.Values{}.Encode()))
	if err != nil {
		return err
	}
	response, err := browser.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	return expect(response.StatusCode == http.StatusOK, "the button %s was answered with %d", path, response.StatusCode)
}

const awaitMax = 90 * time.Second

// await looks until what it looks at is so, and fails with the last look when that takes too long.
func await(ctx context.Context, look func() (done bool, seen string, err error)) error {
	const pause = 30 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, awaitMax)
	defer cancel()
	for {
		done, seen, err := look()
		if done && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("waited in vain: %s", seen), err)
		case <-time.After(pause):
		}
	}
}

func expect(is bool, format string, args ...any) error {
	if is {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// all runs checks until one fails.
func all(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}
