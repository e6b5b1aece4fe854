package sim_test

import (
	"testing"
	"time"

	"lockstep/node/ledger"
	"lockstep/node/remit/sim"
)

// Orders and repeats that have names. The simulation meets all of them; here each stands alone.

const (
	epoch = 1
	won   = ledger.Currency("KRW")
	minor = 60
)

// pair is both systems with one transfer from alpha to beta.
type pair struct {
	*testing.T
	alpha, beta *sim.Memory
	id          ledger.TransferID
	from, to    ledger.Number
	amount      ledger.Money
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{
		T: t, id: "0197a0b2-0000-7000-8000-000000000001", amount: ledger.Money{Minor: minor, Currency: won},
		alpha: sim.NewMemory(sim.Alpha, lane, sim.Fixture(sim.Alpha, false), sim.Beta),
		beta:  sim.NewMemory(sim.Beta, lane, sim.Fixture(sim.Beta, false), sim.Alpha),
		from:  ledger.NewNumber(sim.Alpha, 1000), to: ledger.NewNumber(sim.Beta, 1000),
	}
	p.do(p.alpha, ledger.Pay{
		ID: "0197a0b2-0000-7000-8000-000000000000", Actor: ledger.Actor{Depositor: true}, Kind: ledger.Deposit, From: ledger.Cash, To: p.from,
		Amount: ledger.Money{Minor: 100, Currency: won},
	}, "")
	return p
}

// do runs an operation and requires what becomes of it: a state of the transfer, or the code of a refusal.
func (p *pair) do(system *sim.Memory, operation ledger.Operation, want string) {
	p.Helper()
	result, refusal, err := system.Submit(operation, time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), sim.Commits)
	must(p.T, err)
	got := ""
	if result.Remittance != nil {
		got = string(result.Remittance.State)
	}
	if refusal != nil {
		got = string(refusal.Code)
	}
	if got != want {
		p.Fatalf("%T came to %q, not to %q", operation, got, want)
	}
}

func (p *pair) hold() ledger.Operation {
	return ledger.Remit{
		ID: p.id, Actor: ledger.Actor{Principal: "client:sim"}, Peer: ledger.Peer{System: sim.Beta, Settlement: 10}, From: p.from, To: p.to,
		Amount: p.amount, Epoch: epoch,
	}
}

func (p *pair) decide(end ledger.State) ledger.Operation {
	return ledger.Conclude{
		ID: p.id, Peer: ledger.Peer{System: sim.Beta, Settlement: 10}, From: p.from, Currency: won, End: end, PayeeEpoch: epoch, Epoch: epoch,
	}
}

func (p *pair) promise() ledger.Promise {
	return ledger.Promise{ID: p.id, Peer: ledger.Peer{System: sim.Alpha, Settlement: 10}, Epoch: epoch, From: p.from, To: p.to, Amount: p.amount}
}

func (p *pair) prepare() ledger.Operation {
	return ledger.Prepare{Promise: p.promise(), OwnEpoch: epoch}
}

func (p *pair) committed() ledger.Operation {
	return ledger.Credit{Promise: p.promise(), PayeeEpoch: epoch, OwnEpoch: epoch, Statement: "signed"}
}

func (p *pair) aborted() ledger.Operation { return ledger.Release{Promise: p.promise()} }

func (p *pair) credited() ledger.Operation {
	return ledger.NoteCredit{IDs: []ledger.TransferID{p.id}, Peer: ledger.Peer{System: sim.Beta, Settlement: 10}, Epoch: epoch, Currency: won}
}

func (p *pair) closing() ledger.Operation {
	return ledger.Close{ID: p.id, Payer: sim.Alpha, Payee: sim.Beta}
}

// moved requires that so much has left the payer and arrived at the payee, and that nothing is held or promised.
func (p *pair) moved(minor int64) {
	p.Helper()
	for _, side := range []struct {
		system *sim.Memory
		want   int64
	}{{p.alpha, 100 - minor}, {p.beta, minor}} {
		rows, err := side.system.Rows()
		must(p.T, err)
		account := rows.Accounts[0]
		if account.Posted != side.want || account.PendingDebit != 0 || account.PendingCredit != 0 {
			p.Errorf("%s: the account has %d, with %d held and %d promised; it should have %d", side.system.System, account.Posted,
				account.PendingDebit, account.PendingCredit, side.want)
		}
	}
}

func TestAnAbortThatComesBeforeItsPrepareKeepsItOut(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.alpha, p.hold(), "pending")
	p.do(p.alpha, p.decide(ledger.Voided), "voided")
	p.do(p.beta, p.aborted(), "voided")
	p.do(p.beta, p.prepare(), "voided")
	p.moved(0)
}

func TestACommitThatOvertakesThePreparesAnswerIsOne(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.alpha, p.hold(), "pending")
	p.do(p.beta, p.prepare(), "pending")
	p.do(p.alpha, p.decide(ledger.Posted), "posted")
	p.do(p.beta, p.committed(), "posted")
	p.do(p.beta, p.prepare(), "posted") // the repeat of another node, whose answer is a promise still
	p.do(p.alpha, p.decide(ledger.Posted), "posted")
	p.do(p.alpha, p.decide(ledger.Voided), "posted") // and an operator who comes too late
	p.moved(minor)
}

func TestEachMessageTwiceIsOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.alpha, p.hold(), "pending")
	for _, step := range []struct {
		system *sim.Memory
		do     ledger.Operation
		state  string
	}{
		{p.beta, p.prepare(), "pending"},
		{p.alpha, p.decide(ledger.Posted), "posted"},
		{p.beta, p.committed(), "posted"},
		{p.alpha, p.credited(), "posted"},
	} {
		p.do(step.system, step.do, step.state)
		p.do(step.system, step.do, step.state)
	}
	p.moved(minor)
	p = newPair(t)
	p.do(p.alpha, p.hold(), "pending")
	p.do(p.beta, p.prepare(), "pending")
	for range 2 {
		p.do(p.alpha, p.decide(ledger.Voided), "voided")
		p.do(p.beta, p.aborted(), "voided")
	}
	p.moved(0)
}

func TestAPrepareThatComesAfterAClosedInquiryIsTooLate(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.alpha, p.hold(), "pending")
	p.do(p.beta, p.closing(), "voided")
	p.do(p.beta, p.prepare(), "voided")
	p.do(p.alpha, p.decide(ledger.Voided), "voided")
	p.do(p.beta, p.aborted(), "voided")
	p.moved(0)
}

func TestAnOpenPromiseIsNotClosed(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.alpha, p.hold(), "pending")
	p.do(p.beta, p.prepare(), "pending")
	p.do(p.beta, p.closing(), "pending")
	p.do(p.alpha, p.decide(ledger.Posted), "posted")
	p.do(p.beta, p.committed(), "posted")
	p.moved(minor)
}

func TestAnOwnerStoppedBeforeThePivotFindsTheAbortOfAnother(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.alpha, p.hold(), "pending")
	p.do(p.beta, p.prepare(), "pending") // the owner hears it, and is stopped
	p.do(p.alpha, p.decide(ledger.Voided), "voided")
	p.do(p.beta, p.aborted(), "voided")
	p.do(p.alpha, p.decide(ledger.Posted), "voided") // it wakes
	p.moved(0)
}

func TestAPrepareThatIsRepeatedAfterAnAbortHearsOfIt(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.alpha, p.hold(), "pending")
	p.do(p.beta, p.prepare(), "pending")
	p.do(p.alpha, p.decide(ledger.Voided), "voided")
	p.do(p.beta, p.aborted(), "voided")
	p.do(p.beta, p.prepare(), "voided")
	p.moved(0)
}

func TestACommittedOfAnEpochThatIsOverChangesNothing(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.alpha, p.hold(), "pending")
	p.do(p.beta, p.prepare(), "pending")
	must(t, p.beta.RaiseEpoch(sim.Alpha, epoch+1))
	p.do(p.beta, p.committed(), "stale_epoch")
	p.do(p.beta, p.aborted(), "stale_epoch")
	release := p.aborted().(ledger.Release) //nolint:forcetypeassert // made above
	release.Epoch++
	p.do(p.alpha, p.decide(ledger.Voided), "voided")
	p.do(p.beta, release, "voided")
	p.moved(0)
}

func TestACommittedThatWasNeverPromisedIsAConflict(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.beta, p.committed(), "transfer_conflict")
	rows, err := p.beta.Rows()
	must(t, err)
	if len(rows.Remittances)+len(rows.Entries) > 0 {
		t.Errorf("it left %+v", rows)
	}
}

func TestACommittedOfOtherContentsIsAConflict(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.beta, p.prepare(), "pending")
	other := p.committed().(ledger.Credit) //nolint:forcetypeassert // made above
	other.Amount.Minor++
	p.do(p.beta, other, "transfer_conflict")
	p.do(p.beta, p.committed(), "posted")
}

func TestAnAbortAfterACommitIsAConflict(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.alpha, p.hold(), "pending")
	p.do(p.beta, p.prepare(), "pending")
	p.do(p.alpha, p.decide(ledger.Posted), "posted")
	p.do(p.beta, p.committed(), "posted")
	p.do(p.beta, p.aborted(), "transfer_conflict")
	p.do(p.alpha, p.decide(ledger.Voided), "posted")
	p.moved(minor)
}

// An owner that was stopped with a promise in hand does not pivot on it in another epoch.
func TestAPromiseOfAnEarlierEpochIsNotPivotedOn(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	p.do(p.alpha, p.hold(), "pending")
	p.do(p.beta, p.prepare(), "pending")
	p.do(p.alpha, p.decide(ledger.Voided), "voided")
	p.do(p.beta, p.aborted(), "voided")
	if lost := p.alpha.LoseTail(1); lost != 1 {
		t.Fatal("nothing was lost")
	}
	p.alpha.Epoch++
	p.do(p.alpha, p.decide(ledger.Posted), "stale_epoch")
	p.do(p.beta, p.prepare(), "voided")
	p.do(p.alpha, p.decide(ledger.Voided), "voided")
	p.moved(0)
}
