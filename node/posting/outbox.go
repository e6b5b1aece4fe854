package posting

import (
	"encoding/json"

	"github.com/google/uuid"

	"lockstep/node/store"
)

// ownEvents is the destination of what a system tells its own listeners.
const ownEvents = "events"

// tell queues one outbox row for all that the batch did: ids by event, such as transfer.posted. It commits or vanishes
// with the batch.
func (l *lane) tell(b *batch) error {
	events := map[string][]string{}
	for i := range b.book.Transfers {
		transfer := &b.book.Transfers[i]
		name := "transfer." + string(transfer.State)
		events[name] = append(events[name], string(transfer.ID))
	}
	for _, hold := range b.book.ChangedHolds() {
		name := "hold." + string(hold.State)
		events[name] = append(events[name], string(hold.ID))
	}
	if len(events) == 0 {
		return nil
	}
	content, err := json.Marshal(events)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	store.InsertOutbox(b.tx, store.OutboxRow{ID: id.String(), Destination: ownEvents, Events: content, CreatedAt: b.book.Now})
	return nil
}
