package api

import (
	"context"
	"errors"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/saga"
)

// Sagas is the log of what is under way between systems; *saga.Log is one.
type Sagas interface {
	List(ctx context.Context, filter saga.Filter, limit int) ([]saga.Saga, error)
	Get(ctx context.Context, id string) (saga.Saga, error)
	Resume(ctx context.Context, id string) error
}

// Books reads at the source how transfers between systems stand. Ids that are not known are left out.
type Books interface {
	Remittances(ctx context.Context, ids ...ledger.TransferID) (map[ledger.TransferID]ledger.Remittance, error)
}

// sagaBody is a transfer between systems as work that somebody has to bring to its end. Its id is the transfer's.
type sagaBody struct {
	ID         string        `json:"id"`
	Kind       string        `json:"kind"`
	State      saga.State    `json:"state"`
	Attempt    int           `json:"attempt"`
	Reason     string        `json:"reason,omitempty"`
	NextAt     string        `json:"next_at,omitempty"` // absent when it has ended or is parked
	LeaseOwner string        `json:"lease_owner,omitempty"`
	AgeSeconds int64         `json:"age_seconds"`
	CreatedAt  string        `json:"created_at"`
	UpdatedAt  string        `json:"updated_at"`
	Payer      string        `json:"payer,omitempty"`
	Payee      string        `json:"payee,omitempty"`
	Transfer   *transferBody `json:"transfer,omitempty"`
}

func sagaOf(s saga.Saga, r ledger.Remittance) sagaBody {
	body := sagaBody{
		ID: s.ID, Kind: s.Kind, State: s.State, Attempt: s.Attempt, Reason: s.Reason, LeaseOwner: s.LeaseOwner,
		AgeSeconds: int64(s.Age / time.Second), CreatedAt: stamp(s.CreatedAt), UpdatedAt: stamp(s.UpdatedAt), Payer: r.Payer, Payee: r.Payee,
	}
	if !s.State.Final() && s.State != saga.StateParked {
		body.NextAt = stamp(s.NextAt)
	}
	if r.Transfer != nil {
		transfer := remittanceOf(r, true)
		body.Transfer = &transfer
	}
	return body
}

// getSagas lists sagas for an operator: those that wait the longest first, of those that ended the latest first.
func (x *exchange) getSagas() error {
	p, err := x.peers()
	if err != nil {
		return err
	}
	if err := x.checkQuery("state", "limit"); err != nil {
		return err
	}
	filter, err := oneOf("state", x.fiber.Query("state"), saga.ListPending, saga.ListStuck, saga.ListParked, saga.ListDone)
	if err != nil {
		return err
	}
	if filter == "" {
		filter = saga.ListPending
	}
	asked, err := x.page("sagas")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.context(), readWaitMax)
	defer cancel()
	list, err := p.Sagas.List(ctx, filter, asked.limit)
	if err != nil {
		return err
	}
	bodies, err := p.sagas(ctx, list...)
	if err != nil {
		return err
	}
	x.set("Read-From", string(store.FromSource))
	return x.answer(200, map[string]any{"sagas": bodies})
}

// sagas joins sagas and the transfers that they bring to their end.
func (p *Peers) sagas(ctx context.Context, list ...saga.Saga) ([]sagaBody, error) {
	ids := make([]ledger.TransferID, len(list))
	for i, s := range list {
		ids[i] = ledger.TransferID(s.ID)
	}
	found, err := p.Books.Remittances(ctx, ids...)
	if err != nil {
		return nil, err
	}
	bodies := make([]sagaBody, len(list))
	for i, s := range list {
		bodies[i] = sagaOf(s, found[ids[i]])
	}
	return bodies, nil
}

// retrySaga makes a saga due at once, whether it waits or is parked.
func (x *exchange) retrySaga() error {
	return x.steer(func(ctx context.Context, p *Peers, s saga.Saga) error { return p.Sagas.Resume(ctx, s.ID) })
}

// abortSaga gives a transfer up that this system pays. After the pivot it is refused: then the transfer only goes forward.
func (x *exchange) abortSaga() error {
	return x.steer(func(ctx context.Context, p *Peers, s saga.Saga) error {
		if s.Kind != string(ledger.SagaRemit) {
			return ledger.Refuse(ledger.InvalidState, "this system does not pay the transfer; only the payer's system decides")
		}
		_, err := p.Abort(ctx, ledger.TransferID(s.ID))
		return err
	})
}

// steer changes what becomes of a saga, and answers with how it stands then.
func (x *exchange) steer(change func(ctx context.Context, p *Peers, s saga.Saga) error) error {
	p, err := x.peers()
	if err != nil {
		return err
	}
	id := x.param("id")
	return x.onceOutside(func(ctx context.Context) (any, error) {
		found, err := p.Sagas.Get(ctx, id)
		if err != nil {
			return nil, sagaRefusal(id, err)
		}
		if err := change(ctx, p, found); err != nil {
			return nil, sagaRefusal(id, err)
		}
		if found, err = p.Sagas.Get(ctx, id); err != nil {
			return nil, sagaRefusal(id, err)
		}
		bodies, err := p.sagas(ctx, found)
		if err != nil {
			return nil, err
		}
		return bodies[0], nil
	})
}

func sagaRefusal(id string, err error) error {
	switch {
	case errors.Is(err, saga.ErrNotFound):
		return ledger.Refuse(ledger.NotFound, "there is no saga %s", id)
	case errors.Is(err, saga.ErrFinal):
		return ledger.Refuse(ledger.InvalidState, "the saga %s has ended", id)
	}
	return err
}

// onceOutside makes a change that is no part of the claim's transaction under the request's Idempotency-Key. Where the
// change was made and its answer could not be stored, a repeat makes it again: it has to be one that this does not harm.
func (x *exchange) onceOutside(change func(ctx context.Context) (any, error)) error {
	request, err := decodeOptional[voidRequest](x)
	if err != nil {
		return err
	}
	unknown := ledger.Refuse(ledger.OutcomeUnknown, "it could not be learned whether the change was made; repeat it with the same key")
	made := false
	err = x.once(request, func(ctx context.Context, _ *store.Tx) (answer, stored store.Answer, err error) {
		body, err := change(ctx)
		if refusal := (*ledger.Error)(nil); err != nil && !errors.As(err, &refusal) {
			return answer, stored, errors.Join(unknown, err)
		}
		if err != nil {
			return answer, stored, err
		}
		made = true
		answer = store.Answer{Status: 200, ContentType: jsonType, Body: encode(body)}
		return answer, answer, nil
	})
	if err != nil && made {
		return errors.Join(unknown, err)
	}
	return err
}

// peers is what the edge has of other systems; a system without any has none of their routes.
func (x *exchange) peers() (*Peers, error) {
	if x.server.deps.Peers == nil {
		return nil, ledger.Refuse(ledger.NotFound, "this system has no peers")
	}
	return x.server.deps.Peers, nil
}
