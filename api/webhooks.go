package api

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

// Webhooks makes and deletes webhooks in the transactions of requests; *webhooks.Desk does.
type Webhooks interface {
	Check(url string) error
	Make(ctx context.Context, tx *store.Tx, asked store.Webhook) (made store.Webhook, secret string, err error)
	Delete(ctx context.Context, tx *store.Tx, principal, id string) error
	DeleteAll(ctx context.Context, tx *store.Tx, principal string) error
	Replay(ctx context.Context, tx *store.Tx, principal, webhook, delivery string) error
	Tell(ctx context.Context, tx *store.Tx, notice ledger.Notice) error
}

// webhookEvents are all that a webhook can hear of.
var webhookEvents = []string{
	"transfer.pending", "transfer.posted", "transfer.voided", "hold.pending", "hold.posted", "hold.voided", "hold.expired",
	"account.opened", "account.changed",
}

// message is what a receiver is sent. Data is the object as the API shows it, as it was after what happened.
type message struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      any    `json:"data"`
}

// WebhookPayload renders what is sent about a notice, in a system whose days begin in the zone.
func WebhookPayload(system string, zone *time.Location) func(ledger.Notice) []byte {
	return func(n ledger.Notice) []byte {
		r := renderer{system: system, zone: zone, now: func() time.Time { return n.At }}
		m := message{Type: n.Event(), Timestamp: stamp(n.At)}
		switch {
		case n.Remittance != nil:
			m.Data = remittanceOf(*n.Remittance, false)
		case n.Transfer != nil:
			m.Data = transferOf(*n.Transfer)
		case n.Hold != nil:
			m.Data = r.holdOf(*n.Hold)
		default:
			m.Data = r.account(*n.Account)
		}
		return encode(m)
	}
}

type newWebhookRequest struct {
	URL         string   `json:"url"`
	Events      []string `json:"events,omitempty"`
	Description string   `json:"description,omitempty"`
}

type webhookBody struct {
	ID          string   `json:"id"`
	URL         string   `json:"url"`
	Events      []string `json:"events"`
	Description string   `json:"description"`
	CreatedAt   string   `json:"created_at"`
}

func webhookOf(w store.Webhook) webhookBody {
	return webhookBody{ID: w.ID, URL: w.URL, Events: append([]string{}, w.Events...), Description: w.Description, CreatedAt: stamp(w.CreatedAt)}
}

// madeWebhook has the secret, which the stored answer has not.
type madeWebhook struct {
	webhookBody
	Secret *string `json:"secret"`
	Notice string  `json:"notice,omitempty"`
}

const webhookNotice = "The secret was shown once and cannot be read again. Delete the webhook and make another one."

func (x *exchange) postWebhook() error {
	request, err := decode[newWebhookRequest](x)
	if err != nil {
		return err
	}
	asked, err := request.webhook(x)
	if err != nil {
		return err
	}
	return x.once(request, func(ctx context.Context, tx *store.Tx) (answer, stored store.Answer, err error) {
		made, secret, err := x.server.deps.Webhooks.Make(ctx, tx, asked)
		if err != nil {
			return store.Answer{}, store.Answer{}, err
		}
		answer = store.Answer{Status: 201, ContentType: jsonType, Body: encode(madeWebhook{webhookBody: webhookOf(made), Secret: &secret})}
		stored = answer
		stored.Body = encode(madeWebhook{webhookBody: webhookOf(made), Notice: webhookNotice})
		return answer, stored, nil
	})
}

// webhook is what was asked for, as the caller's: it hears of what the caller may see as its own.
func (r newWebhookRequest) webhook(x *exchange) (store.Webhook, error) {
	asked := store.Webhook{Principal: x.principal.Caller, Owner: x.principal.Owner, URL: r.URL, Description: r.Description, Events: r.Events}
	if err := checkText("description", r.Description, labelMax); err != nil {
		return asked, err
	}
	for i, name := range r.Events {
		switch {
		case !slices.Contains(webhookEvents, name):
			return asked, ledger.Refuse(ledger.InvalidRequest, "the events are %s", strings.Join(webhookEvents, ", "))
		case slices.Contains(r.Events[:i], name):
			return asked, ledger.Refuse(ledger.InvalidRequest, "the event %s is there twice", name)
		}
	}
	return asked, x.server.deps.Webhooks.Check(r.URL)
}

type webhooksBody struct {
	Webhooks   []webhookBody `json:"webhooks"`
	NextCursor *string       `json:"next_cursor"`
}

func (x *exchange) getWebhooks() error {
	if err := x.checkQuery("limit", "cursor"); err != nil {
		return err
	}
	asked, err := x.page("webhooks of " + x.principal.Caller)
	if err != nil {
		return err
	}
	if asked.position != "" && !canonicalUUID(asked.position) {
		return badCursor()
	}
	var rows []store.Webhook
	err = x.read(nil, func(ctx context.Context, q Queries) (err error) {
		rows, err = q.Webhooks(ctx, x.principal.Caller, asked.position, asked.limit+1)
		return err
	})
	if err != nil {
		return err
	}
	rows, next := cut(asked, rows, func(w store.Webhook) string { return w.ID })
	body := webhooksBody{Webhooks: make([]webhookBody, 0, len(rows)), NextCursor: next}
	for _, row := range rows {
		body.Webhooks = append(body.Webhooks, webhookOf(row))
	}
	return x.answer(200, body)
}

// deleteWebhook needs no Idempotency-Key: doing it twice answers 404 and changes nothing more.
func (x *exchange) deleteWebhook() error {
	id, err := x.webhookParam()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.context(), changeWaitMax)
	defer cancel()
	token, err := x.server.deps.Store.Change(ctx, func(ctx context.Context, tx *store.Tx) error {
		return x.server.deps.Webhooks.Delete(ctx, tx, x.principal.Caller, id)
	})
	if err != nil {
		return err
	}
	return x.writeChange(store.Answer{Status: 204}, false, token)
}

type deliveryBody struct {
	ID            string          `json:"id"`
	Type          string          `json:"type"`
	State         string          `json:"state"`
	Attempts      int             `json:"attempts"`
	Status        int             `json:"status,omitempty"` // of the receiver's last answer
	Reason        string          `json:"reason,omitempty"` // why the last attempt failed
	Payload       json.RawMessage `json:"payload"`
	CreatedAt     string          `json:"created_at"`
	NextAttemptAt string          `json:"next_attempt_at,omitempty"`
	FinishedAt    string          `json:"finished_at,omitempty"`
}

type deliveriesBody struct {
	Deliveries []deliveryBody `json:"deliveries"`
	NextCursor *string        `json:"next_cursor"`
}

// getDeliveries is a webhook's log, newest first.
func (x *exchange) getDeliveries() error {
	id, err := x.webhookParam()
	if err != nil {
		return err
	}
	if err := x.checkQuery("limit", "cursor", "state"); err != nil {
		return err
	}
	state, err := oneOf("state", x.fiber.Query("state"), store.DeliveryPending, store.DeliveryDelivered, store.DeliveryFailed)
	if err != nil {
		return err
	}
	asked, err := x.page("deliveries to " + id)
	if err != nil {
		return err
	}
	before, err := asked.number()
	if err != nil {
		return err
	}
	var rows []store.Delivery
	err = x.read(noWebhook(), func(ctx context.Context, q Queries) error {
		if _, err := q.Webhook(ctx, x.principal.Caller, id); err != nil {
			return err
		}
		rows, err = q.Deliveries(ctx, store.DeliveryFilter{Webhook: id, State: state, Before: before, Limit: asked.limit + 1})
		return err
	})
	if err != nil {
		return err
	}
	rows, next := cut(asked, rows, func(d store.Delivery) string { return strconv.FormatInt(d.Sequence, 10) })
	body := deliveriesBody{Deliveries: make([]deliveryBody, 0, len(rows)), NextCursor: next}
	for _, row := range rows {
		body.Deliveries = append(body.Deliveries, deliveryOf(row))
	}
	return x.answer(200, body)
}

func deliveryOf(d store.Delivery) deliveryBody {
	body := deliveryBody{
		ID: d.ID, Type: d.Event, State: d.State, Attempts: d.Attempts, Status: d.Status, Reason: d.Reason, Payload: d.Payload,
		CreatedAt: stamp(d.CreatedAt), FinishedAt: stamp(d.FinishedAt),
	}
	if d.State == store.DeliveryPending {
		body.NextAttemptAt = stamp(d.NextAt)
	}
	return body
}

type replayRequest struct{}

func (x *exchange) replayDelivery() error {
	if _, err := decodeOptional[replayRequest](x); err != nil {
		return err
	}
	webhook, err := x.webhookParam()
	if err != nil {
		return err
	}
	delivery := x.param("delivery")
	if !canonicalUUID(delivery) {
		return ledger.Refuse(ledger.NotFound, "there is no such delivery")
	}
	return x.once(replayRequest{}, func(ctx context.Context, tx *store.Tx) (answer, stored store.Answer, err error) {
		if err := x.server.deps.Webhooks.Replay(ctx, tx, x.principal.Caller, webhook, delivery); err != nil {
			return store.Answer{}, store.Answer{}, err
		}
		answer = store.Answer{Status: 200, ContentType: jsonType, Body: encode(map[string]string{"id": delivery, "state": "replayed"})}
		return answer, answer, nil
	})
}

func (x *exchange) webhookParam() (string, error) {
	id := x.param("id")
	if !canonicalUUID(id) {
		return "", noWebhook()
	}
	return id, nil
}

func noWebhook() *ledger.Error { return ledger.Refuse(ledger.NotFound, "there is no such webhook") }
