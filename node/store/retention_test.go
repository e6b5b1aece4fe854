package store_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/node/store"
	"lockstep/node/store/storetest"
	"lockstep/node/verify"
)

const day = 24 * time.Hour

// keep is the retention that the tests mean by old.
var keep = store.DefaultRetention().Keep

// aged claims keys that a client used so long ago.
func aged(tb testing.TB, s *store.Store, age time.Duration, rows ...store.ClaimRow) {
	tb.Helper()
	for i := range rows {
		rows[i].CreatedAt = s.Now().Add(-age)
	}
	must(tb, claimAll(testContext(tb), s, rows))
}

func keysNamed(s *store.Store, pattern string, count int) []store.ClaimRow {
	rows := make([]store.ClaimRow, count)
	for i := range rows {
		rows[i] = claimRow(s, claim(fmt.Sprintf(pattern, i), "body"))
	}
	return rows
}

// there tells which of the keys have a row.
func there(tb testing.TB, s *store.Store, rows []store.ClaimRow) (found []store.ClaimRow) {
	tb.Helper()
	for _, row := range rows {
		var count int
		must(tb, s.Source().QueryRowContext(testContext(tb), "SELECT COUNT(*) FROM idempotency WHERE claim = ?", row.ID).Scan(&count))
		if count == 1 {
			found = append(found, row)
		}
	}
	return found
}

// passes lets the cleaner go through the whole table, in so many parts, and tells what it deleted in each transaction. An
// old key that goes, is put back and goes again shows that a pass is complete, wherever it began.
func passes(tb testing.TB, s *store.Store, parts int) (deletes []int) {
	tb.Helper()
	ctx, cancel := context.WithCancel(testContext(tb))
	retention := store.Retention{Keep: keep, Pass: time.Duration(parts) * time.Millisecond, Every: time.Millisecond}
	var running sync.WaitGroup
	defer running.Wait() // deletes are the cleaner's until then
	defer cancel()
	running.Go(func() {
		s.CleanKeys(ctx, retention, func(keys int) { deletes = append(deletes, keys) })
	})
	mark := keysNamed(s, "mark %d", 1)
	for range 2 {
		aged(tb, s, keep+day, mark...)
		within(tb, 20*time.Second, "the cleaner deletes a key that is too old", func() bool { return len(there(tb, s, mark)) == 0 })
	}
	return deletes
}

func sum(numbers []int) (total int) {
	for _, number := range numbers {
		total += number
	}
	return total
}

// A key has its answer for 30 days, to the minute; then it is a new request's. The books do not miss it.
func TestAKeyIsNewAgainOnThe31stDay(t *testing.T) {
	t.Parallel()
	config, database := storetest.Database(t)
	b := newBank(t, storetest.OpenWith(t, config))
	var runs atomic.Int32
	once := func(key string) (replayed bool) {
		_, replayed, _, err := b.Once(testContext(t), claim(key, "body"), opening("client:a", &runs))
		must(t, err)
		return replayed
	}
	once("young")
	once("old")
	payment, _ := b.deposit(t, b.account(t, "client:a"), 1000)
	paid := keysNamed(b.Store, "paid %d", 1)
	paid[0].TransferID, paid[0].Renderer = string(payment.ID), 1
	aged(t, b.Store, keep, paid...)
	tx := begin(t, b.Store)
	must(t, store.AnswerClaims(testContext(t), tx, paid))
	must(t, flush(testContext(t), tx))
	for key, age := range map[string]time.Duration{"young": keep - time.Minute, "old": keep + time.Minute} {
		row := claim(key, "body")
		exec(t, tx, "UPDATE idempotency SET created_at = UTC_TIMESTAMP(6) - INTERVAL ? SECOND WHERE claim = ?", int(age.Seconds()), row.ID())
	}
	exec(t, tx, "UPDATE transfers SET created_at = created_at - INTERVAL 31 DAY, finished_at = finished_at - INTERVAL 31 DAY")
	exec(t, tx, "UPDATE entries SET created_at = created_at - INTERVAL 31 DAY")
	_, err := tx.Commit(testContext(t))
	must(t, err)
	sound(t, database.Source, "before the cleaning")

	if deleted := sum(passes(t, b.Store, 5)) - 2; deleted != 2 {
		t.Errorf("%d keys were deleted, wanted the two that are older than %s", deleted, keep)
	}
	sound(t, database.Source, "after the cleaning")
	if len(there(t, b.Store, paid)) != 0 {
		t.Error("the key of a payment of 31 days ago is still there")
	}
	if !once("young") {
		t.Error("a key was forgotten before its 30 days were over")
	}
	if once("old") || runs.Load() != 3 {
		t.Errorf("a key is not new on its 31st day: its work ran %d times in all", runs.Load())
	}
	if !once("old") {
		t.Error("a key that was used again is not kept")
	}
}

// sound fails when an invariant of the books does not hold.
func sound(tb testing.TB, dsn, when string) {
	tb.Helper()
	report, err := verify.Run(testContext(tb), dsn, nil)
	must(tb, err)
	if !report.OK() || report.Transfers == 0 {
		tb.Errorf("%s the books of %d transfers have the breaches %+v", when, report.Transfers, report.Breaches)
	}
}

// The whole table is passed, whatever the parts, and in small deletes.
func TestAllOldKeysGoInSmallDeletes(t *testing.T) {
	t.Parallel()
	for _, parts := range []int{1, 7} {
		t.Run(fmt.Sprint(parts), func(t *testing.T) {
			t.Parallel()
			s := storetest.Open(t)
			old, young := keysNamed(s, "old %d", 1100), keysNamed(s, "young %d", 100)
			aged(t, s, keep+time.Minute, old...)
			aged(t, s, keep-time.Minute, young...)
			deletes := passes(t, s, parts)
			if total := sum(deletes) - 2; total != len(old) {
				t.Errorf("%d keys were deleted, %d are old", total, len(old))
			}
			for _, keys := range deletes {
				if keys > 200 {
					t.Errorf("one transaction deleted %d keys", keys)
				}
			}
			var left int
			must(t, s.Source().QueryRow("SELECT COUNT(*) FROM idempotency").Scan(&left))
			if left != len(young) {
				t.Errorf("%d keys are left, %d are young", left, len(young))
			}
		})
	}
}

// A request that has keys in hand, an old one and a new one, neither delays the cleaner nor loses its keys.
func TestTheCleanerWaitsForNobody(t *testing.T) {
	t.Parallel()
	config := storetest.Config(t)
	config.IdleTransactionMax = 30 * time.Second // longer than the cleaner is given
	s := storetest.OpenWith(t, config)
	old, fresh := keysNamed(s, "old %d", 12), keysNamed(s, "fresh %d", 12)
	aged(t, s, keep+day, old...)
	inHand := old[:4]
	holder := begin(t, s)
	must(t, propose(testContext(t), holder, inHand...)) // a repeat
	for i := range fresh {
		fresh[i].CreatedAt = s.Now().Add(-keep - day) // age alone does not make a key in hand deletable
	}
	must(t, propose(testContext(t), holder, fresh...))
	if deleted := sum(passes(t, s, 1)) - 2; deleted != len(old)-len(inHand) {
		t.Errorf("beside a request with keys in hand %d old keys were deleted, wanted %d", deleted, len(old)-len(inHand))
	}
	_, err := holder.Commit(testContext(t))
	must(t, err)
	if kept := len(there(t, s, inHand)) + len(there(t, s, fresh)); kept != len(inHand)+len(fresh) {
		t.Errorf("of the keys in hand %d are left of %d", kept, len(inHand)+len(fresh))
	}
	if deleted := sum(passes(t, s, 1)) - 2; deleted != len(inHand)+len(fresh) {
		t.Errorf("the next pass deleted %d keys, wanted the %d that were in hand", deleted, len(inHand)+len(fresh))
	}
}

// Between the look at a claim and its deletion another node may have cleaned it, and a client made it again.
func TestAKeyThatWasMadeAgainIsKept(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	old, young := keysNamed(s, "old %d", 3), keysNamed(s, "again %d", 3)
	aged(t, s, keep+time.Second, old...)
	aged(t, s, keep-time.Minute, young...)
	var ids []string
	for _, row := range append(old, young...) {
		ids = append(ids, row.ID)
	}
	tx := begin(t, s)
	deleted, err := store.DeleteOldClaims(testContext(t), tx, keep, ids)
	must(t, err)
	_, err = tx.Commit(testContext(t))
	must(t, err)
	if kept := len(there(t, s, young)); kept != len(young) || deleted != len(old) {
		t.Errorf("%d keys were deleted that were made again since they were looked at; %d deleted in all", len(young)-kept, deleted)
	}
	tx = begin(t, s)
	deleted, err = store.DeleteOldClaims(testContext(t), tx, keep, ids)
	if err != nil || deleted != 0 {
		t.Errorf("where nothing is old %d keys were deleted: %v", deleted, err)
	}
}

// The 30 days begin with the final answer, which a transfer may have long after its key.
func TestAKeyIsKeptUntilItsTransferIsLongFinal(t *testing.T) {
	t.Parallel()
	b := newBank(t, storetest.Open(t))
	account := b.account(t, "client:a")
	changes := []string{ // of the transfer behind each key
		"finished_at = NULL, state = 'pending'",
		"finished_at = UTC_TIMESTAMP(6) - INTERVAL 29 DAY",
		"finished_at = UTC_TIMESTAMP(6) - INTERVAL 31 DAY",
	}
	rows := keysNamed(b.Store, "key %d", len(changes))
	for i, change := range changes {
		transfer, _ := b.deposit(t, account, 1000)
		rows[i].TransferID, rows[i].Renderer = string(transfer.ID), 1
		_, err := b.Source().ExecContext(testContext(t), "UPDATE transfers SET "+change+" WHERE id = ?", transfer.ID)
		must(t, err)
	}
	aged(t, b.Store, keep+day, rows...)
	tx := begin(t, b.Store)
	must(t, store.AnswerClaims(testContext(t), tx, rows))
	must(t, flush(testContext(t), tx))
	_, err := tx.Commit(testContext(t))
	must(t, err)
	passes(t, b.Store, 1)
	var left []string
	for _, row := range there(t, b.Store, rows) {
		left = append(left, row.Claim.Key)
	}
	if got := strings.Join(left, ", "); got != "key 0, key 1" {
		t.Errorf("left are %q; wanted the keys of the pending transfer and of the one that became final 29 days ago", got)
	}
	var transfers sql.NullInt64
	must(t, b.Source().QueryRow("SELECT COUNT(*) FROM transfers").Scan(&transfers))
	if transfers.Int64 != int64(len(changes)) {
		t.Errorf("%d transfers are left of %d", transfers.Int64, len(changes))
	}
}

func TestRetentionsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*store.Retention){
		"less than a day":   func(r *store.Retention) { r.Keep = day - time.Second },
		"parts of a second": func(r *store.Retention) { r.Keep += time.Millisecond },
		"no pause":          func(r *store.Retention) { r.Every = 0 },
		"less than a part":  func(r *store.Retention) { r.Pass = r.Every - 1 },
	} {
		retention := store.DefaultRetention()
		must(t, retention.Validate())
		change(&retention)
		if retention.Validate() == nil {
			t.Errorf("a retention of %s was accepted", name)
		}
	}
	if r := store.DefaultRetention(); r.Keep != 30*day || r.Pass > day {
		t.Errorf("the default keeps keys for %s and passes them in %s", r.Keep, r.Pass)
	}
}
