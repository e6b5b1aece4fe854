package ledger_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"lockstep/node/ledger"
)

// The two systems of these tests: ours, and the peer.
const (
	own  = "alpha"
	peer = "beta"

	ownEpoch  = 3
	peerEpoch = 7
)

var (
	exposure = ledger.ExposureKey{Peer: peer, Currency: "KRW"}
	remitted = ledger.TransferID("0197a0b2-0000-7000-8000-000000000001")
	noon     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// remoteRows are the committed rows of our system, on which one operation after the other runs.
type remoteRows struct {
	accounts    map[ledger.AccountID]ledger.Account
	remittances map[ledger.TransferID]ledger.Remittance
	beside      []ledger.Operation         // in the next batch
	noted       map[ledger.TransferID]bool // in the last one
	exposures   map[ledger.ExposureKey]ledger.Exposure
	entries     []ledger.Entry
	events      []string
	sagas       map[ledger.TransferID]bool // true while it runs
	now         time.Time
	reconciled  bool
}

func newRemoteRows() *remoteRows {
	r := &remoteRows{
		accounts: map[ledger.AccountID]ledger.Account{
			1000: {ID: 1000, Owner: "client:0", Currency: "KRW", Status: ledger.Open, Posted: 100},
			1001: {ID: 1001, Owner: "client:0", Currency: "USD", Status: ledger.Open},
			1002: {ID: 1002, Owner: "client:0", Currency: "KRW", Status: ledger.Frozen},
		},
		remittances: map[ledger.TransferID]ledger.Remittance{}, sagas: map[ledger.TransferID]bool{}, now: noon, reconciled: true,
		exposures: map[ledger.ExposureKey]ledger.Exposure{exposure: {ExposureKey: exposure, Epoch: peerEpoch, Capped: true, Cap: 150}},
	}
	for _, serial := range []ledger.AccountID{ledger.SuspenseSerial, ledger.ReceivableSerial, beta.Settlement} {
		id := (ledger.Lane{Node: 1}).Stripe(serial, "KRW")
		r.accounts[id] = ledger.Account{ID: id, Currency: "KRW", Status: ledger.Open}
	}
	return r
}

// do runs an operation in a transaction of its own.
func (r *remoteRows) do(operation ledger.RemoteOperation) (*ledger.Remittance, ledger.Code) {
	var accounts []ledger.Account
	for _, id := range operation.Accounts(own, ledger.Lane{Node: 1}) {
		if account, there := r.accounts[id]; there {
			accounts = append(accounts, account)
		}
	}
	var remittances []ledger.Remittance
	for _, id := range operation.Remittances() {
		if remittance, there := r.remittances[id]; there {
			remittances = append(remittances, remittance)
		}
	}
	var exposures []ledger.Exposure
	for _, key := range operation.Exposures() {
		found, there := r.exposures[key]
		if !there {
			found.ExposureKey = key // the engine makes them
		}
		exposures = append(exposures, found)
	}
	r.now = r.now.Add(time.Second)
	book := ledger.NewBook(own, ledger.Lane{Node: 1}, r.now, accounts, nil)
	book.WithPeers(remittances, exposures)
	book.Stand(ownEpoch, r.reconciled)
	result, err := operation.Apply(book)
	for _, other := range r.beside {
		if _, err := other.Apply(book); err != nil {
			panic(err)
		}
	}
	r.noted = map[ledger.TransferID]bool{remitted: book.Noted(remitted)}
	r.keep(book)
	return result.Remittance, ledger.CodeOf(err)
}

func (r *remoteRows) keep(book *ledger.Book) {
	for _, account := range book.Changed() {
		r.accounts[account.ID] = account
	}
	made, changed := book.ChangedRemittances()
	for _, remittance := range append(made, changed...) {
		r.remittances[remittance.ID] = remittance
	}
	for _, changed := range book.ChangedExposures() {
		r.exposures[changed.ExposureKey] = changed
	}
	r.entries = append(r.entries, book.Entries...)
	for _, event := range book.Events {
		r.events = append(r.events, event.Type)
	}
	for _, start := range book.Started {
		r.sagas[start.ID] = true
	}
	for _, id := range book.Finished {
		r.sagas[id] = false
	}
}

// content is everything but the times, which tell how often something was tried.
func (r *remoteRows) content() any {
	remittances := map[ledger.TransferID]ledger.Remittance{}
	for id, remittance := range r.remittances {
		remittance.CreatedAt, remittance.FinishedAt, remittance.ExpiresAt = time.Time{}, time.Time{}, time.Time{}
		if !remittance.CreditedAt.IsZero() {
			remittance.CreditedAt = noon
		}
		if remittance.Transfer != nil {
			transfer := *remittance.Transfer
			transfer.CreatedAt, transfer.FinishedAt = time.Time{}, time.Time{}
			remittance.Transfer = &transfer
		}
		remittances[id] = remittance
	}
	entries := append([]ledger.Entry{}, r.entries...)
	for i := range entries {
		entries[i].CreatedAt = time.Time{}
	}
	events := append([]string{}, r.events...)
	return []any{r.accounts, remittances, r.exposures, entries, events, r.sagas}
}

func number(system string, serial ledger.AccountID) ledger.Number {
	return ledger.NewNumber(system, serial)
}

func won(minor int64) ledger.Money { return ledger.Money{Minor: minor, Currency: "KRW"} }

// The steps, as they are when all goes well.
func remit() ledger.Remit {
	return ledger.Remit{
		ID: remitted, Actor: ledger.Actor{Principal: "client:0"}, Peer: beta, From: number(own, 1000), To: number(peer, 1000),
		Amount: won(60), Epoch: ownEpoch, ExpiresIn: time.Minute, Language: "en",
	}
}

func conclude(end ledger.State) ledger.Conclude {
	c := ledger.Conclude{ID: remitted, Peer: beta, From: number(own, 1000), Currency: "KRW", End: end, Epoch: ownEpoch}
	if end == ledger.Posted {
		c.PayeeEpoch = peerEpoch
	} else {
		c.Failure = ledger.PeerUnavailable
	}
	return c
}

func promised(minor int64) ledger.Promise {
	return ledger.Promise{ID: remitted, Peer: beta, Epoch: peerEpoch, From: number(peer, 1000), To: number(own, 1000), Amount: won(minor)}
}

func prepare() ledger.Prepare {
	return ledger.Prepare{Promise: promised(60), OwnEpoch: ownEpoch, AskAfter: time.Minute}
}

func credit() ledger.Credit {
	return ledger.Credit{Promise: promised(60), PayeeEpoch: ownEpoch, OwnEpoch: ownEpoch, Statement: "signed"}
}

func release() ledger.Release { return ledger.Release{Promise: promised(60)} }

func noteCredit() ledger.NoteCredit {
	return ledger.NoteCredit{IDs: []ledger.TransferID{remitted}, Peer: beta, Epoch: peerEpoch, Currency: "KRW"}
}

func closing(payer, payee string) ledger.Close {
	return ledger.Close{ID: remitted, Payer: payer, Payee: payee}
}

// Each step, done again at any later time, changes nothing; and what comes after the end is too late. The first step that
// ends a transfer decides it, and the same rows are left as if it had been the only one.
func TestStepsAtThePayeeLeaveWhatTheFirstEndLeft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := map[string]ledger.RemoteOperation{
			"prepare": prepare(), "credit": credit(), "release": release(), "close": closing(peer, own),
		}
		order := rapid.SliceOfN(rapid.SampledFrom([]string{"prepare", "credit", "release", "close"}), 1, 8).Draw(t, "order")
		rows, plain := newRemoteRows(), newRemoteRows()
		prepared, ended := false, ""
		for _, name := range order {
			rows.do(steps[name])
			switch {
			case ended != "":
			case name == "prepare" && !prepared, name == "release", name == "credit" && prepared, name == "close" && !prepared:
				plain.do(steps[name])
				if prepared = true; name != "prepare" {
					ended = name
				}
			}
		}
		if !reflect.DeepEqual(rows.content(), plain.content()) {
			t.Fatalf("after %v the rows are\n%+v\nand not\n%+v", order, rows.content(), plain.content())
		}
	})
}

// The payer's system decides once, and hears of the credit once, in whatever order and how often it is tried.
func TestStepsAtThePayerLeaveWhatTheFirstDecisionLeft(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		steps := map[string]ledger.RemoteOperation{
			"pivot": conclude(ledger.Posted), "abort": conclude(ledger.Voided), "credited": noteCredit(), "close": closing(own, peer),
		}
		order := rapid.SliceOfN(rapid.SampledFrom([]string{"pivot", "abort", "credited", "close"}), 1, 8).Draw(t, "order")
		rows, plain := newRemoteRows(), newRemoteRows()
		rows.do(remit())
		plain.do(remit())
		decided, noted := "", false
		for _, name := range order {
			rows.do(steps[name])
			switch {
			case decided == "" && (name == "pivot" || name == "abort"):
				decided = name
				plain.do(steps[name])
			case decided == "pivot" && name == "credited" && !noted:
				noted = true
				plain.do(steps[name])
			}
		}
		if !reflect.DeepEqual(rows.content(), plain.content()) {
			t.Fatalf("after %v the rows are\n%+v\nand not\n%+v", order, rows.content(), plain.content())
		}
	})
}

// What contradicts the books is refused as a conflict, and changes nothing.
func TestContradictionsAreConflicts(t *testing.T) {
	t.Parallel()
	other := credit()
	other.Amount = won(61)
	forged := credit()
	forged.From = number(peer, 1001)
	shorter := release()
	shorter.Amount = won(59)
	elsewhere := noteCredit()
	elsewhere.Peer = ledger.Peer{System: "gamma", Settlement: 11}
	for name, c := range map[string]struct {
		before []ledger.RemoteOperation
		step   ledger.RemoteOperation
	}{
		"committed without a promise":             {nil, credit()},
		"committed of another amount":             {[]ledger.RemoteOperation{prepare()}, other},
		"committed of another payer":              {[]ledger.RemoteOperation{prepare()}, forged},
		"committed after aborted":                 {[]ledger.RemoteOperation{prepare(), release()}, credit()},
		"committed after an abort that was first": {[]ledger.RemoteOperation{release()}, credit()},
		"aborted after committed":                 {[]ledger.RemoteOperation{prepare(), credit()}, release()},
		"aborted of another amount":               {[]ledger.RemoteOperation{prepare()}, shorter},
		"credited and not posted":                 {[]ledger.RemoteOperation{remit()}, noteCredit()},
		"credited and unknown":                    {nil, noteCredit()},
		"credited by another peer":                {[]ledger.RemoteOperation{remit(), conclude(ledger.Posted)}, elsewhere},
	} {
		rows := newRemoteRows()
		for _, step := range c.before {
			if _, code := rows.do(step); code != "" {
				t.Fatalf("%s: %s", name, code)
			}
		}
		before := rows.content()
		if _, code := rows.do(c.step); code != ledger.TransferConflict {
			t.Errorf("%s: answered %q", name, code)
		}
		if !reflect.DeepEqual(before, rows.content()) {
			t.Errorf("%s: changed something", name)
		}
	}
}

// A statement of an epoch that the peer has left changes nothing, and is no conflict either.
func TestStatementsOfAnEpochThatIsOverChangeNothing(t *testing.T) {
	t.Parallel()
	for name, step := range map[string]ledger.RemoteOperation{
		"prepare": prepare(), "committed": credit(), "aborted": release(), "credited": noteCredit(),
	} {
		for _, promise := range []bool{false, true} {
			rows := newRemoteRows()
			if promise && name != "prepare" {
				rows.do(prepare())
			}
			raised := rows.exposures[exposure]
			raised.Epoch++
			rows.exposures[exposure] = raised
			before := rows.content()
			if _, code := rows.do(step); code != ledger.StaleEpoch || !reflect.DeepEqual(before, rows.content()) {
				t.Errorf("%s, with a promise: %v: answered %q, or changed something", name, promise, code)
			}
		}
	}
}

// Only a payee's system that may have forgotten its promise credits without one, and then within the peer's cap.
func TestAForgottenPromiseIsCredited(t *testing.T) {
	t.Parallel()
	earlier := credit()
	earlier.PayeeEpoch--
	rows := newRemoteRows()
	if got, code := rows.do(earlier); code != "" || got.State != ledger.Posted {
		t.Fatalf("answered %q", code)
	}
	if account, e := rows.accounts[1000], rows.exposures[exposure]; account.Posted != 160 || e.Credited != 60 || e.Reserved != 0 {
		t.Errorf("the account has %d, the exposure is %+v", account.Posted, e)
	}
	if got, _ := rows.do(prepare()); got == nil || got.State != ledger.Posted {
		t.Error("a prepare that comes late is not told that it is booked")
	}
	above := earlier
	above.ID, above.Amount = "0197a0b2-0000-7000-8000-000000000002", won(91)
	if _, code := rows.do(above); code != ledger.PeerCapExceeded {
		t.Errorf("above the cap: %q", code)
	}
}

// What the payee's rules refuse is remembered: a repeat hears the same, though it would be accepted by now.
func TestARefusedPrepareStaysRefused(t *testing.T) {
	t.Parallel()
	for code, change := range map[ledger.Code]func(*ledger.Prepare){
		ledger.PayeeNotFound:    func(p *ledger.Prepare) { p.To = number(own, 1009) },
		ledger.CurrencyMismatch: func(p *ledger.Prepare) { p.To = number(own, 1001) },
		ledger.AccountFrozen:    func(p *ledger.Prepare) { p.To = number(own, 1002) },
		ledger.PeerCapExceeded:  func(p *ledger.Prepare) { p.Amount = won(151) },
	} {
		rows := newRemoteRows()
		step := prepare()
		change(&step)
		got, _ := rows.do(step)
		if got == nil || got.State != ledger.Refused || got.Failure != code || len(rows.sagas) > 0 {
			t.Errorf("%s: %+v", code, got)
		}
		lifted := rows.exposures[exposure]
		lifted.Capped = false
		rows.exposures[exposure] = lifted
		thawed := rows.accounts[1002]
		thawed.Status = ledger.Open
		rows.accounts[1002] = thawed
		if again, _ := rows.do(step); again == nil || again.State != ledger.Refused || again.Failure != code {
			t.Errorf("%s, again: %+v", code, again)
		}
	}
}

// While its books are not reconciled a system neither begins nor decides nor closes anything, and says of nothing that it
// never was.
func TestNothingIsDecidedBeforeTheBooksAreReconciled(t *testing.T) {
	t.Parallel()
	pending, promise := newRemoteRows(), newRemoteRows()
	pending.do(remit())
	promise.do(prepare())
	for name, c := range map[string]struct {
		rows *remoteRows
		step ledger.RemoteOperation
	}{
		"hold": {newRemoteRows(), remit()}, "promise": {newRemoteRows(), prepare()}, "pivot": {pending, conclude(ledger.Posted)},
		"abort": {pending, conclude(ledger.Voided)}, "close": {newRemoteRows(), closing(peer, own)},
		"credited": {newRemoteRows(), noteCredit()}, "credit": {promise, credit()}, "release": {promise, release()},
		"tombstone": {newRemoteRows(), release()},
	} {
		c.rows.reconciled = false
		before := c.rows.content()
		if _, code := c.rows.do(c.step); code != ledger.SourceUnavailable || !reflect.DeepEqual(before, c.rows.content()) {
			t.Errorf("%s: answered %q, or changed something", name, code)
		}
	}
	answered := credit()
	answered.Reconciling = ownEpoch - 1
	if _, code := promise.do(answered); code != ledger.SourceUnavailable {
		t.Errorf("a credit that the peer has shown to the reconciliation of an earlier epoch: %q", code)
	}
	answered.Reconciling = ownEpoch
	if got, code := promise.do(answered); code != "" || got.State != ledger.Posted {
		t.Errorf("a credit that the peer shows to a reconciliation: %q", code)
	}
}

// A promise may be lost with the epoch in which it was made; nothing is decided on it before the peer has made it again.
func TestNothingIsDecidedOnAPromiseOfAnEpochThatIsOver(t *testing.T) {
	t.Parallel()
	rows := newRemoteRows()
	rows.do(remit())
	earlier := conclude(ledger.Posted)
	earlier.PayeeEpoch--
	before := rows.content()
	if _, code := rows.do(earlier); code != ledger.StaleEpoch || !reflect.DeepEqual(before, rows.content()) {
		t.Errorf("answered %q, or changed something", code)
	}
	abort := conclude(ledger.Voided)
	if got, code := rows.do(abort); code != "" || got.State != ledger.Voided {
		t.Errorf("giving up needs no promise: %q", code)
	}
}

// A credit was locked for what the node knew. If an epoch has begun since, it may have to be returned, for which more is locked.
func TestACreditThatAnEpochHasOvertakenComesAgain(t *testing.T) {
	t.Parallel()
	late := credit()
	late.To, late.PayeeEpoch, late.OwnEpoch = number(own, 1009), ownEpoch-1, ownEpoch-1
	rows := newRemoteRows()
	before := rows.content()
	if _, code := rows.do(late); code != ledger.RequestInProgress || !reflect.DeepEqual(before, rows.content()) {
		t.Errorf("answered %q, or changed something", code)
	}
	late.OwnEpoch = ownEpoch
	if _, code := rows.do(late); code != "" || !rows.sagas[ledger.ReturnOf(remitted)] {
		t.Errorf("again: %q, sagas %v", code, rows.sagas)
	}
}

// A return is tried for weeks: what keeps it out for now is not remembered.
func TestAReturnIsRefusedForGoodByWhatLastsOnly(t *testing.T) {
	t.Parallel()
	step := prepare()
	step.ID, step.Amount = ledger.ReturnOf(remitted), won(151)
	rows := newRemoteRows()
	if got, code := rows.do(step); code != ledger.PeerCapExceeded || len(rows.remittances) > 0 {
		t.Errorf("above the cap: %+v, %q", got, code)
	}
	full := rows.accounts[1000]
	full.Posted = 1<<63 - 1
	rows.accounts[1000] = full
	step.Amount = won(60)
	if got, code := rows.do(step); code != ledger.BalanceOutOfRange || len(rows.remittances) > 0 {
		t.Errorf("into a full account: %+v, %q", got, code)
	}
	full.Posted = 0
	rows.accounts[1000] = full
	if got, code := rows.do(step); code != "" || got.State != ledger.Pending {
		t.Errorf("when both have passed: %+v, %q", got, code)
	}
	step = prepare()
	step.ID, step.To = ledger.ReturnOf("another"), number(own, 1009)
	if got, code := rows.do(step); code != "" || got.State != ledger.Refused {
		t.Errorf("to nobody: %+v, %q", got, code)
	}
}

// A system that was restored to before it credited a payment to nobody and sent it back may hear of the return first. The account
// that is open again does not get what its payer has back.
func TestWhatWasSentBackIsNotCreditedToAnAccount(t *testing.T) {
	t.Parallel()
	id, suspense := ledger.ReturnOf(remitted), (ledger.Lane{Node: 1}).Stripe(ledger.SuspenseSerial, "KRW")
	for state, back := range map[ledger.State]bool{ledger.Posted: true, ledger.Pending: true, ledger.Refused: false, ledger.Voided: false} {
		rows := newRemoteRows()
		rows.remittances[id] = ledger.Remittance{ID: id, Payer: own, Payee: peer, State: state, Transfer: &ledger.Transfer{
			ID: id, Kind: ledger.Returned, State: state, From: number(own, 1000), To: number(peer, 1000), Amount: won(60),
		}}
		late := credit()
		late.PayeeEpoch = ownEpoch - 1
		if got, code := rows.do(late); code != "" || got.State != ledger.Posted {
			t.Fatalf("with a return that is %s the credit is answered %q", state, code)
		}
		want := map[bool][2]int64{true: {100, 60}, false: {160, 0}}[back]
		if got := [2]int64{rows.accounts[1000].Posted, rows.accounts[suspense].Posted}; got != want {
			t.Errorf("with a return that is %s the account and suspense have %v, want %v", state, got, want)
		}
		if rows.sagas[id] {
			t.Errorf("with a return that is %s another one begins", state)
		}
	}
}

// The id of a return follows from that of the transfer alone, and shows what it is.
func TestAReturnHasOneID(t *testing.T) {
	const want = "0e7d47d3-2e42-8714-9b08-c5df29211dd9"
	id := ledger.ReturnOf(remitted)
	if id != want {
		t.Errorf("the return of %s has the id %s, and always had %s", remitted, id, want)
	}
	if !id.Returns() || remitted.Returns() {
		t.Error("a return has a UUID of version 8, and no other transfer has")
	}
	if parsed, err := uuid.Parse(string(id)); err != nil || parsed.Version() != 8 || parsed.Variant() != uuid.RFC4122 {
		t.Errorf("%s is no UUID of version 8: %v", id, err)
	}
}
