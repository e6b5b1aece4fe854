package tour

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"lockstep/examples/petstore/audit"
	"lockstep/examples/petstore/order"
	"lockstep/examples/petstore/stock"
)

// random is a basket of one to most products, one to four of each.
func random(source *rand.Rand, ids []string, least, most int) (items []stock.Item) {
	chosen := slices.Clone(ids)
	source.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	for _, id := range chosen[:least+source.IntN(most-least+1)] {
		items = append(items, stock.Item{Product: id, Quantity: 1 + source.Int64N(4)})
	}
	return items
}

// crowd lets two hundred customers want the same goods at once, of which there are too few.
func crowd(ctx context.Context, s *Stage) error {
	const customers, each = 200, 100
	ids, err := s.stock(ctx, "crowd", each, 10, 12)
	if err != nil {
		return err
	}
	wallet, err := s.wallet(ctx, 10_000_000)
	if err != nil {
		return err
	}
	looking, stop := context.WithCancel(ctx)
	seen := make(chan error, 1)
	go func() { seen <- s.watchShelf(looking) }()
	source := rand.New(rand.NewPCG(s.config.Seed, customers)) //nolint:gosec // a load that can be repeated
	answers := make(chan answer, customers)
	failures := make(chan error, customers)
	var working sync.WaitGroup
	began := time.Now()
	for i := range customers {
		asked := order.Request{Customer: s.customer(fmt.Sprint("crowd-", i)), Wallet: wallet, Items: random(source, ids, 3, 5)}
		working.Go(func() {
			a, err := buy(ctx, s.order, "k", asked)
			if a.Status == http.StatusAccepted {
				a.Order, err = s.awaitEnd(ctx, a.ID)
			}
			answers <- a
			failures <- err
		})
	}
	working.Wait()
	took := time.Since(began)
	stop()
	if err := <-seen; err != nil {
		return err
	}
	paid, short := 0, 0
	for range customers {
		a := <-answers
		if err := <-failures; err != nil {
			return err
		}
		switch {
		case a.State == order.Paid:
			paid++
		case a.Code == "out_of_stock" || a.Refusal == "out_of_stock":
			short++
		}
	}
	s.config.Note(fmt.Sprintf("%d orders at once in %.1f s: %d paid, %d found too little", customers, took.Seconds(), paid, short))
	return all(
		s.noDeadlocks,
		func() error {
			return expect(paid > customers/3 && short > 0 && paid+short == customers, "%d were paid, %d found too little", paid, short)
		},
		func() error { return s.settled(ctx) },
	)
}

// awaitEnd waits until an order is final.
func (s *Stage) awaitEnd(ctx context.Context, id string) (o order.Order, err error) {
	err = await(ctx, func() (bool, string, error) {
		o, err = s.find(ctx, id)
		return o.Final(), fmt.Sprintf("order %s is %s (%s)", id, o.State, o.Why), err
	})
	return o, err
}

// noDeadlocks reads what the services say of all that failed in their databases. A receipt in the inbox is the exception:
// who waited for another's receipt that was rolled back inherits locks on the gaps beside it, and so may meet others there.
func (s *Stage) noDeadlocks() error {
	for _, p := range s.processes() {
		text, err := os.ReadFile(p.logs)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "Deadlock found") && !strings.Contains(line, "receive event") {
				return fmt.Errorf("%s met a deadlock: %s", p.name, line)
			}
		}
	}
	return nil
}

// watchShelf looks, again and again, whether all that came in is on the shelf or out.
func (s *Stage) watchShelf(ctx context.Context) error {
	for looks := 0; ; looks++ {
		var least, stocked, there int64
		err := s.books.Products.QueryRowContext(ctx, `SELECT MIN(stock), SUM(stocked), SUM(stock) + (SELECT COALESCE(SUM(quantity), 0)
			FROM reserved_items JOIN reservations ON reservations.id = reservation WHERE state IN ('reserved', 'sold')) FROM products`).Scan(&least, &stocked, &there)
		switch {
		case ctx.Err() != nil:
			return expect(looks > 0, "nobody looked at the shelf meanwhile")
		case err != nil:
			return fmt.Errorf("look at the shelf: %w", err)
		case least < 0 || stocked != there:
			return fmt.Errorf("%d came in, %d are there or out, the least stock is %d", stocked, there, least)
		}
	}
}

// settled waits until nothing is under way any more, and audits.
func (s *Stage) settled(ctx context.Context) error {
	return await(ctx, func() (bool, string, error) {
		found, err := audit.Run(ctx, s.books)
		if err != nil {
			return false, "", err
		}
		few := found.Breaches[:min(len(found.Breaches), 5)]
		return len(found.Breaches) == 0 && found.Orders > 0, fmt.Sprintf("%d breaches: %s", len(found.Breaches), strings.Join(few, "; ")), nil
	})
}

// wish is an order that a customer wants, and goes on asking for until there is an answer.
type wish struct {
	key   string
	asked order.Request
	known bool // some answer came that speaks of it
}

// killed ends services by SIGKILL at random while customers buy.
func killed(ctx context.Context, s *Stage) error {
	const customers = 8
	ids, err := s.stock(ctx, "killed", 1_000_000, 10, 12)
	if err != nil {
		return err
	}
	rare, err := s.stock(ctx, "rare", 20, 10, 2) // soon sold out
	if err != nil {
		return err
	}
	var wallets []string
	for range customers {
		wallet, err := s.wallet(ctx, 20_000) // not for ever
		if err != nil {
			return err
		}
		wallets = append(wallets, wallet)
	}
	killing, stop := context.WithTimeout(ctx, s.config.Killing)
	defer stop()
	wishes := make([][]*wish, customers)
	var working sync.WaitGroup
	for i := range customers {
		working.Go(func() {
			source := rand.New(rand.NewPCG(s.config.Seed, uint64(i))) //nolint:gosec // a load that can be repeated
			for n := 0; killing.Err() == nil; n++ {
				goods := ids
				if n%5 == 0 {
					goods = slices.Concat(ids, rare)
				}
				w := &wish{key: fmt.Sprint("k-", n), asked: order.Request{
					Customer: s.customer(fmt.Sprint("killed-", i)), Wallet: wallets[i], Reference: fmt.Sprint(source.IntN(3), source.IntN(100)),
					Items: random(source, goods, 1, 10),
				}}
				wishes[i] = append(wishes[i], w)
				s.want(killing, w, source)
			}
		})
	}
	kills, err := s.killAtRandom(killing)
	working.Wait()
	if err != nil {
		return err
	}
	taken, open := 0, 0
	for _, w := range slices.Concat(wishes...) {
		taken++
		id := order.ID(w.asked.Customer, w.key)
		if !w.known { // the customer asks once more, and so learns
			open++
			if _, err := buy(ctx, s.order, w.key, w.asked); err != nil {
				return err
			}
		}
		if _, err := s.awaitEnd(ctx, id); err != nil {
			return err
		}
	}
	if err := s.settled(ctx); err != nil {
		return err
	}
	s.config.Note(fmt.Sprintf("%d kills in %v under %d orders, of which %d had no answer meanwhile", kills, s.config.Killing, taken, open))
	return expect(kills >= 2 && taken >= customers, "only %d kills and %d orders, %d without an answer", kills, taken, open)
}

// want asks until there is an answer.
func (s *Stage) want(ctx context.Context, w *wish, source *rand.Rand) {
	for ctx.Err() == nil {
		a, err := buy(ctx, []*process{s.order, s.hasty}[source.IntN(2)], w.key, w.asked)
		if err == nil && (a.ID != "" || a.Instance != "") {
			w.known = true
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// killAtRandom kills one service after the other, starts each again, and counts the kills.
func (s *Stage) killAtRandom(ctx context.Context) (kills int, err error) {
	const calm, down = 700 * time.Millisecond, 300 * time.Millisecond
	source := rand.New(rand.NewPCG(s.config.Seed, 0)) //nolint:gosec // kills that can be repeated
	pause := func(most time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(source.Int64N(int64(most)))):
		}
	}
	for ctx.Err() == nil || kills < 2 { // one start may take as long as all of it
		pause(calm)
		victim := s.processes()[source.IntN(len(s.processes()))]
		if err := victim.kill(); err != nil {
			return kills, err
		}
		kills++
		pause(down)
		if err := victim.start(context.WithoutCancel(ctx)); err != nil {
			return kills, errors.Join(err, ctx.Err())
		}
	}
	return kills, nil
}
