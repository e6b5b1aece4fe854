package api_test

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/google/uuid"

	"lockstep/api"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// desk keeps webhooks in a bank. What is told about an account is delivered at once.
type desk struct{ bank *bank }

func (d desk) Check(url string) error {
	if !strings.HasPrefix(url, "https://") {
		return ledger.Refuse(ledger.InvalidRequest, "a URL begins with https://")
	}
	return nil
}

func (d desk) Make(_ context.Context, _ *store.Tx, asked store.Webhook) (store.Webhook, string, error) {
	asked.ID, asked.CreatedAt = uuid.Must(uuid.NewV7()).String(), d.bank.now()
	d.bank.set(func() { d.bank.webhooks = append(d.bank.webhooks, asked) })
	return asked, "whsec_c2VjcmV0", nil
}

// Delete runs inside Change, which has locked the bank.
func (d desk) Delete(_ context.Context, _ *store.Tx, principal, id string) error {
	before := len(d.bank.webhooks)
	d.bank.webhooks = slices.DeleteFunc(d.bank.webhooks, func(w store.Webhook) bool { return w.ID == id && w.Principal == principal })
	if len(d.bank.webhooks) == before {
		return ledger.Refuse(ledger.NotFound, "there is no such webhook")
	}
	return nil
}

func (d desk) DeleteAll(_ context.Context, _ *store.Tx, principal string) error {
	d.bank.webhooks = slices.DeleteFunc(d.bank.webhooks, func(w store.Webhook) bool { return w.Principal == principal })
	return nil
}

func (d desk) Replay(_ context.Context, _ *store.Tx, principal, webhook, delivery string) error {
	mine := slices.ContainsFunc(d.bank.webhooks, func(w store.Webhook) bool { return w.ID == webhook && w.Principal == principal })
	for i := range d.bank.deliveries {
		if sent := &d.bank.deliveries[i]; mine && sent.ID == delivery && sent.Webhook == webhook {
			sent.State, sent.Attempts = store.DeliveryPending, 0
			return nil
		}
	}
	return ledger.Refuse(ledger.NotFound, "there is no such delivery")
}

func (d desk) Tell(_ context.Context, _ *store.Tx, notice ledger.Notice) error {
	d.bank.set(func() {
		for _, w := range d.bank.webhooks {
			if !slices.Contains(notice.Owners, w.Owner) || !w.Hears(notice.Event()) {
				continue
			}
			sent := store.NewDelivery(uuid.Must(uuid.NewV7()).String(), w.ID, notice, api.WebhookPayload("alpha", nil)(notice))
			sent.Sequence, sent.State, sent.Attempts = int64(len(d.bank.deliveries)+1), store.DeliveryFailed, 23
			sent.Status, sent.Reason, sent.FinishedAt = 500, "the receiver answered 500", d.bank.clock
			d.bank.deliveries = append(d.bank.deliveries, sent)
		}
	})
	return nil
}

func (b *bank) Webhooks(_ context.Context, principal, after string, limit int) (found []store.Webhook, err error) {
	for _, w := range b.webhooks {
		if w.Principal == principal && w.ID > after && len(found) < limit {
			found = append(found, w)
		}
	}
	return found, nil
}

func (b *bank) Webhook(_ context.Context, principal, id string) (store.Webhook, error) {
	for _, w := range b.webhooks {
		if w.Principal == principal && w.ID == id {
			return w, nil
		}
	}
	return store.Webhook{}, store.ErrMiss
}

func (b *bank) Deliveries(_ context.Context, filter store.DeliveryFilter) (found []store.Delivery, err error) {
	if filter.Limit < 1 {
		return nil, errors.New("a page of nothing")
	}
	for _, sent := range slices.Backward(b.deliveries) {
		if sent.Webhook == filter.Webhook && (filter.State == "" || filter.State == sent.State) &&
			(filter.Before == 0 || sent.Sequence < filter.Before) && len(found) < filter.Limit {
			found = append(found, sent)
		}
	}
	return found, nil
}
