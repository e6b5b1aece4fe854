package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"lockstep/node/ledger"
)

// Webhook is an address that somebody wants events to be sent to.
type Webhook struct {
	ID          string // UUIDv7
	Principal   string // that made it, and alone sees it
	Owner       string // whose accounts it hears of
	URL         string
	Events      []string // it hears of, such as transfer.posted; none is all
	Description string
	Secret      []byte // sealed
	CreatedAt   time.Time
}

// Hears tells whether the webhook is for events of this name.
func (w Webhook) Hears(event string) bool {
	return len(w.Events) == 0 || slices.Contains(w.Events, event)
}

const webhookColumns = `id, principal, owner, url, events, description, secret, created_at`

func scanWebhook(rows *sql.Rows) (Webhook, error) {
	var w Webhook
	var events string
	err := rows.Scan(&w.ID, &w.Principal, &w.Owner, &w.URL, &events, &w.Description, &w.Secret, &w.CreatedAt)
	w.Events = strings.Fields(events)
	return w, err
}

// Webhooks lists the webhooks of a principal, oldest first, after one of them.
func (q *Queries) Webhooks(ctx context.Context, principal, after string, limit int) ([]Webhook, error) {
	found, err := collect(ctx, q.conn, scanWebhook, "SELECT "+webhookColumns+" FROM webhooks WHERE principal = ? AND id > ? ORDER BY id LIMIT ?",
		principal, after, page(limit))
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", err)
	}
	return found, nil
}

// Webhook reads a webhook of a principal, or ErrMiss.
func (q *Queries) Webhook(ctx context.Context, principal, id string) (Webhook, error) {
	found, err := collect(ctx, q.conn, scanWebhook, "SELECT "+webhookColumns+" FROM webhooks WHERE id = ? AND principal = ?", id, principal)
	return only(found, err, "read webhook")
}

// MarkWebhooks locks the system's row and writes a new mark into it, by which every batch that begins after this transaction
// has ended learns that the webhooks are others than before. Marks are drawn at random: one that is counted could be the same
// for different webhooks, after a failover that has lost a change.
func MarkWebhooks(ctx context.Context, tx *Tx, mark int64) error {
	if _, err := tx.Exec(ctx, "UPDATE `system` SET webhooks = ? WHERE only = 1", mark); err != nil {
		return fmt.Errorf("mark webhooks: %w", err)
	}
	return nil
}

// CountWebhooks counts all of them, and those of a principal. After MarkWebhooks nobody else can make one meanwhile.
func CountWebhooks(ctx context.Context, tx *Tx, principal string) (all, own int, err error) {
	scan := func(rows *sql.Rows) error { return rows.Scan(&all, &own) }
	if err := tx.Query(ctx, scan, "SELECT COUNT(*), COUNT(IF(principal = ?, 1, NULL)) FROM webhooks", principal); err != nil {
		return 0, 0, fmt.Errorf("count webhooks: %w", err)
	}
	return all, own, nil
}

// ActsFor tells whether a principal acts for the owner now, which a node that has read of it before may have wrong. A client is
// locked, so that it is given no other owner before a webhook of it is there to be seen.
func ActsFor(ctx context.Context, tx *Tx, principal, owner string) (still bool, err error) {
	still = true // a person acts for nobody else
	scan := func(rows *sql.Rows) error { return rows.Scan(&still) }
	err = tx.Query(ctx, scan, "SELECT deleted_at IS NULL AND IF(owner = '', ?, owner) = ? FROM clients WHERE id = ? FOR UPDATE",
		principal, owner, strings.TrimPrefix(principal, "client:"))
	if err != nil {
		return false, fmt.Errorf("lock client: %w", err)
	}
	return still, nil
}

// InsertWebhook makes a webhook.
func InsertWebhook(ctx context.Context, tx *Tx, w Webhook) error {
	_, err := tx.Exec(ctx, "INSERT INTO webhooks ("+webhookColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		w.ID, w.Principal, w.Owner, w.URL, strings.Join(w.Events, " "), w.Description, w.Secret, w.CreatedAt)
	if err != nil {
		return fmt.Errorf("make webhook: %w", err)
	}
	return nil
}

// DeleteWebhook deletes a webhook of a principal and tells whether there was one. What was to be delivered to it goes when a
// dispatcher comes upon it.
func DeleteWebhook(ctx context.Context, tx *Tx, principal, id string) (bool, error) {
	return deletedAny(tx.Exec(ctx, "DELETE FROM webhooks WHERE id = ? AND principal = ?", id, principal))
}

// DeleteWebhooksOf deletes all webhooks of a principal and tells whether there were any.
func DeleteWebhooksOf(ctx context.Context, tx *Tx, principal string) (bool, error) {
	return deletedAny(tx.Exec(ctx, "DELETE FROM webhooks WHERE principal = ?", principal))
}

func deletedAny(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, fmt.Errorf("delete webhooks: %w", err)
	}
	count, err := result.RowsAffected()
	return count > 0, err
}

const listenerColumns = `id, owner, events`

// scanListener reads of a webhook what decides whether it hears of an event.
func scanListener(rows *sql.Rows) (Webhook, error) {
	var w Webhook
	var events string
	err := rows.Scan(&w.ID, &w.Owner, &events)
	w.Events = strings.Fields(events)
	return w, err
}

// Listeners reads who hears of events, by owner.
func Listeners(ctx context.Context, tx *Tx) (map[string][]Webhook, error) {
	all := map[string][]Webhook{}
	scan := func(rows *sql.Rows) error {
		w, err := scanListener(rows)
		all[w.Owner] = append(all[w.Owner], w)
		return err
	}
	if err := tx.Query(ctx, scan, "SELECT "+listenerColumns+" FROM webhooks"); err != nil {
		return nil, fmt.Errorf("read webhooks: %w", err)
	}
	return all, nil
}

// ListenersOf reads who hears of events of one owner.
func ListenersOf(ctx context.Context, tx *Tx, owner string) (found []Webhook, err error) {
	scan := func(rows *sql.Rows) error {
		w, err := scanListener(rows)
		found = append(found, w)
		return err
	}
	if err := tx.Query(ctx, scan, "SELECT "+listenerColumns+" FROM webhooks WHERE owner = ?", owner); err != nil {
		return nil, fmt.Errorf("read webhooks: %w", err)
	}
	return found, nil
}

// The states of a delivery.
const (
	DeliveryPending   = "pending"
	DeliveryDelivered = "delivered"
	DeliveryFailed    = "failed" // given up
)

// Delivery is an event for one webhook, and what became of it.
type Delivery struct {
	Sequence   int64  // in the order in which things happened to one object
	ID         string // UUIDv7, by which the receiver knows repeats
	Webhook    string
	Object     string // deliveries about one object to one webhook take turns
	Event      string
	Payload    []byte
	State      string
	Attempts   int       // begun, since it was made or replayed
	NextAt     time.Time // when it is due while it is pending
	Status     int       // of the last answer; 0 for none
	Reason     string    // why the last attempt failed
	CreatedAt  time.Time
	FinishedAt time.Time // zero while pending
}

// NewDelivery is the delivery of a notice to a webhook.
func NewDelivery(id, webhook string, n ledger.Notice, payload []byte) Delivery {
	return Delivery{ID: id, Webhook: webhook, Object: n.Object(), Event: n.Event(), Payload: payload, CreatedAt: n.At}
}

// InsertDeliveries queues new deliveries, due at once. Whoever inserts holds the locks of the objects that they are about, so
// that their sequences are in the order of what happened to one object.
func InsertDeliveries(tx *Tx, deliveries []Delivery) {
	var values bulk
	for _, d := range deliveries {
		values.row(d.ID, d.Webhook, d.Object, d.Event, d.Payload, DeliveryPending, 0, d.CreatedAt, d.CreatedAt, "", d.CreatedAt)
	}
	values.queue(tx, `INSERT INTO webhook_deliveries (id, webhook, object, event, payload, state, attempts, next_at, since, reason, created_at)`, "")
}

const deliveryColumns = `sequence, id, webhook, object, event, payload, state, attempts, next_at, COALESCE(status, 0), reason, created_at, finished_at`

func scanDelivery(rows *sql.Rows) (Delivery, error) {
	var d Delivery
	var finished sql.NullTime
	err := rows.Scan(&d.Sequence, &d.ID, &d.Webhook, &d.Object, &d.Event, &d.Payload, &d.State, &d.Attempts, &d.NextAt, &d.Status, &d.Reason,
		&d.CreatedAt, &finished)
	d.FinishedAt = finished.Time
	return d, err
}

// DeliveryFilter chooses deliveries of one webhook.
type DeliveryFilter struct {
	Webhook string
	State   string // "" is all
	Before  int64  // the last sequence of the page before; 0 begins with the newest
	Limit   int
}

// Deliveries lists deliveries, newest first.
func (q *Queries) Deliveries(ctx context.Context, filter DeliveryFilter) ([]Delivery, error) {
	var where conditions
	where.and("webhook = ?", filter.Webhook)
	where.equal("state", filter.State)
	if filter.Before > 0 {
		where.and("sequence < ?", filter.Before)
	}
	found, err := collect(ctx, q.conn, scanDelivery, "SELECT "+deliveryColumns+" FROM webhook_deliveries"+
		where.text()+" ORDER BY sequence DESC LIMIT ?", append(where.args, page(filter.Limit))...)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return found, nil
}

// HasWebhook tells whether the webhook is one of the principal's.
func HasWebhook(ctx context.Context, tx *Tx, principal, id string) (there bool, err error) {
	scan := func(rows *sql.Rows) error { there = true; return rows.Scan(&id) }
	if err := tx.Query(ctx, scan, "SELECT id FROM webhooks WHERE id = ? AND principal = ?", id, principal); err != nil {
		return false, fmt.Errorf("read webhook: %w", err)
	}
	return there, nil
}

// ReplayDelivery makes a delivery due at once, whatever became of it, with all its attempts before it; it tells whether there
// is one.
func ReplayDelivery(ctx context.Context, tx *Tx, webhook, id string) (bool, error) {
	result, err := tx.Exec(ctx, `UPDATE webhook_deliveries SET state = 'pending', attempts = 0, next_at = UTC_TIMESTAMP(6), since = UTC_TIMESTAMP(6),
		finished_at = NULL WHERE id = ? AND webhook = ?`, id, webhook)
	if err != nil {
		return false, fmt.Errorf("replay delivery: %w", err)
	}
	count, err := result.RowsAffected()
	return count > 0, err
}
