package api_test

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"lockstep/api/httpsig"
	"lockstep/cluster/peers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
	"lockstep/saga"
)

// What a bank has to do with other systems.

// replay gives the first answer again; that about a transfer to another system is rendered from its row, as the engine does.
func (b *bank) replay(command posting.Command, earlier claimed) posting.Outcome {
	outcome := posting.Outcome{Answer: earlier.answer, Replayed: true, Token: "t2"}
	if earlier.remitted != "" {
		remittance := b.remitted[earlier.remitted]
		outcome.Result = ledger.Result{Transfer: remittance.Transfer, Remittance: &remittance}
		outcome.Answer = command.Renderer.Render(earlier.renderer, outcome.Result, nil)
	}
	return outcome
}

// lendRemotes gives a book the rows that a step between systems works on.
func (b *bank) lendRemotes(book *ledger.Book, operation ledger.Operation) {
	remote, is := operation.(ledger.RemoteOperation)
	if !is {
		return
	}
	var remittances []ledger.Remittance
	var exposures []ledger.Exposure
	for _, id := range remote.Remittances() {
		if remittance, there := b.remitted[id]; there {
			remittances = append(remittances, remittance)
		}
	}
	for _, key := range remote.Exposures() {
		exposure := b.exposures[key]
		exposure.ExposureKey = key
		exposures = append(exposures, exposure)
	}
	book.WithPeers(remittances, exposures)
}

// takeRemotes writes what a step between systems made of the rows, and of the sagas.
func (b *bank) takeRemotes(book *ledger.Book) {
	made, changed := book.ChangedRemittances()
	for _, remittance := range append(made, changed...) {
		b.remitted[remittance.ID] = remittance
	}
	for _, exposure := range book.ChangedExposures() {
		b.exposures[exposure.ExposureKey] = exposure
	}
	for _, start := range book.Started {
		b.sagas[string(start.ID)] = saga.Saga{
			ID: string(start.ID), Kind: string(start.Kind), State: saga.StateRunning, NextAt: b.clock.Add(start.After), CreatedAt: b.clock, UpdatedAt: b.clock,
		}
	}
	for _, id := range book.Finished {
		ended := b.sagas[string(id)]
		ended.State = saga.StateDone
		b.sagas[string(id)] = ended
	}
}

// Remittances and what follows implement api.Queries; they run inside Read.
func (b *bank) Remittances(_ context.Context, ids []ledger.TransferID) (map[ledger.TransferID]ledger.Remittance, error) {
	found := map[ledger.TransferID]ledger.Remittance{}
	for _, id := range ids {
		if strings.ContainsFunc(string(id), func(r rune) bool { return r > unicode.MaxASCII }) {
			return nil, errors.New("illegal mix of collations") // as MariaDB says of such a text beside an ASCII column
		}
		if remittance, there := b.remitted[id]; there {
			found[id] = remittance
		}
	}
	return found, nil
}

func (b *bank) Peers(context.Context) ([]store.PeerRow, error) {
	var rows []store.PeerRow
	for i, id := range []string{"beta", "gamma"} {
		rows = append(rows, store.PeerRow{
			ID: id, Settlement: ledger.AccountID(10 + i), BaseURL: "http://127.0.0.1:1", JWKS: string(keysOf(id).JWKS()), Epoch: max(b.epochs[id], 1), ChangedAt: b.clock,
		})
	}
	return rows, nil
}

func (b *bank) Exposures(context.Context) ([]ledger.Exposure, error) {
	return slices.SortedFunc(maps.Values(b.exposures), func(x, y ledger.Exposure) int { return cmp.Compare(x.Peer, y.Peer) }), nil
}

// bankBooks is what the desk and operators read of a bank, outside of Read.
type bankBooks struct{ *bank }

func (b bankBooks) System() string                       { return "alpha" }
func (b bankBooks) Epoch() int64                         { return 3 }
func (b bankBooks) Now() time.Time                       { return b.now() }
func (b bankBooks) Position(context.Context) store.Token { return "t3" }

func (b bankBooks) Reconciled() bool { return true }

func (b bankBooks) RemittancesBetween(_ context.Context, payer, payee string, after ledger.TransferID, limit int) (list []ledger.Remittance, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(b.remitted)) {
		if r := b.remitted[id]; r.Payer == payer && r.Payee == payee && id > after && len(list) < limit {
			list = append(list, r)
		}
	}
	return list, nil
}

func (b bankBooks) RemittancesDigest(_ context.Context, payer, payee string, after, until ledger.TransferID, limit int) (*ledger.Digest, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	digest := ledger.NewDigest()
	for _, id := range slices.Sorted(maps.Keys(b.remitted)) {
		if r := b.remitted[id]; r.Payer == payer && r.Payee == payee && id > after && id <= until && r.Transfer != nil && digest.Count < limit {
			digest.Add(id, r.State, r.Transfer.From, r.Transfer.To, r.Transfer.Amount)
		}
	}
	return digest, nil
}

func (b bankBooks) Remittances(ctx context.Context, ids ...ledger.TransferID) (map[ledger.TransferID]ledger.Remittance, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bank.Remittances(ctx, ids)
}

func (b bankBooks) InsideIDs(_ context.Context, ids ...ledger.TransferID) (map[ledger.TransferID]bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := map[ledger.TransferID]bool{}
	for _, transfer := range b.transfers {
		found[transfer.ID] = slices.Contains(ids, transfer.ID)
	}
	return found, nil
}

// raise notes that a peer has begun an epoch.
func (b *bank) raise(_ context.Context, peer string, epoch int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.epochs[peer] = max(b.epochs[peer], epoch)
	for key, exposure := range b.exposures {
		if key.Peer == peer {
			exposure.Epoch = b.epochs[peer]
			b.exposures[key] = exposure
		}
	}
	return nil
}

// neighbours are the peers as the directory reads them.
func (b *bank) neighbours(ctx context.Context) ([]peers.Peer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rows, err := b.Peers(ctx)
	var list []peers.Peer
	for _, row := range rows {
		list = append(list, peers.Peer{ID: row.ID, Settlement: int64(row.Settlement), BaseURL: row.BaseURL, JWKS: row.JWKS, Epoch: row.Epoch})
	}
	return list, err
}

// sagaLog is a saga.Log over a bank.
type sagaLog struct{ *bank }

func (l sagaLog) List(_ context.Context, filter saga.Filter, limit int) ([]saga.Saga, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []saga.Saga
	for _, s := range l.sagas {
		pending := s.State == saga.StateRunning
		if filter == saga.ListPending && pending || filter == saga.ListStuck && pending && s.Age > time.Minute ||
			filter == saga.ListParked && s.State == saga.StateParked || filter == saga.ListDone && s.State.Final() {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(x, y saga.Saga) int { return cmp.Compare(x.ID, y.ID) })
	return found[:min(len(found), limit)], nil
}

func (l sagaLog) Get(_ context.Context, id string) (saga.Saga, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, there := l.sagas[id]
	if !there {
		return s, fmt.Errorf("read saga: %w", saga.ErrNotFound)
	}
	return s, nil
}

func (l sagaLog) Resume(_ context.Context, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sagas[id]
	if s.State.Final() {
		return fmt.Errorf("resume saga: %w", saga.ErrFinal)
	}
	s.State, s.Attempt, s.NextAt = saga.StateRunning, 0, l.clock
	l.sagas[id] = s
	return nil
}

// keys are those of one system, the same for the same name.
type keys struct{ system string }

func keysOf(system string) keys { return keys{system} }

func (k keys) Reload(context.Context) error { return nil }

func (k keys) Signer() (string, ed25519.PrivateKey) {
	seed := sha256.Sum256([]byte(k.system))
	return k.system + "-peer-1", ed25519.NewKeyFromSeed(seed[:])
}

func (k keys) JWKS() []byte {
	id, private := k.Signer()
	return httpsig.MarshalJWKS([]httpsig.PublicKey{{KeyID: id, Public: private.Public().(ed25519.PublicKey)}})
}

// find is a KeySource of alpha's key alone.
func (k keys) find(keyID string) (httpsig.Key, bool) {
	id, private := k.Signer()
	return httpsig.Key{Public: private.Public().(ed25519.PublicKey), Peer: k.system}, id == keyID
}

// nonces remembers for as long as a test lasts.
type nonces struct {
	mu   sync.Mutex
	seen map[string]bool
}

func (n *nonces) Remember(_ context.Context, keyID, nonce string, _ time.Time) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fresh := !n.seen[keyID+nonce]
	n.seen[keyID+nonce] = true
	return fresh, nil
}
