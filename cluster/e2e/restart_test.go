package e2e_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/local"
)

// Each node in turn gets SIGTERM while clients go on paying through the balancer: it drains, the supervisor starts it
// again, and no request fails, is lost or is made twice.
func TestNodesEndUnderLoadAndNoRequestFails(t *testing.T) {
	s := shared(t)
	c, books := s.as(t, s.operator).inHaste(), newRecord("KRW")
	var numbers []string
	for range 6 {
		numbers = append(numbers, books.open(c, "100000"))
	}
	ctx, stop := context.WithCancel(context.Background())
	var paid atomic.Int64
	var payers sync.WaitGroup
	for i := range 32 {
		payers.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				got := books.transfer(c, numbers[i%6], numbers[(i+1+round%5)%6], "1")
				if got.status != http.StatusCreated {
					t.Errorf("a payment failed while a node ended: %v", got)
				}
				paid.Add(1)
			}
		})
	}
	for _, name := range []string{"alpha-node-1", "alpha-node-2"} {
		before, calm := s.process(t, name), paid.Load()
		eventually(t, "payments are under way", func() bool { return paid.Load() > calm+50 })
		during := paid.Load()
		if err := syscall.Kill(before.PID, syscall.SIGTERM); err != nil {
			t.Fatalf("end %s: %v", name, err)
		}
		began := time.Now()
		eventually(t, name+" has ended", func() bool { return s.process(t, name).PID != before.PID })
		drained := time.Since(began)
		eventually(t, name+" is back", func() bool {
			now := s.process(t, name)
			return now.State == local.Running && now.Restarts > before.Restarts
		})
		during = paid.Load() - during
		t.Logf("%s drained for %.1f s and was back after %.1f s; %d payments meanwhile", name, drained.Seconds(), time.Since(began).Seconds(), during)
		if during < 50 {
			t.Errorf("only %d payments were made while %s ended", during, name)
		}
		// The other node ends only when the balancer sees this one again.
		eventually(t, "the balancer uses "+name+" again", func() bool { return s.serves(before.Address, c) })
	}
	stop()
	payers.Wait()
	if made := int64(len(books.posted) - len(numbers)); made != paid.Load() {
		t.Errorf("%d payments were asked for, %d were acknowledged", paid.Load(), made)
	}
	books.audit(c)
	s.verify(t)
}

// process tells the state of a process of the cluster.
func (s *site) process(tb testing.TB, name string) local.Status {
	tb.Helper()
	for _, status := range s.cluster.Processes() {
		if status.Name == name {
			return status
		}
	}
	tb.Fatalf("there is no process %s", name)
	return local.Status{}
}

// serves tells whether a node has got payments since it started, which under load come from the balancer only.
func (s *site) serves(address string, c caller) bool {
	for i, node := range s.nodes {
		if node == "http://"+address {
			admin := s.cluster.Credentials().Systems[0].AdminURLs[i]
			return c.at(admin).metric("lockstep_posting_commands_total") > 0
		}
	}
	return false
}

// A cluster that is stopped and started again in its directory has its money, holds, answers under keys and clients, and
// the tokens from before are good.
func TestClusterKeepsItsDataAndTokensWhenRestarted(t *testing.T) {
	t.Parallel()
	options := func(o *local.Options) { o.Replicas = 0 }
	s := own(t, options)
	c, operator := s.as(t, s.client), s.as(t, s.operator)
	books := newRecord("KRW")
	alice, bob := books.open(c, "1000"), books.open(c, "0")
	for range 20 {
		books.transfer(c, alice, bob, "7").expect(t, http.StatusCreated, "")
	}
	key := uuid.NewString()
	first := c.call(http.MethodPost, "/v1/withdrawals", cash(bob, "41", "KRW"), "Idempotency-Key", key).expect(t, http.StatusCreated, "")
	refused := c.call(http.MethodPost, "/v1/withdrawals", cash(bob, "4100", "KRW"), "Idempotency-Key", key+"r").expect(t, 422, "insufficient_funds")
	held := c.post("/v1/holds", cash(alice, "60", "KRW")).expect(t, http.StatusCreated, "")
	made := operator.post("/v1/admin/clients", object{"name": "before", "scopes": []string{"accounts:read"}}).expect(t, http.StatusCreated, "")
	before := [2]string{c.balance(alice), c.balance(bob)}

	s.http.CloseIdleConnections()
	s.cluster.Close()
	if got := c.get("/v1/accounts/" + alice); got.err == nil {
		t.Errorf("the stopped cluster answers %v", got)
	}
	again := reopen(t, s, options)
	c.site, operator.site = again, again
	c, operator = c.at(again.balancer), operator.at(again.balancer) // with the tokens from before
	if after := [2]string{c.balance(alice), c.balance(bob)}; after != before {
		t.Errorf("before the restart the accounts had %v, after it %v", before, after)
	}
	for _, base := range again.bases() {
		c.at(base).repeats(first, "/v1/withdrawals", cash(bob, "41", "KRW"), key)
		c.at(base).repeats(refused, "/v1/withdrawals", cash(bob, "4100", "KRW"), key+"r")
	}
	c.post("/v1/holds/"+held.field("id")+"/capture", object{"to": bob}).expect(t, http.StatusOK, "")
	shop := local.ClientCredentials{ClientID: made.field("client_id"), ClientSecret: made.field("client_secret")}
	if got := again.signIn(again.balancer, shop, ""); got.status != http.StatusOK {
		t.Errorf("a client from before the restart signs in with %v", got)
	}
	operator.get("/v1/admin/nodes").expect(t, http.StatusOK, "")
	if entries := c.statement(bob, 50); len(entries) != 22 || entries[0].BalanceAfter != "159" {
		t.Errorf("the statement has %d entries and ends with %+v", len(entries), entries[0])
	}
	again.verify(t)
}

// reopen starts a stopped cluster again in its directory.
func reopen(t *testing.T, s *site, change func(*local.Options)) *site {
	t.Helper()
	again, err := open(s.options.Dir, change)
	if err != nil {
		t.Fatalf("start the cluster again: %v", err)
	}
	t.Cleanup(func() {
		if again.end() != 0 {
			t.Error("a node of the restarted cluster went wrong; see its log")
		}
	})
	return again
}
