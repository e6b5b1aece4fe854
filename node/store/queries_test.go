package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

// fromSource reads on the source.
func fromSource[T any](tb testing.TB, s *store.Store, query func(context.Context, *store.Queries) (T, error)) (found T) {
	tb.Helper()
	_, err := s.Read(testContext(tb), store.Consistency{Source: true}, func(ctx context.Context, q *store.Queries) (err error) {
		found, err = query(ctx, q)
		return err
	})
	must(tb, err)
	return found
}

func entriesPage(filter store.EntryFilter) func(context.Context, *store.Queries) ([]store.EntryRow, error) {
	return func(ctx context.Context, q *store.Queries) ([]store.EntryRow, error) { return q.Entries(ctx, filter) }
}

func TestAccountsReadBackAsTheyWereMade(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	tx := begin(t, b.Store)
	made, err := tx.CreateAccount(testContext(t), ledger.Account{
		Owner: "client:a", Currency: "KRW", Label: "생활비", Status: ledger.Open, OverdraftLimit: 500, Posted: 77, Version: 9,
	})
	must(t, err)
	_, err = tx.Commit(testContext(t))
	must(t, err)
	read := fromSource(t, b.Store, func(ctx context.Context, q *store.Queries) (ledger.Account, error) { return q.Account(ctx, made.ID) })
	if read != made || made.ID < 1000 || made.Posted != 0 || made.Version != 0 {
		t.Errorf("made %+v, read %+v", made, read)
	}
	for _, id := range []ledger.AccountID{made.ID + 1, b.lane.Stripe(ledger.CashSerial, "KRW")} {
		_, err = b.Read(testContext(t), store.Consistency{}, func(ctx context.Context, q *store.Queries) error {
			_, err := q.Account(ctx, id)
			return err
		})
		if !errors.Is(err, store.ErrMiss) {
			t.Errorf("account %d, which is none, said: %v", id, err)
		}
	}
}

func TestAccountsArePagedPerOwner(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	var mine, all []ledger.AccountID
	for i := range 9 {
		owner := []string{"client:a", "client:b", "client:a"}[i%3]
		account := b.account(t, owner)
		all = append(all, account.ID)
		if owner == "client:a" {
			mine = append(mine, account.ID)
		}
	}
	for owner, wanted := range map[string][]ledger.AccountID{"client:a": mine, "": all} {
		var found []ledger.AccountID
		filter := store.AccountFilter{Owner: owner, Limit: 2}
		for {
			page := fromSource(t, b.Store, func(ctx context.Context, q *store.Queries) ([]ledger.Account, error) { return q.Accounts(ctx, filter) })
			for _, account := range page {
				found = append(found, account.ID)
			}
			if len(page) < filter.Limit {
				break
			}
			filter.After = page[len(page)-1].ID
		}
		if !slices.Equal(found, wanted) {
			t.Errorf("pages of %q hold %v, wanted %v", owner, found, wanted)
		}
	}
}

// While pages are read, others go on writing to the account.
func TestPagesOfAStatementMissAndRepeatNothing(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	account := b.account(t, "client:a")
	for range 30 {
		b.deposit(t, account, 10)
	}
	running, stop := context.WithCancel(testContext(t))
	var writers errgroup.Group
	for range 2 {
		writers.Go(func() error {
			for running.Err() == nil {
				_, _, err := b.post(testContext(t), ledger.Pay{
					ID: newID(), Actor: ledger.Actor{Depositor: true}, Kind: ledger.Deposit, From: ledger.Cash,
					To: b.number(account.ID), Amount: ledger.Money{Minor: 1, Currency: "KRW"},
				})
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	for range 10 {
		filter := store.EntryFilter{Account: account.ID, Limit: 7}
		var found []store.EntryRow
		for {
			page := fromSource(t, b.Store, entriesPage(filter))
			found = append(found, page...)
			if len(page) < filter.Limit {
				break
			}
			filter.Before = page[len(page)-1].Sequence
		}
		for i, entry := range found {
			if wanted := found[0].Sequence - int64(i); entry.Sequence != wanted {
				t.Fatalf("line %d of %d has the sequence %d, wanted %d", i, len(found), entry.Sequence, wanted)
			}
		}
		if len(found) < 30 || found[len(found)-1].Sequence != 1 {
			t.Fatalf("the pages hold %d lines and end at sequence %d", len(found), found[len(found)-1].Sequence)
		}
	}
	stop()
	must(t, writers.Wait())
}

func TestStatementsAreFiltered(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	account, other := b.account(t, "client:a"), b.account(t, "client:b")
	first, _ := b.deposit(t, account, 1000, func(p *ledger.Pay) { p.Reference, p.Description = "r1", "월급" })
	paid := b.transfer(t, account, other, 300)
	second, _ := b.deposit(t, account, 50)
	for _, wanted := range []struct {
		name      string
		filter    store.EntryFilter
		transfers []ledger.TransferID
	}{
		{"all", store.EntryFilter{}, []ledger.TransferID{second.ID, paid.ID, first.ID}},
		{"kind", store.EntryFilter{Kind: ledger.Deposit}, []ledger.TransferID{second.ID, first.ID}},
		{"reference", store.EntryFilter{Reference: "r1"}, []ledger.TransferID{first.ID}},
		{"state", store.EntryFilter{State: ledger.Voided}, nil},
		{"from", store.EntryFilter{CreatedFrom: paid.CreatedAt}, []ledger.TransferID{second.ID, paid.ID}},
		{"to", store.EntryFilter{CreatedTo: paid.CreatedAt}, []ledger.TransferID{first.ID}},
		{"limit", store.EntryFilter{Limit: 1}, []ledger.TransferID{second.ID}},
		{"before", store.EntryFilter{Before: 2}, []ledger.TransferID{first.ID}},
	} {
		filter := wanted.filter
		filter.Account = account.ID
		if filter.Limit == 0 {
			filter.Limit = 10
		}
		var found []ledger.TransferID
		for _, entry := range fromSource(t, b.Store, entriesPage(filter)) {
			found = append(found, entry.Transfer)
		}
		if !slices.Equal(found, wanted.transfers) {
			t.Errorf("filter %s found %v, wanted %v", wanted.name, found, wanted.transfers)
		}
	}
	lines := fromSource(t, b.Store, entriesPage(store.EntryFilter{Account: account.ID, Limit: 10}))
	if last := lines[2]; last.Description != "월급" || last.Reference != "r1" || last.BalanceAfter != 1000 || last.Counterparty != ledger.Cash {
		t.Errorf("the first line is %+v", last)
	}
	if lines[1].Amount != -300 || lines[1].BalanceAfter != 700 || lines[1].Counterparty != b.number(other.ID) {
		t.Errorf("the line of the payment is %+v", lines[1])
	}
}

func TestTransfersAreFoundByEitherSide(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	mine, mineToo, hers := b.account(t, "client:a"), b.account(t, "client:a"), b.account(t, "client:b")
	in, _ := b.deposit(t, mine, 1000)
	within := b.transfer(t, mine, mineToo, 1)
	out := b.transfer(t, mine, hers, 2)
	foreign, _ := b.deposit(t, hers, 3, func(p *ledger.Pay) { p.Reference = "r" })
	for _, wanted := range []struct {
		name      string
		filter    store.TransferFilter
		transfers []ledger.TransferID
	}{
		{"all", store.TransferFilter{}, []ledger.TransferID{foreign.ID, out.ID, within.ID, in.ID}},
		{"owner", store.TransferFilter{Owner: "client:a"}, []ledger.TransferID{out.ID, within.ID, in.ID}},
		{"payee", store.TransferFilter{Owner: "client:b"}, []ledger.TransferID{foreign.ID, out.ID}},
		{"nobody", store.TransferFilter{Owner: "client:z"}, nil},
		{"account", store.TransferFilter{Account: mineToo.ID}, []ledger.TransferID{within.ID}},
		{"account, whoever asks", store.TransferFilter{Account: mine.ID, Owner: "client:b"}, []ledger.TransferID{out.ID, within.ID, in.ID}},
		{"reference", store.TransferFilter{Owner: "client:b", Reference: "r"}, []ledger.TransferID{foreign.ID}},
		{"kind", store.TransferFilter{Kind: ledger.Payment}, []ledger.TransferID{out.ID, within.ID}},
		{"state", store.TransferFilter{State: ledger.Pending}, nil},
		{"page", store.TransferFilter{After: string(within.ID)}, []ledger.TransferID{in.ID}},
		{"limit", store.TransferFilter{Owner: "client:a", Limit: 1}, []ledger.TransferID{out.ID}},
		{"time", store.TransferFilter{CreatedFrom: within.CreatedAt, CreatedTo: out.CreatedAt}, []ledger.TransferID{within.ID}},
	} {
		if found := transferIDs(t, b.Store, wanted.filter); !slices.Equal(found, wanted.transfers) {
			t.Errorf("filter %s found %v, wanted %v", wanted.name, found, wanted.transfers)
		}
	}
	read := fromSource(t, b.Store, func(ctx context.Context, q *store.Queries) (ledger.Transfer, error) { return q.Transfer(ctx, out.ID) })
	if read != out {
		t.Errorf("made %+v, read %+v", out, read)
	}
}

func transferIDs(tb testing.TB, s *store.Store, filter store.TransferFilter) []ledger.TransferID {
	tb.Helper()
	if filter.Limit == 0 {
		filter.Limit = 100
	}
	ids, _ := transferPage(tb, s, filter)
	return ids
}

func transferPage(tb testing.TB, s *store.Store, filter store.TransferFilter) (ids []ledger.TransferID, next string) {
	tb.Helper()
	page := fromSource(tb, s, func(ctx context.Context, q *store.Queries) (store.TransferPage, error) {
		return q.Transfers(ctx, filter)
	})
	for _, transfer := range page.Transfers {
		ids = append(ids, transfer.ID)
	}
	return ids, page.Next
}

// allPages reads a list page by page; between two of them something happens.
func allPages(tb testing.TB, s *store.Store, filter store.TransferFilter, between func()) (all []ledger.TransferID) {
	tb.Helper()
	for pages := 0; ; pages++ {
		ids, next := transferPage(tb, s, filter)
		all = append(all, ids...)
		if next == "" {
			return all
		}
		if len(ids) != filter.Limit || pages > 1000 {
			tb.Fatalf("page %d holds %d transfers and says that there are more", pages, len(ids))
		}
		between()
		filter.After = next
	}
}

// An owner of many accounts is served by another plan, which must find the same.
func TestOwnersOfManyAccountsSeeTheSameTransfers(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	stranger := b.account(t, "client:b")
	var wanted []ledger.TransferID
	for range 55 {
		transfer, _ := b.deposit(t, b.account(t, "client:a"), 5)
		b.deposit(t, stranger, 5)
		wanted = append([]ledger.TransferID{transfer.ID}, wanted...)
	}
	found := allPages(t, b.Store, store.TransferFilter{Owner: "client:a", Limit: 30}, func() {})
	if !slices.Equal(found, wanted) {
		t.Errorf("the pages hold %d transfers, wanted %d: %v", len(found), len(wanted), found)
	}
}

// remit writes a transfer to another system as its hold leaves it.
func (b bank) remit(tb testing.TB, from ledger.Account) ledger.TransferID {
	tb.Helper()
	id, now := newID(), time.Now().UTC().Truncate(time.Microsecond)
	tx, err := b.Begin(testContext(tb))
	must(tb, err)
	defer func() { _ = tx.Rollback() }()
	store.InsertRemittances(tx, []ledger.Remittance{{
		ID: id, Payer: b.System(), Payee: "zeta", State: ledger.Pending, PayerEpoch: 1, ExpiresAt: now, CreatedAt: now,
		Transfer: &ledger.Transfer{
			ID: id, Kind: ledger.Payment, State: ledger.Pending, From: b.number(from.ID), To: ledger.NewNumber("zeta", 1000),
			PayerID: from.ID, Amount: ledger.Money{Minor: 1, Currency: "KRW"}, CreatedAt: now,
		},
	}})
	store.InsertEntries(tx, []ledger.Entry{{ // as its pivot does; the list must not show it for that a second time
		Account: from.ID, Sequence: now.UnixMicro(), Transfer: id, Kind: ledger.Payment, Amount: -1, Currency: "KRW",
		Counterparty: ledger.NewNumber("zeta", 1000), CreatedAt: now,
	}})
	_, err = tx.Flush(testContext(tb))
	must(tb, err)
	_, err = tx.Commit(testContext(tb))
	must(tb, err)
	return id
}

// A digest stands for what was not given up, of one direction and one range; whatever of it changes, changes the digest.
func TestADigestStandsForWhatMoves(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	from := b.account(t, "client:a")
	var ids []ledger.TransferID
	for range 5 {
		ids = append(ids, b.remit(t, from))
	}
	digest := func(payer, payee string, after, until ledger.TransferID, limit int) *ledger.Digest {
		return fromSource(t, b.Store, func(ctx context.Context, q *store.Queries) (*ledger.Digest, error) {
			return q.RemittancesDigest(ctx, payer, payee, after, until, limit)
		})
	}
	change := func(what string, args ...any) {
		_, err := b.Source().ExecContext(testContext(t), "UPDATE "+what+" = ? WHERE id = ?", append(args, ids[2])...)
		must(t, err)
	}
	want := ledger.NewDigest()
	for _, id := range ids[1:4] {
		want.Add(id, ledger.Pending, b.number(from.ID), ledger.NewNumber("zeta", 1000), ledger.Money{Minor: 1, Currency: "KRW"})
	}
	if got := digest(b.System(), "zeta", ids[0], ids[3], 10); got.Sum() != want.Sum() || got.Count != 3 || got.Last != ids[3] {
		t.Errorf("of three: %d up to %s", got.Count, got.Last)
	}
	if got := digest(b.System(), "zeta", ids[0], "", 3); got.Sum() != want.Sum() {
		t.Errorf("of the first three behind one: %d up to %s", got.Count, got.Last)
	}
	if all, other, none := digest(b.System(), "zeta", "", "", 10), digest("zeta", b.System(), "", "", 10), digest(b.System(), "eta", "", "", 10); all.Count != 5 || other.Count+none.Count > 0 {
		t.Errorf("of all %d, of others %d and %d", all.Count, other.Count, none.Count)
	}
	for column, value := range map[string]string{"remittances SET state": "posted", "transfers SET amount": "2", "transfers SET currency": "USD", "transfers SET to_number": "zeta-1"} {
		before := digest(b.System(), "zeta", ids[0], ids[3], 10)
		change(column, value)
		if got := digest(b.System(), "zeta", ids[0], ids[3], 10); got.Count != 3 || got.Sum() == before.Sum() {
			t.Errorf("after %s the digest is the same", column)
		}
	}
	change("remittances SET state", ledger.Voided)
	if got := digest(b.System(), "zeta", ids[0], ids[3], 10); got.Count != 2 {
		t.Errorf("with one given up it is of %d", got.Count)
	}
}

// A list that is merged from several accounts, with transfers between them and to another system, misses and repeats
// nothing, however its pages are cut and whatever comes meanwhile.
func TestPagesOfSeveralAccountsMissAndRepeatNothing(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	accounts := []ledger.Account{b.account(t, "client:a"), b.account(t, "client:a"), b.account(t, "client:a"), b.account(t, "client:a")}
	hers := b.account(t, "client:b")
	var wanted []ledger.TransferID
	for i := range 8 {
		busy, quiet := accounts[i%2], accounts[2]
		in, _ := b.deposit(t, busy, 1000)
		made := []ledger.TransferID{in.ID, b.transfer(t, busy, accounts[1-i%2], 1).ID, b.remit(t, busy), b.transfer(t, busy, hers, 1).ID}
		if i == 1 {
			made = append(made, b.transfer(t, busy, quiet, 1).ID) // the fourth account never has any
		}
		for _, id := range made {
			wanted = append([]ledger.TransferID{id}, wanted...)
		}
	}
	later := func() {
		for _, account := range accounts {
			b.deposit(t, account, 1)
			b.remit(t, account)
		}
	}
	for _, limit := range []int{1, 2, 3, 7, 100} {
		if found := allPages(t, b.Store, store.TransferFilter{Owner: "client:a", Limit: limit}, func() {}); !slices.Equal(found, wanted) {
			t.Errorf("pages of %d: %v, wanted %v", limit, found, wanted)
		}
	}
	if found := allPages(t, b.Store, store.TransferFilter{Owner: "client:a", Limit: 5}, later); !slices.Equal(found, wanted) {
		t.Errorf("while transfers come: %v, wanted %v", found, wanted)
	}
	pending := allPages(t, b.Store, store.TransferFilter{Account: accounts[0].ID, State: ledger.Pending, Limit: 2, CreatedTo: time.Now().Add(time.Hour)}, func() {})
	if len(pending) != 4+6 { // of the rounds, and of the six times between two pages
		t.Errorf("%d pending transfers of an account: %v", len(pending), pending)
	}
	for _, position := range []string{"x", "1.1", "1.1:", ":", "1.0:-", "1.1,1.1:-", "z.z,1.1:-", "1.1:-:"} {
		_, err := b.Read(testContext(t), store.Consistency{}, func(ctx context.Context, q *store.Queries) error {
			_, err := q.Transfers(ctx, store.TransferFilter{Owner: "client:a", After: position, Limit: 1})
			return err
		})
		if !errors.Is(err, store.ErrPosition) {
			t.Errorf("position %q: %v", position, err)
		}
	}
}

func TestHoldsReadBackAsTheyWereMade(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	account := b.account(t, "client:a")
	b.deposit(t, account, 1000)
	result, _, err := b.post(testContext(t), ledger.HoldFunds{
		ID: ledger.HoldID(newID()), Actor: ledger.Actor{Principal: "client:a"}, Account: b.number(account.ID),
		Amount: ledger.Money{Minor: 400, Currency: "KRW"}, ExpiresIn: time.Hour,
	})
	must(t, err)
	read := fromSource(t, b.Store, func(ctx context.Context, q *store.Queries) (ledger.Hold, error) { return q.Hold(ctx, result.Hold.ID) })
	if read != *result.Hold {
		t.Errorf("made %+v, read %+v", *result.Hold, read)
	}
	_, err = b.Read(testContext(t), store.Consistency{}, func(ctx context.Context, q *store.Queries) error {
		_, err := q.Hold(ctx, "none")
		return err
	})
	if !errors.Is(err, store.ErrMiss) {
		t.Errorf("a hold that is not there said: %v", err)
	}
}

func TestTheTrialBalanceNamesWhatIsOff(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	balance := func() store.CurrencyBalance {
		lines := fromSource(t, b.Store, func(ctx context.Context, q *store.Queries) ([]store.CurrencyBalance, error) {
			return q.TrialBalance(ctx)
		})
		if len(lines) != 1 || lines[0].Currency != "KRW" {
			t.Fatalf("the trial balance is %+v", lines)
		}
		return lines[0]
	}
	account := b.account(t, "client:a")
	b.deposit(t, account, 1000)
	if line := balance(); !line.Balanced() {
		t.Errorf("after a deposit the trial balance is %+v", line)
	}
	for _, breach := range []string{
		"UPDATE accounts SET posted = posted + 1 WHERE id = %d",
		"UPDATE entries SET amount = amount + 1 WHERE account_id = %d",
	} {
		_, err := b.Source().Exec(fmt.Sprintf(breach, account.ID))
		must(t, err)
		if line := balance(); line.Balanced() {
			t.Errorf("after %q the trial balance is %+v", breach, line)
		}
	}
	// Sums beyond int64 must not fail.
	_, err := b.Source().Exec(`INSERT INTO entries SELECT account_id, sequence + n, transfer_id, kind, 9000000000000000000, currency,
		0, counterparty, created_at FROM entries, (SELECT 1 AS n UNION SELECT 2 UNION SELECT 3) numbers WHERE account_id = ?`, account.ID)
	must(t, err)
	if line := balance(); line.Entries.IsInt64() {
		t.Errorf("the sum of three times 9*10^18 is %v", line.Entries)
	}
}
