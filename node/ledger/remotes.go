package ledger

import (
	"maps"
	"slices"
)

// remotes is the part of a book that is about other systems. It is filled by Remember, for few batches have any of it.
type remotes struct {
	remittances map[TransferID]*Remittance
	exposures   map[ExposureKey]*Exposure
	made        map[TransferID]bool // put into the book: true when the row is new
	noted       map[TransferID]bool // put with nothing changed but the time of its credit
	exposed     map[ExposureKey]bool

	ownEpoch     int64
	unreconciled bool
}

// WithPeers adds the locked rows of transfers between systems to the book.
func (b *Book) WithPeers(remittances []Remittance, exposures []Exposure) {
	b.remotes = remotes{
		ownEpoch: b.ownEpoch, unreconciled: b.unreconciled,
		remittances: make(map[TransferID]*Remittance, len(remittances)), exposures: make(map[ExposureKey]*Exposure, len(exposures)),
		made: map[TransferID]bool{}, noted: map[TransferID]bool{}, exposed: map[ExposureKey]bool{},
	}
	for _, remittance := range remittances {
		b.remittances[remittance.ID] = &remittance
	}
	for _, exposure := range exposures {
		b.exposures[exposure.ExposureKey] = &exposure
	}
}

// Stand tells the book in which epoch this system is, and whether its books were compared with those of its peers in it.
// While they were not, nothing is begun, decided or closed between two systems: what is not known may have happened.
func (b *Book) Stand(epoch int64, reconciled bool) { b.ownEpoch, b.unreconciled = epoch, !reconciled }

// epoch is this system's: an operation may have been made in an earlier one.
func (b *Book) epoch(known int64) int64 { return max(known, b.ownEpoch) }

// mayDecide refuses while the books are not reconciled, but for what a reconciliation of this very epoch has asked for: in a later
// one it may have forgotten what would refuse that. 0 is no reconciliation.
func (b *Book) mayDecide(reconciling int64) error {
	if b.unreconciled && (reconciling == 0 || reconciling != b.ownEpoch) {
		return Refuse(SourceUnavailable, "this system was restored and is comparing its books with those of its peers; transfers between systems wait")
	}
	return nil
}

// ChangedRemittances lists the remittances that are new, and those that were there and changed, each in order of its id.
func (b *Book) ChangedRemittances() (made, changed []Remittance) {
	made, changed = make([]Remittance, 0, len(b.made)), make([]Remittance, 0, len(b.made))
	for _, id := range slices.Sorted(maps.Keys(b.made)) {
		if b.made[id] {
			made = append(made, *b.remittances[id])
		} else {
			changed = append(changed, *b.remittances[id])
		}
	}
	return made, changed
}

// ChangedExposures lists the exposures that changed, in order.
func (b *Book) ChangedExposures() (changed []Exposure) {
	for key := range b.exposed {
		changed = append(changed, *b.exposures[key])
	}
	slices.SortFunc(changed, func(a, b Exposure) int { return a.compare(b.ExposureKey) })
	return changed
}

// putRemittance writes a remittance, new or changed. Operations put last of all, so nothing has to be taken back.
func (b *Book) putRemittance(r Remittance) {
	_, there := b.remittances[r.ID]
	isNew, before := b.made[r.ID]
	b.remittances[r.ID] = &r
	b.made[r.ID] = before && isNew || !before && !there
	delete(b.noted, r.ID)
}

// noteCredit writes the time of a remittance's credit.
func (b *Book) noteCredit(r Remittance) {
	_, changed := b.made[r.ID]
	onlyNoted := !changed || b.noted[r.ID]
	b.putRemittance(r)
	if onlyNoted {
		b.noted[r.ID] = true
	}
}

// Noted tells of a changed remittance whether nothing changed but the time of its credit.
func (b *Book) Noted(id TransferID) bool { return b.noted[id] }

// expose changes an exposure, which is locked.
func (b *Book) expose(key ExposureKey, change func(*Exposure)) {
	change(b.exposures[key])
	b.exposed[key] = true
}

func (b *Book) tell(event PeerEvent)      { b.Events = append(b.Events, event) }
func (b *Book) startSaga(start SagaStart) { b.Started = append(b.Started, start) }
func (b *Book) finishSaga(id TransferID)  { b.Finished = append(b.Finished, id) }

// compare orders keys as their rows are locked.
func (k ExposureKey) compare(other ExposureKey) int {
	return slices.Compare([]string{k.Peer, string(k.Currency)}, []string{other.Peer, string(other.Currency)})
}

// SortExposures puts keys into the order in which their rows are locked, each once.
func SortExposures(keys []ExposureKey) []ExposureKey {
	slices.SortFunc(keys, ExposureKey.compare)
	return slices.Compact(keys)
}
