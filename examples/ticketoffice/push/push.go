// Package push tells people and the data platform what was sold. Nothing of a payment depends on it.
package push

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"time"

	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/store"
	"lockstep/examples/ticketoffice/web"
	"lockstep/saga"
)

// Message is what a buyer was told.
type Message struct {
	Payment string    `json:"payment"`
	Buyer   string    `json:"buyer"`
	Text    string    `json:"text"`
	SentAt  time.Time `json:"sent_at"`
}

// Deliver tells the buyer.
func Deliver(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	text := fmt.Sprintf("Your seat %d at %s is paid: %d %s.", s.Seat, s.Concert, s.Amount, sale.Currency)
	_, err := tx.Exec(ctx, `INSERT INTO messages (payment, buyer, text, created_at) VALUES (?, ?, ?, UTC_TIMESTAMP(6))`, s.Payment, s.Buyer, text)
	if err != nil {
		return fmt.Errorf("tell the buyer: %w", err)
	}
	return nil
}

// Export hands the sale to the data platform.
func Export(ctx context.Context, tx saga.Tx, s sale.Sale) error {
	_, err := tx.Exec(ctx, `INSERT INTO exports (payment, concert, amount, created_at) VALUES (?, ?, ?, UTC_TIMESTAMP(6))`, s.Payment, s.Concert, s.Amount)
	if err != nil {
		return fmt.Errorf("export the sale: %w", err)
	}
	return nil
}

// Routes adds how one looks at what was told.
func Routes(mux *web.Mux, db *store.Store) {
	mux.Handle("GET /v1/messages/{payment}", func(w http.ResponseWriter, r *http.Request) error {
		var m Message
		err := db.Within(r.Context(), func(tx saga.Tx) error {
			return tx.Query(r.Context(), func(rows *sql.Rows) error { return rows.Scan(&m.Payment, &m.Buyer, &m.Text, &m.SentAt) },
				`SELECT payment, buyer, text, created_at FROM messages WHERE payment = ?`, r.PathValue("payment"))
		})
		if err == nil && m.Payment == "" {
			err = web.Refuse(http.StatusNotFound, "message_not_found", "nothing was said about %s yet", r.PathValue("payment"))
		}
		if err != nil {
			return err
		}
		return web.Reply(w, http.StatusOK, m)
	})
}
