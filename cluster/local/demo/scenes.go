package demo

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"lockstep/api/client"
	"lockstep/node/verify"
)

// play runs the scenes in order.
func (s *stage) play() error {
	for _, scene := range []struct {
		title string
		run   func() error
	}{
		{"Two customers open accounts, and money comes in", s.open},
		{"A transfer through each node", s.transfer},
		{"The same request twice, over different nodes, with one idempotency key", s.repeat},
		{"More than there is", s.overdraw},
		{"A batch of which one transfer cannot be done", s.batch},
		{"A hold, captured in part; another, voided", s.hold},
		{"200 withdrawals of 100 at once, over all nodes, from an account with 10,000", s.storm},
		{"The proof", s.proof},
	} {
		fmt.Fprintf(s.out, "\n%s: %s\n", s.system.ID, scene.title)
		if err := scene.run(); err != nil {
			return fmt.Errorf("%s: %w", scene.title, err)
		}
	}
	return nil
}

func (s *stage) open() error {
	for _, customer := range []struct {
		name   string
		number *string
	}{{"alice", &s.alice}, {"bob", &s.bob}} {
		account, err := s.balancer.OpenAccount(s.ctx, client.NewAccount{Currency: currency, Label: customer.name})
		if err != nil {
			return err
		}
		*customer.number = account.Number
		s.say("%s opens %s", customer.name, account.Number)
	}
	if _, err := s.balancer.Deposit(s.ctx, client.Cash{Account: s.alice, Amount: "10000", Currency: currency}); err != nil {
		return err
	}
	return s.balance("after a deposit of 10000 alice", s.alice, "10000")
}

func (s *stage) transfer() error {
	for i := range s.nodes {
		transfer, err := s.node(i).Transfer(s.ctx, s.payment("500"))
		if err != nil {
			return err
		}
		s.say("node %d: %s %s, %s", i+1, transfer.Amount, transfer.Currency, transfer.State)
	}
	return s.balance("bob", s.bob, fmt.Sprint(500*len(s.nodes)))
}

func (s *stage) payment(amount string) client.Payment {
	return client.Payment{From: s.alice, To: s.bob, Amount: amount, Currency: currency}
}

func (s *stage) repeat() error {
	key, before := fmt.Sprintf("demo-%d", time.Now().UnixNano()), s.replays.Load()
	first, err := s.node(0).Transfer(s.ctx, s.payment("1000"), client.WithKey(key))
	if err != nil {
		return err
	}
	second, err := s.node(1).Transfer(s.ctx, s.payment("1000"), client.WithKey(key))
	if err != nil {
		return err
	}
	if err := s.expect("both answers name one transfer", fmt.Sprint(first.ID == second.ID), "true"); err != nil {
		return err
	}
	if err := s.expect("answers marked as replayed", fmt.Sprint(s.replays.Load()-before), "1"); err != nil {
		return err
	}
	return s.balance("bob", s.bob, fmt.Sprint(500*len(s.nodes)+1000))
}

func (s *stage) overdraw() error {
	_, err := s.korean.Transfer(s.ctx, s.payment("1000000"))
	problem, err := refused(err, "insufficient_funds")
	if err != nil {
		return err
	}
	s.say("%d %s, outcome %s: %s", problem.Status, problem.Code, problem.Outcome, problem.Detail)
	return s.expect("to a Korean customer it says", problem.Title, "잔액부족")
}

func (s *stage) batch() error {
	_, err := s.balancer.Batch(s.ctx, client.Batch{Atomic: true, Transfers: []client.Payment{s.payment("100"), s.payment("1000000")}})
	problem, err := refused(err, "insufficient_funds")
	if err != nil {
		return err
	}
	s.say("atomic: all or none: %s", problem.Detail)
	results, err := s.balancer.Batch(s.ctx, client.Batch{Transfers: []client.Payment{s.payment("100"), s.payment("1000000")}})
	if err != nil {
		return err
	}
	done := results[0].Transfer != nil && results[1].Problem != nil
	if err := s.expect("one by one: the first is done, the second refused", fmt.Sprint(done), "true"); err != nil {
		return err
	}
	return s.balance("bob", s.bob, fmt.Sprint(500*len(s.nodes)+1100))
}

func (s *stage) hold() error {
	asked := client.NewHold{Account: s.alice, To: s.bob, Amount: "700", Currency: currency}
	hold, err := s.balancer.Hold(s.ctx, asked)
	if err != nil {
		return err
	}
	if hold, err = s.node(1).Capture(s.ctx, hold.ID, client.Capture{Amount: "300"}); err != nil {
		return err
	}
	if err := s.expect("of a hold of 700 captured", hold.Captured, "300"); err != nil {
		return err
	}
	if hold, err = s.balancer.Hold(s.ctx, asked); err != nil {
		return err
	}
	if hold, err = s.node(0).Void(s.ctx, hold.ID); err != nil {
		return err
	}
	if err := s.expect("the other hold is", hold.State, "voided"); err != nil {
		return err
	}
	return s.balance("bob", s.bob, fmt.Sprint(500*len(s.nodes)+1400))
}

func (s *stage) storm() error {
	account, err := s.balancer.OpenAccount(s.ctx, client.NewAccount{Currency: currency, Label: "storm"})
	if err != nil {
		return err
	}
	if _, err := s.balancer.Deposit(s.ctx, client.Cash{Account: account.Number, Amount: "10000", Currency: currency}); err != nil {
		return err
	}
	const requests = 200
	began, failures := time.Now(), make([]error, requests)
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			_, failures[i] = s.node(i).Withdraw(s.ctx, client.Cash{Account: account.Number, Amount: "100", Currency: currency})
		})
	}
	wg.Wait()
	done := 0
	for _, err := range failures {
		var problem *client.Problem
		switch {
		case err == nil:
			done++
		case !errors.As(err, &problem) || problem.Code != "insufficient_funds":
			return err
		}
	}
	s.say("answered in %.2f s", time.Since(began).Seconds())
	if err := s.expect("withdrawals done", fmt.Sprint(done), "100"); err != nil {
		return err
	}
	return s.balance("the account", account.Number, "0")
}

func (s *stage) proof() error {
	balance, err := s.balancer.TrialBalance(s.ctx, client.Fresh())
	if err != nil {
		return err
	}
	for _, proof := range balance.Currencies {
		s.say("%s: the entries of all accounts sum to %s", proof.Currency, proof.Entries)
	}
	if err := s.expect("the trial balance is balanced", fmt.Sprint(balance.Balanced), "true"); err != nil {
		return err
	}
	report, err := verify.Run(s.ctx, s.system.MySQLSourceDSN, nil)
	if err != nil {
		return err
	}
	for _, breach := range report.Breaches {
		s.say("BREACH %s: %s: %s", breach.Invariant, breach.Place, breach.Detail)
	}
	what := fmt.Sprintf("breaches of %d invariants over %d transfers", len(report.Findings), report.Transfers)
	return s.expect(what, fmt.Sprint(len(report.Breaches)), "0")
}
