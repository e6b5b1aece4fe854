// Package points pays with money at Lockstep. Each charge is a hold on the buyer's account that is captured or voided, under
// keys that are on disk before the first request: a lost answer is asked for again, never taken for a failure. Whether money
// has moved is Lockstep's word alone; the row says only what was asked for.
package points

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"lockstep/api/client"
	"lockstep/examples/ticketoffice/sale"
	"lockstep/saga"
)

// States of a charge.
const (
	Intended = "intended" // nobody knows whether there is a hold
	Held     = "held"
	Captured = "captured"
	Voided   = "voided" // there is no hold, or no more
)

// Charge is what a payment asks of Lockstep.
type Charge struct {
	Sale                         sale.Sale
	HoldKey, CaptureKey, VoidKey string
	State                        string
	Hold                         string // its id, once known
	Fresh                        bool   // nothing was sent under HoldKey yet
}

// Desk asks Lockstep.
type Desk struct {
	Client  *client.Client
	Shop    string        // the account that is paid
	Expires time.Duration // of a hold; longer than a payment may take
}

// Intend writes the charge of a sale with its keys, or reads the one that is there.
func Intend(ctx context.Context, tx saga.Tx, s sale.Sale) (Charge, error) {
	mine := rand.Text()
	if _, err := tx.Exec(ctx, `INSERT INTO charges (payment, sale, hold_key, capture_key, void_key, state, created_at)
		VALUES (?, ?, ?, ?, ?, 'intended', UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE payment = payment`,
		s.Payment, s.JSON(), mine, rand.Text(), rand.Text()); err != nil {
		return Charge{}, fmt.Errorf("intend the charge: %w", err)
	}
	charge, err := Read(ctx, tx, s.Payment)
	charge.Fresh = charge.HoldKey == mine
	return charge, err
}

// Read reads the charge of a payment; one that is not there has no state.
func Read(ctx context.Context, tx saga.Tx, payment string) (Charge, error) {
	return read(ctx, tx, "payment = ?", payment)
}

// ByHold reads the charge that a hold was made for; one that is not there has no state.
func ByHold(ctx context.Context, tx saga.Tx, hold string) (Charge, error) {
	return read(ctx, tx, "hold = ?", hold)
}

func read(ctx context.Context, tx saga.Tx, which string, id string) (c Charge, err error) {
	err = tx.Query(ctx, func(rows *sql.Rows) error {
		var about []byte
		if err := rows.Scan(&about, &c.HoldKey, &c.CaptureKey, &c.VoidKey, &c.State, &c.Hold); err != nil {
			return err
		}
		return json.Unmarshal(about, &c.Sale)
	}, `SELECT sale, hold_key, capture_key, void_key, state, hold FROM charges WHERE `+which, id)
	if err != nil {
		return Charge{}, fmt.Errorf("read the charge: %w", err)
	}
	return c, nil
}

// Note writes what became of a charge.
func Note(ctx context.Context, tx saga.Tx, payment, state, hold string) error {
	_, err := tx.Exec(ctx, `UPDATE charges SET state = ?, hold = ? WHERE payment = ?`, state, hold, payment)
	if err != nil {
		return fmt.Errorf("note the charge: %w", err)
	}
	return nil
}

// Hold sets the money aside and returns the hold's id. Only a definite refusal is marked as refused.
func (d *Desk) Hold(ctx context.Context, c Charge) (string, error) {
	under := client.WithKey(c.HoldKey)
	if c.Fresh {
		under = client.WithNewKey(c.HoldKey)
	}
	hold, err := d.Client.Hold(ctx, client.NewHold{
		Account: c.Sale.Account, Amount: strconv.FormatInt(c.Sale.Amount, 10), Currency: sale.Currency, To: d.Shop,
		ExpiresInSeconds: int64(d.Expires.Seconds()),
	}, under)
	if err != nil {
		return "", fmt.Errorf("hold the money: %w", judged(err))
	}
	return hold.ID, nil
}

// Capture pays from the hold: the pivot of a sale.
func (d *Desk) Capture(ctx context.Context, c Charge) error {
	if _, err := d.Client.Capture(ctx, c.Hold, client.Capture{}, client.WithKey(c.CaptureKey)); err != nil {
		return fmt.Errorf("capture the hold: %w", judged(err))
	}
	return nil
}

// Void releases the money of a charge, and tells whether it was paid instead: then nothing can take it back. A hold that
// nobody has heard of is asked for first, under its key, since the request may still be on its way; the charge then has it.
func (d *Desk) Void(ctx context.Context, c *Charge) (paid bool, err error) {
	if c.Hold == "" {
		if c.Hold, err = d.Hold(ctx, *c); saga.IsRefused(err) {
			return false, nil
		} else if err != nil {
			return false, err
		}
	}
	_, err = d.Client.Void(ctx, c.Hold, client.WithKey(c.VoidKey))
	if err == nil {
		return false, nil
	}
	var problem *client.Problem
	if !saga.IsRefused(judged(err)) || !errors.As(err, &problem) {
		return false, fmt.Errorf("void the hold: %w", err)
	}
	state, err := d.State(ctx, *c)
	if err == nil && state == "pending" {
		err = fmt.Errorf("the hold is pending and cannot be voided: %w", problem)
	}
	return state == "posted", err
}

// State asks how the hold of a charge stands: pending, posted, voided or expired.
func (d *Desk) State(ctx context.Context, c Charge) (string, error) {
	hold, err := d.Client.HoldByID(ctx, c.Hold, client.Fresh())
	if err != nil {
		return "", fmt.Errorf("read the hold: %w", err)
	}
	return hold.State, nil
}

// judged marks a refusal. A *client.Problem says that nothing was changed; anything else is unknown.
func judged(err error) error {
	var unknown *client.UnknownError
	var problem *client.Problem
	if !errors.As(err, &unknown) && errors.As(err, &problem) {
		return saga.Refused(err)
	}
	return err
}
