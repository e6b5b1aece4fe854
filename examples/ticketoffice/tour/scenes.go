// Package tour walks through every success and every failure of the ticket office, and says what is not as it should be.
package tour

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"lockstep/api/client"
	"lockstep/examples/ticketoffice/concert"
	"lockstep/examples/ticketoffice/payment"
	"lockstep/examples/ticketoffice/queue"
	"lockstep/examples/ticketoffice/sale"
	"lockstep/examples/ticketoffice/stage"
	"lockstep/examples/ticketoffice/web"
)

const (
	price  = 50_000
	wealth = 80_000
)

// Scene is one thing that happens, and what must be so afterwards.
type Scene struct {
	Name string
	Play func(ctx context.Context, s *stage.Stage) error
}

// Scenes are those of a mode. They can be played on one stage at the same time.
func Scenes(mode string) []Scene {
	scenes := []Scene{
		{"a payment succeeds, and the same order again changes nothing", success},
		{"a buyer without the money: the payment is voided, the seat is free, the token active", poor},
		{"another sale under the same id is refused", reused},
		{"a reservation for another price pays nothing", wrongPrice},
		{"a reservation that is over: the seat is another's, and a late payment moves nobody's money", tooLate},
	}
	for _, step := range stepsBefore(mode) {
		scenes = append(scenes, Scene{"step " + step + " fails once: all is taken back", func(ctx context.Context, s *stage.Stage) error {
			return takenBack(ctx, s, step)
		}})
	}
	for _, step := range stepsAfter(mode) {
		scenes = append(scenes, Scene{"step " + step + " fails three times after the capture: the payment stands", func(ctx context.Context, s *stage.Stage) error {
			return stands(ctx, s, step)
		}})
	}
	return scenes
}

// PushDown stops the push service of a choreography: a scene that needs the stage for itself.
var PushDown = Scene{"the push service is down: payments go on, messages come later", pushDown}

// stepsBefore are those whose failure takes the payment back. The first step of a choreography answers the buyer by itself.
func stepsBefore(mode string) []string {
	switch mode {
	case stage.Choreography:
		return []string{sale.StepToken, sale.StepRecord, sale.StepHold, sale.StepSeat, sale.StepCapture}
	case stage.Events:
		return []string{sale.StepHold, sale.StepRecord, sale.StepSeat, sale.StepExpire, sale.StepCapture}
	}
	return []string{sale.StepRecord, sale.StepSeat, sale.StepExpire, sale.StepPush, sale.StepData, sale.StepHold, sale.StepCapture}
}

// stepsAfter are those whose failure is only tried again.
func stepsAfter(mode string) []string {
	switch mode {
	case stage.Choreography:
		return []string{sale.StepExpire, sale.StepPaid, sale.StepSold, sale.StepPush}
	case stage.Events:
		return []string{sale.StepPush, sale.StepData}
	}
	return nil
}

// act is one buyer with a reserved seat of a concert of one seat.
type act struct {
	*stage.Stage
	sale sale.Sale
}

var concerts atomic.Int64

func begin(ctx context.Context, s *stage.Stage, wealth int64) (act, error) {
	n := concerts.Add(1)
	name := fmt.Sprintf("concert-%d", n)
	if err := s.OpenConcert(ctx, name, 1, price); err != nil {
		return act{}, err
	}
	accounts, err := s.Accounts(ctx, 1, wealth)
	if err != nil {
		return act{}, err
	}
	token, err := s.Enter(ctx, fmt.Sprintf("buyer-%d", n))
	if err != nil {
		return act{}, err
	}
	reserved, err := s.Reserve(ctx, token, accounts[0], name, 1)
	return act{s, reserved}, err
}

// want looks until all is as it should be: the seat, the token and the money may follow the record a moment later.
func (a act) want(ctx context.Context, seat, token string, posted int64) error {
	var found string
	for wanted := fmt.Sprintf("seat %s, token %s, account %d with 0 held", seat, token, posted); ; {
		seats, err := a.Seats(ctx, a.sale.Concert)
		if err != nil {
			return err
		}
		has := "none"
		for state := range seats { // there is only one
			has = state
		}
		t, err := a.Token(ctx, a.sale.Token)
		if err != nil {
			return err
		}
		account, err := a.Owner.Account(ctx, a.sale.Account, client.Fresh())
		if err != nil {
			return err
		}
		found = fmt.Sprintf("seat %s, token %s, account %s with %s held", has, t.State, account.Balance.Posted, account.Balance.PendingDebit)
		if found == wanted {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: there is %s; it should be %s", ctx.Err(), found, wanted)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// paid is what must be so after a payment.
func (a act) paid(ctx context.Context) error {
	if err := a.want(ctx, concert.Sold, queue.Expired, wealth-price); err != nil {
		return err
	}
	return a.Told(ctx, a.sale.Payment)
}

func success(ctx context.Context, s *stage.Stage) error {
	a, err := begin(ctx, s, wealth)
	if err != nil {
		return err
	}
	for range 2 {
		record, err := a.Pay(ctx, a.sale)
		if err != nil || record.State != payment.Paid {
			return fmt.Errorf("the payment is %q: %s: %w", record.State, record.Reason, orNone(err))
		}
	}
	return a.paid(ctx)
}

func poor(ctx context.Context, s *stage.Stage) error {
	a, err := begin(ctx, s, price-1)
	if err != nil {
		return err
	}
	if err := a.voided(ctx, a.sale); err != nil {
		return err
	}
	return a.want(ctx, concert.FreeSeat, queue.Active, price-1)
}

func wrongPrice(ctx context.Context, s *stage.Stage) error {
	a, err := begin(ctx, s, wealth)
	if err != nil {
		return err
	}
	cheap := a.sale
	cheap.Amount = 1
	if err := a.voided(ctx, cheap); err != nil {
		return err
	}
	return a.want(ctx, concert.FreeSeat, queue.Active, wealth)
}

func reused(ctx context.Context, s *stage.Stage) error {
	a, err := begin(ctx, s, wealth)
	if err != nil {
		return err
	}
	if _, err := a.Pay(ctx, a.sale); err != nil {
		return err
	}
	other := a.sale
	other.Seat++
	var problem *web.Problem
	if err := a.Order(ctx, other); !errors.As(err, &problem) || problem.Code != "payment_reused" {
		return fmt.Errorf("another sale under the same id: %w", orNone(err))
	}
	return a.paid(ctx)
}

// voided pays what cannot be paid.
func (a act) voided(ctx context.Context, s sale.Sale) error {
	record, err := a.Pay(ctx, s)
	if err != nil || record.State != payment.Voided || record.Reason == "" {
		return fmt.Errorf("the payment is %q, because %q: %w", record.State, record.Reason, orNone(err))
	}
	return nil
}

// takenBack has a step before the capture fail, and pays again afterwards: nothing stands in the way.
func takenBack(ctx context.Context, s *stage.Stage, step string) error {
	a, err := begin(ctx, s, wealth)
	if err != nil {
		return err
	}
	if err := s.Fail(ctx, step, a.sale.Payment, 1); err != nil {
		return err
	}
	seat := concert.FreeSeat
	if step == sale.StepToken { // nothing was begun: the buyer is refused, and still has the reservation
		seat = concert.Reserved
		if err := a.Order(ctx, a.sale); err == nil {
			return errors.New("the order was taken")
		}
	} else if err := a.voided(ctx, a.sale); err != nil {
		return err
	}
	if err := a.want(ctx, seat, queue.Active, wealth); err != nil {
		return err
	}
	if left, err := s.FailuresLeft(ctx, step, a.sale.Payment); err != nil || left != 0 {
		return fmt.Errorf("%d failures of step %s did not happen: %w", left, step, orNone(err))
	}
	token, err := s.Token(ctx, a.sale.Token)
	if err != nil {
		return err
	}
	if seat == concert.FreeSeat {
		if a.sale, err = s.Reserve(ctx, token, a.sale.Account, a.sale.Concert, 1); err != nil {
			return err
		}
	}
	if record, err := a.Pay(ctx, a.sale); err != nil || record.State != payment.Paid {
		return fmt.Errorf("the second payment is %q: %s: %w", record.State, record.Reason, orNone(err))
	}
	return a.paid(ctx)
}

// stands has a step after the capture fail three times.
func stands(ctx context.Context, s *stage.Stage, step string) error {
	const failures = 3
	a, err := begin(ctx, s, wealth)
	if err != nil {
		return err
	}
	if err := s.Fail(ctx, step, a.sale.Payment, failures); err != nil {
		return err
	}
	if record, err := a.Pay(ctx, a.sale); err != nil || record.State != payment.Paid {
		return fmt.Errorf("the payment is %q: %s: %w", record.State, record.Reason, orNone(err))
	}
	if err := a.paid(ctx); err != nil {
		return err
	}
	for { // the data platform is not looked at above
		left, err := s.FailuresLeft(ctx, step, a.sale.Payment)
		if err != nil || left == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d failures of step %s did not happen", left, step)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func pushDown(ctx context.Context, s *stage.Stage) error {
	if err := s.Stop("push"); err != nil {
		return err
	}
	var acts []act
	for range 3 {
		a, err := begin(ctx, s, wealth)
		if err != nil {
			return err
		}
		if record, err := a.Pay(ctx, a.sale); err != nil || record.State != payment.Paid {
			return fmt.Errorf("without the push service the payment is %q: %s: %w", record.State, record.Reason, orNone(err))
		}
		if err := a.want(ctx, concert.Sold, queue.Expired, wealth-price); err != nil {
			return err
		}
		acts = append(acts, a)
	}
	if err := s.Start(ctx, "push"); err != nil {
		return err
	}
	for _, a := range acts {
		if err := a.paid(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Crowd has many buyers want few seats. It ends when all seats are sold, and all others have given up with their money.
func Crowd(ctx context.Context, s *stage.Stage, buyers, seats int) error {
	name := fmt.Sprintf("concert-%d", concerts.Add(1))
	if err := s.OpenConcert(ctx, name, seats, price); err != nil {
		return err
	}
	accounts, err := s.Accounts(ctx, buyers, wealth)
	if err != nil {
		return err
	}
	var paid atomic.Int64
	crowd, ctx := errgroup.WithContext(ctx)
	for i, account := range accounts {
		crowd.Go(func() error {
			bought, err := Buy(ctx, s, name, "fan-"+strconv.Itoa(i), account)
			if bought {
				paid.Add(1)
			}
			return err
		})
	}
	if err := crowd.Wait(); err != nil {
		return err
	}
	if paid.Load() != int64(seats) {
		return fmt.Errorf("%d of %d seats were paid", paid.Load(), seats)
	}
	return nil
}

// Buy queues, reserves and pays, and tells whether the buyer has a seat in the end. It gives up when all seats are sold.
func Buy(ctx context.Context, s *stage.Stage, name, buyer, account string) (bool, error) {
	token, err := s.Enter(ctx, buyer)
	if err != nil {
		return false, err
	}
	for {
		reserved, err := s.Reserve(ctx, token, account, name, 0)
		var problem *web.Problem
		switch {
		case err == nil:
			record, err := s.Pay(ctx, reserved)
			if err != nil || record.State == payment.Paid {
				return err == nil, err
			}
		case errors.As(err, &problem) && problem.Code == "sold_out":
			return false, s.Leave(ctx, token.ID)
		case errors.As(err, &problem) && problem.Code != "seats_taken" && problem.Status < http.StatusInternalServerError:
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// BuyOnce queues, reserves and pays one seat while processes come and go, and the payment may end either way. A patient buyer
// asks again until it has; another one orders once and leaves, whatever the answer.
func BuyOnce(ctx context.Context, s stage.Office, name, buyer, account string, patient bool) error {
	token, err := s.Enter(ctx, buyer)
	if err != nil {
		return err
	}
	for {
		reserved, err := s.Reserve(ctx, token, account, name, 0)
		switch {
		case err == nil && patient:
			_, err := s.Pay(ctx, reserved)
			return err
		case err == nil:
			_ = s.Order(ctx, reserved) // the office has to end it by itself, if it came there
			return nil
		}
		var problem *web.Problem
		if errors.As(err, &problem) && problem.Status < http.StatusInternalServerError {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// orNone lets an error that may be nil stand in a sentence.
func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

var errNone = errors.New("no error")

// Prepare has so many buyers with a reserved seat each, spread over concerts, and returns what pays each of them.
func Prepare(ctx context.Context, s *stage.Stage, concerts, buyers int) ([]func(context.Context) error, error) {
	accounts, err := s.Accounts(ctx, buyers, wealth)
	if err != nil {
		return nil, err
	}
	for c := range concerts {
		if err := s.OpenConcert(ctx, "bench-"+strconv.Itoa(c), buyers/concerts+1, price); err != nil {
			return nil, err
		}
	}
	jobs := make([]func(context.Context) error, buyers)
	preparing, ctx := errgroup.WithContext(ctx)
	const atOnce = 12
	preparing.SetLimit(atOnce)
	for i := range buyers {
		preparing.Go(func() error {
			token, err := s.Enter(ctx, "fan-"+strconv.Itoa(i))
			if err != nil {
				return err
			}
			reserved, err := s.Reserve(ctx, token, accounts[i], "bench-"+strconv.Itoa(i%concerts), 0)
			jobs[i] = func(ctx context.Context) error {
				record, err := s.Pay(ctx, reserved)
				if err == nil && record.State != payment.Paid {
					err = fmt.Errorf("the payment is %s: %s", record.State, record.Reason)
				}
				return err
			}
			return err
		})
	}
	return jobs, preparing.Wait()
}
