package tour

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"lockstep/examples/ticketoffice/concert"
	"lockstep/examples/ticketoffice/payment"
	"lockstep/examples/ticketoffice/queue"
	"lockstep/examples/ticketoffice/stage"
)

// Hinted are scenes about what Lockstep tells the points service of a choreography. The last two wait until holds expire.
func Hinted() []Scene {
	return []Scene{
		{"the answer to a capture is lost: a webhook brings the ticket on, late when its receiver was down, and not a forged one", captureUnheard},
		{"a hold expires at Lockstep: a webhook ends the sale, and all is given back", holdExpires},
		{"a hold expires unheard of: the capture that comes too late is refused, and all is given back", holdExpiresUnheard},
	}
}

// until looks again while it is not so.
func until(ctx context.Context, what string, is func() (bool, error)) error {
	for {
		done, err := is()
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: waited in vain until %s", ctx.Err(), what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// never has an action fail for ever.
func never(action string) stage.Rule {
	return func(asked string, _ int) stage.Fate {
		if asked == action {
			return stage.Fail
		}
		return stage.Pass
	}
}

func tooLate(ctx context.Context, s *stage.Stage) error {
	a, err := begin(ctx, s, wealth)
	if err != nil {
		return err
	}
	s.Interfere(a.sale.Account, func(string, int) stage.Fate { return stage.Pass }, nil)
	if err := s.ReservationEnds(ctx, a.sale); err != nil {
		return err
	}
	if err := a.want(ctx, concert.FreeSeat, queue.Active, wealth); err != nil {
		return err
	}
	accounts, err := s.Accounts(ctx, 1, wealth)
	if err != nil {
		return err
	}
	token, err := s.Enter(ctx, "next")
	if err != nil {
		return err
	}
	next, err := s.Reserve(ctx, token, accounts[0], a.sale.Concert, 1)
	if err != nil {
		return fmt.Errorf("the seat is not another's: %w", err)
	}
	record, err := a.Pay(ctx, a.sale)
	if err != nil || record.State != payment.Voided || !strings.Contains(record.Reason, "reservation is over") {
		return fmt.Errorf("the late payment is %q, because %q: %w", record.State, record.Reason, orNone(err))
	}
	if err := a.want(ctx, concert.Reserved, queue.Active, wealth); err != nil {
		return err
	}
	// Whoever holds money before looking at the seat has given it back.
	if state, err := s.HoldState(ctx, a.sale.Account); err != nil || state == "pending" || state == "posted" || s.Asked(a.sale.Account, stage.ToHold) > 0 && state != "voided" {
		return fmt.Errorf("the late buyer's hold is %q: %w", state, orNone(err))
	}
	if s.Asked(a.sale.Account, stage.ToCapture) > 0 {
		return errors.New("a late payment was captured")
	}
	if record, err := s.Pay(ctx, next); err != nil || record.State != payment.Paid {
		return fmt.Errorf("the other's payment is %q: %s: %w", record.State, record.Reason, orNone(err))
	}
	other := act{s, next}
	return other.paid(ctx)
}

// captureUnheard lets no capture through but the first, whose answer is lost. So nothing that the office asks again can tell
// that the ticket is paid.
func captureUnheard(ctx context.Context, s *stage.Stage) error {
	a, err := begin(ctx, s, wealth)
	if err != nil {
		return err
	}
	account := a.sale.Account
	s.Interfere(account, func(action string, n int) stage.Fate {
		switch {
		case action != stage.ToCapture:
			return stage.Pass
		case n == 1:
			return stage.Cut
		}
		return stage.Fail
	}, never(stage.ToTell))
	before, err := s.BroughtOn(ctx)
	if err != nil {
		return err
	}
	if err := s.Order(ctx, a.sale); err != nil {
		return err
	}
	if err := until(ctx, "Lockstep tells of the capture, which was asked for again", func() (bool, error) {
		return s.Deliveries(account) > 0 && s.Asked(account, stage.ToCapture) > 1, nil
	}); err != nil {
		return err
	}
	if status, err := s.Forge(ctx, "hold.posted", a.sale); err != nil || status != http.StatusUnauthorized {
		return fmt.Errorf("a forged delivery was answered with %d: %w", status, orNone(err))
	}
	if record, err := s.Payment(ctx, a.sale.Payment); err != nil || record.State != payment.Pending {
		return fmt.Errorf("after a forged delivery the payment is %q: %w", record.State, orNone(err))
	}
	s.Interfere(account, never(stage.ToCapture), nil) // the receiver is there again
	if record, err := s.Ended(ctx, a.sale.Payment); err != nil || record.State != payment.Paid {
		return fmt.Errorf("the payment is %q: %s: %w", record.State, record.Reason, orNone(err))
	}
	if err := broughtOn(ctx, s, before); err != nil {
		return err
	}
	return a.paid(ctx)
}

// holdExpires lets no capture through at all.
func holdExpires(ctx context.Context, s *stage.Stage) error {
	a, err := begin(ctx, s, wealth)
	if err != nil {
		return err
	}
	before, err := s.BroughtOn(ctx)
	if err != nil {
		return err
	}
	s.Interfere(a.sale.Account, never(stage.ToCapture), nil)
	if err := a.expired(ctx, s); err != nil {
		return err
	}
	return broughtOn(ctx, s, before)
}

// broughtOn waits until more sales were brought on by a webhook: that is counted after the commit.
func broughtOn(ctx context.Context, s *stage.Stage, before int64) error {
	return until(ctx, "a sale is brought on by a webhook", func() (bool, error) {
		now, err := s.BroughtOn(ctx)
		return now > before, err
	})
}

// holdExpiresUnheard lets captures through when it is too late, and no delivery.
func holdExpiresUnheard(ctx context.Context, s *stage.Stage) error {
	a, err := begin(ctx, s, wealth)
	if err != nil {
		return err
	}
	account := a.sale.Account
	s.Interfere(account, never(stage.ToCapture), never(stage.ToTell))
	if err := s.Order(ctx, a.sale); err != nil {
		return err
	}
	if err := until(ctx, "the hold expires", func() (bool, error) {
		state, err := s.HoldState(ctx, account)
		return state == "expired", err
	}); err != nil {
		return err
	}
	s.Interfere(account, nil, never(stage.ToTell))
	return a.expired(ctx, s)
}

// expired pays, and wants the sale to end because its hold did: seat free, token active, no money moved.
func (a act) expired(ctx context.Context, s *stage.Stage) error {
	if err := a.voided(ctx, a.sale); err != nil {
		return err
	}
	if state, err := s.HoldState(ctx, a.sale.Account); err != nil || state != "expired" {
		return fmt.Errorf("the hold is %q: %w", state, orNone(err))
	}
	return a.want(ctx, concert.FreeSeat, queue.Active, wealth)
}
