package tour

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"lockstep/examples/petstore/order"
)

// slowly is how long the order service of the scene would wait before it asks about a payment again.
const slowly = 10 * time.Minute

// hinted has payments whose answers are lost, at a service that asks again so late that only a webhook can bring them on. Its
// receiver is down when the payment system sends, and hears of them later.
func hinted(ctx context.Context, s *Stage) (err error) {
	const orders = 6
	ids, err := s.stock(ctx, "hinted", 100, 1000, 2)
	if err != nil {
		return err
	}
	wallet, err := s.wallet(ctx, 100_000)
	if err != nil {
		return err
	}
	asSlow := append(slices.Clone(s.order.args), "--retry-min="+slowly.String(), "--retry-max="+slowly.String(), "--decide="+(2*slowly).String(), "--pay-wait=600ms", "--product-wait=20s", "--lease=60s", "--wait=100ms")
	usual := s.order.args
	if err := errors.Join(s.hasty.freeze(), s.order.end()); err != nil { // or the hasty one would ask soon
		return err
	}
	defer func() {
		s.order.args = usual
		err = errors.Join(err, s.order.end(), s.order.start(ctx), s.hasty.thaw())
	}()
	s.order.args = asSlow
	if err := s.order.start(ctx); err != nil {
		return err
	}
	var late []string
	for i := range orders {
		id := order.ID(s.customer("hinted"), strconv.Itoa(i))
		var posts atomic.Int32
		s.payments.watch(id, func(method string) fate {
			if method == http.MethodPost && posts.Add(1) == 1 {
				return cut
			}
			return fail
		})
		s.hooks.watch(id, func(string) fate { return fail })
		if _, err := buy(ctx, s.order, strconv.Itoa(i), order.Request{Customer: s.customer("hinted"), Wallet: wallet, Items: basket(1, ids...)}); err != nil {
			return err
		}
		late = append(late, id)
	}
	before, err := s.broughtOn(ctx)
	return all(
		func() error { return err },
		func() error { return each(late, func(id string) error { return s.awaitSlow(ctx, id) }) },
		func() error { return each(late, func(id string) error { return s.refusesForged(ctx, wallet, id) }) },
		func() error { return each(late, func(id string) error { return s.awaitSlow(ctx, id) }) }, // nothing has moved
		func() error {
			return each(late, func(id string) error {
				return await(ctx, func() (bool, string, error) {
					return s.hooks.count(http.MethodPost, id) > 0, "nothing was sent about " + id, nil
				})
			})
		},
		func() error {
			for _, id := range late {
				s.payments.release(id)
				s.hooks.release(id)
			}
			return each(late, func(id string) error { _, err := s.awaitOrder(ctx, id, order.Paid); return err })
		},
		func() error {
			err := await(ctx, func() (bool, string, error) { // counted after the commit, when the order may be paid already
				now, err := s.broughtOn(ctx)
				return now-before == orders, fmt.Sprintf("%d of %d orders were brought on by a webhook", now-before, orders), err
			})
			s.config.Note(fmt.Sprintf("%d orders whose payment had no answer were brought on by a webhook", orders))
			return err
		},
		func() error { return s.wantLeft(ctx, ids, 100-orders) },
		func() error { return s.wantMoney(ctx, wallet, 100_000-orders*2000) },
	)
}

func each(ids []string, do func(id string) error) error {
	for _, id := range ids {
		if err := do(id); err != nil {
			return err
		}
	}
	return nil
}

// awaitSlow waits until an order is placed, has asked in vain, and will not ask again for long.
func (s *Stage) awaitSlow(ctx context.Context, id string) error {
	return await(ctx, func() (bool, string, error) {
		o, err := s.find(ctx, id)
		put := o.State == order.Placed && o.Attempts == 1 && o.NextTry != nil && time.Until(*o.NextTry) > slowly/4
		return put, fmt.Sprintf("order %s is %s after %d attempts (%s)", id, o.State, o.Attempts, o.Why), err
	})
}

// refusesForged sends what the payment system would about a payment, but signed by somebody else.
func (s *Stage) refusesForged(ctx context.Context, wallet, id string) error {
	signer, err := standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString([]byte(rand.Text())))
	if err != nil {
		return err
	}
	body := fmt.Sprintf(`{"type":"transfer.posted","timestamp":"2026-01-31T00:00:00.000000Z","data":{"state":"posted","from":%q,"to":%q,"reference":%q}}`,
		wallet, s.shop, id)
	delivery, now := rand.Text(), time.Now()
	signature, err := signer.Sign(delivery, now, []byte(body))
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.order.url+"/webhooks", strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("webhook-id", delivery)
	request.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	request.Header.Set("webhook-signature", signature)
	response, err := browser.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	return expect(response.StatusCode == http.StatusUnauthorized, "a forged delivery was answered with %d", response.StatusCode)
}

// broughtOn is how many orders the order service had go on because of a delivery.
func (s *Stage) broughtOn(ctx context.Context) (int64, error) {
	var state struct {
		BroughtOn int64 `json:"webhooks_brought_on"`
	}
	_, err := send(ctx, http.MethodGet, s.order.url+"/readyz", "", nil, &state)
	return state.BroughtOn, err
}
