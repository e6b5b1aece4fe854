package posting

import (
	"context"

	"github.com/google/uuid"

	"lockstep/node/store"
)

// unknownMark is no mark of the database, whose marks are not negative.
const unknownMark = -1

// listen makes sure that the lane knows the webhooks that there are. The mark came with the accounts' locks, and webhooks are
// made and deleted under a new one: what happens after somebody was told that a webhook is there is told to it. As long as the
// mark stays, a batch asks nothing; a batch without accounts has nothing to tell.
func (l *lane) listen(ctx context.Context, b *batch, look store.Look) error {
	if l.config.Payload == nil || look.Now.IsZero() || look.Webhooks == l.mark {
		return nil
	}
	listeners, err := store.Listeners(ctx, b.tx)
	if err != nil {
		return err
	}
	l.listeners, l.mark = listeners, look.Webhooks
	return nil
}

// notify queues a delivery for each webhook whose owner has something to hear of. They commit or vanish with the batch.
func (l *lane) notify(b *batch) error {
	if len(l.listeners) == 0 {
		return nil
	}
	var deliveries []store.Delivery
	for _, notice := range b.book.Notices() {
		var payload []byte
		for _, owner := range notice.Owners {
			for _, webhook := range l.listeners[owner] {
				if !webhook.Hears(notice.Event()) {
					continue
				}
				if payload == nil {
					payload = l.config.Payload(notice)
				}
				id, err := uuid.NewV7()
				if err != nil {
					return err
				}
				deliveries = append(deliveries, store.NewDelivery(id.String(), webhook.ID, notice, payload))
			}
		}
	}
	store.InsertDeliveries(b.tx, deliveries)
	b.heard = len(deliveries)
	return nil
}
