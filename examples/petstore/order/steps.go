package order

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"lockstep/api/client"
	"lockstep/examples/petstore/courier"
	"lockstep/examples/petstore/stock"
	"lockstep/saga"
)

const kind = "order"

// The steps of an order. Rows name them, so they are not to be renamed.
const (
	stepReserve = "reserve"
	stepInsert  = "insert"
	stepPay     = "pay"
)

// data is what a saga knows of its order.
type data struct {
	Request   Request          `json:"request"`
	Lines     []stock.Line     `json:"lines,omitempty"`
	Total     int64            `json:"total,omitempty"` // in the smallest unit
	Shortages []stock.Shortage `json:"shortages,omitempty"`
	Refusal   string           `json:"refusal,omitempty"` // the code of what ended it
	Why       string           `json:"why,omitempty"`     // the same for people
	Transfer  string           `json:"transfer,omitempty"`
}

func decode(s saga.Saga) (d data, err error) {
	if err := json.Unmarshal(s.Data, &d); err != nil {
		return d, fmt.Errorf("read the data of order %s: %w", s.ID, err)
	}
	return d, nil
}

func (d data) keep(s *saga.Saga) error {
	text, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode the data of order %s: %w", s.ID, err)
	}
	s.Data = text
	return nil
}

// refuse keeps why the order ends, and ends it.
func (d data) refuse(s *saga.Saga, code, why string) error {
	d.Refusal, d.Why = code, why
	if err := d.keep(s); err != nil {
		return err
	}
	return saga.Refused(errors.New(why))
}

// Shop is who gets the money, and how it is counted.
type Shop struct {
	Account  string
	Currency string
	Decimals int // of the currency's smallest unit
}

// Amount writes minor units as Lockstep reads them.
func (s Shop) Amount(minor int64) string {
	text := strconv.FormatInt(minor, 10)
	if s.Decimals == 0 {
		return text
	}
	text = strings.Repeat("0", max(s.Decimals+1-len(text), 0)) + text
	return text[:len(text)-s.Decimals] + "." + text[len(text)-s.Decimals:]
}

// Bank moves money; *client.Client is one.
type Bank interface {
	Transfer(ctx context.Context, payment client.Payment, options ...client.Option) (client.Transfer, error)
}

// Shelf reserves goods; *stock.Client is one.
type Shelf interface {
	Reserve(ctx context.Context, asked stock.Request) (stock.Reservation, error)
	Ask(ctx context.Context, id string) (stock.Reservation, error)
}

// steps take an order through its sale: the goods by one call, the order's row, the money. The money comes last, because it
// alone is never given back: whatever ends an order before has not touched it, and its refusal has not either.
type steps struct {
	shelf Shelf
	bank  Bank
	shop  Shop
	wait  time.Duration // for one payment; then it is asked about
}

func (st steps) define() (*saga.Definition, error) {
	return saga.Define(
		kind,
		saga.Step{Name: stepReserve, Call: st.reserve, Cancel: st.tellFailed},
		saga.Step{Name: stepInsert, Do: st.insert, Undo: st.fail},
		saga.Step{Name: stepPay, Kind: saga.Pivot, Call: st.pay, Do: st.paid},
	)
}

// reserve asks for all goods by one request under the order's id.
func (st steps) reserve(ctx context.Context, s *saga.Saga) error {
	d, err := decode(*s)
	if err != nil {
		return err
	}
	answer, err := st.ask(ctx, s, d.Request.Items)
	var refusal *stock.Refusal
	switch {
	case errors.As(err, &refusal):
		return d.refuse(s, refusal.Code, refusal.Detail)
	case err != nil:
		return err
	case answer.State == stock.Refused:
		d.Shortages = answer.Shortages
		return d.refuse(s, "out_of_stock", answer.Why)
	case answer.State != stock.Reserved && answer.State != stock.Sold:
		return d.refuse(s, "order_failed", "the goods are "+string(answer.State)+": "+answer.Why)
	}
	d.Lines, d.Total = answer.Lines, answer.Total
	return d.keep(s)
}

// ask sends the request. After a first try that was not answered the log is asked first what became of it; a request that
// the log does not know of may still be on its way, and the same again under the same id does no harm.
func (st steps) ask(ctx context.Context, s *saga.Saga, items []stock.Item) (stock.Reservation, error) {
	if s.Attempt > 0 {
		answer, err := st.shelf.Ask(ctx, s.ID)
		if !errors.Is(err, stock.ErrNotArrived) {
			return answer, err
		}
	}
	return st.shelf.Reserve(ctx, stock.Request{ID: s.ID, Items: items})
}

// tellFailed announces that the order has failed, whether or not the goods are known to be reserved: who knows them gives
// them back, and who does not will refuse them.
func (st steps) tellFailed(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
	return courier.Announce(ctx, tx, courier.About(s.ID, courier.OrderFailed, s.Cause))
}

const errorDuplicate = 1062

// insert writes the order. A reference that a live order of the customer has already is a definite refusal.
func (st steps) insert(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
	d, err := decode(*s)
	if err != nil {
		return err
	}
	r := d.Request
	_, err = tx.Exec(ctx, `INSERT INTO orders (id, customer, wallet, reference, live_reference, state, total, currency, created_at, updated_at)
		VALUES (?, ?, ?, ?, NULLIF(?, ''), ?, ?, ?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))`,
		s.ID, r.Customer, r.Wallet, r.Reference, r.Reference, Placed, d.Total, st.shop.Currency)
	var refused *mysql.MySQLError
	if errors.As(err, &refused) && refused.Number == errorDuplicate {
		return saga.Refused(fmt.Errorf("customer %s has an order with the reference %q already", r.Customer, r.Reference))
	}
	if err != nil {
		return err
	}
	var args []any
	for _, line := range d.Lines {
		args = append(args, s.ID, line.Product, line.Quantity, line.Price)
	}
	_, err = tx.Exec(ctx, `INSERT INTO order_lines (order_id, product, quantity, price) VALUES `+
		strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?), ", len(d.Lines)), ", "), args...)
	return err
}

// fail keeps the order as a failed one, and frees its reference.
func (st steps) fail(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
	_, err := tx.Exec(ctx, `UPDATE orders SET state = ?, live_reference = NULL, updated_at = UTC_TIMESTAMP(6) WHERE id = ?`, Failed, s.ID)
	return err
}

// pay moves the money to the shop under the order's id as idempotency key, which was stored with the saga before. Only a
// refusal that was decided under that key is one; all else is asked again.
func (st steps) pay(ctx context.Context, s *saga.Saga) error {
	d, err := decode(*s)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, st.wait)
	defer cancel()
	transfer, err := st.bank.Transfer(ctx, client.Payment{
		From: d.Request.Wallet, To: st.shop.Account, Amount: st.shop.Amount(d.Total), Currency: st.shop.Currency,
		Description: "pet store order", Reference: s.ID,
	}, client.WithKey(s.ID))
	var unknown *client.UnknownError
	var refused *client.Problem
	switch {
	case errors.As(err, &unknown): // first: it may wrap a problem that says nothing about earlier requests
		return err
	case errors.As(err, &refused):
		return d.refuse(s, refused.Code, "the payment was refused: "+refused.Detail)
	case err != nil:
		return err
	case transfer.State == "voided":
		return d.refuse(s, "payment_voided", "the payment was given up")
	case transfer.State != "posted":
		return fmt.Errorf("the payment is %s so far", transfer.State)
	}
	d.Transfer = transfer.ID
	return d.keep(s)
}

// paid ends the order well, and tells so.
func (st steps) paid(ctx context.Context, tx saga.Tx, s *saga.Saga) error {
	d, err := decode(*s)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE orders SET state = ?, transfer = ?, updated_at = UTC_TIMESTAMP(6) WHERE id = ?`, Paid, d.Transfer, s.ID)
	if err != nil {
		return err
	}
	return courier.Announce(ctx, tx, courier.About(s.ID, courier.OrderPaid, ""))
}
