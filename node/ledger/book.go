package ledger

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Book is what a transaction has locked, and what the commands of a batch make of it. Each command sees what those
// before it did. A Book belongs to one goroutine.
type Book struct {
	System    string
	Lane      Lane
	Now       time.Time      // the database's time
	Zone      *time.Location // in which the days of limits begin; nil is UTC
	Transfers []Transfer     // new ones inside the system
	Entries   []Entry
	Events    []PeerEvent
	Started   []SagaStart
	Finished  []TransferID // whose sagas have ended

	accounts map[AccountID]*Account
	holds    map[HoldID]*Hold
	remotes
	loaded  map[AccountID]Account
	touched map[HoldID]bool
	undo    []func()
}

// NewBook opens a book over locked rows.
func NewBook(system string, lane Lane, now time.Time, accounts []Account, holds []Hold) *Book {
	b := &Book{
		System: system, Lane: lane, Now: now,
		accounts: make(map[AccountID]*Account, len(accounts)),
		loaded:   make(map[AccountID]Account, len(accounts)),
		holds:    make(map[HoldID]*Hold, len(holds)),
		touched:  map[HoldID]bool{},
	}
	for _, account := range accounts {
		b.loaded[account.ID] = account
		b.accounts[account.ID] = &account
	}
	for _, hold := range holds {
		b.holds[hold.ID] = &hold
	}
	return b
}

// Changed lists the accounts that differ from what was locked, in canonical order.
func (b *Book) Changed() []Account {
	var changed []Account
	for _, id := range slices.Sorted(maps.Keys(b.accounts)) {
		if *b.accounts[id] != b.loaded[id] {
			changed = append(changed, *b.accounts[id])
		}
	}
	return changed
}

// ChangedHolds lists the holds that were made or changed, in order of their ids.
func (b *Book) ChangedHolds() []Hold {
	var changed []Hold
	for _, id := range slices.Sorted(maps.Keys(b.touched)) {
		if hold, there := b.holds[id]; there {
			changed = append(changed, *hold)
		}
	}
	return changed
}

// Atomically runs apply and takes back all that it did when it refuses.
func (b *Book) Atomically(apply func() error) error {
	mark, transfers, entries := len(b.undo), len(b.Transfers), len(b.Entries) // nothing else grows in a batch of payments
	err := apply()
	if err == nil {
		return nil
	}
	for i := len(b.undo) - 1; i >= mark; i-- {
		b.undo[i]()
	}
	b.undo, b.Transfers, b.Entries = b.undo[:mark], b.Transfers[:transfers], b.Entries[:entries]
	return err
}

// owned finds an account that the actor owns; a stranger's account does not exist for it.
func (b *Book) owned(number Number, actor Actor) (*Account, error) {
	account, there := b.account(number)
	if !there || !actor.Owns(account) {
		return nil, Refuse(AccountNotFound, "there is no account %s", number)
	}
	return account, nil
}

// account finds the locked row of one of this system's ordinary accounts.
func (b *Book) account(number Number) (*Account, bool) {
	serial := number.Serial()
	if number.System() != b.System || serial < systemSerialsMax {
		return nil, false
	}
	account, there := b.accounts[serial]
	return account, there
}

// stripe finds this lane's share of a system account. The engine locks it with the batch, so its absence is our bug.
func (b *Book) stripe(system AccountID, currency Currency) *Account {
	account, there := b.accounts[b.Lane.Stripe(system, currency)]
	if !there {
		panic(fmt.Sprintf("ledger: stripe %d %s is not locked", system, currency))
	}
	return account
}

// remember makes the next change of the account undoable.
func (b *Book) remember(account *Account) {
	before := *account
	b.undo = append(b.undo, func() { *account = before })
}

// post books a transfer that was checked: two entries, both balances.
func (b *Book) post(t Transfer, payer, payee *Account) Transfer {
	t.State, t.CreatedAt, t.FinishedAt = Posted, b.Now, b.Now
	t.PayerID, t.PayeeID = payer.ID, payee.ID
	b.enter(payer, t, -t.Amount.Minor, t.To)
	b.enter(payee, t, t.Amount.Minor, t.From)
	b.Transfers = append(b.Transfers, t)
	return t
}

func (b *Book) enter(account *Account, t Transfer, amount int64, counterparty Number) {
	b.remember(account)
	account.Posted += amount
	account.Version++
	b.Entries = append(b.Entries, Entry{
		Account: account.ID, Sequence: account.Version, Transfer: t.ID, Kind: t.Kind, Amount: amount,
		Currency: t.Amount.Currency, BalanceAfter: account.Posted, Counterparty: counterparty, CreatedAt: b.Now,
	})
}

// putHold writes a hold, new or changed.
func (b *Book) putHold(hold Hold) {
	before, existed := b.holds[hold.ID]
	wasTouched := b.touched[hold.ID]
	b.undo = append(b.undo, func() {
		if existed {
			b.holds[hold.ID] = before
		} else {
			delete(b.holds, hold.ID)
		}
		if !wasTouched {
			delete(b.touched, hold.ID)
		}
	})
	b.holds[hold.ID], b.touched[hold.ID] = &hold, true
}
