package stage

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"lockstep/examples/ticketoffice/choreography"
	"lockstep/examples/ticketoffice/hooks"
	"lockstep/examples/ticketoffice/sale"
)

// ReservationEnds lets the time of a reservation be over now.
func (s *Stage) ReservationEnds(ctx context.Context, of sale.Sale) error {
	schema := s.schemas.name(s.options.Mode)
	if s.options.Mode == Choreography {
		schema = s.schemas.name(choreography.Concert)
	}
	result, err := s.schemas.admin.ExecContext(ctx, "UPDATE "+schema+`.seats SET expires_at = UTC_TIMESTAMP(6) - INTERVAL 1 MICROSECOND
		WHERE reservation = ? AND state = 'reserved'`, of.Reservation)
	if err != nil {
		return fmt.Errorf("end the reservation: %w", err)
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(err, fmt.Errorf("%d reservations were to end, not one", n))
	}
	return nil
}

// MostActive is how many tokens were active or in use at one look.
func (s *Stage) MostActive(ctx context.Context) (n int, err error) {
	schema := s.schemas.name(s.options.Mode)
	if s.options.Mode == Choreography {
		schema = s.schemas.name(choreography.Queue)
	}
	err = s.schemas.admin.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+schema+".tokens WHERE state IN ('active', 'in_use')").Scan(&n)
	return n, err
}

// Interfere decides, from now on, what becomes of what the office asks Lockstep for about an account, and of what Lockstep tells
// it. Nil lets all pass.
func (s *Stage) Interfere(account string, asked, told Rule) {
	s.lockstep.rule(account, asked)
	s.told.rule(account, told)
}

// Asked counts what the office asked Lockstep for about an account, since somebody interferes.
func (s *Stage) Asked(account, action string) int { return s.lockstep.count(account, action) }

// Deliveries counts those of Lockstep about an account, those that failed included, since somebody interferes.
func (s *Stage) Deliveries(account string) int { return s.told.count(account, ToTell) }

// HoldState is how the hold of an account stands at Lockstep; none was made when it is empty.
func (s *Stage) HoldState(ctx context.Context, account string) (string, error) {
	id := s.lockstep.holdOf(account)
	if id == "" {
		return "", nil
	}
	hold, err := s.Owner.HoldByID(ctx, id)
	return hold.State, err
}

// BroughtOn counts the sales that went on because of a delivery of Lockstep.
func (s *Stage) BroughtOn(ctx context.Context) (int64, error) {
	var status hooks.Status
	err := s.call(ctx, http.MethodGet, s.moneyURL()+"/webhooks", nil, &status)
	return status.BroughtOn, err
}

// Forge sends what Lockstep would about the hold of an account, signed by somebody else, and answers with the status.
func (s *Stage) Forge(ctx context.Context, event string, about sale.Sale) (int, error) {
	signer, err := standardwebhooks.NewWebhook("whsec_" + base64.StdEncoding.EncodeToString([]byte(rand.Text())))
	if err != nil {
		return 0, err
	}
	body := fmt.Sprintf(`{"type":%q,"timestamp":"2026-01-31T00:00:00.000000Z","data":{"id":%q,"account":%q,"amount":"%d"}}`,
		event, s.lockstep.holdOf(about.Account), about.Account, about.Amount)
	id, now := rand.Text(), time.Now()
	signature, err := signer.Sign(id, now, []byte(body))
	if err != nil {
		return 0, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.moneyURL()+"/webhooks", strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("webhook-id", id)
	request.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	request.Header.Set("webhook-signature", signature)
	answer, err := s.http.Do(request)
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}
