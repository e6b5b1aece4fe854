package e2e_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// 200 withdrawals of 100 at once from 10,000 over both nodes: half of them succeed, and every one is on the statement.
func TestWithdrawalsAtOnceNeverOverdraw(t *testing.T) {
	callers := []caller{shared.at(t, shared.nodes[0]), shared.at(t, shared.nodes[1])}
	number := callers[0].account(t, "KRW", "10000")
	var wg sync.WaitGroup
	var succeeded [2]atomic.Int64
	var refused atomic.Int64
	for i := range 200 {
		wg.Go(func() {
			got := callers[i%2].post("/v1/withdrawals", object{"account": number, "amount": "100", "currency": "KRW"}, "Prefer", "wait=30")
			switch {
			case got.status == http.StatusCreated:
				succeeded[i%2].Add(1)
			case got.field("code") == "insufficient_funds":
				refused.Add(1)
			default:
				t.Errorf("a withdrawal was neither done nor refused: %v", got)
			}
		})
	}
	wg.Wait()
	t.Logf("succeeded %d + %d, refused %d", succeeded[0].Load(), succeeded[1].Load(), refused.Load())
	if total := succeeded[0].Load() + succeeded[1].Load(); total != 100 || refused.Load() != 100 {
		t.Errorf("%d withdrawals succeeded and %d were refused, want 100 and 100", total, refused.Load())
	}
	if balance := callers[0].posted(t, number); balance != "0" {
		t.Errorf("the balance is %s, want 0", balance)
	}
	statement := callers[0].statement(t, number)
	if len(statement) != 101 {
		t.Errorf("the statement has %d entries, want 101", len(statement))
	}
	for i, line := range statement {
		if want := fmt.Sprint(i * 100); line.BalanceAfter != want {
			t.Fatalf("entry %d from the end has balance_after %s, want %s", i, line.BalanceAfter, want)
		}
	}
	shared.verify(t)
}

// 64 clients move money both ways between two accounts and around cycles of ten: nobody is refused for another reason
// than funds, nothing deadlocks, and both nodes do their part.
func TestOppositeAndCyclicTransfersNeverDeadlock(t *testing.T) {
	const clients, accounts = 64, 10
	duration := 20 * time.Second
	if testing.Short() {
		duration = 3 * time.Second
	}
	callers := []caller{shared.at(t, shared.nodes[0]), shared.at(t, shared.nodes[1])}
	var numbers []string
	for range accounts {
		numbers = append(numbers, callers[0].account(t, "USD", "1000.00"))
	}
	deadlocks := shared.deadlocks(t)
	var succeeded [2]atomic.Int64
	var refused atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(duration)
	for i := range clients {
		wg.Go(func() {
			for round := i; time.Now().Before(end); round++ {
				from, to := pair(i, round, accounts)
				got := callers[i%2].post("/v1/transfers", object{"from": numbers[from], "to": numbers[to], "amount": "7.31", "currency": "USD"})
				switch {
				case got.status == http.StatusCreated:
					succeeded[i%2].Add(1)
				case got.status == http.StatusUnprocessableEntity:
					refused.Add(1)
				default:
					t.Errorf("a transfer was neither done nor refused: %v", got)
					return
				}
			}
		})
	}
	wg.Wait()
	total := succeeded[0].Load() + succeeded[1].Load()
	t.Logf("succeeded %d + %d, refused %d in %v", succeeded[0].Load(), succeeded[1].Load(), refused.Load(), duration)
	for i := range succeeded {
		if share := float64(succeeded[i].Load()) / float64(max(total, 1)); share < 0.2 {
			t.Errorf("node %d did %.0f%% of the transfers, want at least 20%%", i+1, 100*share)
		}
	}
	if after := shared.deadlocks(t); after != deadlocks {
		t.Errorf("the server counted %d deadlocks", after-deadlocks)
	}
	shared.verify(t)
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
