package posting_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/cluster/local/servers"
	"lockstep/node/ledger"
	"lockstep/node/posting"
)

// What waits when its caller's deadline comes is given up: the caller may say so for certain.
func TestACallerWhoseDeadlinePassesInTheQueueWasNotApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open()
	account := n.funded(100)
	open := n.plugged()
	command := asked(deposit(account, 10), "late")
	given := n.within(20*time.Millisecond, command)
	open()
	if given.code() != ledger.Overloaded {
		t.Errorf("a caller whose deadline passed in the queue heard %q", given.code())
	}
	n.succeed(deposit(account, 1)) // the lane has passed the place
	if posted := w.posted(account); posted != 101 {
		t.Errorf("a command that was given up was applied: the balance is %d, not 101", posted)
	}
	if again := n.submit(command); !again.ok() || again.Replayed {
		t.Errorf("its key is not free: %v, replayed %t", again.err, again.Replayed)
	}
	w.verify()
}

// Between the two questions that a caller asks at its deadline, a lane may give the command back: it must not wait on.
func TestACallerLeavesWhateverTheLaneDoes(t *testing.T) {
	t.Parallel()
	if stayed := posting.LeaveWhileHanded(5_000); stayed != 0 {
		t.Errorf("%d callers of 5000 went on waiting after their deadline", stayed)
	}
}

func TestAFullQueueRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open(func(o *options) { o.engine.QueueMax = 2 })
	account := n.funded(100)
	open := n.plugged()
	waiting := n.queue(fresh(deposit(account, 10)), fresh(deposit(account, 10)))
	if code := n.submit(fresh(deposit(account, 10))).code(); code != ledger.Overloaded {
		t.Errorf("a full queue answered %q", code)
	}
	open()
	for _, r := range receive(waiting) {
		if !r.ok() {
			t.Errorf("a command that waited: %v", r.err)
		}
	}
	if posted := w.posted(account); posted != 120 {
		t.Errorf("the balance is %d, not 120", posted)
	}
}

// Close answers what waits, and refuses what comes.
func TestCloseFinishesWhatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open()
	account := n.funded(100)
	open := n.plugged()
	waiting := n.queue(fresh(deposit(account, 10)), fresh(deposit(account, 10)), fresh(deposit(account, 10)))
	closed := make(chan error, 1)
	go func() { closed <- n.engine.Close(w.context()) }()
	n.eventually("the engine refuses", func() bool {
		refusal := n.within(time.Millisecond, fresh(deposit(account, 1000))).err
		return refusal != nil && strings.Contains(refusal.Error(), "takes no more requests")
	})
	open()
	must(t, <-closed)
	for _, r := range receive(waiting) {
		if !r.ok() {
			t.Errorf("a command that waited at Close: %v", r.err)
		}
	}
	if posted := w.posted(account); posted != 130 {
		t.Errorf("the balance is %d, not 130", posted)
	}
	must(t, n.engine.Close(w.context())) // again
	if code := n.submit(fresh(deposit(account, 10))).code(); code != ledger.Overloaded {
		t.Errorf("a closed engine answered %q", code)
	}
}

// Without the database Close ends all the same, and says that it did not finish.
func TestCloseGivesUpOnALostDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxy(servers.Shared(t).SourceAddr, nil)
	n := w.open(p.through)
	account := n.funded(100)
	reached, resume := n.pause("after_commit")
	first := n.start(fresh(deposit(account, 10)))
	w.await(reached, "COMMIT")
	p.cut(true)
	resume(errLost)
	n.eventually("the lane asks", func() bool { return n.metric("unknown_commits_total") == 1 })
	second := n.start(fresh(deposit(account, 10)))
	// Or has waited: while the database is away, the lane sends off what waits behind it.
	n.eventually("the next waits", func() bool { return n.engine.Waiting() == 1 || len(second) == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := n.engine.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close without a database: %v", err)
	}
	if code := (<-first).code(); code != ledger.OutcomeUnknown {
		t.Errorf("a command whose COMMIT is unknown heard %q", code)
	}
	if code := (<-second).code(); code != ledger.SourceUnavailable {
		t.Errorf("a command that never ran heard %q", code)
	}
	p.cut(false)
	if posted := w.posted(account); posted != 110 {
		t.Errorf("the balance is %d, not 110", posted)
	}
	w.verify()
}

// A second request with a key that is in hand waits outside the batch and gets the first one's answer.
func TestASecondRequestWithAKeyWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open()
	account := n.funded(100)
	batches := n.metric("batch_commands")
	reached, resume := n.pause("before_commit")
	first := n.start(asked(deposit(account, 10), "key"))
	w.await(reached, "the first one's COMMIT")
	var repeats []<-chan result
	for range 20 {
		repeats = append(repeats, n.accepted(asked(deposit(account, 10), "key")))
	}
	other := n.accepted(asked(deposit(account, 11), "key"))
	if r := n.within(20*time.Millisecond, asked(deposit(account, 10), "key")); r.code() != ledger.RequestInProgress {
		t.Errorf("a repeat whose deadline comes before the first answer heard %q", r.code())
	}
	resume(nil)
	answer := <-first
	for _, r := range receive(repeats) {
		if !r.ok() || !r.Replayed || string(r.Answer.Body) != string(answer.Answer.Body) || r.Token == "" {
			t.Errorf("a repeat: %v, replayed %t, %s", r.err, r.Replayed, r.Answer.Body)
		}
	}
	if code := (<-other).code(); code != ledger.IdempotencyKeyReused {
		t.Errorf("another request with the key heard %q", code)
	}
	if ran := n.metric("batch_commands") - batches; ran != 1 || w.posted(account) != 110 {
		t.Errorf("%v batches ran and the balance is %d", ran, w.posted(account))
	}
	if r := n.submit(asked(deposit(account, 10), "key")); !r.Replayed || string(r.Answer.Body) != string(answer.Answer.Body) {
		t.Errorf("a later repeat: %v, replayed %t, %s", r.err, r.Replayed, r.Answer.Body)
	}
}

// When the first answer is not stored, those that waited for it run one after the other, each for itself.
func TestAfterAnAnswerThatIsNotStoredTheNextRunsItself(t *testing.T) {
	t.Parallel()
	const callers = 20
	w := newWorld(t)
	n := w.open()
	account := n.funded(100)
	limit := int64(5)
	command := asked(ledger.Amend{Actor: ledger.Actor{Principal: alice}, Number: account, OverdraftLimit: &limit}, "forbidden")
	var answers []<-chan result
	for range callers {
		answers = append(answers, n.start(command))
	}
	for _, r := range receive(answers) {
		if r.err != nil || r.Replayed || r.Answer.Status != 403 {
			t.Errorf("%v, replayed %t, status %d", r.err, r.Replayed, r.Answer.Status)
		}
	}
	if dropped := n.metric("claims_dropped_total"); dropped != callers {
		t.Errorf("%v claims were dropped by %d requests", dropped, callers)
	}
}

// bomb is an operation with a bug.
type bomb struct{ at string }

func (bomb) Accounts(string, ledger.Lane) []ledger.AccountID { return nil }
func (bomb) Holds() []ledger.HoldID                          { return nil }
func (b bomb) Apply(*ledger.Book) (ledger.Result, error) {
	if b.at == "apply" {
		panic("a bug")
	}
	return ledger.Result{}, errors.New("an error that is no refusal")
}

// One command's failure is its own: the others of its batch succeed.
func TestAFailingCommandFailsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec("ALTER TABLE accounts ADD CONSTRAINT poison CHECK (label <> 'poison')")
	n := w.open()
	account := n.funded(100)
	poison := "poison"
	tooLong := deposit(account, 1000)
	tooLong.Description = strings.Repeat("x", 300)
	failing := map[string]ledger.Operation{
		"a panic":             bomb{at: "apply"},
		"an error":            bomb{},
		"a CHECK":             ledger.Amend{Actor: ledger.Actor{Operator: true}, Number: account, Label: &poison},
		"a text that is long": tooLong,
	}
	expected := int64(100)
	for name, operation := range failing {
		for _, place := range []int{0, 3, 6} {
			splits := n.metric("splits_total")
			var commands []posting.Command
			for range 6 {
				commands = append(commands, fresh(deposit(account, 1)))
			}
			commands = append(commands[:place], append([]posting.Command{fresh(operation)}, commands[place:]...)...)
			for i, r := range n.combine(commands...) {
				if want := i != place; r.ok() != want || !want && r.code() != ledger.Internal {
					t.Errorf("%s as number %d: command %d was answered %q", name, place, i, r.code())
				}
			}
			expected += 6
			if n.metric("splits_total") == splits {
				t.Errorf("%s: the batch was not split", name)
			}
		}
	}
	if posted := w.posted(account); posted != expected {
		t.Errorf("the balance is %d, not %d", posted, expected)
	}
	if rows := w.number("SELECT COUNT(*) FROM idempotency WHERE status IS NULL AND transfer_id IS NULL"); rows != 0 {
		t.Errorf("%d claims without an answer", rows)
	}
	w.verify()
}

// While a batch is taken apart the source may go away: what is left does not ask it again, half by half.
func TestASplitStopsAtALostSource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.proxy(servers.Shared(t).SourceAddr, nil)
	n := w.open(p.through)
	account := n.funded(100)
	commands := []posting.Command{fresh(bomb{})}
	for range 7 {
		commands = append(commands, fresh(deposit(account, 1)))
	}
	open := n.plugged()
	answers := n.queue(commands...)
	n.faults.once("after_commit", func() error { // the plug's
		n.faults.once("after_commit", func() error { p.cut(true); return nil })
		return nil
	})
	open()
	results := receive(answers)
	if results[0].code() != ledger.Internal || !results[1].ok() {
		t.Errorf("before the source was lost: %q, %q", results[0].code(), results[1].code())
	}
	for i, r := range results[2:] {
		if r.code() != ledger.SourceUnavailable {
			t.Errorf("command %d after the source was lost: %q", i+2, r.code())
		}
	}
	if tries := n.metric("failures_total", "server"); tries != 2 {
		t.Errorf("the lost source was asked %v times, want 2", tries)
	}
	p.cut(false)
	n.recovered(fresh(deposit(account, 1)))
	if posted := w.posted(account); posted != 102 {
		t.Errorf("the balance is %d, not 102", posted)
	}
	w.verify()
}

// A source that was restored may lack the stripes that a lane believes to have made.
func TestStripesAreMadeAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	for name, deposits := range map[string]int{"one alone": 1, "two together": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			n := w.open()
			account := w.account(alice)
			if r := n.submit(fresh(pay(ledger.Withdrawal, account, ledger.Cash, 5))); r.code() != ledger.InsufficientFunds {
				t.Errorf("a withdrawal from an empty account: %q", r.code())
			}
			w.exec("DELETE FROM accounts WHERE system_account IS NOT NULL")
			var commands []posting.Command
			for range deposits {
				commands = append(commands, fresh(deposit(account, 10)))
			}
			for _, r := range n.combine(commands...) {
				if !r.ok() {
					t.Errorf("a deposit after the stripe was lost: %q", r.code())
				}
			}
			w.verify()
		})
	}
}

// A batch of many transfers counts as many, so that one transaction stays short.
func TestABatchHasBoundedTransfersAndAccounts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open(func(o *options) { o.engine.BatchTransfersMax, o.engine.BatchAccountsMax = 10, 8 })
	accounts := w.accounts(alice, 20)
	many := func(transfers int) posting.Command {
		var batch ledger.Batch
		for range transfers {
			batch.Transfers = append(batch.Transfers, deposit(accounts[0], 1))
		}
		return fresh(batch)
	}
	tests := []struct {
		name     string
		commands []posting.Command
		batches  float64
	}{
		{"6 and 5 transfers", []posting.Command{many(6), many(5)}, 2},
		{"6 and 4 transfers", []posting.Command{many(6), many(4)}, 1},
		{"one larger than a batch", []posting.Command{many(25), fresh(deposit(accounts[0], 1))}, 2},
		{"six accounts, two more, and one more", []posting.Command{
			fresh(transfer(accounts[1], accounts[2], 1)), fresh(transfer(accounts[3], accounts[4], 1)), fresh(transfer(accounts[5], accounts[6], 1)),
			fresh(transfer(accounts[7], accounts[8], 1)), fresh(transfer(accounts[8], accounts[9], 1)),
		}, 2},
	}
	for _, test := range tests {
		before := n.metric("commit_seconds") + 1 // the plug
		for i, r := range n.combine(test.commands...) {
			if r.err != nil {
				t.Errorf("%s: command %d: %v", test.name, i, r.err)
			}
		}
		if ran := n.metric("commit_seconds") - before; ran != test.batches {
			t.Errorf("%s ran in %v batches, want %v", test.name, ran, test.batches)
		}
	}
}

// Late for a batch by a moment, a caller would wait for its end.
func TestCallersWhoWereAnsweredTogetherComeTogetherAgain(t *testing.T) {
	t.Parallel()
	const soon, late, step = 10 * time.Millisecond, 2 * time.Second, 500 * time.Millisecond
	for _, c := range []struct {
		name           string
		answered, with int
		pauses         []time.Duration
	}{
		{"one alone waits for nobody", 1, 0, []time.Duration{late}},
		{"the first of two waits for the other", 2, 2, []time.Duration{soon, soon}},
		{"not for one that does not come", 2, 1, []time.Duration{soon, late}},
		{"of many the first waits for most", 20, 20, slices.Repeat([]time.Duration{soon}, 20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if with := posting.Gather(c.answered, step, c.pauses...); with != c.with {
				t.Errorf("the lane goes on with %d waiting, not %d", with, c.with)
			}
		})
	}
}

// Two lanes of one node work at once, but never on one account.
func TestTwoLanesShareTheWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := w.open(func(o *options) { o.engine.Lanes, o.engine.BatchTransfersMax = 2, 8 })
	accounts := w.accounts(alice, 10)
	reached, resume := n.pause("before_commit")
	first := n.start(fresh(deposit(accounts[0], 1)))
	w.await(reached, "the first lane's COMMIT")
	n.succeed(deposit(accounts[1], 1))
	if r := n.within(50*time.Millisecond, fresh(deposit(accounts[0], 1000))); r.code() != ledger.Overloaded {
		t.Errorf("an account that one lane has in hand was given to the other: %q", r.code())
	}
	resume(nil)
	if r := <-first; !r.ok() {
		t.Errorf("the first lane: %v", r.err)
	}
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			for k := range 10 {
				if r := n.submit(fresh(deposit(accounts[(i+k)%len(accounts)], 1))); !r.ok() {
					t.Errorf("a deposit: %v", r.err)
				}
			}
		})
	}
	all.Wait()
	if sum := w.number("SELECT SUM(posted) FROM accounts WHERE system_account IS NULL"); sum != 322 {
		t.Errorf("the balances sum to %d, not 322", sum)
	}
	if again := n.metric("failures_total"); again != 0 {
		t.Errorf("%v transactions failed", again)
	}
	w.verify()
}

func TestBoundsThatCannotWorkAreRefused(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*posting.Config){
		"no lane":          func(c *posting.Config) { c.Lanes = 0 },
		"no queue":         func(c *posting.Config) { c.QueueMax = 0 },
		"no transfers":     func(c *posting.Config) { c.BatchTransfersMax = 0 },
		"no accounts":      func(c *posting.Config) { c.BatchAccountsMax = 0 },
		"no tries":         func(c *posting.Config) { c.RepeatsMax = 0 },
		"no delay":         func(c *posting.Config) { c.BackMin = 0 },
		"a fixed delay":    func(c *posting.Config) { c.BackMax = c.BackMin },
		"a negative delay": func(c *posting.Config) { c.BackMin = -time.Second },
	} {
		config := posting.DefaultConfig()
		change(&config)
		if config.Validate() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	must(t, posting.DefaultConfig().Validate())
}
