package ledger

import (
	"slices"
	"time"
)

// The kinds of objects that a notice is about.
const (
	AboutTransfer = "transfer"
	AboutHold     = "hold"
	AboutAccount  = "account"
)

// What happens to an account. Transfers and holds are told by their states.
const (
	AccountOpened  = "opened"
	AccountChanged = "changed"
)

// Notice is something that happened to one object, for the owners of the accounts that it concerns. Of the objects only the
// one that it is about is there, as it was afterwards; a transfer between two systems has its remittance, too.
type Notice struct {
	About      string
	What       string // a state, AccountOpened or AccountChanged
	ID         string // of the object; of an account, its number
	Owners     []string
	At         time.Time
	Transfer   *Transfer
	Remittance *Remittance
	Hold       *Hold
	Account    *Account
}

// Event is the notice's name, such as transfer.posted.
func (n Notice) Event() string { return n.About + "." + n.What }

// Object names the object among all: notices about one are told in their order.
func (n Notice) Object() string { return n.About + ":" + n.ID }

// Opened is the notice of an account that was just made.
func Opened(system string, account Account) Notice {
	return Notice{
		About: AboutAccount, What: AccountOpened, ID: string(NewNumber(system, account.ID)), Owners: []string{account.Owner},
		At: account.CreatedAt, Account: &account,
	}
}

// Notices lists what the commands of the book did to objects that somebody owns. What happened to one object several times
// is told as it was in the end.
func (b *Book) Notices() []Notice {
	var all []Notice
	add := func(n Notice) {
		n.Owners = slices.DeleteFunc(n.Owners, func(owner string) bool { return owner == "" })
		if slices.Sort(n.Owners); len(n.Owners) > 0 {
			n.Owners, n.At = slices.Compact(n.Owners), b.Now
			all = append(all, n)
		}
	}
	for i := range b.Transfers {
		add(b.noticeOf(&b.Transfers[i], nil))
	}
	made, changed := b.ChangedRemittances()
	for _, remittance := range slices.Concat(made, changed) {
		if remittance.Transfer != nil && !b.Noted(remittance.ID) {
			add(b.noticeOf(remittance.Transfer, &remittance))
		}
	}
	for _, hold := range b.ChangedHolds() {
		add(Notice{About: AboutHold, What: string(hold.State), ID: string(hold.ID), Owners: b.owners(hold.Account), Hold: &hold})
	}
	for _, account := range b.Changed() {
		if before := b.loaded[account.ID]; amended(before, account) {
			add(Notice{
				About: AboutAccount, What: AccountChanged, ID: string(NewNumber(b.System, account.ID)),
				Owners: []string{account.Owner}, Account: &account,
			})
		}
	}
	return all
}

func (b *Book) noticeOf(t *Transfer, r *Remittance) Notice {
	return Notice{
		About: AboutTransfer, What: string(t.State), ID: string(t.ID), Owners: b.owners(t.PayerID, t.PayeeID), Transfer: t, Remittance: r,
	}
}

// owners are those of the accounts that are locked; a stripe has none.
func (b *Book) owners(ids ...AccountID) (owners []string) {
	for _, id := range ids {
		if account, there := b.accounts[id]; there {
			owners = append(owners, account.Owner)
		}
	}
	return owners
}

// amended tells whether more than balances is different.
func amended(before, after Account) bool {
	return before.Label != after.Label || before.Status != after.Status || before.Owner != after.Owner ||
		before.OverdraftLimit != after.OverdraftLimit || before.Daily.Capped != after.Daily.Capped || before.Daily.Out != after.Daily.Out
}
