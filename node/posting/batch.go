package posting

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"lockstep/locks"
	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/saga"
)

// batch is one transaction that is ready to commit, with what each caller will be told then.
type batch struct {
	number      int64
	tx          *store.Tx
	tasks       []*task
	locks       *locks.Set // of its accounts; nil without
	settlements []settlement
	how         how

	claims  map[string]store.ClaimRow // as read back, by id
	replays map[ledger.TransferID]ledger.Result
	book    *ledger.Book
	logged  map[ledger.TransferID]bool // remittances whose saga may have a row
	told    []saga.Message             // to be published once it has committed
	heard   int                        // deliveries that it writes
	busy    []ledger.AccountID         // kept by another transaction
}

// errKeysUsed says that one of the batch's keys has a row.
var errKeysUsed = errors.New("posting: an idempotency key of the batch was used before")

// settlement is what a task is told once the COMMIT is known.
type settlement struct {
	outcome Outcome
	err     error
	stored  bool // the answer stands under the key
	mine    bool // the claim is this command's, or there is none: it runs
	away    bool // one of its rows is kept elsewhere: it returns to the queue
}

// how a batch is run: as a rule without either.
type how struct {
	keysUsed   bool // one of the keys has a row: read whose they are
	skipLocked bool // a row was waited for in vain: do without those that are kept
	waited     bool // by this very batch
	remade     bool // what is gone was made again: where that is not to be had, each command finds out for itself
}

// prepare does everything up to COMMIT. After an error the transaction is rolled back and nothing has happened.
func (l *lane) prepare(tasks []*task, set *locks.Set, as how) (b *batch, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			err = fmt.Errorf("posting: panic in a batch: %v", bug)
		}
		if err != nil && b != nil {
			_ = b.tx.Rollback() // a connection that cannot roll back is closed by the store
			b = nil
		}
	}()
	if err := l.makeStripes(tasks); err != nil {
		return nil, err
	}
	if err := l.makeExposures(tasks); err != nil {
		return nil, err
	}
	tx, err := l.store.Begin(l.life)
	if err != nil {
		return nil, err
	}
	b = &batch{number: l.number + 1, tx: tx, tasks: tasks, locks: set, settlements: make([]settlement, len(tasks)), how: as}
	for _, step := range []func(context.Context, *batch) error{l.claim, l.lockRows, l.lockRemotes, l.giveWay, l.apply, l.write} {
		if err := step(l.life, b); err != nil {
			return b, err
		}
	}
	return b, nil
}

// makeStripes makes this lane's stripes before their first use, outside the batch.
func (l *lane) makeStripes(tasks []*task) error {
	for _, t := range tasks {
		for _, id := range t.Operation.Accounts(l.store.System(), l.lane) {
			system, currency := ledger.StripeOf(id)
			if system == 0 || l.stripes[id] {
				continue
			}
			if err := l.store.MakeStripe(l.life, l.lane, system, currency); err != nil {
				return err
			}
			l.stripes[id] = true
		}
	}
	return nil
}

// claim writes the lane's row and inserts the idempotency keys. As a rule all of them are new, and then all are ours. If
// one is not, the batch is run again with keysUsed, and their rows are read.
func (l *lane) claim(ctx context.Context, b *batch) error {
	store.AdvanceLane(b.tx, l.lane, l.identity.Incarnation, b.number)
	var rows []store.ClaimRow
	var ids []string
	for i, t := range b.tasks {
		b.settlements[i].mine = true
		if t.Claim != nil {
			rows = append(rows, l.claimRow(t))
			ids = append(ids, t.claimID)
		}
	}
	insert := store.InsertClaims
	if b.how.keysUsed {
		insert = store.ProposeClaims
	}
	insert(b.tx, rows)
	found, err := b.tx.Flush(ctx)
	switch {
	case store.ClaimTaken(err):
		return errKeysUsed
	case err != nil:
		return fmt.Errorf("claim keys: %w", err)
	case found[0] == 0:
		return errLaneLost
	case !b.how.keysUsed:
		return nil
	}
	return l.readClaims(ctx, b, ids)
}

// payment is an operation whose success is rendered from a transfer, whose id it knows beforehand.
type payment interface {
	ledger.Operation
	TransferID() ledger.TransferID
}

// claimRow claims a task's key. A payment's success is rendered from its transfer, whose id is known already; every other
// answer is written once it is known.
func (l *lane) claimRow(t *task) store.ClaimRow {
	row := store.ClaimRow{ID: t.claimID, Claim: *t.Claim, CommandID: t.id, CreatedAt: l.store.Now()}
	if payment, ok := t.Operation.(payment); ok {
		row.TransferID, row.Renderer = string(payment.TransferID()), t.Renderer.Version()
	}
	return row
}

// readClaims reads the keys' rows back: the command id in each row tells whose it is.
func (l *lane) readClaims(ctx context.Context, b *batch, ids []string) (err error) {
	if b.claims, err = store.ReadClaims(ctx, b.tx, ids); err != nil {
		return err
	}
	var transfers []ledger.TransferID
	for i, t := range b.tasks {
		row, there := b.claims[t.claimID]
		if t.Claim != nil && !there {
			return fmt.Errorf("posting: the claim %s is not there after its insert", t.claimID)
		}
		b.settlements[i].mine = t.Claim == nil || row.CommandID == t.id
		if !b.settlements[i].mine && row.Answer == nil {
			transfers = append(transfers, ledger.TransferID(row.TransferID))
		}
	}
	if b.replays, err = store.ReadResults(ctx, b.tx, transfers); err != nil {
		return err
	}
	for i, t := range b.tasks {
		if s := &b.settlements[i]; !s.mine {
			*s = b.replay(t, b.claims[t.claimID])
		}
	}
	return nil
}

// giveWay gives the Redis locks back: what they spare, waiting for rows, is over for this batch. The next node comes as far as the
// rows while this one writes and its COMMIT is synced.
func (l *lane) giveWay(_ context.Context, b *batch) error {
	if !l.config.LateRelease {
		l.unlock(b.locks)
	}
	return nil
}

// replay gives the first answer again, or refuses a request that means something else.
func (b *batch) replay(t *task, row store.ClaimRow) settlement {
	if row.Claim.Fingerprint != t.Claim.Fingerprint {
		return settlement{err: errKeyReused()}
	}
	outcome := Outcome{Replayed: true}
	result, rendered := b.replays[ledger.TransferID(row.TransferID)]
	switch {
	case row.Answer != nil:
		outcome.Answer = *row.Answer
	case rendered:
		outcome.Result = result
		outcome.Answer = t.Renderer.Render(row.Renderer, result, nil)
	default:
		// A claim never commits without its answer; one that did is damage, and guessing would make it worse.
		return settlement{err: ledger.Refuse(ledger.Internal, "the answer stored under this key cannot be read")}
	}
	return settlement{outcome: outcome, stored: true}
}

// lockRows locks the accounts and holds of the commands that run, in canonical order.
func (l *lane) lockRows(ctx context.Context, b *batch) error {
	var ids []ledger.AccountID
	for i, t := range b.tasks {
		if b.settlements[i].mine {
			ids = append(ids, t.Operation.Accounts(l.store.System(), l.lane)...)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	began := time.Now()
	accounts, look, err := l.lockAccounts(ctx, b, ids)
	if err != nil {
		return err
	}
	if !b.how.remade && stripeGone(ids, accounts, b.busy) {
		return errGone
	}
	if err := l.listen(ctx, b, look); err != nil {
		return err
	}
	if err := store.LockLimits(ctx, b.tx, accounts); err != nil {
		return err
	}
	var holdIDs []ledger.HoldID // not those of accounts that are kept elsewhere: they are kept as well
	for i, t := range b.tasks {
		if b.settlements[i].mine {
			holdIDs = append(holdIDs, t.Operation.Holds()...)
		}
	}
	slices.Sort(holdIDs)
	holds, err := store.LockHolds(ctx, b.tx, slices.Compact(holdIDs))
	if err != nil {
		return err
	}
	l.metrics.rowWait.Observe(time.Since(began).Seconds())
	if look.Now.IsZero() {
		look.Now = l.store.Now()
	}
	b.book = ledger.NewBook(l.store.System(), l.lane, look.Now, accounts, holds)
	b.book.Zone = l.config.Zone
	return nil
}

// lockAccounts locks the rows, or those that are free; the commands of the others leave the batch.
func (l *lane) lockAccounts(ctx context.Context, b *batch, ids []ledger.AccountID) ([]ledger.Account, store.Look, error) {
	if !b.how.skipLocked {
		return store.LockAccounts(ctx, b.tx, ids)
	}
	accounts, look, busy, err := store.LockFreeAccounts(ctx, b.tx, ids)
	for i := range accounts {
		delete(l.kept, accounts[i].ID)
	}
	for i, t := range b.tasks {
		s := &b.settlements[i]
		if s.mine && slices.ContainsFunc(busy, func(id ledger.AccountID) bool { return t.needs(id, l) }) {
			s.mine, s.away = false, true
		}
	}
	b.busy = busy
	return accounts, look, err
}

// stripeGone tells whether a stripe among the ids was neither locked nor busy. The accounts are in order of their ids.
func stripeGone(ids []ledger.AccountID, locked []ledger.Account, busy []ledger.AccountID) bool {
	return slices.ContainsFunc(ids, func(id ledger.AccountID) bool {
		if system, _ := ledger.StripeOf(id); system == 0 || slices.Contains(busy, id) {
			return false
		}
		_, there := slices.BinarySearchFunc(locked, id, func(a ledger.Account, id ledger.AccountID) int { return cmp.Compare(a.ID, id) })
		return !there
	})
}

// needs tells whether the task works on the account; the lane's own stripes count too.
func (t *task) needs(id ledger.AccountID, l *lane) bool {
	return slices.Contains(t.Operation.Accounts(l.store.System(), l.lane), id)
}

// apply runs the commands in order of arrival; each sees what those before it did.
func (l *lane) apply(_ context.Context, b *batch) error {
	for i, t := range b.tasks {
		if !b.settlements[i].mine {
			continue
		}
		result, err := t.Operation.Apply(b.book)
		refusal, refused := err.(*ledger.Error) //nolint:errorlint // operations return refusals unwrapped
		if err != nil && !refused {
			return fmt.Errorf("apply %T: %w", t.Operation, err)
		}
		s := &b.settlements[i]
		s.outcome = Outcome{Result: result, Refusal: refusal}
		if t.Renderer != nil {
			s.outcome.Answer = t.Renderer.Render(t.Renderer.Version(), result, refusal)
		}
		s.stored = t.Claim != nil && storable(s.outcome.Answer.Status)
		if t.Claim != nil && !refused && !s.stored {
			// Applied now and forgotten under its key, it would be applied again by a repeat.
			return fmt.Errorf("posting: the success of %T was rendered as %d, which is not stored", t.Operation, s.outcome.Answer.Status)
		}
	}
	return nil
}

// storable tells which answers stand under their key for ever: success and the refusals decided here.
func storable(status int) bool {
	return status >= 200 && status < 300 || status == 404 || status == 409 || status == 422
}

// write stores what the commands did, with one statement for each table, all of them in one round trip.
func (l *lane) write(ctx context.Context, b *batch) error {
	store.InsertTransfers(b.tx, l.store.System(), b.book.Transfers)
	store.InsertEntries(b.tx, b.book.Entries)
	store.UpdateAccounts(b.tx, b.book.Changed())
	if limited, first := b.book.ChangedLimits(); len(limited) > 0 {
		store.PutLimits(b.tx, limited, first)
	}
	store.PutHolds(b.tx, b.book.ChangedHolds())
	raceable := writeRemotes(b)
	if err := l.tell(b); err != nil {
		return fmt.Errorf("write the outbox: %w", err)
	}
	if err := l.notify(b); err != nil {
		return fmt.Errorf("tell webhooks: %w", err)
	}
	answered, dropped := b.answers()
	if err := store.AnswerClaims(ctx, b.tx, answered); err != nil {
		return err
	}
	l.metrics.claimsDropped.Add(float64(len(dropped)))
	store.DeleteClaims(b.tx, dropped)
	_, err := b.tx.Flush(ctx)
	switch {
	case raceable && store.RowRaced(err):
		return errRaced
	case err != nil:
		return fmt.Errorf("write the batch: %w", err)
	}
	return nil
}

// answers lists the answers to store, and the claims to delete because theirs are not: no claim commits without its
// answer.
func (b *batch) answers() (answered []store.ClaimRow, dropped []string) {
	for i, t := range b.tasks {
		s := b.settlements[i]
		switch {
		case t.Claim != nil && s.away:
			dropped = append(dropped, t.claimID)
		case t.Claim == nil || !s.mine || t.rendered(s.outcome):
		case !s.stored:
			dropped = append(dropped, t.claimID)
		default:
			answered = append(answered, store.ClaimRow{
				ID: t.claimID, Claim: *t.Claim, CommandID: t.id, Answer: &b.settlements[i].outcome.Answer, CreatedAt: b.book.Now,
			})
		}
	}
	return answered, dropped
}

// rendered tells whether the claim, as it was made, already says the answer: a payment that succeeded is rendered again
// from its transfer. All else is kept as bytes.
func (t *task) rendered(outcome Outcome) bool {
	_, payment := t.Operation.(payment)
	return payment && outcome.Refusal == nil
}
