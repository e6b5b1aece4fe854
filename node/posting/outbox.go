package posting

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
	"lockstep/saga"
)

// OwnEvents is the destination of what a system tells its own listeners; every other one is a peer.
const OwnEvents = "events"

// publishDelay keeps the sweeper away while the node that has committed publishes by itself.
const publishDelay = 2 * time.Second

// tell queues an outbox row for each destination that the batch has something to tell: to the system's own listeners ids by
// event, such as transfer.posted, and to a peer the decisions that concern it, in outline. They commit or vanish with the batch.
func (l *lane) tell(b *batch) error {
	if own := ownEvents(b.book); len(own) > 0 {
		if err := b.announce(OwnEvents, own, nil); err != nil {
			return err
		}
	}
	toPeers := map[string][]ledger.PeerEvent{}
	for _, event := range b.book.Events {
		toPeers[event.Peer] = append(toPeers[event.Peer], event)
	}
	for peer, events := range toPeers {
		if err := b.announce(peer, ledger.OutlineOf(events), events); err != nil {
			return err
		}
	}
	if len(b.told) > 0 {
		send(b, saga.Announce(b.told...))
	}
	return nil
}

// announce adds a row: what is written of it, and what whoever publishes it after the COMMIT knows without reading.
func (b *batch) announce(destination string, written, known any) error {
	content, err := json.Marshal(written)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	b.told = append(b.told, saga.Message{ID: id.String(), Destination: destination, Events: content, Known: known, Delay: publishDelay})
	return nil
}

// ownEvents are for listeners who want to hear how a transfer has ended; that one has begun is no news worth a message.
func ownEvents(book *ledger.Book) map[string][]string {
	events := map[string][]string{}
	note := func(name, id string) { events[name] = append(events[name], id) }
	for i := range book.Transfers {
		note("transfer."+string(book.Transfers[i].State), string(book.Transfers[i].ID))
	}
	made, changed := book.ChangedRemittances()
	for _, remittance := range slices.Concat(made, changed) {
		if remittance.Transfer != nil && remittance.Final() && !book.Noted(remittance.ID) { // the peer's credit is no news of the transfer
			note("transfer."+string(remittance.State), string(remittance.ID))
		}
	}
	for _, hold := range book.ChangedHolds() {
		note("hold."+string(hold.State), string(hold.ID))
	}
	return events
}

func send(b *batch, statement saga.Statement) { b.tx.Queue(statement.Query, statement.Args...) }
