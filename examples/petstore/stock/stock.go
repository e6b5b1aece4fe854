// Package stock is what others may rely on of the product service: its words, and a client that tells a refusal from
// silence.
package stock

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"lockstep/examples/petstore/service"
)

// Bounds of one order.
const (
	LinesMax    = 100
	QuantityMax = 1_000_000
	totalMax    = 1_000_000_000_000_000 // in the smallest unit
)

// Item is what is asked for.
type Item struct {
	Product  string `json:"product"`
	Quantity int64  `json:"quantity"`
}

// Check refuses what nobody could reserve, and answers with the items in the order in which products are locked.
func Check(items []Item) ([]Item, error) {
	if len(items) == 0 || len(items) > LinesMax {
		return nil, fmt.Errorf("an order has 1 to %d items", LinesMax)
	}
	items = slices.Clone(items)
	slices.SortFunc(items, func(a, b Item) int { return strings.Compare(a.Product, b.Product) })
	for i, item := range items {
		switch {
		case item.Product == "" || len(item.Product) > 64 || strings.ContainsFunc(item.Product, func(r rune) bool { return r <= ' ' || r > '~' }):
			return nil, fmt.Errorf("%q cannot be a product", item.Product)
		case item.Quantity < 1 || item.Quantity > QuantityMax:
			return nil, fmt.Errorf("the quantity of %s is to be 1 to %d", item.Product, QuantityMax)
		case i > 0 && items[i-1].Product == item.Product:
			return nil, fmt.Errorf("%s is there twice", item.Product)
		}
	}
	return items, nil
}

// Line is an item at its price.
type Line struct {
	Item
	Price int64 `json:"price"` // of one, in the smallest unit of the store's currency
}

// Total of the lines in the smallest unit.
func Total(lines []Line) (int64, error) {
	var total int64
	for _, line := range lines {
		if line.Price > (totalMax-total)/line.Quantity {
			return 0, fmt.Errorf("the order costs more than %d", int64(totalMax))
		}
		total += line.Price * line.Quantity
	}
	return total, nil
}

// Shortage tells of one item why the whole order was refused.
type Shortage struct {
	Item
	Available int64 `json:"available"`
	Unknown   bool  `json:"unknown,omitempty"` // there is no such product
}

// State is what became of a request to reserve.
type State string

// The states of a reservation.
const (
	Reserved State = "reserved"
	Sold     State = "sold"     // its order is paid
	Refused  State = "refused"  // something is short; nothing was taken
	Restored State = "restored" // its order failed, and the stock is back
	Closed   State = "closed"   // its order failed before the request arrived: a tombstone, which refuses it when it comes
)

// Reservation is one entry of the product service's transaction log.
type Reservation struct {
	ID        string     `json:"id"` // the order's
	State     State      `json:"state"`
	Lines     []Line     `json:"lines"`
	Total     int64      `json:"total"`
	Shortages []Shortage `json:"shortages,omitempty"`
	Why       string     `json:"why,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
}

// Request is the body of POST /reservations.
type Request struct {
	ID    string `json:"id"` // a UUID; the same id is the same request
	Items []Item `json:"items"`
}

// ErrNotArrived says that the log knows nothing of the request. It may still be on its way.
var ErrNotArrived = errors.New("the product service has not heard of the request so far")

// Refusal is a definite no to the request itself: sent again it would be refused again.
type Refusal struct{ *service.Problem }

// Client calls a product service. HTTP needs a timeout.
type Client struct {
	URL  string
	HTTP *http.Client
}

// Reserve takes all items or none, in one request. The answer is a reservation in one of its states, or a *Refusal. Every
// other error leaves open what has happened, or will: Ask.
func (c *Client) Reserve(ctx context.Context, asked Request) (Reservation, error) {
	body, err := json.Marshal(asked)
	if err != nil {
		return Reservation{}, fmt.Errorf("encode the reservation: %w", err)
	}
	return c.call(ctx, http.MethodPost, "/reservations", body)
}

// Ask reads the log: what became of the request with this id? ErrNotArrived is no definite answer.
func (c *Client) Ask(ctx context.Context, id string) (Reservation, error) {
	return c.call(ctx, http.MethodGet, "/reservations/"+url.PathEscape(id), nil)
}

const answerMax = 1 << 20

func (c *Client) call(ctx context.Context, method, path string, body []byte) (Reservation, error) {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return Reservation{}, fmt.Errorf("ask the product service: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.HTTP.Do(request)
	if err != nil {
		return Reservation{}, fmt.Errorf("no answer of the product service: %w", err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerMax))
	if err != nil {
		return Reservation{}, fmt.Errorf("no whole answer of the product service: %w", err)
	}
	if response.StatusCode == http.StatusOK || response.StatusCode == http.StatusCreated {
		var answer Reservation
		if err := json.Unmarshal(text, &answer); err != nil || answer.State == "" {
			return Reservation{}, errors.New("the answer of the product service cannot be read")
		}
		return answer, nil
	}
	return c.refused(response, text)
}

// refused looks at an answer that is no success. Only the service's own words say that something did not happen: a status
// alone may come from anything in between.
func (c *Client) refused(response *http.Response, text []byte) (Reservation, error) {
	var shortages []Shortage
	problem := service.Problem{Items: &shortages}
	if response.Header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(text, &problem) != nil {
		return Reservation{}, fmt.Errorf("the product service answers with status %d", response.StatusCode)
	}
	switch {
	case problem.Code == service.OutOfStock:
		return Reservation{State: Refused, Shortages: shortages, Why: problem.Detail}, nil
	case problem.Code == service.OrderFailed:
		return Reservation{State: Closed, Why: problem.Detail}, nil
	case problem.Code == service.NotFound:
		return Reservation{}, ErrNotArrived
	case problem.Code != "" && (problem.Status == http.StatusBadRequest || problem.Status == http.StatusUnprocessableEntity):
		return Reservation{}, &Refusal{&problem}
	}
	return Reservation{}, fmt.Errorf("the product service is not able to answer: %w", &problem)
}
