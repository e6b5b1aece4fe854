package counter

import (
	"context"
	"encoding/json"
	"fmt"

	"lockstep/examples/ticketoffice/sale"
	"lockstep/saga"
)

// listeners are called after the commit, from the outbox: each in a transaction of its own that also notes that it heard, so
// that it hears once.
type listeners struct{ *Counter }

// Publish implements saga.Publisher; the destination is a listener.
func (l listeners) Publish(ctx context.Context, m saga.Message) error {
	var s sale.Sale
	if err := json.Unmarshal(m.Events, &s); err != nil {
		return fmt.Errorf("read what to tell %s: %w", m.Destination, err)
	}
	return l.DB.Within(ctx, func(tx saga.Tx) error {
		first, err := saga.Receive(ctx, tx, m.Destination, m.ID)
		switch {
		case err != nil || !first:
			return err
		case m.Destination == sale.StepPush:
			return l.push(ctx, tx, s)
		case m.Destination == sale.StepData:
			return l.data(ctx, tx, s)
		}
		return fmt.Errorf("there is no listener %s", m.Destination)
	})
}
