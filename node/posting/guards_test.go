package posting_test

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
)

// Holds meet no unique key that would notice a lost update: only the row lock keeps two nodes from promising the same
// money twice.
func TestHoldsOfTwoNodesSumToPendingDebit(t *testing.T) {
	t.Parallel()
	const balance, callers, holdsEach = 200, 24, 8 // more is asked for than there is
	w := newWorld(t)
	nodes := []*node{w.open(), w.open()}
	account := nodes[0].funded(balance)
	var accepted [2]atomic.Int64
	var refused atomic.Int64
	var all sync.WaitGroup
	for i, n := range nodes {
		for range callers {
			all.Go(func() {
				for range holdsEach {
					switch r := n.submit(fresh(hold(account, 1, time.Hour))); {
					case r.ok():
						accepted[i].Add(1)
					case r.code() == ledger.InsufficientFunds:
						refused.Add(1)
					default:
						t.Errorf("a hold was neither accepted nor refused: %v", r.code())
					}
				}
			})
		}
	}
	all.Wait()
	sum := accepted[0].Load() + accepted[1].Load()
	t.Logf("accepted %d and %d, refused %d", accepted[0].Load(), accepted[1].Load(), refused.Load())
	if pending := w.pendingDebit(account); sum != pending || sum != balance {
		t.Errorf("accepted holds do not sum to pending_debit: %d accepted, pending_debit %d, balance %d", sum, pending, balance)
	}
	if accepted[0].Load() == 0 || accepted[1].Load() == 0 || refused.Load() == 0 {
		t.Error("the account was not contended: each node should have accepted some, and the last should be refused")
	}
	w.verify()
}

// Two nodes that claim the same keys in opposite orders of arrival would each wait for the other's claim. A claim of a
// third stops both half-way, so that without the order they are sure to meet.
func TestKeysInOppositeOrdersNeverDeadlock(t *testing.T) {
	t.Parallel()
	const rounds, keys = 2, 60
	w := newWorld(t).patient()
	ascending, descending := w.open(), w.open()
	account := w.account(alice)
	ascending.succeed(deposit(account, 1))
	descending.succeed(deposit(account, 1)) // both have their stripes
	replayed := 0
	for range rounds {
		var commands []posting.Command
		for _, key := range sortedByClaim(keys) {
			commands = append(commands, asked(deposit(account, 1), key))
		}
		free := w.claimAway(commands[keys/2].Claim)
		openA, openD := ascending.plugged(), descending.plugged()
		answers := ascending.queue(commands...)
		slices.Reverse(commands)
		answers = append(answers, descending.queue(commands...)...)
		openA()
		openD()
		w.eventually("both nodes wait for a claim", func() bool { return w.waitingFor("INSERT INTO idempotency") == 2 })
		free()
		for _, r := range receive(answers) {
			if !r.ok() {
				t.Errorf("a deposit under a key of both nodes failed: %v", r.code())
			}
			if r.Replayed {
				replayed++
			}
		}
	}
	if again := ascending.metric("failures_total", "again") + descending.metric("failures_total", "again"); again != 0 {
		t.Errorf("claims in opposite orders deadlocked: %v transactions had to be repeated", again)
	}
	if want := rounds * keys; replayed != want || w.posted(account) != int64(want)+2 {
		t.Errorf("%d keys gave %d replays and a balance of %d", want, replayed, w.posted(account))
	}
	w.verify()
}

// claimAway holds a claim in a transaction of its own until free is called, which takes it back.
func (w *world) claimAway(claim *store.Claim) (free func()) {
	w.Helper()
	tx, err := w.setup.Begin(w.context())
	must(w, err)
	store.InsertClaims(tx, []store.ClaimRow{{ID: claim.ID(), Claim: *claim, CommandID: newID(), CreatedAt: w.setup.Now()}})
	_, err = tx.Flush(w.context())
	must(w, err)
	return func() { must(w, tx.Rollback()) }
}

// waitingFor counts the statements on the test's database that have been running for longer than they take: they wait for
// a lock. (The server's own list of waiting transactions is not renewed while it is asked for often.)
func (w *world) waitingFor(statement string) int64 {
	w.Helper()
	return w.number(`SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE DB = ? AND INFO LIKE ? AND TIME_MS > 100`,
		w.database.Name, statement+"%")
}

// sortedByClaim makes keys in the order of their claims.
func sortedByClaim(count int) []string {
	var keys []string
	for range count {
		keys = append(keys, newID())
	}
	id := func(key string) string { return asked(ledger.Pay{}, key).Claim.ID() }
	slices.SortFunc(keys, func(a, b string) int { return cmp.Compare(id(a), id(b)) })
	return keys
}

// Without Redis two nodes may work on one key at once: the claim's row decides whose command it is.
func TestOneKeyOnTwoNodesHasOneEffect(t *testing.T) {
	t.Parallel()
	const rounds = 40
	w := newWorld(t)
	nodes := []*node{w.open(), w.open()}
	account := nodes[0].funded(1_000_000)
	var first [2]int // rounds that each node won
	for range rounds {
		key := newID()
		before := w.posted(account)
		answers := []<-chan result{
			nodes[0].start(asked(deposit(account, 7), key)), nodes[1].start(asked(deposit(account, 7), key)),
		}
		results := receive(answers)
		if effect := w.posted(account) - before; effect != 7 {
			t.Errorf("a key had not one effect: the balance changed by %d, not by 7", effect)
		}
		if !results[0].ok() || string(results[0].Answer.Body) != string(results[1].Answer.Body) {
			t.Errorf("one key has two answers: %v %s, and %s", results[0].err, results[0].Answer.Body, results[1].Answer.Body)
		}
		if results[0].Replayed == results[1].Replayed {
			t.Errorf("replayed: %t and %t; want one of each", results[0].Replayed, results[1].Replayed)
		}
		if results[0].Replayed {
			first[1]++
		} else {
			first[0]++
		}
	}
	t.Logf("rounds won: %v", first)
	w.verify()
}

// A key belongs to one meaning, whichever node is asked.
func TestOneKeyOnTwoNodesHasOneMeaning(t *testing.T) {
	t.Parallel()
	const rounds = 20
	w := newWorld(t)
	nodes := []*node{w.open(), w.open()}
	account := nodes[0].funded(1)
	expected := int64(1)
	for range rounds {
		key := newID()
		results := receive([]<-chan result{
			nodes[0].start(asked(deposit(account, 3), key)), nodes[1].start(asked(deposit(account, 5), key)),
			nodes[0].start(asked(deposit(account, 3), key)),
		})
		winners := 0
		for i, amount := range []int64{3, 5} {
			switch r := results[i]; {
			case r.ok():
				winners++
				expected += amount
			case r.code() != ledger.IdempotencyKeyReused:
				t.Errorf("a second meaning of a key was answered %v", r.code())
			}
		}
		if winners != 1 || results[2].code() != results[0].code() {
			t.Errorf("%d meanings of one key succeeded; the repeat was answered %q, its first %q", winners, results[2].code(), results[0].code())
		}
	}
	if posted := w.posted(account); posted != expected {
		t.Errorf("the balance is %d, the answers say %d", posted, expected)
	}
	w.verify()
}

// An answer that is not to be stored takes its claim with it, in the same commit; the other claims of the batch stay.
func TestNoClaimIsCommittedWithoutItsAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open()
	account := n.funded(100)
	limit := int64(5)
	forbidden := asked(ledger.Amend{Actor: ledger.Actor{Principal: alice}, Number: account, OverdraftLimit: &limit}, "forbidden")
	results := n.combine(
		asked(deposit(account, 10), "stored"), forbidden, asked(transfer(account, w.account(alice), 1000), "refused"),
	)
	for i, want := range []int{201, 403, 422} {
		if status := results[i].Answer.Status; results[i].err != nil || status != want {
			t.Errorf("command %d was answered %d, %v; want %d", i, status, results[i].err, want)
		}
	}
	if rows := w.number("SELECT COUNT(*) FROM idempotency WHERE status IS NULL AND transfer_id IS NULL"); rows != 0 {
		t.Errorf("a claim was committed without its answer: %d rows", rows)
	}
	if rows := w.number("SELECT COUNT(*) FROM idempotency WHERE idem_key = 'forbidden'"); rows != 0 {
		t.Error("an answer that is not stored left its claim behind")
	}
	if rows := w.number("SELECT COUNT(*) FROM idempotency WHERE idem_key IN ('stored', 'refused')"); rows != 2 {
		t.Errorf("%d of the 2 stored answers have their claim", rows)
	}
	if again := n.submit(forbidden); again.Replayed || again.Answer.Status != 403 {
		t.Errorf("the repeat of an answer that was not stored: replayed %t, status %d", again.Replayed, again.Answer.Status)
	}
	if dropped := n.metric("claims_dropped_total"); dropped != 2 {
		t.Errorf("%v claims were dropped, want 2", dropped)
	}
	w.verify()
}

// A batch in which one key was used before is run once more, with the rows of its keys; each command gets its own answer.
func TestABatchWithUsedKeysAnswersEach(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open()
	account, other := n.funded(100), w.account(alice)
	first := n.submit(asked(deposit(account, 10), "used"))
	n.submit(asked(deposit(account, 20), "other meaning"))
	forgotten := asked(transfer(account, other, 1000), "forgotten")
	forgotten.Renderer = unstorable{}
	before := n.metric("commit_seconds")
	results := n.combine(
		fresh(deposit(account, 1)), asked(deposit(account, 10), "used"), asked(deposit(account, 21), "other meaning"),
		asked(transfer(account, other, 1000), "refused"), forgotten, fresh(transfer(account, other, 5)),
	)
	for i, want := range []ledger.Code{"", "", ledger.IdempotencyKeyReused, ledger.InsufficientFunds, ledger.InsufficientFunds, ""} {
		if results[i].code() != want || results[i].Replayed != (i == 1) {
			t.Errorf("command %d was answered %q, replayed %t; want %q", i, results[i].code(), results[i].Replayed, want)
		}
	}
	if string(results[1].Answer.Body) != string(first.Answer.Body) {
		t.Errorf("the answers under one key differ: %s and %s", first.Answer.Body, results[1].Answer.Body)
	}
	if commits := n.metric("commit_seconds") - before - 1; commits != 1 { // the plug has one
		t.Errorf("the batch took %v commits", commits)
	}
	if n.metric("failures_total") != 0 || n.metric("splits_total") != 0 {
		t.Errorf("a used key counts as %v failures and %v splits", n.metric("failures_total"), n.metric("splits_total"))
	}
	if rows := w.number(`SELECT COUNT(*) FROM idempotency WHERE idem_key = 'refused' AND transfer_id IS NULL AND status = 422
		AND body IS NOT NULL`); rows != 1 {
		t.Errorf("a refused payment has %d rows with its answer and no transfer", rows)
	}
	if again := n.submit(asked(transfer(account, other, 1000), "refused")); !again.Replayed || again.Answer.Status != 422 ||
		string(again.Answer.Body) != string(results[3].Answer.Body) {
		t.Errorf("a refusal was answered again with %d %s, replayed %t", again.Answer.Status, again.Answer.Body, again.Replayed)
	}
	if rows := w.number("SELECT COUNT(*) FROM idempotency WHERE idem_key = 'forgotten'"); rows != 0 {
		t.Error("a payment whose answer is not stored left its claim behind")
	}
	if posted := w.posted(account); posted != 126 || w.posted(other) != 5 {
		t.Errorf("the balances are %d and %d, not 126 and 5", posted, w.posted(other))
	}
	w.verify()
}

// unstorable renders success as an answer that nobody may keep.
type unstorable struct{ plain }

func (unstorable) Render(version int, result ledger.Result, refusal *ledger.Error) store.Answer {
	answer := plain{}.Render(version, result, refusal)
	answer.Status = 500
	return answer
}

// Money that moves under a key that forgets it would move again when the client repeats its request.
func TestNoMoneyMovesUnderAClaimThatIsDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open()
	account := n.funded(100)
	command := asked(deposit(account, 10), "once")
	command.Renderer = unstorable{}
	results := n.combine(command, fresh(deposit(account, 1)))
	if code := results[0].code(); code != ledger.Internal {
		t.Errorf("the command whose success cannot be stored was answered %q", code)
	}
	if posted := w.posted(account); posted != 101 || !results[1].ok() {
		t.Errorf("money moved under a claim that was dropped: the balance is %d, not 101", posted)
	}
	if repeat := n.submit(asked(deposit(account, 10), "once")); !repeat.ok() || repeat.Replayed || w.posted(account) != 111 {
		t.Errorf("the repeat: %v, replayed %t, balance %d", repeat.err, repeat.Replayed, w.posted(account))
	}
	w.verify()
}

// A process that was stopped for longer than its lease wakes up as a stranger: its lane's row is another's.
func TestANodeWhoseIDIsTakenOverWritesNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.config.LeaseEvery, w.config.LeaseFor = time.Minute, 5*time.Minute // it is not to be renewed once it was ended
	old := w.open()
	account := old.funded(100)
	w.endLease(old)
	heir := w.open()
	if heir.lease.ID != old.lease.ID {
		t.Fatalf("the second node has id %d, not %d", heir.lease.ID, old.lease.ID)
	}
	heir.succeed(deposit(account, 1))
	late := []<-chan result{old.start(fresh(deposit(account, 10))), old.start(fresh(deposit(account, 10)))}
	for _, r := range receive(late) {
		if r.ok() || w.posted(account) != 101 {
			t.Errorf("a node went on writing after its id was taken over: the balance is %d, not 101", w.posted(account))
		}
	}
	w.await(old.engine.Lost(), "the first node notices")
	if code := old.submit(fresh(deposit(account, 10))).code(); code != ledger.Overloaded {
		t.Errorf("a node that has stopped answers %q", code)
	}
	heir.succeed(deposit(account, 1))
	w.verify()
}

// endLease makes a node's id free for the next one, as time does when the node sleeps.
func (w *world) endLease(n *node) {
	w.Helper()
	w.exec("UPDATE nodes SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE id = ?", n.lease.ID)
}
