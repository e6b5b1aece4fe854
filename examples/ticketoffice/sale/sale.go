// Package sale says what the parts of the ticket office tell each other about: one buyer pays one reserved seat.
package sale

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Currency of all prices.
const Currency = "KRW"

// Sale is one payment of one seat. It travels with every event, so that a part needs to ask nobody.
type Sale struct {
	Payment     string `json:"payment"` // a UUID that the buyer chose: it makes repeats harmless
	Token       string `json:"token"`
	Buyer       string `json:"buyer"`
	Account     string `json:"account"` // the buyer's, at Lockstep
	Concert     string `json:"concert"`
	Seat        int    `json:"seat"`
	Reservation string `json:"reservation"`
	Amount      int64  `json:"amount"` // in minor units of Currency
}

// Validate refuses what no part could work with.
func (s Sale) Validate() error {
	for name, id := range map[string]string{"payment": s.Payment, "token": s.Token, "reservation": s.Reservation} {
		if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
			return fmt.Errorf("%s must be a UUID in small letters", name)
		}
	}
	switch {
	case s.Buyer == "" || len(s.Buyer) > 64 || s.Concert == "" || len(s.Concert) > 64:
		return errors.New("buyer and concert must have 1 to 64 characters")
	case s.Account == "" || s.Seat < 1 || s.Amount < 1:
		return errors.New("account, seat and amount must be set")
	}
	return nil
}

// JSON is the sale as it is stored, the same for the same sale.
func (s Sale) JSON() []byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers always have a JSON form
	}
	return text
}

// Event is what one part tells another.
type Event struct {
	Sale   Sale   `json:"sale"`
	Reason string `json:"reason,omitempty"` // why the sale is being undone
}
