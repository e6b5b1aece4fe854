package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/node/ledger"
)

// TransferFilter chooses transfers. Zero fields choose all.
type TransferFilter struct {
	Account                ledger.AccountID // payer or payee
	Owner                  string           // of payer or payee; not looked at when there is an Account
	Reference              string
	State                  ledger.State
	Kind                   ledger.Kind
	CreatedFrom, CreatedTo time.Time // from inclusive, to exclusive
	After                  string    // TransferPage.Next of the page before
	Limit                  int
}

// TransferPage is a part of a list of transfers, the newest first.
type TransferPage struct {
	Transfers []ledger.Transfer
	Next      string // where the next page begins; "" after the last one
}

// ErrPosition is what a page is refused with whose After was not made here.
var ErrPosition = errors.New("not a position in a list of transfers")

// ownedMax is up to how many accounts of an owner a page is merged from a walk along each account. For an owner of more,
// walking the newest transfers of all finds a page soon enough.
const ownedMax = 50

// Transfers reads a page of transfers. Those of an account are found along its journal, which has every transfer inside the
// system once on each side and is there in any case: an index of transfers by account would cost every payment a tenth of
// its time. Those between systems may be pending or voided, without an entry; they are found by an index of their own.
func (q *Queries) Transfers(ctx context.Context, filter TransferFilter) (page TransferPage, err error) {
	switch {
	case filter.Account != 0:
		page, err = q.alongAccounts(ctx, filter, []ledger.AccountID{filter.Account})
	case filter.Owner == "":
		page, err = q.newestTransfers(ctx, filter)
	default:
		page, err = q.transfersOfOwner(ctx, filter)
	}
	if err != nil {
		return TransferPage{}, fmt.Errorf("list transfers: %w", err)
	}
	return page, nil
}

func (q *Queries) transfersOfOwner(ctx context.Context, filter TransferFilter) (TransferPage, error) {
	owned, err := collect(ctx, q.conn, func(rows *sql.Rows) (id ledger.AccountID, err error) {
		err = rows.Scan(&id)
		return id, err
	}, "SELECT id FROM accounts WHERE owner = ? ORDER BY id LIMIT ?", filter.Owner, ownedMax+1)
	switch {
	case err != nil:
		return TransferPage{}, err
	case len(owned) > ownedMax || plainID(filter.After): // the list was begun when there were more
		return q.newestTransfers(ctx, filter)
	}
	return q.alongAccounts(ctx, filter, owned)
}

// newestTransfers walks the transfers from the newest by id, which begins with its time. Its positions are ids.
func (q *Queries) newestTransfers(ctx context.Context, filter TransferFilter) (newest TransferPage, err error) {
	where := filter.conditions()
	if filter.After != "" {
		if !plainID(filter.After) {
			return newest, ErrPosition
		}
		where.and("t.id < ?", filter.After)
	}
	if filter.Owner != "" {
		const owned = "EXISTS (SELECT 1 FROM accounts WHERE accounts.id = t.%s_id AND owner = ?)"
		where.and("("+fmt.Sprintf(owned, "payer")+" OR "+fmt.Sprintf(owned, "payee")+")", filter.Owner, filter.Owner)
	}
	limit := page(filter.Limit)
	newest.Transfers, err = collect(ctx, q.conn, scanTransfer, "SELECT "+listedColumns+" FROM transfers t FORCE INDEX (PRIMARY)"+
		where.text()+" ORDER BY t.id DESC LIMIT ?", append(where.args, limit+1)...)
	if len(newest.Transfers) > limit {
		newest.Transfers = newest.Transfers[:limit]
		newest.Next = string(newest.Transfers[limit-1].ID)
	}
	return newest, err
}

// walk is a way through the transfers of one account, or through those between systems of all of them, the newest first.
type walk struct {
	account ledger.AccountID // 0 is between systems
	steps   []step
	taken   int
}

type step struct {
	ledger.Transfer
	account  ledger.AccountID
	sequence int64
}

// alongAccounts merges the accounts' walks. A position says for each of them how far it went, for the walks have no common
// order that stands still: sequences count commits, and a transfer's id and times are older than its commit.
func (q *Queries) alongAccounts(ctx context.Context, filter TransferFilter, accounts []ledger.AccountID) (TransferPage, error) {
	from, err := parsePositions(filter.After)
	if err != nil {
		return TransferPage{}, err
	}
	if filter.After != "" { // what was opened since has only what is newer than the list
		accounts = slices.DeleteFunc(accounts, func(id ledger.AccountID) bool { return from.sequences[id] == 0 })
	}
	if len(accounts) == 0 {
		return TransferPage{}, nil
	}
	walks, err := q.walks(ctx, filter, accounts, from)
	if err != nil {
		return TransferPage{}, err
	}
	merged := TransferPage{Transfers: merge(walks, page(filter.Limit))}
	if slices.ContainsFunc(walks, func(w walk) bool { return w.taken < len(w.steps) }) {
		merged.Next = from.after(walks).String()
	}
	return merged, nil
}

// walks reads the next steps of all walks, one more of each than the page can need.
func (q *Queries) walks(ctx context.Context, filter TransferFilter, accounts []ledger.AccountID, from positions) ([]walk, error) {
	var branches []string
	var args []any
	more := page(filter.Limit) + 1
	for _, account := range accounts {
		inside, remitted := q.insideOf(filter, account, accounts, from), remittedOf(filter, account, from)
		branches = append(branches, "(SELECT "+listedColumns+", e.account_id, e.sequence FROM entries e FORCE INDEX (PRIMARY) "+
			"STRAIGHT_JOIN transfers t FORCE INDEX (PRIMARY) ON t.id = e.transfer_id"+inside.text()+" ORDER BY e.sequence DESC LIMIT ?)")
		branches = append(branches, "(SELECT "+listedColumns+", 0, 0 FROM remittances r FORCE INDEX (remittances_account) "+
			"STRAIGHT_JOIN transfers t FORCE INDEX (PRIMARY) ON t.id = r.id AND t.payer_system = r.payer_system"+remitted.text()+
			" ORDER BY r.id DESC LIMIT ?)")
		args = slices.Concat(args, inside.args, []any{more}, remitted.args, []any{more})
	}
	query := strings.Join(branches, " UNION ALL ")
	steps, err := collect(ctx, q.conn, scanStep, query, args...)
	if err != nil {
		return nil, err
	}
	walks := []walk{{}}
	for _, account := range accounts {
		walks = append(walks, walk{account: account})
	}
	for _, found := range steps {
		at := 1 + slices.Index(accounts, found.account)
		walks[at].steps = append(walks[at].steps, found)
	}
	for i := range walks { // a union keeps no order
		slices.SortFunc(walks[i].steps, func(a, b step) int {
			return cmp.Or(cmp.Compare(b.sequence, a.sequence), cmp.Compare(b.ID, a.ID))
		})
	}
	return walks, nil
}

// insideOf are an account's transfers inside the system. One between two of the accounts counts on its payer's walk.
func (q *Queries) insideOf(filter TransferFilter, account ledger.AccountID, accounts []ledger.AccountID, from positions) conditions {
	where := filter.conditions()
	where.and("e.account_id = ?", account)
	if below := from.sequences[account]; below > 0 {
		where.and("e.sequence < ?", below)
	}
	where.and("t.payer_system = ?", q.system)
	where.and("(t.kind <> ? OR t.to_number LIKE ?)", ledger.Payment, q.system+"-%")
	if len(accounts) > 1 {
		where.and("(e.amount < 0 OR t.payer_id NOT IN ("+marks(len(accounts))+"))", anys(accounts)...)
	}
	return where
}

// remittedOf are an account's transfers between systems.
func remittedOf(filter TransferFilter, account ledger.AccountID, from positions) conditions {
	where := filter.conditions()
	where.and("r.account_id = ?", account)
	if from.remitted != "" {
		where.and("r.id < ?", from.remitted)
	}
	return where
}

// merge takes the newest of all walks until the page is full.
func merge(walks []walk, limit int) (transfers []ledger.Transfer) {
	for len(transfers) < limit {
		var newest *walk
		for i := range walks {
			if w := &walks[i]; w.taken < len(w.steps) && (newest == nil || newest.next().before(w.next())) {
				newest = w
			}
		}
		if newest == nil {
			return transfers
		}
		transfers = append(transfers, newest.next().Transfer)
		newest.taken++
	}
	return transfers
}

func (w *walk) next() *step { return &w.steps[w.taken] }

func (s *step) before(other *step) bool {
	return cmp.Or(s.CreatedAt.Compare(other.CreatedAt), cmp.Compare(s.ID, other.ID)) < 0
}

// positions say below what each walk goes on.
type positions struct {
	sequences map[ledger.AccountID]int64
	remitted  string // an id between systems, or above all of them
}

// Below the first step there is nothing: a walk that had none ends for this list, whatever comes to it later.
const (
	belowSequence = 1
	belowIDs      = "-"
)

// after is where the walks stand once their taken steps were shown.
func (p positions) after(walks []walk) positions {
	next := positions{sequences: map[ledger.AccountID]int64{}, remitted: p.remitted}
	for i := range walks {
		w := &walks[i]
		switch {
		case w.account == 0 && w.taken > 0:
			next.remitted = string(w.steps[w.taken-1].ID)
		case w.account == 0 && len(w.steps) > 0:
			next.remitted = string(w.steps[0].ID) + "~"
		case w.account == 0:
			next.remitted = belowIDs
		case w.taken > 0:
			next.sequences[w.account] = w.steps[w.taken-1].sequence
		case len(w.steps) > 0:
			next.sequences[w.account] = w.steps[0].sequence + 1
		default:
			next.sequences[w.account] = belowSequence
		}
	}
	return next
}

// String writes "<account>.<sequence>,...:<id>" in base 36, short enough for a cursor of many accounts.
func (p positions) String() string {
	var parts []string
	for account, sequence := range p.sequences {
		parts = append(parts, strconv.FormatInt(int64(account), 36)+"."+strconv.FormatInt(sequence, 36))
	}
	slices.Sort(parts)
	return strings.Join(parts, ",") + ":" + p.remitted
}

func parsePositions(text string) (p positions, err error) {
	if text == "" {
		return p, nil
	}
	list, remitted, whole := strings.Cut(text, ":")
	p = positions{sequences: map[ledger.AccountID]int64{}, remitted: remitted}
	for part := range strings.SplitSeq(list, ",") {
		account, sequence, _ := strings.Cut(part, ".")
		id, bad := strconv.ParseInt(account, 36, 64)
		below, worse := strconv.ParseInt(sequence, 36, 64)
		whole = whole && bad == nil && worse == nil && below > 0
		p.sequences[ledger.AccountID(id)] = below
	}
	if !whole || p.String() != text || len(p.sequences) > ownedMax || !belowID(remitted) {
		return positions{}, ErrPosition
	}
	return p, nil
}

// belowID tells whether a walk between systems can go on below the text.
func belowID(text string) bool {
	return text == belowIDs || plainID(text) || len(text) > 1 && text[len(text)-1] == '~' && plainID(text[:len(text)-1])
}

// plainID tells the positions of newestTransfers from those along accounts.
func plainID(position string) bool { return len(position) == 36 && !strings.Contains(position, ":") }

const listedColumns = `t.id, t.kind, t.state, t.from_number, t.to_number, t.payer_id, t.payee_id, t.amount, t.currency, t.description,
	t.reference, COALESCE(t.hold_id, ''), t.created_at, t.finished_at`

func scanStep(rows *sql.Rows) (s step, err error) {
	s.Transfer, err = scanTransferAnd(rows, &s.account, &s.sequence)
	return s, err
}

// conditions are those that do not depend on accounts.
func (f *TransferFilter) conditions() conditions {
	var where conditions
	where.equal("t.reference", f.Reference)
	where.equal("t.state", string(f.State))
	where.equal("t.kind", string(f.Kind))
	where.between("t.created_at", f.CreatedFrom, f.CreatedTo)
	return where
}
