package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
	"lockstep/saga"
)

// begun is a remittance that somebody looks after so long after its beginning.
func begun(tb testing.TB, s *store.Store, number int, payer, payee string, after time.Duration) ledger.Remittance {
	tb.Helper()
	now := s.Now().Truncate(time.Microsecond)
	id := ledger.TransferID(fmt.Sprintf("0197a0b2-0000-7000-8000-%012d", number))
	r := ledger.Remittance{
		ID: id, Payer: payer, Payee: payee, State: ledger.Pending, PayerEpoch: 1, ExpiresAt: now, CreatedAt: now,
		Transfer: &ledger.Transfer{
			ID: id, Kind: ledger.Payment, State: ledger.Pending, From: ledger.NewNumber(payer, 1000), To: ledger.NewNumber(payee, 1000),
			Amount: ledger.Money{Minor: 1, Currency: "KRW"}, CreatedAt: now,
		},
	}
	write(tb, s, func(tx *store.Tx) {
		store.InsertRemittances(tx, []ledger.Remittance{r}, ledger.SagaStart{ID: id, After: after})
	})
	return r
}

// write commits what is queued.
func write(tb testing.TB, s *store.Store, queue func(tx *store.Tx)) {
	tb.Helper()
	tx, err := s.Begin(testContext(tb))
	must(tb, err)
	defer tx.Rollback()
	queue(tx)
	_, err = tx.Flush(testContext(tb))
	must(tb, err)
	_, err = tx.Commit(testContext(tb))
	must(tb, err)
}

// sagasOf lists the sagas that have a row, and the remittances that wait for one.
func sagasOf(tb testing.TB, s *store.Store) (rows string) {
	tb.Helper()
	must(tb, s.Source().QueryRowContext(testContext(tb), `SELECT COALESCE(GROUP_CONCAT(text ORDER BY text SEPARATOR ' '), '') FROM
		(SELECT CONCAT(kind, RIGHT(id, 1)) AS text FROM sagas WHERE state = 'running'
		UNION ALL SELECT CONCAT('open', RIGHT(id, 1)) FROM remittances WHERE state = 'pending' AND (look_at IS NULL) <> (room IS NULL)) AS both_of`).Scan(&rows))
	return rows
}

// A saga has a row once somebody has to look after it, of its side's kind, and not before.
func TestASagaIsLoggedWhenItIsDue(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	own := s.System()
	begun(t, s, 1, own, "beta", 0)
	begun(t, s, 2, "beta", own, 0)
	late := begun(t, s, 3, own, "beta", time.Hour)
	begun(t, s, 4, own, "beta", time.Hour)
	wanted := func(what, want string) {
		t.Helper()
		if got := sagasOf(t, s); got != want {
			t.Errorf("%s: %s, not %s", what, got, want)
		}
	}
	wanted("before", "open1 open2 open3 open4")
	for want := 2; want >= 0; want -= 2 {
		if n, err := s.LogDueSagas(testContext(t), 10); err != nil || n != want {
			t.Fatalf("%d sagas were due, %v", n, err)
		}
	}
	wanted("what is due", "await2 open3 open4 remit1")
	if n, err := s.LogSaga(testContext(t), string(late.ID)); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	wanted("the one that was asked for", "await2 open4 remit1 remit3")
	if count, oldest, err := s.CountOpen(testContext(t)); err != nil || count != 1 || oldest <= 0 {
		t.Errorf("%d are open, the oldest for %s, %v", count, oldest, err)
	}
	if n, err := s.LogOpenSagas(testContext(t), 10); err != nil || n != 1 {
		t.Fatalf("%d, %v", n, err)
	}
	wanted("all", "await2 remit1 remit3 remit4")
	var waits bool
	must(t, s.Source().QueryRowContext(testContext(t), "SELECT next_at > UTC_TIMESTAMP(6) + INTERVAL 50 MINUTE FROM sagas WHERE id = ?", late.ID).Scan(&waits))
	if !waits {
		t.Error("who asks for a saga makes it due")
	}
}

// Whoever ends a remittance and whoever logs its saga meet at its row: the saga ends with the remittance, in either order.
func TestASagaIsNotLoggedBehindTheBackOfItsEnd(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	r := begun(t, s, 1, s.System(), "beta", 0)
	ctx := testContext(t)
	tx, err := s.Begin(ctx)
	must(t, err)
	defer tx.Rollback()
	remotes, err := store.LockRemotes(ctx, tx, nil, []ledger.TransferID{r.ID}, nil)
	if err != nil || remotes.Logged[r.ID] || len(remotes.Remittances) != 1 {
		t.Fatalf("locked %+v, %v", remotes, err)
	}
	if n, err := s.LogDueSagas(ctx, 10); err != nil || n != 0 {
		t.Fatalf("%d sagas were logged whose remittance is in hand, %v", n, err)
	}
	end(tx, r)
	_, err = tx.Flush(ctx)
	must(t, err)
	_, err = tx.Commit(ctx)
	must(t, err)
	if n, err := s.LogDueSagas(ctx, 10); err != nil || n != 0 || sagasOf(t, s) != "" {
		t.Errorf("%d sagas were logged whose remittance has ended, %v: %s", n, err, sagasOf(t, s))
	}

	second := begun(t, s, 2, s.System(), "beta", 0)
	logged, err := s.LogDueSagas(ctx, 10)
	if err != nil || logged != 1 {
		t.Fatalf("%d, %v", logged, err)
	}
	write(t, s, func(tx *store.Tx) {
		remotes, err := store.LockRemotes(ctx, tx, nil, []ledger.TransferID{second.ID}, nil)
		if err != nil || !remotes.Logged[second.ID] {
			t.Errorf("locked %+v, %v", remotes, err)
		}
		end(tx, second)
	})
	if got := sagasOf(t, s); got != "" {
		t.Errorf("after the end there is %s", got)
	}
}

// end is how a decision writes its rows.
func end(tx *store.Tx, r ledger.Remittance) {
	moved := *r.Transfer
	r.State, r.FinishedAt, moved.State, moved.FinishedAt, r.Transfer = ledger.Posted, r.CreatedAt, ledger.Posted, r.CreatedAt, &moved
	store.UpdateRemittances(tx, []ledger.Remittance{r})
	finish := saga.Finish(string(r.ID))
	tx.Queue(finish.Query, finish.Args...)
}

// What a batch decides is written by one list of ids for each way of ending; each row gets its own.
func TestEndsOfRemittancesAreWrittenToTheirOwnRows(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	own := s.System()
	payer, payee := ledger.Lane{Node: 1}.Stripe(10, "KRW"), ledger.Lane{Node: 1}.Stripe(ledger.SuspenseSerial, "KRW")
	var ended []ledger.Remittance
	for i := range 6 {
		r := begun(t, s, i, own, "beta", time.Hour)
		r.FinishedAt = r.CreatedAt.Add(time.Duration(i%2) * time.Second)
		switch r.Transfer.PayerID, r.Transfer.PayeeID = 0, payee; i {
		case 0, 1, 2:
			r.State, r.PayeeEpoch = ledger.Posted, 7
		case 3:
			r.State, r.Failure = ledger.Voided, ledger.PeerRefused
		case 4:
			r.State, r.CreditedAt = ledger.Posted, r.FinishedAt.Add(time.Second)
		case 5:
			r.State, r.Statement, r.Transfer.PayerID = ledger.Posted, "signed", payer
		}
		r.Transfer.State, r.Transfer.FinishedAt = r.State, r.FinishedAt
		ended = append(ended, r)
	}
	write(t, s, func(tx *store.Tx) { store.UpdateRemittances(tx, ended) })
	for i := range 2 {
		ended[i].CreditedAt = ended[i].FinishedAt.Add(time.Duration(i+1) * time.Second)
	}
	write(t, s, func(tx *store.Tx) { store.NoteCredits(tx, ended[:2]) })
	_, err := s.Read(testContext(t), store.Consistency{Source: true}, func(ctx context.Context, q *store.Queries) error {
		var ids []ledger.TransferID
		for _, r := range ended {
			ids = append(ids, r.ID)
		}
		found, err := q.Remittances(ctx, ids)
		for _, want := range ended {
			got := found[want.ID]
			if fmt.Sprintf("%+v", *got.Transfer) != fmt.Sprintf("%+v", *want.Transfer) {
				t.Errorf("the transfer is %+v, not %+v", *got.Transfer, *want.Transfer)
			}
			got.Transfer, want.Transfer = nil, nil
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Errorf("the remittance is %+v, not %+v", got, want)
			}
		}
		last, err2 := q.EndedRemittances(ctx, 2)
		if err2 != nil || len(last) != 2 || last[0].ID != ended[5].ID {
			t.Errorf("the last that ended are %v, %v", last, err2)
		}
		return err
	})
	must(t, err)
	if got := sagasOf(t, s); got != "" {
		t.Errorf("after the end there is %s", got)
	}
}

// A row that grows has to move: it is as long from its beginning as it will be at its end.
func TestRowsOfATransferBetweenSystemsDoNotGrow(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	own := s.System()
	stripes := [2]ledger.AccountID{ledger.Lane{Node: 1}.Stripe(10, "KRW"), ledger.Lane{Node: 1}.Stripe(11, "KRW")}
	bytes := func(id ledger.TransferID) (remittance, transfer int) {
		t.Helper()
		must(t, s.Source().QueryRowContext(testContext(t), `SELECT LENGTH(r.state) + LENGTH(r.failure) + LENGTH(COALESCE(r.room, '')) +
			8 * ((r.finished_at IS NOT NULL) + (r.credited_at IS NOT NULL) + (r.look_at IS NOT NULL)) + LENGTH(COALESCE(r.statement, '')),
			LENGTH(t.state) + LENGTH(COALESCE(t.room, '')) + 8 * ((t.finished_at IS NOT NULL) + (t.payer_id IS NOT NULL) + (t.payee_id IS NOT NULL))
			FROM remittances r JOIN transfers t ON t.id = r.id WHERE r.id = ?`, id).Scan(&remittance, &transfer))
		return remittance, transfer
	}
	for i, systems := range [][2]string{{own, "beta"}, {"beta", own}, {own, "beta"}} {
		r := begun(t, s, i, systems[0], systems[1], time.Hour)
		before, moved := bytes(r.ID)
		r.State, r.FinishedAt = ledger.Posted, r.CreatedAt
		switch i {
		case 0:
			r.Transfer.PayeeID = stripes[0]
		case 1:
			r.Transfer.PayerID, r.Statement = stripes[0], "signed"
		case 2:
			r.State, r.Failure = ledger.Voided, ledger.PeerUnavailable
		}
		r.Transfer.State, r.Transfer.FinishedAt = r.State, r.FinishedAt
		write(t, s, func(tx *store.Tx) { store.UpdateRemittances(tx, []ledger.Remittance{r}) })
		ended, movedEnd := bytes(r.ID)
		if i == 0 {
			r.CreditedAt = r.FinishedAt
			write(t, s, func(tx *store.Tx) { store.NoteCredits(tx, []ledger.Remittance{r}) })
		}
		if credited, _ := bytes(r.ID); ended > before || credited > ended || movedEnd > moved {
			t.Errorf("case %d: the remittance has grown from %d to %d to %d bytes, the transfer from %d to %d", i, before, ended, credited, moved, movedEnd)
		}
	}
}

// What began in one batch and is due at once is looked after by one row; what is in somebody's hands keeps its look.
func TestALookStaysForWhatIsInHand(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	var list []ledger.Remittance
	var starts []ledger.SagaStart
	now := s.Now().Truncate(time.Microsecond)
	for i := range 24 {
		id := ledger.TransferID(fmt.Sprintf("0197a0b2-0000-7000-8000-%012d", i))
		if i%8 == 7 { // of a peer that makes others
			id = ledger.TransferID(fmt.Sprintf("%08d-0000-4000-8000-000000000000", i))
		}
		list = append(list, ledger.Remittance{ID: id, Payer: "beta", Payee: s.System(), State: ledger.Pending, PayerEpoch: 1, ExpiresAt: now, CreatedAt: now})
		starts = append(starts, ledger.SagaStart{ID: id})
	}
	write(t, s, func(tx *store.Tx) { store.InsertRemittances(tx, list, starts...) })
	count := func(query string) (n int) {
		t.Helper()
		must(t, s.Source().QueryRowContext(testContext(t), query).Scan(&n))
		return n
	}
	if n := count("SELECT COUNT(*) FROM remittance_looks"); n != 1 {
		t.Errorf("what began together has %d looks", n)
	}
	if open, _, err := s.CountOpen(testContext(t)); err != nil || open != len(list) {
		t.Errorf("%d are open, %v", open, err)
	}
	tx, err := s.Begin(testContext(t))
	must(t, err)
	defer tx.Rollback()
	_, err = store.LockRemotes(testContext(t), tx, nil, []ledger.TransferID{list[3].ID, list[5].ID}, nil)
	must(t, err)
	for i, step := range []struct{ limit, want int }{{10, 8}, {100, 14}, {100, 0}} {
		if n, err := s.LogDueSagas(testContext(t), step.limit); err != nil || n != step.want {
			t.Errorf("look %d: %d were due, not %d, %v", i, n, step.want, err)
		}
	}
	if open, _, err := s.CountOpen(testContext(t)); err != nil || open != 2 {
		t.Errorf("%d are open while two are in hand, %v", open, err)
	}
	must(t, tx.Rollback())
	if n, err := s.LogDueSagas(testContext(t), 100); err != nil || n != 2 || count("SELECT COUNT(*) FROM remittance_looks") != 0 {
		t.Errorf("of those that are free again %d were due, %v", n, err)
	}
	if n := count("SELECT COUNT(*) FROM sagas WHERE state = 'running' AND kind = 'await'"); n != len(list) {
		t.Errorf("%d sagas run", n)
	}
}
