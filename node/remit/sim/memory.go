package sim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"lockstep/node/ledger"
	"lockstep/saga"
)

// Memory is a System without a server: it locks rows, applies an operation to a book of them and keeps what the book
// says, as the engine does. It can lose its last commits, as a replica does that is promoted too early.
type Memory struct {
	System string
	Lane   ledger.Lane
	Epoch  int64 // of the system

	Unreconciled bool // since its last commits were lost
	Alter        Alter

	now  tables
	past []tables // before each of the last commits, the oldest first
	told int      // counts messages, for their ids
}

// Alter breaks a system on purpose, to see that the auditor notices. The zero value breaks nothing.
type Alter struct {
	// Lock changes what an operation finds.
	Lock func(operation ledger.Operation, remittances []ledger.Remittance, exposures []ledger.Exposure)
	// Write changes what an operation writes.
	Write func(operation ledger.Operation, made []ledger.Remittance) []ledger.Remittance
	// Announce hears what an operation tells, before its COMMIT, and says what goes to the outbox.
	Announce func(message saga.Message, fate Fate) (kept bool)
}

// tables is the content of a database.
type tables struct {
	accounts    map[ledger.AccountID]ledger.Account
	remittances map[ledger.TransferID]ledger.Remittance
	exposures   map[ledger.ExposureKey]ledger.Exposure
	transfers   map[ledger.TransferID]ledger.Transfer
	entries     []ledger.Entry // only ever appended to a copy that is clipped
	outbox      []saga.Message
	sagas       map[string]ledger.SagaKind
	epochs      map[string]int64 // of peers
}

// pastMax is how many commits a failover can lose at most.
const pastMax = 12

// NewMemory makes a system of the rows, which knows the peers at their first epoch.
func NewMemory(system string, lane ledger.Lane, rows Rows, peers ...string) *Memory {
	m := &Memory{System: system, Lane: lane, Epoch: firstEpoch, now: tables{
		accounts: map[ledger.AccountID]ledger.Account{}, remittances: map[ledger.TransferID]ledger.Remittance{},
		exposures: map[ledger.ExposureKey]ledger.Exposure{}, transfers: map[ledger.TransferID]ledger.Transfer{},
		sagas: map[string]ledger.SagaKind{}, epochs: map[string]int64{},
	}}
	for _, account := range rows.Accounts {
		m.now.accounts[account.ID] = account
	}
	for _, exposure := range rows.Exposures {
		m.now.exposures[exposure.ExposureKey] = exposure
	}
	for _, peer := range peers {
		m.now.epochs[peer] = firstEpoch
	}
	return m
}

// firstEpoch is the one that every system begins in.
const firstEpoch = 1

// begin keeps what is there, for a failover that loses the transaction that follows.
func (m *Memory) begin() {
	t := m.now
	t.accounts, t.remittances, t.exposures = maps.Clone(t.accounts), maps.Clone(t.remittances), maps.Clone(t.exposures)
	t.transfers, t.sagas, t.epochs = maps.Clone(t.transfers), maps.Clone(t.sagas), maps.Clone(t.epochs)
	t.entries, t.outbox = slices.Clip(t.entries), slices.Clone(t.outbox)
	m.past = append(m.past, t)
	if len(m.past) > pastMax {
		m.past = m.past[1:]
	}
}

// Replicated says that nothing of what is there can be lost any more.
func (m *Memory) Replicated() { m.past = nil }

// LoseTail forgets the last commits, at most as many as are known, and tells how many.
func (m *Memory) LoseTail(commits int) int {
	commits = min(commits, len(m.past))
	if commits > 0 {
		m.now = m.past[len(m.past)-commits]
		m.past = nil
	}
	return commits
}

// Submit implements System.
func (m *Memory) Submit(operation ledger.Operation, at time.Time, fate Fate) (ledger.Result, *ledger.Error, error) {
	m.make(operation)
	book := m.lock(operation, at)
	result, err := operation.Apply(book)
	refusal, refused := err.(*ledger.Error) //nolint:errorlint // operations return refusals unwrapped
	if err != nil && !refused {
		return ledger.Result{}, nil, err
	}
	messages, err := m.announced(book, fate)
	if err != nil {
		return ledger.Result{}, nil, err
	}
	if fate != LosesCommit {
		if err := m.commit(operation, book, messages); err != nil {
			return ledger.Result{}, nil, err
		}
	}
	if fate != Commits {
		return ledger.Result{}, nil, ErrLost
	}
	return result, refusal, nil
}

// make makes stripes and exposures before their first use, in transactions of their own.
func (m *Memory) make(operation ledger.Operation) {
	for _, id := range operation.Accounts(m.System, m.Lane) {
		system, currency := ledger.StripeOf(id)
		if _, there := m.now.accounts[id]; system != 0 && !there {
			m.begin()
			m.now.accounts[id] = ledger.Account{ID: id, Currency: currency, Status: ledger.Open}
		}
	}
	remote, is := operation.(ledger.RemoteOperation)
	if !is {
		return
	}
	for _, key := range remote.Exposures() {
		if _, there := m.now.exposures[key]; !there {
			m.begin()
			m.now.exposures[key] = ledger.Exposure{ExposureKey: key, Epoch: m.now.epochs[key.Peer]}
		}
	}
}

// lock opens a book over the rows that the operation names.
func (m *Memory) lock(operation ledger.Operation, at time.Time) *ledger.Book {
	var accounts []ledger.Account
	for _, id := range operation.Accounts(m.System, m.Lane) {
		if account, there := m.now.accounts[id]; there {
			accounts = append(accounts, account)
		}
	}
	book := ledger.NewBook(m.System, m.Lane, at, accounts, nil)
	remote, is := operation.(ledger.RemoteOperation)
	if !is {
		return book
	}
	var remittances []ledger.Remittance
	for _, id := range remote.Remittances() {
		if remittance, there := m.now.remittances[id]; there {
			remittances = append(remittances, copied(remittance))
		}
	}
	var exposures []ledger.Exposure
	for _, key := range remote.Exposures() {
		exposures = append(exposures, m.now.exposures[key])
	}
	if m.Alter.Lock != nil {
		m.Alter.Lock(operation, remittances, exposures)
	}
	book.WithPeers(remittances, exposures)
	book.Stand(m.Epoch, !m.Unreconciled)
	return book
}

// copied shares nothing with the row.
func copied(r ledger.Remittance) ledger.Remittance {
	if r.Transfer != nil {
		transfer := *r.Transfer
		r.Transfer = &transfer
	}
	return r
}

// announced is what the book tells peers.
func (m *Memory) announced(book *ledger.Book, fate Fate) (kept []saga.Message, err error) {
	for _, event := range book.Events {
		told := []ledger.PeerEvent{event}
		content, err := json.Marshal(ledger.OutlineOf(told))
		if err != nil {
			return nil, fmt.Errorf("write the outbox: %w", err)
		}
		m.told++
		message := saga.Message{ID: fmt.Sprintf("%s-%d", m.System, m.told), Destination: event.Peer, Events: content, Known: told}
		if m.Alter.Announce == nil || m.Alter.Announce(message, fate) {
			kept = append(kept, message)
		}
	}
	return kept, nil
}

// commit keeps what the book says.
func (m *Memory) commit(operation ledger.Operation, book *ledger.Book, messages []saga.Message) error {
	m.begin()
	made, changed := book.ChangedRemittances()
	if m.Alter.Write != nil {
		made = m.Alter.Write(operation, made)
	}
	for _, remittance := range made {
		if _, there := m.now.remittances[remittance.ID]; there {
			return fmt.Errorf("sim: %s: the remittance %s was made twice", m.System, remittance.ID)
		}
	}
	for _, remittance := range slices.Concat(made, changed) {
		m.now.remittances[remittance.ID] = copied(remittance)
	}
	for _, account := range book.Changed() {
		m.now.accounts[account.ID] = account
	}
	for _, exposure := range book.ChangedExposures() {
		m.now.exposures[exposure.ExposureKey] = exposure
	}
	for _, transfer := range book.Transfers {
		m.now.transfers[transfer.ID] = transfer
	}
	m.now.entries = append(m.now.entries, book.Entries...)
	m.now.outbox = append(m.now.outbox, messages...)
	for _, start := range book.Started {
		m.now.sagas[string(start.ID)] = start.Kind
	}
	for _, id := range book.Finished {
		delete(m.now.sagas, string(id))
	}
	return nil
}

// Remittances implements System.
func (m *Memory) Remittances(ids ...ledger.TransferID) (map[ledger.TransferID]ledger.Remittance, error) {
	found := map[ledger.TransferID]ledger.Remittance{}
	for _, id := range ids {
		if remittance, there := m.now.remittances[id]; there {
			found[id] = copied(remittance)
		}
	}
	return found, nil
}

// Between implements System.
func (m *Memory) Between(payer, payee string, after ledger.TransferID, limit int) (list []ledger.Remittance, err error) {
	for _, id := range slices.Sorted(maps.Keys(m.now.remittances)) {
		r := m.now.remittances[id]
		if r.Payer == payer && r.Payee == payee && id > after && len(list) < limit {
			list = append(list, copied(r))
		}
	}
	return list, nil
}

// Digest implements System.
func (m *Memory) Digest(payer, payee string, after, until ledger.TransferID, limit int) (*ledger.Digest, error) {
	digest := ledger.NewDigest()
	for _, id := range slices.Sorted(maps.Keys(m.now.remittances)) {
		r := m.now.remittances[id]
		if r.Payer == payer && r.Payee == payee && id > after && (until == "" || id <= until) && digest.Count < limit &&
			(r.State == ledger.Pending || r.State == ledger.Posted) {
			digest.Add(id, r.State, r.Transfer.From, r.Transfer.To, r.Transfer.Amount)
		}
	}
	return digest, nil
}

// InsideIDs implements System.
func (m *Memory) InsideIDs(ids ...ledger.TransferID) (map[ledger.TransferID]bool, error) {
	found := map[ledger.TransferID]bool{}
	for _, id := range ids {
		if _, inside := m.now.transfers[id]; inside {
			found[id] = true
		}
	}
	return found, nil
}

// Outbox implements System.
func (m *Memory) Outbox() ([]saga.Message, error) {
	list := slices.Clone(m.now.outbox)
	for i := range list {
		list[i].Known = nil // as of what is read
	}
	return list, nil
}

// Told implements System.
func (m *Memory) Told(id string) error {
	m.begin()
	m.now.outbox = slices.DeleteFunc(m.now.outbox, func(message saga.Message) bool { return message.ID == id })
	return nil
}

// Sagas implements System.
func (m *Memory) Sagas() ([]Saga, error) {
	var list []Saga
	for _, id := range slices.Sorted(maps.Keys(m.now.sagas)) {
		list = append(list, Saga{id, m.now.sagas[id]})
	}
	return list, nil
}

// EndSaga implements System.
func (m *Memory) EndSaga(id string) error {
	m.begin()
	delete(m.now.sagas, id)
	return nil
}

// RaiseEpoch implements System.
func (m *Memory) RaiseEpoch(peer string, epoch int64) error {
	m.begin()
	for key, exposure := range m.now.exposures {
		if key.Peer == peer && exposure.Epoch < epoch {
			exposure.Epoch = epoch
			m.now.exposures[key] = exposure
		}
	}
	m.now.epochs[peer] = max(m.now.epochs[peer], epoch)
	return nil
}

// PeerEpoch implements System.
func (m *Memory) PeerEpoch(peer string) (int64, error) { return m.now.epochs[peer], nil }

// Rows implements System.
func (m *Memory) Rows() (Rows, error) {
	rows := Rows{
		Accounts: slices.Collect(maps.Values(m.now.accounts)), Exposures: slices.Collect(maps.Values(m.now.exposures)),
		Transfers: slices.Collect(maps.Values(m.now.transfers)), Entries: slices.Clone(m.now.entries),
	}
	for _, remittance := range m.now.remittances {
		rows.Remittances = append(rows.Remittances, copied(remittance))
	}
	rows.sort()
	return rows, nil
}
