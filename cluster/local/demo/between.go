package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"lockstep/api/client"
	"lockstep/cluster/local"
	"lockstep/node/verify"
)

// between is two systems with a customer each.
type between struct {
	*stage
	payees  *stage
	control *local.Controller
}

// playBetween moves money from the first system to the second, and lets a transfer fail half-way.
func playBetween(ctx context.Context, credentials local.Credentials, out io.Writer) error {
	payers, err := openStage(ctx, credentials.Systems[0], out)
	if err != nil {
		return err
	}
	payees, err := openStage(ctx, credentials.Systems[1], out)
	if err != nil {
		return err
	}
	b := &between{stage: payers, payees: payees, control: credentials.Control()}
	for _, scene := range []struct {
		title string
		run   func() error
	}{
		{"A customer on each side, and 10000 for the payer", b.open},
		{"A transfer from one system to the other", b.transfer},
		{"A payee that is not there: the hold is released at once", b.refuse},
		{"A transfer that fails half-way, and is compensated", b.compensate},
		{"The proof, on both sides", b.proof},
	} {
		fmt.Fprintf(out, "\n%s to %s: %s\n", payers.system.ID, payees.system.ID, scene.title)
		if err := scene.run(); err != nil {
			return fmt.Errorf("%s: %w", scene.title, err)
		}
	}
	return nil
}

func (b *between) open() error {
	for _, side := range []*stage{b.stage, b.payees} {
		account, err := side.balancer.OpenAccount(b.ctx, client.NewAccount{Currency: currency, Label: "across"})
		if err != nil {
			return err
		}
		side.alice = account.Number
		b.say("%s opens %s", side.system.ID, account.Number)
	}
	_, err := b.balancer.Deposit(b.ctx, client.Cash{Account: b.alice, Amount: "10000", Currency: currency})
	return err
}

func (b *between) abroad(amount string) client.Payment {
	return client.Payment{From: b.alice, To: b.payees.alice, Amount: amount, Currency: currency}
}

// soon bounds what happens by itself between the systems.
const soon = 30 * time.Second

// eventually waits until something is so; what is not so in time ends the demo.
func (b *between) eventually(what, want string, see func() (string, error)) error {
	deadline := time.Now().Add(soon)
	for {
		got, err := see()
		if err == nil && got == want {
			b.say("%-58s %s", what, got)
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("%w: %s is %s instead of %s", errSurprise, what, got, want), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (b *between) transfer() error {
	transfer, err := b.balancer.Transfer(b.ctx, b.abroad("1500"))
	if err != nil {
		return err
	}
	if err := b.expect("the transfer is", transfer.State, "posted"); err != nil {
		return err
	}
	if err := b.balance("the payer", b.alice, "8500"); err != nil {
		return err
	}
	return b.eventually("the payee has", "1500", b.seePosted(b.payees))
}

func (b *between) seePosted(side *stage) func() (string, error) {
	return func() (string, error) {
		account, err := side.balancer.Account(b.ctx, side.alice, client.Fresh())
		return account.Balance.Posted, err
	}
}

func (b *between) refuse() error {
	nobody := b.abroad("100")
	account, err := b.payees.balancer.OpenAccount(b.ctx, client.NewAccount{Currency: "USD", Label: "dollars"})
	if err != nil {
		return err
	}
	nobody.To = account.Number
	_, err = b.balancer.Transfer(b.ctx, nobody)
	problem, err := refused(err, "currency_mismatch")
	if err != nil {
		return err
	}
	b.say("%d %s, outcome %s", problem.Status, problem.Code, problem.Outcome)
	return b.available("10000 less 1500 are available again", "8500")
}

func (b *between) available(what, want string) error {
	account, err := b.balancer.Account(b.ctx, b.alice, client.Fresh())
	if err != nil {
		return err
	}
	return b.expect(what, account.Balance.Available, want)
}

// compensate freezes the way to the payee's system while a transfer is under way. The payer's system gives the transfer up
// when its time is over, and says so by an event; whatever reaches the payee's system afterwards finds the door closed.
func (b *between) compensate() error {
	way := b.payees.system.ID + "-lb"
	if err := b.control.Do(b.ctx, "stop", way, false); err != nil {
		return err
	}
	b.say("%s is stopped: nothing reaches %s any more", way, b.payees.system.ID)
	err := b.giveUp()
	if thawed := b.control.Do(b.ctx, "cont", way, false); err == nil {
		err = thawed
	}
	if err != nil {
		return err
	}
	b.say("%s goes on, and what was sent to it arrives too late", way)
	return b.eventually("of the payee's promise is left", "0", func() (string, error) {
		account, err := b.payees.balancer.Account(b.ctx, b.payees.alice, client.Fresh())
		return account.Balance.PendingCredit, err
	})
}

// giveUp sends a transfer that nobody answers, and waits until the payer's system has given it up.
func (b *between) giveUp() error {
	transfer, err := b.balancer.Transfer(b.ctx, b.abroad("2000"))
	if err != nil {
		problem, err := refused(err, "peer_unavailable")
		if err != nil {
			return err
		}
		b.say("the payer's system has given it up: %s", problem.Detail)
	} else {
		b.say("nobody knows yet: the transfer is %s", transfer.State)
	}
	return b.eventually("what was held is available again", "8500", func() (string, error) {
		account, err := b.balancer.Account(b.ctx, b.alice, client.Fresh())
		return account.Balance.Available, err
	})
}

func (b *between) proof() error {
	for _, side := range []*stage{b.stage, b.payees} {
		report, err := verify.Run(b.ctx, side.system.MySQLSourceDSN, nil)
		if err != nil {
			return err
		}
		for _, breach := range report.Breaches {
			b.say("BREACH %s: %s: %s", breach.Invariant, breach.Place, breach.Detail)
		}
		if err := b.expect("breaches in "+side.system.ID, fmt.Sprint(len(report.Breaches)), "0"); err != nil {
			return err
		}
	}
	if err := b.balance("the payer", b.alice, "8500"); err != nil {
		return err
	}
	return b.payees.balance("the payee", b.payees.alice, "1500")
}
