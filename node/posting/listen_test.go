package posting_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

// told lists what is to be delivered to a webhook, in order.
func (w *world) told(webhook string) (events []string) {
	w.Helper()
	rows, err := w.admin.QueryContext(w.context(), "SELECT event, object, payload FROM webhook_deliveries WHERE webhook = ? ORDER BY sequence", webhook)
	must(w, err)
	defer rows.Close()
	for rows.Next() {
		var event, object, payload string
		must(w, rows.Scan(&event, &object, &payload))
		if payload != event {
			w.Errorf("the payload of %s is %s", event, payload)
		}
		events = append(events, event+" "+object)
	}
	must(w, rows.Err())
	return events
}

// listener makes a webhook, as the edge does.
func (w *world) listener(owner string, events ...string) string {
	w.Helper()
	id := uuid.Must(uuid.NewV7()).String()
	w.marked(func(ctx context.Context, tx *store.Tx) error {
		return store.InsertWebhook(ctx, tx, store.Webhook{ID: id, Principal: owner, Owner: owner, Events: events, Secret: []byte("sealed"), CreatedAt: time.Now().UTC()})
	})
	return id
}

// marked changes webhooks under a new mark.
func (w *world) marked(change func(ctx context.Context, tx *store.Tx) error) {
	w.Helper()
	tx, err := w.setup.Begin(w.context())
	must(w, err)
	defer tx.Rollback()
	must(w, store.MarkWebhooks(w.context(), tx, time.Now().UnixNano()))
	must(w, change(w.context(), tx))
	_, err = tx.Commit(w.context())
	must(w, err)
}

func withPayload(o *options) {
	o.engine.Payload = func(n ledger.Notice) []byte { return []byte(n.Event()) }
}

// From the moment on at which a webhook is there every batch of every node tells it what concerns its owner, in the transaction
// of the money; what concerns others, and what is rolled back, it does not hear.
func TestAWebhookHearsOfWhatCommits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nodes := []*node{w.open(withPayload), w.open(withPayload)}
	first := nodes[0]
	account, other := first.funded(100), w.account("client:bob")
	nodes[1].succeed(deposit(account, 1)) // both know that there is none
	all, some := w.listener(alice), w.listener("client:bob", "transfer.posted")
	var want, bobs []string
	for i, n := range nodes { // the very next batch of each
		pay := transfer(account, other, 1)
		n.succeed(pay)
		want, bobs = append(want, "transfer.posted transfer:"+string(pay.ID)), append(bobs, "transfer.posted transfer:"+string(pay.ID))
		if got := w.told(all); !slices.Equal(got, want) {
			t.Fatalf("after the batch of node %d the webhook is told %v, not %v", i+1, got, want)
		}
	}
	held := hold(account, 5, time.Hour)
	first.succeed(held)
	nodes[1].succeed(ledger.Settle{Hold: held.ID, Actor: ledger.Actor{Principal: alice}, Account: account, End: ledger.Voided})
	first.submit(fresh(transfer(account, other, 10_000))) // refused
	first.faults.once("before_commit", func() error { return errLost })
	first.succeed(deposit(account, 7)) // rolled back, then run again
	label, frozen := "x", ledger.Frozen
	operator := ledger.Actor{Operator: true}
	nodes[1].succeed(ledger.Amend{Actor: operator, Number: account, Label: &label})
	first.succeed(ledger.Amend{Actor: operator, Number: other, Status: &frozen})
	got := w.told(all)
	want = append(want, "hold.pending hold:"+string(held.ID), "hold.voided hold:"+string(held.ID), "transfer.posted", "account.changed account:"+string(account))
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("it is told %v, not %v", got, want)
	}
	if got := w.told(some); !slices.Equal(got, bobs) {
		t.Errorf("one that wants transfers alone is told %v, not %v", got, bobs)
	}
	w.marked(func(ctx context.Context, tx *store.Tx) error {
		_, err := store.DeleteWebhook(ctx, tx, alice, all)
		return err
	})
	nodes[1].succeed(deposit(account, 1))
	if after := w.told(all); len(after) != len(got) {
		t.Errorf("a deleted webhook is told %v", after[len(got):])
	}
	w.verify()
}

// Where nobody listens batches send nothing about webhooks: once the lane knows the mark, their tables could be away.
func TestWithoutWebhooksABatchAsksNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open(withPayload)
	w.listener("client:stranger")
	account := n.funded(100)
	for _, table := range []string{"webhooks", "webhook_deliveries"} {
		w.exec(fmt.Sprintf("RENAME TABLE %s TO %s_away", table, table))
	}
	n.succeed(deposit(account, 1))
	n.succeed(hold(account, 5, time.Hour))
	if n.metric("failures_total") != 0 {
		t.Error("a batch has failed")
	}
}
