package api

import (
	"context"
	"time"

	"lockstep/cluster/peers"
	"lockstep/node/ledger"
)

// How long a hold lives.
const (
	holdLifeDefault = 7 * 24 * time.Hour
	holdLifeMax     = 30 * 24 * time.Hour
)

type holdRequest struct {
	Account          string  `json:"account"`
	Amount           string  `json:"amount"`
	Currency         string  `json:"currency"`
	To               *string `json:"to,omitempty"`
	ExpiresInSeconds *int64  `json:"expires_in_seconds,omitempty"`
}

type captureRequest struct {
	Amount *string `json:"amount,omitempty"`
	To     *string `json:"to,omitempty"`
}

type voidRequest struct{}

func (x *exchange) postHold() error {
	request, err := decode[holdRequest](x)
	if err != nil {
		return err
	}
	hold, err := request.hold(x)
	if err != nil {
		return err
	}
	return x.submitOnce(hold, request)
}

func (r holdRequest) hold(x *exchange) (ledger.HoldFunds, error) {
	hold := ledger.HoldFunds{ID: ledger.HoldID(x.server.deps.NewID()), Actor: x.actor(), ExpiresIn: holdLifeDefault}
	var err error
	if hold.Account, err = parseNumber("account", r.Account); err != nil {
		return hold, err
	}
	if r.To != nil {
		if hold.To, err = parseNumber("to", *r.To); err != nil {
			return hold, err
		}
	}
	if r.ExpiresInSeconds != nil {
		seconds := *r.ExpiresInSeconds
		if seconds < 1 || seconds > int64(holdLifeMax/time.Second) {
			return hold, ledger.Refuse(ledger.InvalidRequest, "expires_in_seconds is 1 to %d", int64(holdLifeMax/time.Second))
		}
		hold.ExpiresIn = time.Duration(seconds) * time.Second
	}
	hold.Amount, err = parseMoney(r.Amount, r.Currency)
	return hold, err
}

// captureHold reads the hold first, for the account and the payee that the engine has to lock; both never change.
func (x *exchange) captureHold() error {
	request, err := decodeOptional[captureRequest](x)
	if err != nil {
		return err
	}
	hold, err := x.holdToSettle()
	if err != nil {
		return err
	}
	settle := x.settle(hold, ledger.Posted)
	settle.Transfer = ledger.TransferID(x.server.deps.NewID())
	if err := request.complete(&settle, hold); err != nil {
		return err
	}
	return x.submitOnce(settle, request)
}

// complete says to whom and how much. Of a hold that the caller does not see nothing is looked at: the ledger refuses it.
func (r captureRequest) complete(settle *ledger.Settle, hold *ledger.Hold) error {
	if r.To != nil {
		to, err := parseNumber("to", *r.To)
		if err != nil {
			return err
		}
		settle.To = to
	}
	if hold == nil {
		return nil
	}
	if settle.To == "" {
		settle.To = hold.To
	}
	if settle.To == "" {
		return ledger.Refuse(ledger.InvalidRequest, "the hold names no payee: say one in the field to")
	}
	if r.Amount != nil {
		amount, err := parseMoney(*r.Amount, string(hold.Amount.Currency))
		if err != nil {
			return err
		}
		settle.Minor = amount.Minor
	}
	return nil
}

func (x *exchange) voidHold() error {
	request, err := decodeOptional[voidRequest](x)
	if err != nil {
		return err
	}
	hold, err := x.holdToSettle()
	if err != nil {
		return err
	}
	return x.submitOnce(x.settle(hold, ledger.Voided), request)
}

// settle is the end of a hold; one that the caller does not see has no account to lock.
func (x *exchange) settle(hold *ledger.Hold, end ledger.State) ledger.Settle {
	settle := ledger.Settle{Hold: ledger.HoldID(x.param("id")), Actor: x.actor(), End: end}
	if hold != nil {
		settle.Account = ledger.NewNumber(x.server.deps.System, hold.Account)
	}
	return settle
}

// holdToSettle reads the hold of the path, nil when the caller owns none of this id: then the ledger refuses, so that
// the refusal is stored under the key as all others are. A text that is no id does not go that far.
func (x *exchange) holdToSettle() (*ledger.Hold, error) {
	hold, err := x.ownHold(false)
	if ledger.CodeOf(err) == ledger.HoldNotFound && canonicalID(x.param("id")) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &hold, nil
}

func (x *exchange) getHold() error {
	hold, err := x.ownHold(true)
	if err != nil {
		return err
	}
	if hold.State == ledger.Pending && !x.server.deps.Now().Before(hold.ExpiresAt) {
		hold.State = ledger.Expired // the sweeper has not come by yet, but no capture can succeed any more
	}
	return x.answer(200, x.renderer().holdOf(hold))
}

// ownHold reads the hold of the path when it stands on an account of the caller; operators and auditors may look at all.
func (x *exchange) ownHold(looking bool) (hold ledger.Hold, err error) {
	id := x.param("id")
	missing := ledger.Refuse(ledger.HoldNotFound, "there is no hold %s", id)
	if !canonicalID(id) {
		return hold, missing
	}
	err = x.read(missing, func(ctx context.Context, q Queries) error {
		if hold, err = q.Hold(ctx, ledger.HoldID(id)); err != nil {
			return err
		}
		account, err := q.Account(ctx, hold.Account)
		if err != nil {
			return err
		}
		actor := x.actor()
		if !actor.Owns(&account) && !(looking && x.principal.SeesAll()) {
			return missing
		}
		return nil
	})
	return hold, err
}

// canonicalID tells whether a text is a UUID as all systems write them; no row has any other id.
func canonicalID(text string) bool { return peers.IsID(text) }
