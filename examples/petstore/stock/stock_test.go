package stock_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"lockstep/examples/petstore/stock"
)

// Only the service's own words say that nothing was taken: what a balancer, a crash or a stranger says leaves it open.
func TestOnlyTheServicesOwnRefusalIsDefinite(t *testing.T) {
	t.Parallel()
	const problem = "application/problem+json"
	for _, said := range []struct {
		name, contentType, body string
		status                  int
		state                   stock.State // of a definite answer
		refused, absent         bool
	}{
		{"reserved", "application/json", `{"id":"x","state":"reserved"}`, 201, stock.Reserved, false, false},
		{"short", problem, `{"code":"out_of_stock","status":409,"items":[{"product":"a","quantity":2,"available":1}]}`, 409, stock.Refused, false, false},
		{"closed", problem, `{"code":"order_failed","status":409}`, 409, stock.Closed, false, false},
		{"wrong", problem, `{"code":"invalid_items","status":422}`, 422, "", true, false},
		{"not arrived", problem, `{"code":"not_found","status":404}`, 404, "", false, true},
		{"unavailable", problem, `{"code":"unavailable","status":503}`, 503, "", false, false},
		{"a balancer's 409", "text/html", `conflict`, 409, "", false, false},
		{"a balancer's 404", "text/html", `not found`, 404, "", false, false},
		{"a balancer's 422", "text/html", `no`, 422, "", false, false},
		{"a balancer's 502", "text/html", `bad gateway`, 502, "", false, false},
		{"a gateway's 422", problem, `{"status":422,"title":"no"}`, 422, "", false, false},
		{"a stranger's 409", "application/json", `{"code":"out_of_stock","status":409}`, 409, "", false, false},
		{"half an answer", "application/json", `{"id":"x","sta`, 201, "", false, false},
		{"a strange answer", "application/json", `{}`, 200, "", false, false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", said.contentType)
			w.WriteHeader(said.status)
			fmt.Fprint(w, said.body)
		}))
		c := &stock.Client{URL: server.URL, HTTP: &http.Client{Timeout: 5 * time.Second}}
		answer, err := c.Reserve(t.Context(), stock.Request{ID: "x", Items: []stock.Item{{Product: "a", Quantity: 2}}})
		server.Close()
		var refusal *stock.Refusal
		if answer.State != said.state || errors.As(err, &refusal) != said.refused || errors.Is(err, stock.ErrNotArrived) != said.absent {
			t.Errorf("%s: %+v, %v", said.name, answer, err)
		}
		if (err == nil) != (said.state != "") {
			t.Errorf("%s: the error is %v", said.name, err)
		}
		if said.name == "short" && !slices.Equal(answer.Shortages, []stock.Shortage{{Item: stock.Item{Product: "a", Quantity: 2}, Available: 1}}) {
			t.Errorf("%s: the shortages are %+v", said.name, answer.Shortages)
		}
	}
}

func TestItemsAreSortedAndBounded(t *testing.T) {
	t.Parallel()
	given := []stock.Item{{Product: "b", Quantity: 1}, {Product: "a", Quantity: 2}}
	items, err := stock.Check(given)
	if err != nil || !slices.Equal(items, []stock.Item{given[1], given[0]}) || given[0].Product != "b" {
		t.Errorf("they are %v, %v; those that were given are %v", items, err, given)
	}
	for name, bad := range map[string][]stock.Item{
		"none":     {},
		"twice":    {{Product: "a", Quantity: 1}, {Product: "b", Quantity: 1}, {Product: "a", Quantity: 1}},
		"no name":  {{Quantity: 1}},
		"blank":    {{Product: "a b", Quantity: 1}},
		"nothing":  {{Product: "a"}},
		"negative": {{Product: "a", Quantity: -1}},
		"too much": {{Product: "a", Quantity: stock.QuantityMax + 1}},
		"too many": make([]stock.Item, stock.LinesMax+1),
	} {
		if _, err := stock.Check(bad); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	lines := []stock.Line{{Item: stock.Item{Product: "a", Quantity: 3}, Price: 5}, {Item: stock.Item{Product: "b", Quantity: 1}, Price: 7}}
	if total, err := stock.Total(lines); err != nil || total != 22 {
		t.Errorf("the total is %d, %v", total, err)
	}
	lines[1].Price = 1_000_000_000_000_000
	if _, err := stock.Total(lines); err == nil {
		t.Error("a total out of range was accepted")
	}
}
