package e2e_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tally counts what clients were told, by node.
type tally struct {
	succeeded [2]atomic.Int64
	refused   atomic.Int64
}

func (c *tally) total() int64 { return c.succeeded[0].Load() + c.succeeded[1].Load() }

// count reports an answer that is neither a success nor a refusal for lack of funds.
func (c *tally) count(tb testing.TB, node int, got answer) bool {
	switch {
	case got.status == http.StatusCreated:
		c.succeeded[node].Add(1)
	case got.status == http.StatusUnprocessableEntity && got.field("code") == "insufficient_funds":
		c.refused.Add(1)
	default:
		tb.Errorf("a payment was neither done nor refused: %v", got)
		return false
	}
	return true
}

// perNode makes a caller for each node of the shared cluster, for storms.
func perNode(t *testing.T) []caller {
	s := shared(t)
	c := s.as(t, s.operator).inHaste()
	return []caller{c.at(s.nodes[0]), c.at(s.nodes[1])}
}

// 200 withdrawals of 100 at once from 10,000 over both nodes: half of them succeed, and every one is on the statement.
func TestWithdrawalsAtOnceNeverOverdraw(t *testing.T) {
	callers, books := perNode(t), newRecord("KRW")
	number := books.open(callers[0], "10000")
	var wg sync.WaitGroup
	var told tally
	for i := range 200 {
		wg.Go(func() { told.count(t, i%2, books.withdraw(callers[i%2], number, "100", "Prefer", "wait=30")) })
	}
	wg.Wait()
	t.Logf("succeeded %d + %d, refused %d", told.succeeded[0].Load(), told.succeeded[1].Load(), told.refused.Load())
	if told.total() != 100 || told.refused.Load() != 100 {
		t.Errorf("%d withdrawals succeeded and %d were refused, want 100 and 100", told.total(), told.refused.Load())
	}
	if balance := callers[0].posted(number); balance != "0" {
		t.Errorf("the balance is %s, want 0", balance)
	}
	statement := callers[0].statement(number, 7)
	if len(statement) != 101 {
		t.Errorf("the statement has %d entries, want 101", len(statement))
	}
	for i, entry := range statement {
		if entry.BalanceAfter != fmt.Sprint(i*100) || entry.Sequence != int64(len(statement)-i) {
			t.Fatalf("entry %d from the end is %d with balance_after %s, want %d with %d",
				i, entry.Sequence, entry.BalanceAfter, len(statement)-i, i*100)
		}
	}
	books.audit(callers[0])
	shared(t).verify(t)
}

// 64 clients move money both ways between two accounts and around cycles of ten: nobody is refused for another reason
// than funds, nothing deadlocks, both nodes do their part, and the books have what the clients were told.
func TestOppositeAndCyclicTransfersNeverDeadlock(t *testing.T) {
	const clients, accounts, enough, storming = 64, 10, 500, 4 * time.Second
	callers, books := perNode(t), newRecord("USD")
	var numbers []string
	for range accounts {
		numbers = append(numbers, books.open(callers[0], "40.00"))
	}
	deadlocks := shared(t).deadlocks(t)
	var told tally
	var wg sync.WaitGroup
	began := time.Now()
	goesOn := func() bool {
		stormed := time.Since(began)
		return stormed < storming || told.total() < enough && stormed < patience
	}
	for i := range clients {
		wg.Go(func() {
			for round := i; goesOn(); round++ {
				from, to := pair(i, round, accounts)
				if !told.count(t, i%2, books.transfer(callers[i%2], numbers[from], numbers[to], "7.31")) {
					return
				}
			}
		})
	}
	wg.Wait()
	t.Logf("succeeded %d + %d, refused %d in %v", told.succeeded[0].Load(), told.succeeded[1].Load(), told.refused.Load(), time.Since(began))
	for i := range told.succeeded {
		if share := float64(told.succeeded[i].Load()) / float64(max(told.total(), 1)); share < 0.2 {
			t.Errorf("node %d did %.0f%% of the transfers, want at least 20%%", i+1, 100*share)
		}
	}
	if told.total() < enough {
		t.Errorf("only %d transfers succeeded, want %d", told.total(), enough)
	}
	if after := shared(t).deadlocks(t); after != deadlocks {
		t.Errorf("the server counted %d deadlocks", after-deadlocks)
	}
	books.audit(callers[0])
	shared(t).verify(t)
}

// pair picks payer and payee: half of the clients go to and fro between two accounts, half go around a cycle in both
// directions.
func pair(client, round, accounts int) (from, to int) {
	switch client % 4 {
	case 0:
		return 0, 1
	case 1:
		return 1, 0
	case 2:
		return round % accounts, (round + 1) % accounts
	default:
		return (round + 1) % accounts, round % accounts
	}
}

// deadlocks reads the server's own count of error 1213.
func (s *site) deadlocks(tb testing.TB) int64 {
	tb.Helper()
	return s.journal(tb, "SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'INNODB_DEADLOCKS'")
}
