package order

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/api/client"
	"lockstep/examples/petstore/service"
	"lockstep/saga"
)

// hookEvents are what the payment system is to tell about.
var hookEvents = []string{"transfer.posted", "transfer.voided"}

const (
	hookConsumer = "webhooks"       // of the inbox
	keepPause    = 2 * time.Second  // before the payment system is asked again for a webhook
	keepMax      = 30 * time.Second // one such try

	receiptsAge   = 40 * 24 * time.Hour // longer than a delivery can be sent again
	receiptsBatch = 1000
	cleanEvery    = time.Hour
)

// Hooks hears from the payment system that something has happened to a payment. That is a hint and no more: it makes the order
// ask at once what it would have asked later. Whether money moved is read from the answer, never from what was sent here.
type Hooks struct {
	db   saga.Database
	desk *Desk
	url  string // where we are reached; empty is nowhere

	broughtOn atomic.Int64
	ready     atomic.Bool
	stop      context.CancelFunc
	keeping   sync.WaitGroup
}

// NewHooks makes hooks that are reached at the URL.
func NewHooks(db *sql.DB, desk *Desk, url string) *Hooks {
	return &Hooks{db: saga.SQL(db), desk: desk, url: url}
}

// Open sees to it that the payment system sends to us, and goes on trying while it does not answer: orders do not wait for it.
func (h *Hooks) Open(ctx context.Context, bank *client.Client, log *slog.Logger) {
	ctx, h.stop = context.WithCancel(context.WithoutCancel(ctx))
	if h.url == "" {
		return
	}
	h.keeping.Go(func() { h.clean(ctx, log) })
	h.keeping.Go(func() {
		for ctx.Err() == nil {
			err := h.keep(ctx, bank)
			if err == nil {
				h.ready.Store(true)
				return
			}
			log.Warn("there is no webhook at the payment system so far", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(keepPause):
			}
		}
	})
}

func (h *Hooks) keep(ctx context.Context, bank *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, keepMax)
	defer cancel()
	_, err := bank.KeepWebhook(ctx, client.NewWebhook{URL: h.url, Events: hookEvents, Description: "pet store orders"}, h)
	return err
}

// clean deletes receipts of deliveries that cannot come again.
func (h *Hooks) clean(ctx context.Context, log *slog.Logger) {
	for {
		n, err := saga.CleanInbox(ctx, h.db, receiptsAge, receiptsBatch)
		if err != nil && ctx.Err() == nil {
			log.Warn("old receipts could not be deleted", "error", err)
		}
		pause := cleanEvery
		if n == receiptsBatch {
			pause = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// Close ends the trying. The webhook stays: what happens while no process runs is sent when one does.
func (h *Hooks) Close() {
	h.stop()
	h.keeping.Wait()
}

// Ready tells whether this process knows that the payment system sends to it.
func (h *Hooks) Ready() bool { return h.ready.Load() }

// BroughtOn counts the orders that this process had go on because of a delivery.
func (h *Hooks) BroughtOn() int64 { return h.broughtOn.Load() }

// Kept implements client.WebhookKeeper.
func (h *Hooks) Kept(ctx context.Context, url string) (w client.Webhook, err error) {
	err = service.Within(ctx, h.db, func(tx saga.Tx) error {
		return tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&w.URL, &w.ID, &w.Secret) },
			`SELECT url, id, secret FROM webhooks WHERE url = ?`, url)
	})
	return w, err
}

// Replace implements client.WebhookKeeper. The row decides between processes that start at once.
func (h *Hooks) Replace(ctx context.Context, old string, by client.Webhook) (mine bool, err error) {
	err = service.Within(ctx, h.db, func(tx saga.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO webhooks (url, id, secret) VALUES (?, ?, ?)
			ON DUPLICATE KEY UPDATE secret = IF(id = ?, VALUES(secret), secret), id = IF(id = ?, VALUES(id), id)`,
			by.URL, by.ID, by.Secret, old, old); err != nil {
			return err
		}
		var id string
		err := tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&id) }, `SELECT id FROM webhooks WHERE url = ? FOR UPDATE`, by.URL)
		mine = id == by.ID
		return err
	})
	return mine, err
}

// Routes adds where deliveries come in.
func (h *Hooks) Routes(mux *http.ServeMux, log *slog.Logger) {
	mux.Handle("POST /webhooks", service.Handle(log, h.take))
}

// take answers well only after its commit, so that what is lost here comes again.
func (h *Hooks) take(r *http.Request) (int, any, error) {
	kept, err := h.Kept(r.Context(), h.url) // each time: another process may have exchanged it
	if err != nil {
		return 0, nil, fmt.Errorf("read the webhook's secret: %w", err)
	}
	event, err := client.ReadEvent(r, kept.Secret)
	var transfer client.Transfer
	if err == nil {
		transfer, err = event.Transfer()
	}
	switch {
	case errors.Is(err, client.ErrForged):
		return 0, nil, service.Refuse(http.StatusUnauthorized, "signature_invalid", "Nothing proves that the payment system has sent this.")
	case err != nil:
		return 0, nil, service.Refuse(http.StatusBadRequest, "invalid_request", err.Error())
	}
	hinted, err := h.hint(r.Context(), event.ID, transfer)
	if err != nil {
		return 0, nil, err
	}
	if hinted > 0 {
		h.broughtOn.Add(hinted)
		h.desk.runner.Wake()
	}
	return http.StatusOK, map[string]int64{"brought_on": hinted}, nil
}

// hint hastens the order that the transfer pays, once for each delivery, and counts it. Transfers that pay no order of ours are
// the owner's other business.
func (h *Hooks) hint(ctx context.Context, delivery string, t client.Transfer) (hinted int64, err error) {
	o, err := h.desk.Find(ctx, t.Reference)
	var problem *service.Problem
	switch {
	case errors.As(err, &problem):
		return 0, nil
	case err != nil:
		return 0, err
	case o.Step != stepPay || o.Final() || t.From != o.Wallet || t.To != h.desk.shop.Account:
		return 0, nil
	}
	err = service.Within(ctx, h.db, func(tx saga.Tx) error {
		first, err := saga.Receive(ctx, tx, hookConsumer, delivery)
		if err != nil || !first {
			return err
		}
		hinted, err = h.desk.hasten(ctx, tx, o.ID)
		return err
	})
	return hinted, err
}
