package verify_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"lockstep/cluster/local/servers"
	"lockstep/node/audit"
	"lockstep/node/ledger"
	"lockstep/node/posting"
	"lockstep/node/store"
	"lockstep/node/store/storetest"
)

const principal = "client:bank"

// books are kept by real engines, two nodes of one system, on a database of their own.
type books struct {
	testing.TB
	system   string
	database servers.Database
	store    *store.Store
	nodes    [2]*posting.Engine
	keys     int
	turn     sync.Mutex
}

// newBooks are those of alpha.
func newBooks(tb testing.TB) *books {
	tb.Helper()
	return newBooksOf(tb, storetest.System)
}

func newBooksOf(tb testing.TB, system string) *books {
	tb.Helper()
	b := &books{TB: tb, system: system, database: storetest.Migrated(tb, system)}
	config := store.Default()
	config.System, config.Source, config.Replicas = system, b.database.Source, []string{b.database.Replica}
	config.Logger = storetest.Logger(tb)
	b.store = storetest.OpenWith(tb, config)
	for i := range b.nodes {
		lease, err := b.store.LeaseNode(tb.Context(), "127.0.0.1:1", "test", 1)
		b.must(err)
		tb.Cleanup(func() { b.must(lease.Close()) })
		identity := posting.Identity{Node: lease.ID, Incarnation: lease.Incarnation}
		b.nodes[i], err = posting.Open(tb.Context(), posting.DefaultConfig(), b.store, nil, identity,
			prometheus.NewRegistry(), storetest.Logger(tb))
		b.must(err)
		tb.Cleanup(func() { b.must(b.nodes[i].Close(context.Background())) })
	}
	return b
}

func (b *books) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// renderer writes results as JSON.
type renderer struct{}

func (renderer) Version() int { return 1 }

func (renderer) Render(_ int, result ledger.Result, refusal *ledger.Error) store.Answer {
	answer := store.Answer{Status: 201, ContentType: "application/json"}
	if refusal != nil {
		answer.Status = 422
	}
	answer.Body, _ = json.Marshal([]any{result, refusal}) // of our own types
	return answer
}

// claim is for a key that was never used.
func (b *books) claim(route string) store.Claim {
	b.turn.Lock()
	defer b.turn.Unlock()
	b.keys++
	key := fmt.Sprintf("key-%d", b.keys)
	return store.Claim{
		Principal: principal, Route: route, Key: key, Fingerprint: sha256.Sum256([]byte(key)), Language: "en", RequestID: key,
	}
}

// open opens an account.
func (b *books) open(currency ledger.Currency, overdraft int64) ledger.Number {
	b.Helper()
	var account ledger.Account
	_, _, _, err := b.store.Once(b.Context(), b.claim("POST /v1/accounts"),
		func(ctx context.Context, tx *store.Tx) (answer, stored store.Answer, err error) {
			account, err = tx.CreateAccount(ctx, ledger.Account{
				Owner: principal, Currency: currency, Status: ledger.Open, OverdraftLimit: overdraft,
			})
			answer = store.Answer{Status: 201, ContentType: "application/json", Body: []byte("{}")}
			return answer, answer, err
		})
	b.must(err)
	return ledger.NewNumber(b.system, account.ID)
}

// submit has one of the nodes carry out an operation under a key of its own.
func (b *books) submit(node int, operation ledger.Operation) (ledger.Result, ledger.Code) {
	b.Helper()
	claim := b.claim(fmt.Sprintf("%T", operation))
	outcome, err := b.nodes[node].Submit(b.Context(), posting.Command{Operation: operation, Claim: &claim, Renderer: renderer{}})
	if err != nil {
		b.Errorf("%T: %v", operation, err)
		return ledger.Result{}, ledger.Internal
	}
	if outcome.Refusal != nil {
		return ledger.Result{}, outcome.Refusal.Code
	}
	return outcome.Result, ""
}

// do is submit for what must succeed.
func (b *books) do(node int, operation ledger.Operation) ledger.Result {
	b.Helper()
	result, code := b.submit(node, operation)
	if code != "" {
		b.Fatalf("%T was refused: %s", operation, code)
	}
	return result
}

func (b *books) refused(node int, want ledger.Code, operation ledger.Operation) {
	b.Helper()
	if _, code := b.submit(node, operation); code != want {
		b.Fatalf("%T: got %q, want %q", operation, code, want)
	}
}

var actor = ledger.Actor{Principal: principal, Operator: true, Depositor: true}

func pay(kind ledger.Kind, from, to ledger.Number, minor int64, currency ledger.Currency) ledger.Pay {
	id := ledger.TransferID(uuid.Must(uuid.NewV7()).String())
	return ledger.Pay{ID: id, Actor: actor, Kind: kind, From: from, To: to, Amount: ledger.Money{Minor: minor, Currency: currency}}
}

func deposit(to ledger.Number, minor int64) ledger.Pay {
	return pay(ledger.Deposit, ledger.Cash, to, minor, "KRW")
}

func withdraw(from ledger.Number, minor int64) ledger.Pay {
	return pay(ledger.Withdrawal, from, ledger.Cash, minor, "KRW")
}

func transfer(from, to ledger.Number, minor int64) ledger.Pay {
	return pay(ledger.Payment, from, to, minor, "KRW")
}

// hold makes a hold and answers with what its end needs.
func (b *books) hold(account ledger.Number, minor int64, expiresIn time.Duration) ledger.Settle {
	b.Helper()
	id := ledger.HoldID(uuid.Must(uuid.NewV7()).String())
	b.do(0, ledger.HoldFunds{
		ID: id, Actor: actor, Account: account, Amount: ledger.Money{Minor: minor, Currency: "KRW"}, ExpiresIn: expiresIn,
	})
	return ledger.Settle{Hold: id, Actor: actor, Account: account}
}

func capture(hold ledger.Settle, to ledger.Number, minor int64) ledger.Settle {
	hold.End, hold.Transfer = ledger.Posted, ledger.TransferID(uuid.Must(uuid.NewV7()).String())
	hold.To, hold.Minor = to, minor
	return hold
}

// fill leads a full life: all that part of the books can hold is in them afterwards.
func (b *books) fill() {
	b.Helper()
	one, two, dollars, lender, idle := b.open("KRW", 0), b.open("KRW", 0), b.open("USD", 0), b.open("KRW", 5_000), b.open("KRW", 0)
	for node := range b.nodes {
		b.do(node, deposit(one, 10_000))
		b.do(node, deposit(two, 10_000))
		b.do(node, withdraw(one, 500))
		b.do(node, transfer(one, two, 700))
	}
	b.do(0, pay(ledger.Deposit, ledger.Cash, dollars, 12_34, "USD"))
	b.do(1, transfer(lender, two, 4_000))
	b.refused(0, ledger.InsufficientFunds, transfer(lender, two, 4_000))
	b.refused(1, ledger.CurrencyMismatch, transfer(one, dollars, 1))

	b.do(0, ledger.Batch{Atomic: true, Transfers: []ledger.Pay{transfer(one, two, 10), transfer(two, one, 20)}})
	b.refused(0, ledger.InsufficientFunds, ledger.Batch{Atomic: true, Transfers: []ledger.Pay{transfer(one, two, 10), transfer(two, one, 1_000_000)}})
	b.do(1, ledger.Batch{Transfers: []ledger.Pay{transfer(one, two, 10), transfer(two, one, 1_000_000)}})

	b.do(0, capture(b.hold(one, 300, time.Hour), two, 200))
	b.do(1, capture(b.hold(one, 300, time.Hour), two, 0))
	void := b.hold(two, 400, time.Hour)
	void.End = ledger.Voided
	b.do(1, void)
	expired := b.hold(two, 500, 0)
	expired.End = ledger.Expired
	b.do(0, expired)
	b.hold(two, 600, time.Hour) // stays open

	b.do(0, deposit(idle, 50))
	b.do(0, withdraw(idle, 50))
	b.status(idle, ledger.Closed)
	b.refused(0, ledger.AccountClosed, deposit(idle, 1))
	b.status(b.open("KRW", 0), ledger.Frozen)
	b.open("JPY", 0) // never used
	b.record()
	paid, held, sent := b.limited(1000), b.limited(1000), b.limited(1000)
	b.do(0, withdraw(paid, 300))
	b.do(1, transfer(paid, one, 700))
	b.refused(0, ledger.LimitExceeded, transfer(paid, two, 1))
	b.hold(held, 1000, time.Hour)
	b.exchange(one, two)
	b.do(0, remit(ledger.Peer{System: "beta", Settlement: 10}, sent, ledger.NewNumber("beta", 1000), 1000))
}

// record makes an audit chain of three blocks.
func (b *books) record() {
	b.Helper()
	for node := range 3 {
		log := audit.Open(b.Context(), b.store.Source(), 1+node%2, storetest.Logger(b))
		for _, what := range []string{"POST /v1/deposits", "PATCH /v1/accounts/{number}"} {
			log.Add(audit.Record{At: time.Now().UTC(), Who: principal, What: what, From: "127.0.0.1", Status: 201, Request: uuid.NewString()})
		}
		b.must(log.Sync(b.Context()))
		b.must(log.Close(b.Context()))
	}
}

// limited opens an account with a daily limit and more money than that.
func (b *books) limited(out int64) ledger.Number {
	b.Helper()
	number := b.open("KRW", 0)
	b.do(0, deposit(number, 2*out))
	b.do(1, ledger.Amend{Actor: actor, Number: number, DailyOut: &out})
	return number
}

func (b *books) status(number ledger.Number, status ledger.Status) {
	b.Helper()
	b.do(0, ledger.Amend{Actor: actor, Number: number, Status: &status})
}
