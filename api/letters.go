package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lockstep/cluster/events"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/saga"
)

// Letters are the statements of peers that nobody could apply; *events.Bus keeps them.
type Letters interface {
	DeadLetters(ctx context.Context, limit int) ([]events.DeadLetter, error)
	Replay(ctx context.Context, id string) error
	Settle(ctx context.Context, id string) error
}

// Parked are this system's own messages that could not be published; *saga.Outbox keeps them.
type Parked interface {
	Parked(ctx context.Context, limit int) ([]saga.ParkedMessage, error)
	Replay(ctx context.Context, id string) error
}

// letterBody is a message that waits for an operator.
type letterBody struct {
	ID          string   `json:"id"`
	Source      string   `json:"source"` // fromPeer or fromOutbox
	Peer        string   `json:"peer,omitempty"`
	Types       []string `json:"types"`
	TransferIDs []string `json:"transfer_ids"`
	Reason      string   `json:"reason"`
	Attempts    int      `json:"attempts"`
	At          string   `json:"at"`
}

// Where a dead letter comes from.
const (
	fromPeer   = "peer"   // a peer has stated it, and it could not be applied
	fromOutbox = "outbox" // this system has to tell it, and could not publish it
)

type lettersBody struct {
	Letters []letterBody `json:"dead_letters"`
	Broker  string       `json:"broker"` // up, down or none; without a broker only the outbox is listed
}

// getDeadLetters lists what waits for an operator. What a peer stated and the books say by now is settled on the way.
func (x *exchange) getDeadLetters() error {
	p, err := x.peers()
	if err != nil {
		return err
	}
	if err := x.checkQuery("limit"); err != nil {
		return err
	}
	asked, err := x.page("dead letters")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.context(), readWaitMax)
	defer cancel()
	body := lettersBody{Letters: []letterBody{}, Broker: "none"}
	if p.Letters != nil {
		open, err := p.openLetters(ctx, asked.limit)
		switch body.Broker = "up"; {
		case errors.Is(err, events.ErrUnavailable), errors.Is(err, events.ErrClosed):
			body.Broker = "down"
		case err != nil:
			return err
		}
		for _, letter := range open {
			body.Letters = append(body.Letters, letterOf(letter))
		}
	}
	if p.Parked != nil {
		parked, err := p.Parked.Parked(ctx, asked.limit)
		if err != nil {
			return err
		}
		for _, message := range parked {
			body.Letters = append(body.Letters, parkedOf(message))
		}
	}
	x.set("Read-From", string(store.FromSource))
	return x.answer(200, body)
}

func letterOf(letter events.DeadLetter) letterBody {
	body := letterBody{
		ID: letter.ID, Source: fromPeer, Peer: events.Delivery{Subject: letter.Subject}.From(), Types: []string{}, TransferIDs: []string{},
		Reason: letter.Reason, Attempts: letter.Delivered, At: stamp(letter.At),
	}
	list, failures := events.Unpack(letter.Data)
	for i, event := range list {
		if failures[i] == nil {
			body.Types = append(body.Types, strings.TrimPrefix(event.Type, "lockstep."))
			body.TransferIDs = append(body.TransferIDs, strings.Split(event.Subject, ",")...) // credits are told together
		}
	}
	return body
}

func parkedOf(message saga.ParkedMessage) letterBody {
	body := letterBody{
		ID: message.ID, Source: fromOutbox, Peer: message.Destination, Types: []string{}, TransferIDs: []string{}, Reason: message.Reason,
		Attempts: message.Attempts, At: stamp(message.ParkedAt),
	}
	var own map[string][]string // what the system's own listeners are told, ids by event
	if outline, err := ledger.ReadOutline(message.Events); err == nil {
		for _, told := range outline.Told {
			for _, id := range told.IDs {
				body.Types, body.TransferIDs = append(body.Types, told.Type), append(body.TransferIDs, string(id))
			}
		}
	} else if json.Unmarshal(message.Events, &own) == nil {
		for _, name := range slices.Sorted(maps.Keys(own)) {
			for _, id := range own[name] {
				body.Types = append(body.Types, name)
				if strings.HasPrefix(name, "transfer.") {
					body.TransferIDs = append(body.TransferIDs, id)
				}
			}
		}
	}
	return body
}

// SettleLetters removes dead letters whose matter has ended otherwise, through an inquiry for instance, of the oldest ones.
func (p *Peers) SettleLetters(ctx context.Context) error {
	if p.Letters == nil {
		return nil
	}
	_, err := p.openLetters(ctx, pageMax)
	return err
}

// openLetters lists the oldest letters, without those that the books agree with by now: these it removes.
func (p *Peers) openLetters(ctx context.Context, limit int) (open []events.DeadLetter, err error) {
	letters, err := p.Letters.DeadLetters(ctx, limit)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	for _, letter := range letters {
		settled, err := p.settled(ctx, letter)
		if err != nil {
			return nil, err
		}
		if !settled {
			open = append(open, letter)
			continue
		}
		if err := p.Letters.Settle(ctx, letter.ID); err != nil && !errors.Is(err, events.ErrNoLetter) {
			return nil, fmt.Errorf("settle dead letter %s: %w", letter.ID, err)
		}
	}
	return open, nil
}

// settled tells whether the books say all that a letter states. What cannot be believed settles nothing: it stays for an
// operator to see, as a contradiction does.
func (p *Peers) settled(ctx context.Context, letter events.DeadLetter) (bool, error) {
	list, failures := events.Unpack(letter.Data)
	var facts []peers.Fact
	var ids []ledger.TransferID
	for i, event := range list {
		fact, err := p.Directory.Read(event.Statement)
		if err != nil || failures[i] != nil {
			return false, nil
		}
		for _, id := range fact.Transfers() {
			if !canonicalID(id) { // our books cannot be asked about it
				return false, nil
			}
			facts, ids = append(facts, fact), append(ids, ledger.TransferID(id))
		}
	}
	found, err := p.Books.Remittances(ctx, ids...)
	if err != nil {
		return false, err
	}
	for i, fact := range facts {
		if r, there := found[ids[i]]; !there || !agrees(r, fact) {
			return false, nil
		}
	}
	return len(facts) > 0, nil
}

// agrees tells whether a remittance stands as a peer's fact says.
func agrees(r ledger.Remittance, fact peers.Fact) bool {
	switch t := r.Transfer; fact.Type {
	case ledger.EventCommitted:
		return r.Payer == fact.From && r.State == ledger.Posted && t != nil && string(t.From) == fact.Payer && string(t.To) == fact.Payee &&
			t.Amount.Decimal() == fact.Amount && string(t.Amount.Currency) == fact.Currency
	case ledger.EventAborted:
		return r.Payer == fact.From && (r.State == ledger.Voided || r.State == ledger.Refused)
	case ledger.EventCredited:
		return r.Payee == fact.From && r.State == ledger.Posted && !r.CreditedAt.IsZero()
	}
	return false
}

// replayDeadLetter has a letter handled, or published, again. Should that fail again it is a dead letter as before.
func (x *exchange) replayDeadLetter() error {
	p, err := x.peers()
	if err != nil {
		return err
	}
	id := x.param("id")
	return x.onceOutside(func(ctx context.Context) (any, error) {
		err := p.replay(ctx, id)
		if errors.Is(err, events.ErrNoLetter) || errors.Is(err, saga.ErrNotFound) {
			return nil, ledger.Refuse(ledger.NotFound, "there is no dead letter %s, or no more", id)
		}
		return map[string]string{"id": id, "state": "replayed"}, err
	})
}

// replay finds the letter by its id's form: a message of the outbox has a UUID.
func (p *Peers) replay(ctx context.Context, id string) error {
	switch {
	case canonicalUUID(id) && p.Parked != nil:
		return p.Parked.Replay(ctx, id)
	case !canonicalUUID(id) && p.Letters != nil:
		return p.Letters.Replay(ctx, id)
	}
	return events.ErrNoLetter
}
