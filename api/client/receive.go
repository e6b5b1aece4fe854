package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Event is what a delivery to a webhook says has happened. It is the state of a moment that may be over: take it as the sign
// that it is worth asking, and ask. It comes at least once, so its effect and the note of its id belong into one transaction.
type Event struct {
	ID   string // of the delivery: the same each time that it comes
	Type string // transfer.posted, say
	At   time.Time
	Data json.RawMessage // the object as the API shows it; see Transfer and Hold
}

// ErrForged says that nothing proves that the system has sent a request: answer 401, and do nothing.
var ErrForged = errors.New("not signed under a secret of this webhook, or too long ago")

// eventMax is how long, in bytes, a delivery may be.
const eventMax = 256 << 10

// ReadEvent reads a delivery and checks its signature (Standard Webhooks, v1, at most five minutes old) against the secrets of
// the webhook: one, or two while it is exchanged. An empty secret matches nothing. The error is ErrForged, or tells why the
// request cannot be read.
func ReadEvent(r *http.Request, secrets ...string) (Event, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, eventMax))
	if err != nil {
		return Event{}, fmt.Errorf("read the delivery: %w", err)
	}
	if !slices.ContainsFunc(secrets, func(secret string) bool { return signed(secret, r.Header, body) }) {
		return Event{}, ErrForged
	}
	var message struct {
		Type      string          `json:"type"`
		Timestamp time.Time       `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &message); err != nil {
		return Event{}, fmt.Errorf("read the delivery: %w", err)
	}
	return Event{ID: r.Header.Get(standardwebhooks.HeaderWebhookID), Type: message.Type, At: message.Timestamp, Data: message.Data}, nil
}

func signed(secret string, header http.Header, body []byte) bool {
	if strings.TrimPrefix(secret, "whsec_") == "" {
		return false // a key that everybody has
	}
	verifier, err := standardwebhooks.NewWebhook(secret)
	return err == nil && verifier.Verify(body, header) == nil
}

// Transfer is what an event about a transfer shows.
func (e Event) Transfer() (Transfer, error) { return object[Transfer](e) }

// Hold is what an event about a hold shows.
func (e Event) Hold() (Hold, error) { return object[Hold](e) }

func object[T any](e Event) (shown T, err error) {
	if err := json.Unmarshal(e.Data, &shown); err != nil {
		return shown, fmt.Errorf("read the object of %s: %w", e.Type, err)
	}
	return shown, nil
}

// WebhookKeeper keeps the webhook of each URL, with its secret, where it outlives the process.
type WebhookKeeper interface {
	// Kept is the webhook of a URL, or the zero one.
	Kept(ctx context.Context, url string) (Webhook, error)
	// Replace keeps a webhook instead of the one of its URL that has the id old ("" is none), and tells whether that was the
	// one: of several processes that do this at once, one is told so.
	Replace(ctx context.Context, old string, by Webhook) (bool, error)
}

// keepTries is how often KeepWebhook begins anew after another process was faster.
const keepTries = 5

// KeepWebhook sees to it that a URL has one webhook, with the events asked for, whose secret the keeper has: call it at each
// start, from as many processes as there are. A webhook of the URL whose secret nobody keeps, because a process died or an
// answer was lost, is replaced; what was still to be delivered to it is lost, as events are that happened before.
func (c *Client) KeepWebhook(ctx context.Context, asked NewWebhook, keeper WebhookKeeper) (Webhook, error) {
	for range keepTries {
		kept, err := keeper.Kept(ctx, asked.URL)
		if err != nil {
			return Webhook{}, fmt.Errorf("look for the webhook that is kept: %w", err)
		}
		there, err := c.webhooksAt(ctx, asked.URL)
		if err != nil {
			return Webhook{}, err
		}
		good := func(w Webhook) bool { return w.ID == kept.ID && sameNames(w.Events, asked.Events) }
		if kept.Secret != "" && slices.ContainsFunc(there, good) {
			return kept, c.deleteOthers(ctx, there, kept.ID)
		}
		made, err := c.CreateWebhook(ctx, asked)
		if err != nil {
			return Webhook{}, err
		}
		mine := made.Secret != ""
		if mine {
			if mine, err = keeper.Replace(ctx, kept.ID, made); err != nil {
				return Webhook{}, fmt.Errorf("keep the webhook: %w", err) // whether it is kept, the next start will see
			}
		}
		if mine {
			return made, c.deleteOthers(ctx, there, made.ID)
		}
		if err := c.DeleteWebhook(ctx, made.ID); err != nil && !isMissing(err) {
			return Webhook{}, err
		}
	}
	return Webhook{}, fmt.Errorf("keep the webhook of %s: others replaced it %d times", asked.URL, keepTries)
}

// webhooksAt are all webhooks of the caller's that have the URL.
func (c *Client) webhooksAt(ctx context.Context, address string) (there []Webhook, err error) {
	for page := (Page{}); ; {
		answer, err := c.Webhooks(ctx, page, Fresh())
		if err != nil {
			return nil, err
		}
		for _, w := range answer.Webhooks {
			if w.URL == address {
				there = append(there, w)
			}
		}
		if page.Cursor = answer.NextCursor; page.Cursor == "" {
			return there, nil
		}
	}
}

func (c *Client) deleteOthers(ctx context.Context, there []Webhook, but string) error {
	for _, w := range there {
		if w.ID == but {
			continue
		}
		if err := c.DeleteWebhook(ctx, w.ID); err != nil && !isMissing(err) {
			return err
		}
	}
	return nil
}

func isMissing(err error) bool {
	var problem *Problem
	return errors.As(err, &problem) && problem.Status == http.StatusNotFound
}

func sameNames(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
