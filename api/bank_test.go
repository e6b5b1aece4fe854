package api_test

import (
	"cmp"
	"context"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"lockstep/api"
	"lockstep/api/auth"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
	"lockstep/saga"
)

// bank stands for engine and store: it applies operations by the ledger's own rules to rows in memory, so that the
// edge's answers are real ones. What a test wants to go wrong it says in fail.
type bank struct {
	mu         sync.Mutex
	accounts   map[ledger.AccountID]ledger.Account
	holds      map[ledger.HoldID]ledger.Hold
	remitted   map[ledger.TransferID]ledger.Remittance
	exposures  map[ledger.ExposureKey]ledger.Exposure
	transfers  []ledger.Transfer
	entries    []ledger.Entry
	epochs     map[string]int64 // of peers
	sagas      map[string]saga.Saga
	claims     map[string]claimed
	clients    []auth.Client
	serial     ledger.AccountID
	clock      time.Time
	commands   []posting.Command
	waits      []time.Duration
	wants      []store.Consistency
	fail       func(posting.Command) error // instead of applying
	readFail   func() error                // instead of reading
	webhooks   []store.Webhook
	deliveries []store.Delivery
	onceFail   error // instead of keeping what Once has done
}

type claimed struct {
	claim    store.Claim
	answer   store.Answer
	remitted ledger.TransferID // whose remittance, as it is at the time, the answer is rendered from instead
	renderer int               // the version that renders it
}

var lane = ledger.Lane{Node: 1}

func newBank() *bank {
	return &bank{
		accounts: map[ledger.AccountID]ledger.Account{}, holds: map[ledger.HoldID]ledger.Hold{}, claims: map[string]claimed{},
		remitted: map[ledger.TransferID]ledger.Remittance{}, exposures: map[ledger.ExposureKey]ledger.Exposure{},
		epochs: map[string]int64{}, sagas: map[string]saga.Saga{}, serial: 1000, clock: time.Date(2026, 1, 31, 9, 0, 0, 123456000, time.UTC),
	}
}

func (b *bank) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.clock
}

func (b *bank) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clock = b.clock.Add(d)
}

func (b *bank) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// Submit implements posting.Submitter.
func (b *bank) Submit(ctx context.Context, command posting.Command) (posting.Outcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	deadline, _ := ctx.Deadline()
	b.commands, b.waits = append(b.commands, command), append(b.waits, time.Until(deadline))
	if command.Claim != nil {
		if earlier, there := b.claims[command.Claim.ID()]; there {
			if earlier.claim.Fingerprint != command.Claim.Fingerprint {
				return posting.Outcome{}, ledger.Refuse(ledger.IdempotencyKeyReused, "the key was used for another request")
			}
			return b.replay(command, earlier), nil
		}
	}
	if b.fail != nil {
		if err := b.fail(command); err != nil {
			return posting.Outcome{}, err
		}
	}
	result, refusal := b.apply(command.Operation)
	outcome := posting.Outcome{Token: "t1", Result: result, Refusal: refusal}
	if command.Renderer != nil {
		outcome.Answer = command.Renderer.Render(command.Renderer.Version(), result, refusal)
	}
	if command.Claim != nil {
		claim := claimed{claim: *command.Claim, answer: outcome.Answer}
		if result.Remittance != nil {
			claim.remitted, claim.renderer = result.Remittance.ID, command.Renderer.Version()
		}
		b.claims[command.Claim.ID()] = claim
	}
	return outcome, nil
}

func (b *bank) apply(operation ledger.Operation) (ledger.Result, *ledger.Error) {
	var accounts []ledger.Account
	var holds []ledger.Hold
	for _, id := range operation.Accounts("alpha", lane) {
		account, there := b.accounts[id]
		if system, currency := ledger.StripeOf(id); !there && system != 0 {
			account, there = ledger.Account{ID: id, Currency: currency, Status: ledger.Open}, true
		}
		if there {
			accounts = append(accounts, account)
		}
	}
	for _, id := range operation.Holds() {
		if hold, there := b.holds[id]; there {
			holds = append(holds, hold)
		}
	}
	book := ledger.NewBook("alpha", lane, b.clock, accounts, holds)
	b.lendRemotes(book, operation)
	result, err := operation.Apply(book)
	if err != nil {
		var refusal *ledger.Error
		if !errors.As(err, &refusal) {
			panic(err) // operations only refuse
		}
		return ledger.Result{}, refusal
	}
	for _, account := range book.Changed() {
		b.accounts[account.ID] = account
	}
	for _, hold := range book.ChangedHolds() {
		b.holds[hold.ID] = hold
	}
	b.takeRemotes(book)
	b.transfers, b.entries = append(b.transfers, book.Transfers...), append(b.entries, book.Entries...)
	return result, nil
}

// Read implements api.Store.
func (b *bank) Read(ctx context.Context, want store.Consistency, fn func(context.Context, api.Queries) error) (store.ReadFrom, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wants = append(b.wants, want)
	if b.readFail != nil {
		return "", b.readFail()
	}
	from := store.FromReplica
	if want.Source {
		from = store.FromSource
	}
	return from, fn(ctx, b)
}

// Once implements api.Store. Work may submit commands of its own, so nothing is locked while it runs.
func (b *bank) Once(ctx context.Context, claim store.Claim, work store.Work) (store.Answer, bool, store.Token, error) {
	b.mu.Lock()
	earlier, there := b.claims[claim.ID()]
	b.mu.Unlock()
	if there {
		if earlier.claim.Fingerprint != claim.Fingerprint {
			return store.Answer{}, false, "", ledger.Refuse(ledger.IdempotencyKeyReused, "the key was used for another request")
		}
		return earlier.answer, true, "t2", nil
	}
	answer, stored, err := work(ctx, nil)
	if err == nil {
		b.set(func() { err = b.onceFail })
	}
	if err != nil {
		return store.Answer{}, false, "", err
	}
	b.set(func() { b.claims[claim.ID()] = claimed{claim: claim, answer: stored} })
	return answer, false, "t1", nil
}

// Change implements api.Store.
func (b *bank) Change(ctx context.Context, work func(context.Context, *store.Tx) error) (store.Token, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return "t1", work(ctx, nil)
}

// CreateAccount implements api.Store; it runs inside Once.
func (b *bank) CreateAccount(_ context.Context, _ *store.Tx, account ledger.Account) (ledger.Account, error) {
	b.set(func() {
		account.ID, account.CreatedAt = b.serial, b.clock
		b.serial++
		b.accounts[account.ID] = account
	})
	return account, nil
}

// Account and what follows implement api.Queries; they run inside Read.
func (b *bank) Account(_ context.Context, id ledger.AccountID) (ledger.Account, error) {
	account, there := b.accounts[id]
	if !there || account.Stripe() {
		return ledger.Account{}, store.ErrMiss
	}
	return account, nil
}

func (b *bank) Accounts(_ context.Context, filter store.AccountFilter) ([]ledger.Account, error) {
	var found []ledger.Account
	for _, account := range b.accounts {
		if !account.Stripe() && account.ID > filter.After && (filter.Owner == "" || filter.Owner == account.Owner) {
			found = append(found, account)
		}
	}
	slices.SortFunc(found, func(x, y ledger.Account) int { return cmp.Compare(x.ID, y.ID) })
	return found[:min(len(found), filter.Limit)], nil
}

func (b *bank) Entries(_ context.Context, filter store.EntryFilter) ([]store.EntryRow, error) {
	var found []store.EntryRow
	for _, entry := range slices.Backward(b.entries) {
		if entry.Account == filter.Account && (filter.Before == 0 || entry.Sequence < filter.Before) &&
			(filter.Kind == "" || filter.Kind == entry.Kind) && len(found) < filter.Limit {
			found = append(found, store.EntryRow{Entry: entry})
		}
	}
	return found, nil
}

func (b *bank) Transfer(_ context.Context, id ledger.TransferID) (ledger.Transfer, error) {
	for _, transfer := range b.transfers {
		if transfer.ID == id {
			return transfer, nil
		}
	}
	if remittance := b.remitted[id]; remittance.Transfer != nil {
		return *remittance.Transfer, nil
	}
	return ledger.Transfer{}, store.ErrMiss
}

func (b *bank) Transfers(_ context.Context, filter store.TransferFilter) (store.TransferPage, error) {
	if filter.After != "" && len(filter.After) != 36 {
		return store.TransferPage{}, store.ErrPosition
	}
	mine := func(id ledger.AccountID) bool {
		if filter.Account != 0 {
			return id == filter.Account
		}
		return filter.Owner == "" || b.accounts[id].Owner == filter.Owner
	}
	var found []ledger.Transfer
	all := slices.Clone(b.transfers)
	for _, remittance := range b.remitted {
		if remittance.Transfer != nil {
			all = append(all, *remittance.Transfer)
		}
	}
	for _, t := range all {
		if (mine(t.PayerID) || mine(t.PayeeID)) && (filter.After == "" || string(t.ID) < filter.After) &&
			(filter.Reference == "" || filter.Reference == t.Reference) && (filter.Kind == "" || filter.Kind == t.Kind) {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(x, y ledger.Transfer) int { return strings.Compare(string(y.ID), string(x.ID)) })
	if len(found) <= filter.Limit {
		return store.TransferPage{Transfers: found}, nil
	}
	return store.TransferPage{Transfers: found[:filter.Limit], Next: string(found[filter.Limit-1].ID)}, nil
}

func (b *bank) Hold(_ context.Context, id ledger.HoldID) (ledger.Hold, error) {
	hold, there := b.holds[id]
	if !there {
		return ledger.Hold{}, store.ErrMiss
	}
	return hold, nil
}

func (b *bank) TrialBalance(context.Context) ([]store.CurrencyBalance, error) {
	sums := store.CurrencyBalance{Currency: "KRW", Entries: new(big.Int), Posted: new(big.Int), PendingDebit: new(big.Int), PendingCredit: new(big.Int)}
	for _, entry := range b.entries {
		sums.Entries.Add(sums.Entries, big.NewInt(entry.Amount))
	}
	for _, account := range b.accounts {
		sums.Posted.Add(sums.Posted, big.NewInt(account.Posted))
		sums.PendingDebit.Add(sums.PendingDebit, big.NewInt(account.PendingDebit))
	}
	return []store.CurrencyBalance{sums}, nil
}

func (b *bank) Nodes(context.Context) ([]store.NodeRow, error) {
	return []store.NodeRow{{
		ID: 1, Address: "127.0.0.1:8081", Version: "1.2.3", State: "running",
		StartedAt: b.clock, SeenAt: b.clock, LeaseUntil: b.clock.Add(10 * time.Second),
	}}, nil
}

// authority knows the principals of the tests by their tokens.
type authority struct{ bank *bank }

func (a authority) Authenticate(_ context.Context, authorization string) (auth.Principal, error) {
	principal, known := principals()[strings.TrimPrefix(authorization, "Bearer ")]
	if !known {
		return auth.Principal{}, ledger.Refuse(ledger.Unauthenticated, "this is no access token")
	}
	return principal, nil
}

func (a authority) Token(_ context.Context, id, secret, scope string) (auth.TokenAnswer, error) {
	if id != "shop" || secret != "s3cret+%" {
		return auth.TokenAnswer{}, &auth.TokenError{Code: auth.InvalidClient, Description: "wrong"}
	}
	if scope == "none" {
		return auth.TokenAnswer{}, &auth.TokenError{Code: auth.InvalidScope, Description: "no such scope"}
	}
	return auth.TokenAnswer{AccessToken: "a.b.c", TokenType: "Bearer", ExpiresIn: 900, Scope: "money:read"}, nil
}

func (a authority) JWKS() []byte {
	return []byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"alpha-1","use":"sig","alg":"EdDSA","x":"AAAA"}]}`)
}

func (a authority) ListClients(_ context.Context, after string, limit int) ([]auth.Client, error) {
	a.bank.mu.Lock()
	defer a.bank.mu.Unlock()
	var found []auth.Client
	for _, client := range a.bank.clients {
		if client.ID > after && len(found) < limit {
			found = append(found, client)
		}
	}
	return found, nil
}

func (a authority) CreateClient(_ context.Context, _ auth.Tx, asked auth.NewClient) (auth.Client, string, error) {
	if asked.ID == "" {
		asked.ID = "random"
	}
	client := auth.Client{ID: asked.ID, Name: asked.Name, Scopes: asked.Scopes, Owner: asked.Owner, CreatedAt: a.bank.now()}
	a.bank.set(func() { a.bank.clients = append(a.bank.clients, client) })
	return client, "the-secret", nil
}

func (a authority) DeleteClient(_ context.Context, _ auth.Tx, id string) error {
	for i, client := range a.bank.clients {
		if client.ID == id {
			a.bank.clients = slices.Delete(a.bank.clients, i, i+1)
			return nil
		}
	}
	return ledger.Refuse(ledger.NotFound, "there is no client %s", id)
}

func (a authority) RotateClient(context.Context, auth.Tx, string, time.Duration) (string, error) {
	return "another-secret", nil
}
