// Package courier carries what the pet store's services tell each other: from the outbox of one over NATS JetStream into
// the transaction of the other.
package courier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/google/uuid"

	"lockstep/cluster/events"
	"lockstep/saga"
)

// The services, by the names under which the broker knows them.
const (
	Order   = "order"
	Product = "product"
)

// Kind is what became of an order.
type Kind string

// The kinds of news, which are also the types of the CloudEvents.
const (
	OrderFailed Kind = "order.failed" // its goods go back
	OrderPaid   Kind = "order.paid"   // its goods are sold
)

// News is one event about an order.
type News struct {
	ID    string // of the event: the same whenever the same is told again
	Kind  Kind
	Order string // its UUID
	Why   string // of a failure, for people
}

// About makes the news of an order. The id follows from the rest, so that to tell it twice is to repeat it.
func About(order string, kind Kind, why string) News {
	return News{uuid.NewSHA1(uuid.NameSpaceURL, []byte("petstore:"+order+":"+string(kind))).String(), kind, order, why}
}

// Announce writes the news into the outbox, for the product service, in the transaction that they tell about.
func Announce(ctx context.Context, tx saga.Tx, news News) error {
	data, err := json.Marshal(map[string]string{"why": news.Why})
	if err != nil {
		return fmt.Errorf("encode %s: %w", news.Kind, err)
	}
	packed, err := events.Pack([]events.Event{{
		ID: news.ID, Source: "/petstore/" + Order, Type: string(news.Kind), Subject: news.Order, Data: data,
	}})
	if err != nil {
		return fmt.Errorf("pack %s: %w", news.Kind, err)
	}
	return saga.Announce(saga.Message{ID: news.ID, Destination: Product, Events: packed}).Exec(ctx, tx)
}

// Read makes news of one event, or says why it is none.
func Read(event events.Event) (News, error) {
	kind := Kind(event.Type)
	if kind != OrderFailed && kind != OrderPaid {
		return News{}, fmt.Errorf("nobody here understands events of type %q", event.Type)
	}
	if _, err := uuid.Parse(event.Subject); err != nil {
		return News{}, fmt.Errorf("its subject %q is no order", event.Subject)
	}
	var data struct {
		Why string `json:"why"`
	}
	if err := json.Unmarshal(event.Data, &data); err != nil {
		return News{}, fmt.Errorf("read its data: %w", err)
	}
	return News{event.ID, kind, event.Subject, data.Why}, nil
}

// Publisher hands the messages of one service's outbox to the broker.
type Publisher struct {
	From string
	Bus  *events.Bus
}

// Publish implements saga.Publisher. A broker that cannot be reached is not the message's fault.
func (p Publisher) Publish(ctx context.Context, m saga.Message) error {
	err := p.Bus.Publish(ctx, events.Message{
		Subject: events.Transfer(p.From, m.Destination, "news"), ID: m.ID, Data: m.Events,
		Headers: map[string]string{"Content-Type": events.ContentType},
	})
	if errors.Is(err, events.ErrDisconnected) {
		return fmt.Errorf("%w: %w", saga.ErrAway, err)
	}
	return err
}

// Apply has one effect of news in the receiver's database, however often it is called.
type Apply func(ctx context.Context, news News) error

// Handler reads deliveries and has them applied one by one. What can never be read is parked among the dead letters by
// itself; what fails now comes again, later and later.
func Handler(bus *events.Bus, apply Apply, log *slog.Logger) events.Handler {
	return func(ctx context.Context, d events.Delivery) events.Verdict {
		batch, bad := events.Unpack(d.Data)
		var failed []string
		for i, event := range batch {
			news, err := News{}, bad[i]
			if err == nil {
				news, err = Read(event)
			}
			if err != nil {
				err = bus.Park(ctx, d, event, err.Error())
			} else {
				err = apply(ctx, news)
			}
			if err != nil {
				failed = append(failed, err.Error())
			}
		}
		if len(failed) > 0 {
			err := errors.New(strings.Join(failed, "; "))
			log.Warn("an event could not be applied and comes again", "delivery", d.Delivered, "error", err)
			return events.Later(err)
		}
		return events.Done()
	}
}
