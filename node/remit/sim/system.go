// Package sim runs the code of transfers between systems against everything that can go wrong between two of its steps.
// It is deterministic: a seed fixes what is lost, late, repeated and killed, so that a seed that fails does so again.
// DESIGN.md tells how.
package sim

import (
	"errors"
	"slices"
	"strings"
	"time"

	"lockstep/node/ledger"
	"lockstep/saga"
)

// Fate says what becomes of an operation's COMMIT.
type Fate int

// The fates of a COMMIT.
const (
	Commits     Fate = iota
	LosesCommit      // rolled back, and nobody answers
	LosesAnswer      // committed, and nobody answers
)

// ErrLost is the answer of a COMMIT that was not answered: it has happened or it has not.
var ErrLost = errors.New("sim: the answer to COMMIT was lost")

// System is the database of one payment system and the engine on it. One goroutine at a time uses it.
type System interface {
	// Submit runs an operation in one transaction at a time that the simulation sets. A refusal comes as such; ErrLost is the
	// answer to both fates that lose something; every other error ends the simulation.
	Submit(operation ledger.Operation, at time.Time, fate Fate) (ledger.Result, *ledger.Error, error)
	// Remittances and InsideIDs read what is committed.
	Remittances(ids ...ledger.TransferID) (map[ledger.TransferID]ledger.Remittance, error)
	InsideIDs(ids ...ledger.TransferID) (map[ledger.TransferID]bool, error)
	// Between lists what one system pays to another, in order of the ids, from the one after that id.
	Between(payer, payee string, after ledger.TransferID, limit int) ([]ledger.Remittance, error)
	// Digest stands for what is between two ids of it, as remit.Books tells.
	Digest(payer, payee string, after, until ledger.TransferID, limit int) (*ledger.Digest, error)
	// Outbox lists what is to be told to peers, the oldest first, and Told deletes one of it.
	Outbox() ([]saga.Message, error)
	Told(id string) error
	// Sagas lists those that run, by id, and EndSaga ends one.
	Sagas() ([]Saga, error)
	EndSaga(id string) error
	// RaiseEpoch notes a peer's epoch in its exposures, and PeerEpoch tells it.
	RaiseEpoch(peer string, epoch int64) error
	PeerEpoch(peer string) (int64, error)
	// Rows reads everything.
	Rows() (Rows, error)
}

// Saga is a row of the log.
type Saga struct {
	ID   string
	Kind ledger.SagaKind
}

// Rows is everything that a database says about money, each list in order of its key.
type Rows struct {
	Accounts    []ledger.Account
	Remittances []ledger.Remittance
	Exposures   []ledger.Exposure
	Transfers   []ledger.Transfer // those inside the system, by id
	Entries     []ledger.Entry    // by account and sequence
}

func (r *Rows) sort() {
	slices.SortFunc(r.Accounts, func(a, b ledger.Account) int { return int(a.ID - b.ID) })
	slices.SortFunc(r.Remittances, func(a, b ledger.Remittance) int { return strings.Compare(string(a.ID), string(b.ID)) })
	slices.SortFunc(r.Exposures, func(a, b ledger.Exposure) int {
		return strings.Compare(a.Peer+string(a.Currency), b.Peer+string(b.Currency))
	})
	slices.SortFunc(r.Transfers, func(a, b ledger.Transfer) int { return strings.Compare(string(a.ID), string(b.ID)) })
	slices.SortFunc(r.Entries, func(a, b ledger.Entry) int {
		if a.Account != b.Account {
			return int(a.Account - b.Account)
		}
		return int(a.Sequence - b.Sequence)
	})
}

// remittance finds a row by its id.
func (r *Rows) remittance(id ledger.TransferID) (ledger.Remittance, bool) {
	for _, remittance := range r.Remittances {
		if remittance.ID == id {
			return remittance, true
		}
	}
	return ledger.Remittance{}, false
}
