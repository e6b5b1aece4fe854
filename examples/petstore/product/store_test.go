package product_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/local/servers"
	"lockstep/examples/petstore/courier"
	"lockstep/examples/petstore/product"
	"lockstep/examples/petstore/service"
	"lockstep/examples/petstore/stock"
)

// shop is a product service's database with goods.
type shop struct {
	testing.TB
	ctx   context.Context
	db    *sql.DB
	store *product.Store
}

func setup(t *testing.T, goods ...string) *shop {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	db, err := service.Database(ctx, servers.Shared(t).Database(t).Migrate, product.Migrations())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s := &shop{t, ctx, db, product.NewStore(db)}
	for _, id := range goods {
		s.must(s.store.Stock(ctx, product.Product{ID: id, Name: id, Price: 10, Stocked: 10}))
	}
	return s
}

func (s *shop) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *shop) wantLeft(wanted ...int64) {
	s.Helper()
	shelf, err := s.store.Shelf(s.ctx)
	s.must(err)
	var left []int64
	for _, p := range shelf {
		left = append(left, p.Stock)
	}
	if !slices.Equal(left, wanted) {
		s.Errorf("%v are left, wanted %v", left, wanted)
	}
}

func (s *shop) wantState(id string, wanted stock.State) {
	s.Helper()
	found, err := s.store.Find(s.ctx, id)
	s.must(err)
	if found.State != wanted {
		s.Errorf("the reservation is %s, wanted %s", found.State, wanted)
	}
}

func request(id string, quantity int64, ids ...string) stock.Request {
	asked := stock.Request{ID: id}
	for _, p := range ids {
		asked.Items = append(asked.Items, stock.Item{Product: p, Quantity: quantity})
	}
	return asked
}

// do and undo of one reservation in every order, each once or twice: the stock is taken and given back at most once.
func TestEveryOrderOfReservationAndFailureGivesTheStockBackOnce(t *testing.T) {
	t.Parallel()
	s := setup(t, "a", "b")
	for _, way := range []struct {
		calls string // d: do, u: undo
		state stock.State
		left  int64
	}{
		{"d", stock.Reserved, 7},
		{"dd", stock.Reserved, 7},
		{"du", stock.Restored, 10},
		{"duu", stock.Restored, 10},
		{"dud", stock.Restored, 10},
		{"dduu", stock.Restored, 10},
		{"u", stock.Closed, 10},
		{"ud", stock.Closed, 10},
		{"uudd", stock.Closed, 10},
	} {
		id := uuid.NewString()
		for _, call := range way.calls {
			if call == 'u' {
				s.must(s.store.Apply(s.ctx, courier.About(id, courier.OrderFailed, "why not")))
				continue
			}
			_, err := s.store.Reserve(s.ctx, request(id, 3, "b", "a"))
			s.must(err)
		}
		s.wantState(id, way.state)
		s.wantLeft(way.left, way.left)
		// The same failure under another id, as from a service that forgot what it had told.
		s.must(s.store.Apply(s.ctx, courier.News{ID: uuid.NewString(), Kind: courier.OrderFailed, Order: id}))
		s.wantLeft(10, 10)
	}
}

func TestARefusedReservationTakesNothingAndStaysRefused(t *testing.T) {
	t.Parallel()
	s := setup(t, "a", "b")
	id := uuid.NewString()
	asked := stock.Request{ID: id, Items: []stock.Item{{Product: "b", Quantity: 11}, {Product: "a", Quantity: 1}, {Product: "nothing", Quantity: 1}}}
	answer, err := s.store.Reserve(s.ctx, asked)
	s.must(err)
	wanted := []stock.Shortage{{Item: asked.Items[0], Available: 10}, {Item: asked.Items[2], Unknown: true}}
	if answer.State != stock.Refused || !slices.Equal(answer.Shortages, wanted) {
		t.Errorf("the answer is %+v", answer)
	}
	s.must(s.store.Stock(s.ctx, product.Product{ID: "b", Name: "b", Price: 10, Stocked: 100}))
	answer, err = s.store.Reserve(s.ctx, asked)
	s.must(err)
	if answer.State != stock.Refused || !slices.Equal(answer.Shortages, wanted) {
		t.Errorf("the repeat is answered with %+v", answer)
	}
	s.must(s.store.Apply(s.ctx, courier.About(id, courier.OrderFailed, "")))
	s.wantState(id, stock.Refused)
	s.wantLeft(10, 100)
}

func TestAnIDStandsForOneRequest(t *testing.T) {
	t.Parallel()
	s := setup(t, "a")
	id := uuid.NewString()
	_, err := s.store.Reserve(s.ctx, request(id, 1, "a"))
	s.must(err)
	_, err = s.store.Reserve(s.ctx, request(id, 2, "a"))
	var problem *service.Problem
	if !errors.As(err, &problem) || problem.Code != "id_reused" {
		t.Errorf("another request under the id is answered with %v", err)
	}
	s.wantLeft(9)
}

func TestNewsThatCannotBeTrueChangeNothing(t *testing.T) {
	t.Parallel()
	s := setup(t, "a")
	id := uuid.NewString()
	if err := s.store.Apply(s.ctx, courier.About(id, courier.OrderPaid, "")); err == nil {
		t.Error("goods that were never reserved were sold")
	}
	_, err := s.store.Reserve(s.ctx, request(id, 3, "a"))
	s.must(err)
	s.must(s.store.Apply(s.ctx, courier.About(id, courier.OrderPaid, ""))) // refused before, so it is no repeat
	s.wantState(id, stock.Sold)
	s.must(s.store.Apply(s.ctx, courier.About(id, courier.OrderPaid, ""))) // and this is one
	if err := s.store.Apply(s.ctx, courier.About(id, courier.OrderFailed, "")); err == nil {
		t.Error("sold goods were given back")
	}
	s.wantState(id, stock.Sold)
	s.wantLeft(7)
}

// Orders over the same goods in every order, and their failures, at once.
func TestOverlappingReservationsNeitherDeadlockNorOversell(t *testing.T) {
	t.Parallel()
	goods := []string{"a", "b", "c", "d", "e"}
	s := setup(t, goods...)
	const workers, each = 12, 8
	var working sync.WaitGroup
	errs := make(chan error, workers*each*2)
	for w := range workers {
		working.Go(func() {
			for n := range each {
				id := uuid.NewString()
				chosen := slices.Concat(goods[(w+n)%5:], goods[:(w+n)%5])[:3]
				if (w+n)%2 == 0 {
					slices.Reverse(chosen)
				}
				answer, err := s.store.Reserve(s.ctx, request(id, 2, chosen...))
				errs <- err
				if answer.State == stock.Reserved {
					errs <- s.store.Apply(s.ctx, courier.About(id, courier.OrderFailed, "regret"))
				}
			}
		})
	}
	working.Wait()
	close(errs)
	for err := range errs {
		s.must(err)
	}
	s.wantLeft(10, 10, 10, 10, 10)
}

// Two at once for the last ones: the row lock lets one of them see what the other took.
func TestTheLastOnesAreSoldOnce(t *testing.T) {
	t.Parallel()
	s := setup(t, "a")
	for round := range 10 {
		s.must(s.store.Stock(s.ctx, product.Product{ID: "a", Name: "a", Price: 10, Stocked: int64(10 + round*7)}))
		var working sync.WaitGroup
		states := make([]stock.State, 4)
		for i := range states {
			working.Go(func() {
				answer, err := s.store.Reserve(s.ctx, request(uuid.NewString(), 7, "a"))
				if err != nil {
					states[i] = stock.State(fmt.Sprint(err))
					return
				}
				states[i] = answer.State
			})
		}
		working.Wait()
		slices.Sort(states)
		if !slices.Equal(states, []stock.State{stock.Refused, stock.Refused, stock.Refused, stock.Reserved}) {
			t.Fatalf("four who wanted 7 of fewer than 14 got %v", states)
		}
	}
}
