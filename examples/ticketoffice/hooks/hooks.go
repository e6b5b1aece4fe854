// Package hooks hears from Lockstep that something has happened to a hold. That is a hint and no more: it makes the office ask
// at once what it would have asked later, or never. What has become of the money is read from Lockstep's answer.
package hooks

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"lockstep/api/client"
	"lockstep/examples/ticketoffice/points"
	"lockstep/examples/ticketoffice/store"
	"lockstep/examples/ticketoffice/web"
	"lockstep/saga"
)

// Events are what Lockstep is to tell about.
var Events = []string{"hold.posted", "hold.voided", "hold.expired"}

const (
	keepPause = 2 * time.Second // before Lockstep is asked again for a webhook
	keepMax   = 30 * time.Second
)

// Hint has the sale of a charge go on, and tells whether it did. The delivery's receipt belongs into the transaction of that.
type Hint func(ctx context.Context, delivery string, charge points.Charge) (broughtOn bool, err error)

// Hooks are where Lockstep's deliveries come in.
type Hooks struct {
	db   *store.Store
	url  string // where we are reached
	hint Hint

	ready     atomic.Bool
	broughtOn atomic.Int64
}

// New makes hooks that are reached at the URL.
func New(db *store.Store, url string, hint Hint) *Hooks { return &Hooks{db: db, url: url, hint: hint} }

// Keep sees to it that Lockstep sends to us, and tries until it does or ctx ends. Sales do not wait for it. The webhook stays
// when the process ends: what happens meanwhile is sent to the next one.
func (h *Hooks) Keep(ctx context.Context, lockstep *client.Client, log *slog.Logger) {
	for ctx.Err() == nil {
		asking, cancel := context.WithTimeout(ctx, keepMax)
		_, err := lockstep.KeepWebhook(asking, client.NewWebhook{URL: h.url, Events: Events, Description: "ticket office"}, h)
		cancel()
		if err == nil {
			h.ready.Store(true)
			return
		}
		log.Warn("there is no webhook at Lockstep so far", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(keepPause):
		}
	}
}

// Kept implements client.WebhookKeeper.
func (h *Hooks) Kept(ctx context.Context, url string) (w client.Webhook, err error) {
	err = h.db.Within(ctx, func(tx saga.Tx) error {
		return tx.Query(ctx, func(rows *sql.Rows) error { return rows.Scan(&w.URL, &w.ID, &w.Secret) },
			`SELECT url, id, secret FROM webhooks WHERE url = ?`, url)
	})
	return w, err
}

// Replace implements client.WebhookKeeper. The row decides between processes that start at once.
func (h *Hooks) Replace(ctx context.Context, old string, by client.Webhook) (mine bool, err error) {
	err = h.db.Within(ctx, func(tx saga.Tx) error {
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

// Status is what Routes shows of the hooks.
type Status struct {
	Ready     bool  `json:"ready"`      // Lockstep sends to us, as far as this process knows
	BroughtOn int64 `json:"brought_on"` // sales that went on because of a delivery to this process
}

// Routes adds where deliveries come in.
func (h *Hooks) Routes(mux *web.Mux) {
	mux.Handle("POST /webhooks", h.take)
	mux.Handle("GET /webhooks", func(w http.ResponseWriter, _ *http.Request) error {
		return web.Reply(w, http.StatusOK, Status{h.ready.Load(), h.broughtOn.Load()})
	})
}

// take answers well only after the commit, so that what is lost here comes again.
func (h *Hooks) take(w http.ResponseWriter, r *http.Request) error {
	kept, err := h.Kept(r.Context(), h.url) // each time: another process may have exchanged it
	if err != nil {
		return fmt.Errorf("read the webhook's secret: %w", err)
	}
	event, err := client.ReadEvent(r, kept.Secret)
	var hold client.Hold
	if err == nil {
		hold, err = event.Hold()
	}
	switch {
	case errors.Is(err, client.ErrForged):
		return web.Refuse(http.StatusUnauthorized, "signature_invalid", "nothing proves that Lockstep has sent this")
	case err != nil:
		return web.Refuse(http.StatusBadRequest, "invalid_request", "%v", err)
	}
	var charge points.Charge
	err = h.db.Within(r.Context(), func(tx saga.Tx) (err error) {
		charge, err = points.ByHold(r.Context(), tx, hold.ID)
		return err
	})
	if err != nil {
		return err
	}
	broughtOn := false
	if about(charge, hold) {
		if broughtOn, err = h.hint(r.Context(), event.ID, charge); err != nil {
			return err
		}
	}
	if broughtOn {
		h.broughtOn.Add(1)
	}
	return web.Reply(w, http.StatusOK, map[string]bool{"brought_on": broughtOn})
}

// about tells whether the hold is what the charge has asked for. Others are the owner's other business.
func about(c points.Charge, h client.Hold) bool {
	return c.State != "" && h.Account == c.Sale.Account && h.Amount == strconv.FormatInt(c.Sale.Amount, 10)
}
