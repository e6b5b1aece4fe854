package posting

import (
	"context"
	"errors"
	"slices"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/saga"
)

// errRaced says that another transaction inserted a remittance that was not there when this one looked. The insert has
// waited for it, so that the batch, run again, finds the row.
var errRaced = errors.New("posting: a remittance was made by another transaction meanwhile")

// errGone says that a row is not there which this lane believes to have made: a source that was restored or promoted lacks it.
// The batch, run again, makes it.
var errGone = errors.New("posting: a row that was made before is gone")

// makeExposures makes the rows that the tasks lock, outside the batch, before their first use.
func (l *lane) makeExposures(tasks []*task) error {
	for _, t := range tasks {
		remote, is := t.Operation.(ledger.RemoteOperation)
		if !is {
			continue
		}
		for _, key := range remote.Exposures() {
			if l.exposed[key] {
				continue
			}
			if err := l.store.MakeExposure(l.life, key); err != nil {
				return err
			}
			l.exposed[key] = true
		}
	}
	return nil
}

// lockRemotes locks what commands between systems need beside accounts: exposures first, then remittances.
func (l *lane) lockRemotes(ctx context.Context, b *batch) error {
	var keys []ledger.ExposureKey
	whole, held := map[ledger.TransferID]bool{}, map[ledger.TransferID]*ledger.Remittance{}
	any := false
	for i, t := range b.tasks {
		remote, is := t.Operation.(ledger.RemoteOperation)
		if !is || !b.settlements[i].mine {
			continue
		}
		any = true
		keys = append(keys, remote.Exposures()...)
		known, brief := heldBefore(remote)
		for _, id := range remote.Remittances() {
			if whole[id] = whole[id] || !brief; held[id] == nil {
				held[id] = known
			}
		}
	}
	if !any {
		return nil
	}
	var ids []ledger.TransferID
	for id := range whole {
		if whole[id] {
			ids = append(ids, id)
			delete(held, id)
		}
	}
	slices.Sort(ids)
	keys = ledger.SortExposures(keys)
	remotes, err := store.LockRemotes(ctx, b.tx, keys, ids, held)
	if err != nil {
		return err
	}
	if !b.how.remade && slices.ContainsFunc(keys, func(key ledger.ExposureKey) bool {
		return !slices.ContainsFunc(remotes.Exposures, func(e ledger.Exposure) bool { return e.ExposureKey == key })
	}) {
		return errGone
	}
	b.logged = remotes.Logged
	b.book.WithPeers(remotes.Remittances, remotes.Exposures)
	b.book.Stand(remotes.Standing.Epoch, remotes.Standing.Reconciled)
	return nil
}

// heldBefore tells whether a step needs no more of its remittances than what may have changed, and what it brings of them.
func heldBefore(step ledger.RemoteOperation) (held *ledger.Remittance, brief bool) {
	switch step := step.(type) {
	case ledger.NoteCredit:
		return nil, true
	case ledger.Conclude:
		return step.Held, step.Held != nil
	}
	return nil, false
}

// writeRemotes queues what commands between systems changed, and the sagas that began or ended with it. It tells whether
// rows were added that another transaction may have added as well.
func writeRemotes(b *batch) (raceable bool) {
	made, changed := b.book.ChangedRemittances()
	store.InsertRemittances(b.tx, made, b.book.Started...)
	var decided, noted []ledger.Remittance
	for _, remittance := range changed {
		if b.book.Noted(remittance.ID) {
			noted = append(noted, remittance)
		} else {
			decided = append(decided, remittance)
		}
	}
	store.UpdateRemittances(b.tx, decided)
	store.NoteCredits(b.tx, noted)
	store.UpdateExposures(b.tx, b.book.ChangedExposures())
	var ids []string
	for _, id := range b.book.Finished {
		if b.logged[id] { // most end before somebody has to look after them
			ids = append(ids, string(id))
		}
	}
	if len(ids) > 0 {
		send(b, saga.Finish(ids...))
	}
	return len(made) > 0
}
