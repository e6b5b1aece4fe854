package webhooks_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

// A receiver that is down for a while, and then fails now and again, gets every event from two nodes, those of an object in
// their order. A node sends what another one has in hand only when that one's lease has ended.
func TestEventsOfAnObjectArriveInOrderAfterAnOutage(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	hook, secret := w.hook(r.URL)
	r.trust(secret)
	r.answers(func(string) int { return http.StatusServiceUnavailable })
	w.dispatch()
	w.dispatch()
	const objects, events = 20, 4
	for i := range objects {
		w.tell(hook, fmt.Sprint("h", i), "pending", "posted", "voided", "expired")
	}
	w.eventually("the receiver is tried in vain", func() bool { _, requests, _ := r.seen(); return requests > objects })
	r.answers(func(string) int {
		if rand.IntN(3) == 0 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	w.eventually("all is delivered", func() bool { return w.count(store.DeliveryDelivered) == objects*events })
	if repeats := w.inOrder(r); repeats > 0 {
		t.Errorf("%d events came twice though nobody died", repeats)
	}
}

// While an event is not delivered, none about the same object is sent to the same webhook; one that is given up waits no more.
func TestAnEventWaitsForTheOneBeforeIt(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	w.config.GiveUpAfter = 12 * time.Second // from the event, which is a second old when it is told
	hook, secret := w.hook(r.URL)
	r.trust(secret)
	w.tell(hook, "h", "pending", "posted")
	w.tell(hook, "other", "pending")
	first := w.told["hold:h"][0]
	var tries, early atomic.Int32
	r.answers(func(id string) int {
		if id == first {
			tries.Add(1)
			return http.StatusGone
		}
		if id == w.told["hold:h"][1] && w.count(store.DeliveryFailed) == 0 {
			early.Add(1)
		}
		return http.StatusOK
	})
	w.dispatch()
	w.dispatch()
	w.eventually("the other object's event and, in the end, the second one are taken", func() bool { return w.count(store.DeliveryDelivered) == 2 })
	if early.Load() > 0 || tries.Load() < 2 || w.count(store.DeliveryFailed) != 1 {
		t.Errorf("the first event was tried %d times and given up %d times; the one behind it was sent %d times before its turn",
			tries.Load(), w.count(store.DeliveryFailed), early.Load())
	}
}

// An event that was given up, or delivered, is sent again when somebody asks for it, under its id.
func TestADeliveryIsReplayed(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	w.config.GiveUpAfter = 300 * time.Millisecond
	hook, secret := w.hook(r.URL)
	r.trust(secret)
	r.answers(func(string) int { return http.StatusInternalServerError })
	w.dispatch()
	w.tell(hook, "h", "pending")
	w.eventually("it is given up", func() bool { return w.count(store.DeliveryFailed) == 1 })
	r.answers(nil)
	id := w.told["hold:h"][0]
	replay := func(principal, webhook, delivery string) error {
		return w.change(func(ctx context.Context, tx *store.Tx) error {
			return w.desk.Replay(ctx, tx, principal, webhook, delivery)
		})
	}
	for range 2 {
		before, _, _ := r.seen()
		must(t, replay(shop, hook.ID, id))
		w.eventually("it is delivered", func() bool { taken, _, _ := r.seen(); return len(taken) == len(before)+1 })
		w.eventually("and noted", func() bool { return w.count(store.DeliveryDelivered) == 1 })
	}
	if w.inOrder(r) != 1 {
		t.Error("the replay had another id")
	}
	for _, err := range []error{
		replay("client:stranger", hook.ID, id), replay(shop, uuid.NewString(), id), replay(shop, hook.ID, uuid.NewString()),
	} {
		if ledger.CodeOf(err) != ledger.NotFound {
			t.Errorf("a replay of what is not there is %v", err)
		}
	}
}

// A replay begins to count anew, and so the first attempt after it has the number of the one that was in hand before: the end of
// that one is not its own.
func TestAnAttemptOfBeforeAReplayEndsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hook, _ := w.hook("https://receiver.invalid")
	w.tell(hook, "h", "pending")
	claim := func() store.Claimed {
		t.Helper()
		claimed, _, err := w.store.ClaimDeliveries(w.context(), 1, time.Minute, store.Busy{}, func(store.Webhook) bool { return true })
		if must(t, err); len(claimed) != 1 || claimed[0].Attempts != 1 {
			t.Fatalf("claimed %+v", claimed)
		}
		return claimed[0]
	}
	settle := func(c store.Claimed, state string) {
		t.Helper()
		must(t, w.store.SettleDeliveries(w.context(), []store.Tried{{Claimed: c, State: state, Reason: "late"}}))
	}
	before := claim()
	must(t, w.change(func(ctx context.Context, tx *store.Tx) error { return w.desk.Replay(ctx, tx, shop, hook.ID, before.ID) }))
	after := claim()
	for _, state := range []string{store.DeliveryPending, store.DeliveryFailed} {
		settle(before, state)
		var reasons int
		must(t, w.admin.QueryRowContext(w.context(), "SELECT COUNT(*) FROM webhook_deliveries WHERE state <> 'pending' OR reason <> ''").Scan(&reasons))
		if reasons != 0 {
			t.Errorf("a late %s changed what is in hand", state)
		}
	}
	settle(after, store.DeliveryFailed)
	if w.count(store.DeliveryFailed) != 1 {
		t.Error("the attempt that is in hand could not be ended")
	}
}

// What ended long ago is forgotten, what is pending is not, however old; and with a webhook go its deliveries.
func TestTheLogIsKeptForAWhile(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	hook, secret := w.hook(r.URL)
	r.trust(secret)
	d := w.dispatch()
	w.tell(hook, "old", "pending", "posted")
	w.tell(hook, "new", "pending")
	w.eventually("all is delivered", func() bool { return w.count(store.DeliveryDelivered) == 3 })
	r.answers(func(string) int { return http.StatusBadGateway })
	w.tell(hook, "open", "pending")
	w.exec("UPDATE webhook_deliveries SET next_at = next_at - INTERVAL 31 DAY, finished_at = finished_at - INTERVAL 31 DAY WHERE object = 'hold:old'")
	w.exec("UPDATE webhook_deliveries SET created_at = created_at - INTERVAL 31 DAY WHERE object = 'hold:open'")
	must(t, d.Forget(w.context()))
	if done, pending := w.count(store.DeliveryDelivered), w.count(store.DeliveryPending); done != 1 || pending != 1 {
		t.Errorf("%d ended and %d pending deliveries are kept, not 1 and 1", done, pending)
	}
	must(t, w.change(func(ctx context.Context, tx *store.Tx) error { return w.desk.Delete(ctx, tx, shop, hook.ID) }))
	w.eventually("nothing is pending", func() bool { return w.count(store.DeliveryPending) == 0 })
	err := w.change(func(ctx context.Context, tx *store.Tx) error { return w.desk.Delete(ctx, tx, shop, hook.ID) })
	if ledger.CodeOf(err) != ledger.NotFound {
		t.Errorf("a second delete is %v", err)
	}
}

// When a receiver is back, what rests after failures does not wait for its time.
func TestAReceiverThatIsBackHearsAllAtOnce(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	w.config.RetryMin, w.config.RetryMax = time.Minute, time.Hour
	hook, secret := w.hook(r.URL)
	r.trust(secret)
	r.answers(func(string) int { return http.StatusServiceUnavailable })
	w.dispatch()
	for i := range 5 {
		w.tell(hook, fmt.Sprint("h", i), "pending")
	}
	w.eventually("each is tried", func() bool { _, requests, _ := r.seen(); return requests >= 5 })
	w.eventually("each rests", func() bool {
		var resting int
		must(t, w.admin.QueryRowContext(w.context(), "SELECT COUNT(*) FROM webhook_deliveries WHERE reason <> '' AND attempts = 1").Scan(&resting))
		return resting == 5
	})
	w.exec("UPDATE webhook_deliveries SET next_at = next_at + INTERVAL 1 HOUR WHERE object <> 'hold:h0'")
	r.answers(nil)
	w.exec("UPDATE webhook_deliveries SET next_at = UTC_TIMESTAMP(6) WHERE object = 'hold:h0'")
	w.eventually("all is delivered", func() bool { return w.count(store.DeliveryDelivered) == 5 })
}

// A slow receiver takes no more than its share of a node, nor do all of an owner together, and the others hear all the same.
func TestASlowReceiverDelaysNobodyElse(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		webhooks, share, owner int
		other                  string
	}{
		"webhook": {webhooks: 1, share: 2, owner: 3, other: shop},
		"owner":   {webhooks: 4, share: 1, owner: 2, other: "client:other"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, r := newWorld(t), newReceiver(t)
			w.config.WorkersMax, w.config.ShareMax, w.config.OwnerMax, w.config.Timeout = 3, c.share, c.owner, 20*time.Second
			slow := newTarpit(t)
			stuck := make([]store.Webhook, c.webhooks)
			for i := range stuck {
				stuck[i], _ = w.hook(slow.URL)
			}
			for i := range 12 { // in turns, so that one look finds all of them
				w.tell(stuck[i%len(stuck)], fmt.Sprint("s", i), "pending")
			}
			hook, secret := w.hookOf(c.other, r.URL)
			r.trust(secret)
			w.dispatch()
			t.Cleanup(func() { close(slow.gate) }) // before the dispatcher is closed, which waits for what is under way
			w.eventually("the slow one is asked", func() bool { return slow.most.Load() >= 2 })
			w.tell(hook, "h", "pending", "posted")
			w.eventually("the other one hears", func() bool { return w.count(store.DeliveryDelivered) == 2 || slow.most.Load() > 2 })
			if heard, most := w.count(store.DeliveryDelivered), slow.most.Load(); heard != 2 || most != 2 {
				t.Errorf("the other one heard of %d events, while the slow one was asked by %d at once", heard, most)
			}
		})
	}
}

// tarpit is a receiver that answers nobody before its gate is closed.
type tarpit struct {
	*httptest.Server
	gate        chan struct{}
	under, most atomic.Int32
}

func newTarpit(tb testing.TB) *tarpit {
	tb.Helper()
	p := &tarpit{gate: make(chan struct{})}
	p.Server = httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		p.most.Store(max(p.most.Load(), p.under.Add(1)))
		<-p.gate
		p.under.Add(-1)
	}))
	tb.Cleanup(p.Close)
	return p
}

// A node may know a client as it was a moment ago. A webhook that it made for the former owner would hear of that one for good.
func TestAWebhookIsMadeForTheOwnerOfNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec("INSERT INTO clients (id, name, secret_hash, scopes, owner, created_at) VALUES ('shop', 'Shop', REPEAT('x', 32), '', 'user:alice', NOW(6))")
	made := func(owner string) error {
		return w.change(func(ctx context.Context, tx *store.Tx) error {
			_, _, err := w.desk.Make(ctx, tx, store.Webhook{Principal: shop, Owner: owner, URL: "https://shop.example.com"})
			return err
		})
	}
	must(t, made("user:alice"))
	if err := made(shop); ledger.CodeOf(err) != ledger.InvalidState {
		t.Errorf("one for the former owner is %v", err)
	}
	w.exec("UPDATE clients SET owner = ''")
	must(t, made(shop))
	must(t, w.change(func(ctx context.Context, tx *store.Tx) error {
		_, err := store.ActsFor(ctx, tx, shop, shop)
		must(t, err)
		if err := w.admin.QueryRowContext(ctx, "SELECT id FROM clients FOR UPDATE NOWAIT").Scan(new(string)); err == nil {
			t.Error("a client can be changed while a webhook of it is made")
		}
		return nil
	}))
	w.exec("UPDATE clients SET deleted_at = NOW(6)")
	if err := made(shop); ledger.CodeOf(err) != ledger.InvalidState {
		t.Errorf("one of a deleted client is %v", err)
	}
}

func TestAPrincipalHasEnoughWebhooks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var err error
	made := 0
	for ; err == nil && made < 100; made++ {
		err = w.change(func(ctx context.Context, tx *store.Tx) error {
			_, _, err := w.desk.Make(ctx, tx, store.Webhook{Principal: shop, Owner: shop, URL: "https://shop.example.com"})
			return err
		})
	}
	if ledger.CodeOf(err) != ledger.InvalidState || made != 21 {
		t.Errorf("webhook %d is %v", made, err)
	}
}
