package webhooks

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

// Sealer keeps secrets unreadable in the database and its backups; *auth.WebhookSecrets is one.
type Sealer interface {
	Seal(id string, secret []byte) []byte
	Open(id string, sealed []byte) ([]byte, error)
}

// Bounds of what is kept.
const (
	ownMax      = 20     // webhooks of one principal
	allMax      = 10_000 // of the system: every lane of every node knows them all
	secretBytes = 32
)

// Desk makes and deletes webhooks, in the transactions of its callers.
type Desk struct {
	config  Config
	secrets Sealer
	payload func(ledger.Notice) []byte
	now     func() time.Time
}

// NewDesk makes a desk. Payload renders what is sent about a notice; now is the database's time.
func NewDesk(config Config, secrets Sealer, payload func(ledger.Notice) []byte, now func() time.Time) *Desk {
	return &Desk{config, secrets, payload, now}
}

// Check refuses with InvalidRequest what nothing can be sent to.
func (d *Desk) Check(url string) error {
	if err := d.config.CheckURL(url); err != nil {
		return ledger.Refuse(ledger.InvalidRequest, "%v", err)
	}
	return nil
}

// Make keeps a webhook, whose id, secret and time it sets, and returns the secret as the receiver needs it. It refuses with
// InvalidState when there are enough, and when the principal acts for another owner by now or is no more.
func (d *Desk) Make(ctx context.Context, tx *store.Tx, asked store.Webhook) (store.Webhook, string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return store.Webhook{}, "", err
	}
	still, err := store.ActsFor(ctx, tx, asked.Principal, asked.Owner)
	if err == nil && !still {
		err = ledger.Refuse(ledger.InvalidState, "this client was changed a moment ago; ask again")
	}
	if err == nil {
		err = mark(ctx, tx)
	}
	if err != nil {
		return store.Webhook{}, "", err
	}
	all, own, err := store.CountWebhooks(ctx, tx, asked.Principal)
	switch {
	case err != nil:
		return store.Webhook{}, "", err
	case own >= ownMax:
		return store.Webhook{}, "", ledger.Refuse(ledger.InvalidState, "there are %d webhooks of yours, which is the most; delete one first", own)
	case all >= allMax:
		return store.Webhook{}, "", ledger.Refuse(ledger.InvalidState, "this system takes no more webhooks")
	}
	secret := make([]byte, secretBytes)
	rand.Read(secret) // never fails
	asked.ID, asked.Secret, asked.CreatedAt = id.String(), d.secrets.Seal(id.String(), secret), d.now()
	if err := store.InsertWebhook(ctx, tx, asked); err != nil {
		return store.Webhook{}, "", err
	}
	return asked, "whsec_" + base64.StdEncoding.EncodeToString(secret), nil
}

// Delete ends a webhook of the principal; it refuses with NotFound.
func (d *Desk) Delete(ctx context.Context, tx *store.Tx, principal, id string) error {
	there, err := store.DeleteWebhook(ctx, tx, principal, id)
	switch {
	case err != nil:
		return err
	case !there:
		return ledger.Refuse(ledger.NotFound, "there is no such webhook")
	}
	return mark(ctx, tx)
}

// DeleteAll ends all webhooks of a principal that is no more.
func (d *Desk) DeleteAll(ctx context.Context, tx *store.Tx, principal string) error {
	any, err := store.DeleteWebhooksOf(ctx, tx, principal)
	if err != nil || !any {
		return err
	}
	return mark(ctx, tx)
}

// Replay has a delivery to a webhook of the principal sent again, whatever became of it; it refuses with NotFound.
func (d *Desk) Replay(ctx context.Context, tx *store.Tx, principal, webhook, delivery string) error {
	there, err := store.HasWebhook(ctx, tx, principal, webhook)
	if err == nil && there {
		there, err = store.ReplayDelivery(ctx, tx, webhook, delivery)
	}
	if err == nil && !there {
		err = ledger.Refuse(ledger.NotFound, "there is no such delivery, or no more")
	}
	return err
}

// Tell writes what the owners' webhooks are to hear of something that is no engine command.
func (d *Desk) Tell(ctx context.Context, tx *store.Tx, notice ledger.Notice) error {
	var deliveries []store.Delivery
	for _, owner := range notice.Owners {
		listeners, err := store.ListenersOf(ctx, tx, owner)
		if err != nil {
			return err
		}
		for _, webhook := range listeners {
			if webhook.Hears(notice.Event()) {
				deliveries = append(deliveries, store.NewDelivery(uuid.Must(uuid.NewV7()).String(), webhook.ID, notice, d.payload(notice)))
			}
		}
	}
	store.InsertDeliveries(tx, deliveries)
	if _, err := tx.Flush(ctx); err != nil {
		return fmt.Errorf("tell webhooks: %w", err)
	}
	return nil
}

// mark lets every lane know that the webhooks are others from now on.
func mark(ctx context.Context, tx *store.Tx) error {
	return store.MarkWebhooks(ctx, tx, mathrand.Int64()) //nolint:gosec // nobody gains by foretelling it
}
