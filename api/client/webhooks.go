package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Webhook is an address that events about the caller's accounts are sent to, signed by the Standard Webhooks specification.
type Webhook struct {
	ID          string    `json:"id"`
	URL         string    `json:"url"`
	Events      []string  `json:"events"` // it hears of; empty is all
	Description string    `json:"description"`
	CreatedAt   time.Time `json:"created_at"`
	// Secret, whsec_ and a key in base64, is in the first answer to CreateWebhook only. When that answer was lost it is empty:
	// then delete the webhook and make another one.
	Secret string `json:"secret"`
}

// Webhooks is a page of webhooks.
type Webhooks struct {
	Webhooks   []Webhook `json:"webhooks"`
	NextCursor string    `json:"next_cursor"`
}

// NewWebhook asks for a webhook. Without events, such as transfer.posted, it hears of all.
type NewWebhook struct {
	URL         string   `json:"url"`
	Events      []string `json:"events,omitempty"`
	Description string   `json:"description,omitempty"`
}

// Delivery is an event for a webhook and what became of it.
type Delivery struct {
	ID            string          `json:"id"` // the webhook-id that the receiver sees
	Type          string          `json:"type"`
	State         string          `json:"state"` // pending, delivered or, given up, failed
	Attempts      int             `json:"attempts"`
	Status        int             `json:"status"` // of the receiver's last answer; 0: none
	Reason        string          `json:"reason"` // why the last attempt has failed
	Payload       json.RawMessage `json:"payload"`
	CreatedAt     time.Time       `json:"created_at"`
	NextAttemptAt time.Time       `json:"next_attempt_at"`
	FinishedAt    time.Time       `json:"finished_at"`
}

// Deliveries is a page of a webhook's log.
type Deliveries struct {
	Deliveries []Delivery `json:"deliveries"`
	NextCursor string     `json:"next_cursor"`
}

// CreateWebhook makes a webhook; see Webhook.Secret.
func (c *Client) CreateWebhook(ctx context.Context, asked NewWebhook, options ...Option) (Webhook, error) {
	return post[Webhook](ctx, c, "/v1/webhooks", asked, options)
}

// Webhooks lists the webhooks that this client has made.
func (c *Client) Webhooks(ctx context.Context, page Page, options ...Option) (Webhooks, error) {
	return get[Webhooks](ctx, c, "/v1/webhooks", page.query(), options)
}

// DeleteWebhook ends a webhook. It takes no key: done twice it is done once.
func (c *Client) DeleteWebhook(ctx context.Context, id string, options ...Option) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/v1/webhooks/" + url.PathEscape(id)}, options, nil)
}

// Deliveries lists what was sent to a webhook, and what is to be, newest first; state "" is all.
func (c *Client) Deliveries(ctx context.Context, webhook, state string, page Page, options ...Option) (Deliveries, error) {
	query := page.query()
	if state != "" {
		query.Set("state", state)
	}
	return get[Deliveries](ctx, c, "/v1/webhooks/"+url.PathEscape(webhook)+"/deliveries", query, options)
}

// ReplayDelivery has an event sent again under its id, whatever became of it.
func (c *Client) ReplayDelivery(ctx context.Context, webhook, delivery string, options ...Option) error {
	path := "/v1/webhooks/" + url.PathEscape(webhook) + "/deliveries/" + url.PathEscape(delivery) + "/replay"
	_, err := post[struct{}](ctx, c, path, struct{}{}, options)
	return err
}
