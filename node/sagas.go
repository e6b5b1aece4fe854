package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/saga"
)

// transferSagas shows all transfers between systems as sagas, also those that never needed a row in the log, or do not have
// one yet.
type transferSagas struct {
	*saga.Log
	store *store.Store
}

// List implements api.Sagas.
func (t transferSagas) List(ctx context.Context, filter saga.Filter, limit int) ([]saga.Saga, error) {
	switch filter {
	case saga.ListPending, saga.ListStuck:
		if _, err := t.store.LogOpenSagas(ctx, limit); err != nil {
			return nil, err
		}
	case saga.ListDone:
		return t.ended(ctx, limit)
	}
	return t.Log.List(ctx, filter, limit)
}

// ended lists the last ones that ended; of those that are in the log, it knows how often they were tried.
func (t transferSagas) ended(ctx context.Context, limit int) (list []saga.Saga, err error) {
	if list, err = t.Log.List(ctx, saga.ListDone, limit); err != nil {
		return nil, err
	}
	logged := map[string]bool{}
	for _, s := range list {
		logged[s.ID] = true
	}
	err = atSource(ctx, t.store, func(ctx context.Context, q *store.Queries) error {
		ended, err := q.EndedRemittances(ctx, limit)
		for _, r := range ended {
			if !logged[string(r.ID)] {
				logged[string(r.ID)] = true
				list = append(list, t.endedSaga(r))
			}
		}
		return err
	})
	slices.SortFunc(list, func(a, b saga.Saga) int { return cmp.Or(b.NextAt.Compare(a.NextAt), cmp.Compare(a.ID, b.ID)) })
	return list[:min(limit, len(list))], err
}

// endedSaga is the saga that an ended remittance would have.
func (t transferSagas) endedSaga(r ledger.Remittance) saga.Saga {
	kind := ledger.SagaAwait
	if r.Payer == t.store.System() {
		kind = ledger.SagaRemit
	}
	return saga.Saga{
		ID: string(r.ID), Kind: string(kind), State: saga.StateDone, NextAt: r.FinishedAt, CreatedAt: r.CreatedAt, UpdatedAt: r.FinishedAt,
		Age: t.store.Now().Sub(r.CreatedAt),
	}
}

// Get implements api.Sagas.
func (t transferSagas) Get(ctx context.Context, id string) (saga.Saga, error) {
	found, err := t.Log.Get(ctx, id)
	if !errors.Is(err, saga.ErrNotFound) {
		return found, err
	}
	logged, err := t.store.LogSaga(ctx, id)
	if err != nil {
		return saga.Saga{}, err
	}
	if logged > 0 {
		return t.Log.Get(ctx, id)
	}
	remittances, err := books{t.store}.Remittances(ctx, ledger.TransferID(id))
	if err != nil {
		return saga.Saga{}, err
	}
	if r, there := remittances[ledger.TransferID(id)]; there && r.Final() && r.Transfer != nil {
		return t.endedSaga(r), nil
	}
	return saga.Saga{}, fmt.Errorf("read saga %s: %w", id, saga.ErrNotFound)
}

// Resume implements api.Sagas.
func (t transferSagas) Resume(ctx context.Context, id string) error {
	found, err := t.Get(ctx, id)
	switch {
	case err != nil:
		return err
	case found.State.Final():
		return fmt.Errorf("resume saga %s: %w", id, saga.ErrFinal)
	}
	return t.Log.Resume(ctx, id)
}

// Counts counts those without a row as well.
func (t transferSagas) Counts(ctx context.Context) (saga.Counts, error) {
	counts, err := t.Log.Counts(ctx)
	if err != nil {
		return saga.Counts{}, err
	}
	open, oldest, err := t.store.CountOpen(ctx)
	if err != nil {
		return saga.Counts{}, err
	}
	counts.InFlight, counts.Oldest = counts.InFlight+open, max(counts.Oldest, oldest)
	return counts, nil
}

// dueSagasMax is how many open remittances one look of a runner takes into the log.
const dueSagasMax = 256

// fetchSagas has the runner find what became due since its last look.
func (n *Node) fetchSagas(ctx context.Context) error {
	_, err := n.store.LogDueSagas(ctx, dueSagasMax)
	return err
}
