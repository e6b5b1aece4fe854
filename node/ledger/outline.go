package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Outline is what an outbox keeps of the events for a peer: what cannot be read again. A decision is final and its remittance
// is never deleted, so that its id says the rest; and what a batch decides, it decides alike.
type Outline struct {
	Told []Told `json:"told"`
}

// Told are events that differ in nothing but their transfers.
type Told struct {
	Common
	IDs []TransferID `json:"ids"`
}

// Common is what an outline says of events.
type Common struct {
	Type     string    `json:"type"`
	Epoch    int64     `json:"epoch"`
	Currency Currency  `json:"currency,omitempty"`
	Trace    string    `json:"trace,omitempty"`
	At       time.Time `json:"at"`
}

// OutlineOf gathers events that are alike, in the order in which they come.
func OutlineOf(events []PeerEvent) (o Outline) {
	place := map[Common]int{}
	for _, e := range events {
		common := Common{Type: e.Type, Epoch: e.Epoch, Currency: e.Amount.Currency, Trace: e.Trace, At: e.At}
		at, there := place[common]
		if !there {
			at = len(o.Told)
			place[common], o.Told = at, append(o.Told, Told{Common: common})
		}
		o.Told[at].IDs = append(o.Told[at].IDs, e.ID)
	}
	return o
}

// ReadOutline reads a row of the outbox. Earlier releases wrote whole events, in a list: a form that tells the two apart, so
// that nodes of such a release leave our rows to us.
func ReadOutline(row []byte) (o Outline, err error) {
	var whole []PeerEvent
	if json.Unmarshal(row, &whole) == nil {
		o = OutlineOf(whole)
	} else if err = json.Unmarshal(row, &o); err != nil {
		return Outline{}, fmt.Errorf("read what there is to tell: %w", err)
	}
	if len(o.Told) == 0 {
		return Outline{}, errors.New("read what there is to tell: it is nothing")
	}
	return o, nil
}
