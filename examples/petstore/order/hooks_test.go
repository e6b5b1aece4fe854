package order_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"lockstep/api/client"
	"lockstep/examples/petstore/order"
)

const (
	hookURL      = "http://petstore.example/webhooks"
	hookSecret   = "whsec_dGhlIHNlY3JldCBvZiB0aGUgd2ViaG9vaw=="
	otherSecret  = "whsec_dGhlIHNlY3JldCBvZiBhbm90aGVyIG9uZQ=="
	neverRetried = time.Hour
)

// tell sends what the payment system would, signed under the secret, and answers with the status and how many were brought on.
func (w *world) tell(secret, delivery, wallet, reference string) (status int, broughtOn int64) {
	w.Helper()
	signer, err := standardwebhooks.NewWebhook(secret)
	w.must(err)
	now := time.Now()
	body := fmt.Sprintf(`{"type":"transfer.posted","timestamp":"2026-01-31T00:00:00.000000Z",
		"data":{"id":"forged","state":"posted","from":%q,"to":"shop","amount":"1","currency":"KRW","reference":%q}}`, wallet, reference)
	signature, err := signer.Sign(delivery, now, []byte(body))
	w.must(err)
	request, err := http.NewRequestWithContext(w.ctx, http.MethodPost, w.url+"/webhooks", strings.NewReader(body))
	w.must(err)
	request.Header.Set("webhook-id", delivery)
	request.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	request.Header.Set("webhook-signature", signature)
	response, err := http.DefaultClient.Do(request)
	w.must(err)
	defer response.Body.Close()
	var said struct {
		BroughtOn int64 `json:"brought_on"`
	}
	w.must(json.NewDecoder(response.Body).Decode(&said))
	return response.StatusCode, said.BroughtOn
}

func (w *world) wantTold(what string, wantedStatus int, wanted int64, secret, delivery, wallet, reference string) {
	w.Helper()
	if status, broughtOn := w.tell(secret, delivery, wallet, reference); status != wantedStatus || broughtOn != wanted {
		w.Errorf("%s was answered with %d and brought %d orders on, wanted %d and %d", what, status, broughtOn, wantedStatus, wanted)
	}
}

// putOff waits until the order's payment was tried so often, and is to be tried again much later.
func (w *world) putOff(id string, attempts int) {
	w.Helper()
	w.within(fmt.Sprintf("it is put off %d times", attempts), func() bool {
		o, err := w.desk.Find(w.ctx, id)
		return err == nil && o.Attempts == attempts && o.NextTry != nil && time.Until(*o.NextTry) > neverRetried/4
	})
}

// stuck is a world in which no order asks again by itself, with a webhook.
func stuck(t *testing.T, pay func(n int32) (client.Transfer, error)) *world {
	t.Helper()
	w := open(t, &world{pay: pay, change: func(p *order.Patience) { p.RetryMin, p.RetryMax = neverRetried, neverRetried }}, 2*neverRetried)
	mine, err := w.hooks.Replace(w.ctx, "", client.Webhook{ID: "hook", URL: hookURL, Secret: hookSecret})
	if err != nil || !mine {
		t.Fatalf("the webhook is not kept: %v", err)
	}
	return w
}

// An order whose payment had no answer goes on because of a delivery, once for each, and pays what the payment system answers
// then. What is not signed under the webhook's secret moves nothing.
func TestAHintBringsAnUnansweredPaymentOn(t *testing.T) {
	t.Parallel()
	w := stuck(t, func(n int32) (client.Transfer, error) {
		if n < 3 {
			return client.Transfer{}, &client.UnknownError{Key: "k", Cause: errSilence}
		}
		return client.Transfer{ID: "t", State: "posted"}, nil
	})
	answered := make(chan string, 1)
	go func() {
		_, said := w.buy("k", "")
		answered <- said.State
	}()
	id := order.ID("c", "k")
	w.putOff(id, 1)
	w.wantTold("a forged delivery", http.StatusUnauthorized, 0, otherSecret, "d-1", "w", id)
	w.wantTold("one about another's money", http.StatusOK, 0, hookSecret, "d-2", "another", id)
	w.wantTold("one about another order", http.StatusOK, 0, hookSecret, "d-3", "w", "0197b4a0-0000-7000-8000-000000000009")
	if o, err := w.desk.Find(w.ctx, id); err != nil || o.Attempts != 1 || time.Until(*o.NextTry) < neverRetried/4 || w.paid.Load() != 1 {
		t.Fatalf("a forged delivery moved the order: %+v, after %d payments, %v", o, w.paid.Load(), err)
	}
	w.wantTold("the first delivery", http.StatusOK, 1, hookSecret, "d-1", "w", id)
	w.putOff(id, 2)
	w.wantTold("its repeat", http.StatusOK, 0, hookSecret, "d-1", "w", id)
	w.wantTold("the second delivery", http.StatusOK, 1, hookSecret, "d-4", "w", id)
	select {
	case state := <-answered:
		if o, err := w.desk.Find(w.ctx, id); err != nil || state != "paid" || o.Transfer != "t" || w.paid.Load() != 3 {
			t.Errorf("after %d payments it is %s by %q: %v", w.paid.Load(), state, o.Transfer, err)
		}
	case <-w.ctx.Done():
		t.Error("nobody answered")
	}
	w.wantTold("one about a paid order", http.StatusOK, 0, hookSecret, "d-5", "w", id)
}

// A hint may be faster than the silence that makes it worth something.
func TestAHintThatComesWhileThePaymentIsTriedIsNotLost(t *testing.T) {
	t.Parallel()
	var w *world
	var opened atomic.Bool
	w = stuck(t, func(n int32) (client.Transfer, error) {
		if n > 1 {
			return client.Transfer{ID: "t", State: "posted"}, nil
		}
		for !opened.Load() {
			time.Sleep(time.Millisecond)
		}
		w.wantTold("the delivery", http.StatusOK, 1, hookSecret, "d-1", "w", order.ID("c", "k"))
		return client.Transfer{}, &client.UnknownError{Key: "k", Cause: errSilence}
	})
	opened.Store(true)
	if status, said := w.buy("k", ""); status != http.StatusCreated || said.State != "paid" || w.paid.Load() != 2 {
		t.Errorf("after %d payments it was answered with %d %+v", w.paid.Load(), status, said)
	}
}

// Of several processes that make a webhook at once, one is kept; a later one takes its place only from who knows it.
func TestOneWebhookOfAURLIsKept(t *testing.T) {
	t.Parallel()
	w := stuck(t, nil)
	for _, c := range []struct {
		old, by string
		mine    bool
	}{{"", "late", false}, {"gone", "late", false}, {"hook", "next", true}, {"hook", "late", false}} {
		mine, err := w.hooks.Replace(w.ctx, c.old, client.Webhook{ID: c.by, URL: hookURL, Secret: "secret of " + c.by})
		if err != nil || mine != c.mine {
			t.Errorf("%q instead of %q is kept: %v, %v", c.by, c.old, mine, err)
		}
	}
	if kept, err := w.hooks.Kept(w.ctx, hookURL); err != nil || kept.ID != "next" || kept.Secret != "secret of next" {
		t.Errorf("kept is %+v, %v", kept, err)
	}
}
