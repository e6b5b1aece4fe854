package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/google/uuid"

	"lockstep/examples/ticketoffice/choreography"
	"lockstep/examples/ticketoffice/concert"
	"lockstep/examples/ticketoffice/payment"
	"lockstep/examples/ticketoffice/push"
	"lockstep/examples/ticketoffice/queue"
	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/examples/ticketoffice/web"
)

// Office is what buyers see of it: the same in all modes, but for the addresses.
type Office struct {
	Queue, Payments, Concerts, Messages string
	urls                                map[string]string
	http                                *http.Client
}

func newOffice(mode string, urls map[string]string) Office {
	o := Office{urls: urls, http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 128}}}
	if mode == Choreography {
		o.Queue, o.Payments = urls[choreography.Queue], urls[choreography.Payment]
		o.Concerts, o.Messages = urls[choreography.Concert], urls[choreography.Push]
		return o
	}
	o.Queue, o.Payments, o.Concerts, o.Messages = urls[mode], urls[mode], urls[mode], urls[mode]
	return o
}

func (o Office) url(process string) string { return o.urls[process] }

func (o Office) closeIdle() {
	if o.http != nil {
		o.http.CloseIdleConnections()
	}
}

// call sends one request. An answer of 400 or more is a *web.Problem.
func (o Office) call(ctx context.Context, method, url string, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(text))
	if err != nil {
		return err
	}
	answer, err := o.http.Do(request)
	if err != nil {
		return err
	}
	defer func() {
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}()
	if answer.StatusCode >= http.StatusBadRequest {
		problem := web.Problem{Status: answer.StatusCode}
		if err := json.NewDecoder(answer.Body).Decode(&problem); err != nil {
			return fmt.Errorf("%s %s: status %d", method, url, answer.StatusCode)
		}
		return &problem
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(into)
}

// OpenConcert makes a concert with so many seats of one price.
func (o Office) OpenConcert(ctx context.Context, name string, seats int, price int64) error {
	return o.call(ctx, http.MethodPut, o.Concerts+"/v1/concerts/"+name, map[string]any{"seats": seats, "price": price}, nil)
}

// Seats counts the seats of a concert by state.
func (o Office) Seats(ctx context.Context, name string) (counts map[string]int, err error) {
	err = o.call(ctx, http.MethodGet, o.Concerts+"/v1/concerts/"+name, nil, &counts)
	return counts, err
}

// Token reads a token.
func (o Office) Token(ctx context.Context, id string) (token queue.Token, err error) {
	err = o.call(ctx, http.MethodGet, o.Queue+"/v1/tokens/"+id, nil, &token)
	return token, err
}

// Enter gets a token, and waits until it is active.
func (o Office) Enter(ctx context.Context, buyer string) (token queue.Token, err error) {
	err = o.until(ctx, 50*time.Millisecond, func() (bool, error) { // a token whose answer was lost expires by itself
		err := o.call(ctx, http.MethodPost, o.Queue+"/v1/tokens", map[string]string{"buyer": buyer}, &token)
		return err == nil, err
	})
	if err != nil {
		return token, err
	}
	id := token.ID
	err = o.until(ctx, 200*time.Millisecond, func() (bool, error) {
		token, err = o.Token(ctx, id)
		return token.State == queue.Active, err
	})
	return token, err
}

// Leave gives a token up.
func (o Office) Leave(ctx context.Context, id string) error {
	return o.call(ctx, http.MethodDelete, o.Queue+"/v1/tokens/"+id, nil, nil)
}

// Reserve reserves a seat, any for 0, and returns the sale that would pay it.
func (o Office) Reserve(ctx context.Context, token queue.Token, account, name string, seat int) (sale.Sale, error) {
	var r concert.Reservation
	err := o.call(ctx, http.MethodPost, o.Concerts+"/v1/concerts/"+name+"/reservations",
		map[string]any{"token": token.ID, "buyer": token.Buyer, "seat": seat}, &r)
	return sale.Sale{
		Payment: uuid.NewString(), Token: token.ID, Buyer: token.Buyer, Account: account,
		Concert: name, Seat: r.Seat, Reservation: r.ID, Amount: r.Price,
	}, err
}

// Order asks for a payment. It may be repeated.
func (o Office) Order(ctx context.Context, s sale.Sale) error {
	return o.call(ctx, http.MethodPut, o.Queue+"/v1/payments/"+s.Payment, s, nil)
}

// Payment reads a record.
func (o Office) Payment(ctx context.Context, id string) (record payment.Record, err error) {
	err = o.call(ctx, http.MethodGet, o.Payments+"/v1/payments/"+id, nil, &record)
	return record, err
}

// Pay orders until the office has taken the order or refused it, and waits until the payment has ended. Without an answer
// nothing is known: the same order is sent again.
func (o Office) Pay(ctx context.Context, s sale.Sale) (record payment.Record, err error) {
	err = o.until(ctx, 50*time.Millisecond, func() (bool, error) {
		err := o.Order(ctx, s)
		return err == nil, err
	})
	if err != nil {
		return record, err
	}
	return o.Ended(ctx, s.Payment)
}

// Ended waits until a payment has ended.
func (o Office) Ended(ctx context.Context, id string) (record payment.Record, err error) {
	err = o.until(ctx, 20*time.Millisecond, func() (bool, error) {
		record, err = o.Payment(ctx, id)
		return record.State == payment.Paid || record.State == payment.Voided, err
	})
	return record, err
}

// Told waits for the message about a payment.
func (o Office) Told(ctx context.Context, id string) error {
	var m push.Message
	return o.until(ctx, 20*time.Millisecond, func() (bool, error) {
		err := o.call(ctx, http.MethodGet, o.Messages+"/v1/messages/"+id, nil, &m)
		return err == nil, err
	})
}

// Lengths says how long each process's transactions were open since it was asked last.
func (o Office) Lengths(ctx context.Context) (map[string]store.Lengths, error) {
	all := map[string]store.Lengths{}
	for process, url := range o.urls {
		var l store.Lengths
		if err := o.call(ctx, http.MethodGet, url+"/v1/lengths", nil, &l); err != nil {
			return nil, err
		}
		all[process] = l
	}
	return all, nil
}

// until asks again, with a growing pause, while the answer is no, not found, or none at all; a refusal ends it.
func (o Office) until(ctx context.Context, pause time.Duration, ask func() (bool, error)) error {
	for try := 1; ; try++ {
		done, err := ask()
		var problem *web.Problem
		if done || errors.As(err, &problem) && problem.Status < 500 && problem.Status != http.StatusNotFound {
			return err
		}
		wait := min(pause*time.Duration(try), time.Second)
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(wait/2 + rand.N(wait)): //nolint:gosec // spreads load
		}
	}
}
