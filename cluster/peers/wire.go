// Package peers is how payment systems speak to each other: the directory of those that are known and of their pinned
// keys, the messages of the protocol, and a client that signs, combines and gives up.
package peers

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/google/uuid"

	"lockstep/cluster/flat"
)

// The states of a result.
const (
	Reserved  = "reserved"  // of a prepare: the amount is promised
	Refused   = "refused"   // of a prepare: it is not, and never will be under this id
	Later     = "later"     // of a prepare: nothing was decided; ask again
	Pending   = "pending"   // of an inquiry, and the three below
	Committed = "committed" //
	Aborted   = "aborted"   //
	Unknown   = "unknown"   //
)

// What an inquiry wants done with ids that nobody knows.
const (
	Report = "report" // tell
	Close  = "close"  // see that they are never prepared or committed
)

// BatchMax is how many transfers one request is about.
const BatchMax = 256

// Account is one side of a transfer.
type Account struct {
	Account string `json:"account"`
}

// Transfer is one prepare.
type Transfer struct {
	ID          string  `json:"id"`
	Payer       Account `json:"payer"`
	Payee       Account `json:"payee"`
	Amount      string  `json:"amount"`
	Currency    string  `json:"currency"`
	ExpiresInMS int64   `json:"expires_in_ms"` // the age at which the payee's system asks; never a licence to decide
	Description string  `json:"description,omitempty"`
	Trace       string  `json:"traceparent,omitempty"` // of this transfer (W3C Trace Context); the request's own header is of all that travel in it
}

// PrepareRequest asks for promises.
type PrepareRequest struct {
	Epoch     int64      `json:"epoch"`
	Transfers []Transfer `json:"transfers"`
}

// PrepareResult is what became of one prepare.
type PrepareResult struct {
	ID    string `json:"id"`
	State string `json:"state"` // Reserved, Refused or Later
	Code  string `json:"code,omitempty"`
	Epoch int64  `json:"epoch,omitempty"` // of the payee's system, of a Reserved
}

// PrepareAnswer has a result for each transfer, in order.
type PrepareAnswer struct {
	Epoch   int64           `json:"epoch"`
	Results []PrepareResult `json:"results"`
}

// InquiryRequest asks how transfers stand that one of the two systems pays.
type InquiryRequest struct {
	Epoch     int64    `json:"epoch"`
	Payer     string   `json:"payer"` // the system
	IDs       []string `json:"ids"`
	IfUnknown string   `json:"if_unknown"` // Report or Close
}

// InquiryResult is how one transfer stands.
type InquiryResult struct {
	ID        string `json:"id"`
	State     string `json:"state"`               // Pending, Committed, Aborted or Unknown
	Statement string `json:"statement,omitempty"` // the payer's signed word, from the payer's system, of a final one
}

// InquiryAnswer has a result for each id, in order.
type InquiryAnswer struct {
	Epoch   int64           `json:"epoch"`
	Results []InquiryResult `json:"results"`
}

// EpochRequest tells that the sender has begun an epoch.
type EpochRequest struct {
	Epoch int64 `json:"epoch"`
}

// EpochAnswer confirms it.
type EpochAnswer struct {
	Epoch int64 `json:"epoch"`
}

// PayeeAnswer tells a payer whom it is about to pay.
type PayeeAnswer struct {
	Epoch    int64  `json:"epoch"`
	Number   string `json:"number"`
	Name     string `json:"name"` // masked
	Currency string `json:"currency"`
}

// Listed is a transfer between two systems as one of them knows it.
type Listed struct {
	ID         string    `json:"id"`
	State      string    `json:"state"` // as of an inquiry
	Payer      Account   `json:"payer"`
	Payee      Account   `json:"payee"`
	Amount     string    `json:"amount"`
	Currency   string    `json:"currency"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	Statement  string    `json:"statement,omitempty"` // what a credit rests on
}

// ListAnswer is a page of transfers.
type ListAnswer struct {
	Epoch      int64    `json:"epoch"`
	Transfers  []Listed `json:"transfers"`
	NextCursor string   `json:"next_cursor,omitempty"`
}

// DigestAnswer stands for the transfers of a range that one system pays to the other and has not given up.
type DigestAnswer struct {
	Epoch  int64  `json:"epoch"`
	Count  int    `json:"count"`
	Digest string `json:"digest"` // as ledger.Digest makes it
}

// Fact is what one system states to another about a transfer, signed over its bytes. It does not expire: it may come late
// and often.
type Fact struct {
	ID          string    `json:"id,omitempty"`
	IDs         []string  `json:"ids,omitempty"` // of a credited, which is about 1 to BatchMax transfers of one currency
	Type        string    `json:"type"`          // transfer.committed, transfer.aborted or transfer.credited
	From        string    `json:"from"`          // the system that states it
	To          string    `json:"to"`            // the system that it is stated to
	Epoch       int64     `json:"epoch"`
	PayeeEpoch  int64     `json:"payee_epoch,omitempty"` // from the promise, of a committed
	Payer       string    `json:"payer,omitempty"`
	Payee       string    `json:"payee,omitempty"`
	Amount      string    `json:"amount,omitempty"`
	Currency    string    `json:"currency,omitempty"`
	Description string    `json:"description,omitempty"`
	Origin      string    `json:"origin,omitempty"` // of a committed: sealed by the payer's system for itself; the payee keeps it with the rest
	At          time.Time `json:"at"`
}

// Transfers lists the ids of the transfers that the fact is about.
func (f Fact) Transfers() []string {
	if f.ID == "" {
		return f.IDs
	}
	return []string{f.ID}
}

// IsID tells whether a text is the id of a transfer as all systems write it: a UUID, in its canonical form (RFC 9562 section 4).
func IsID(text string) bool {
	parsed, err := uuid.Parse(text)
	return err == nil && parsed.String() == text
}

// FactType is the typ of a signed fact.
const FactType = "lockstep-fact+jws"

// readFact reads what a statement says.
func readFact(text []byte) (fact Fact, err error) {
	if !flat.Read(text, fact.take) {
		fact = Fact{}
		err = json.Unmarshal(text, &fact)
	}
	return fact, err
}

// take sets a member; false if it is another than those of a decision, or has another value.
func (f *Fact) take(name, value []byte, number bool) bool {
	var text *string
	var count *int64
	switch string(name) {
	case "id":
		text = &f.ID
	case "type":
		text = &f.Type
	case "from":
		text = &f.From
	case "to":
		text = &f.To
	case "epoch":
		count = &f.Epoch
	case "payee_epoch":
		count = &f.PayeeEpoch
	case "payer":
		text = &f.Payer
	case "payee":
		text = &f.Payee
	case "amount":
		text = &f.Amount
	case "currency":
		text = &f.Currency
	case "description":
		text = &f.Description
	case "origin":
		text = &f.Origin
	case "at":
		return !number && f.At.UnmarshalText(value) == nil
	}
	switch {
	case text != nil && !number:
		*text = string(value)
		return true
	case count != nil && number:
		var err error
		*count, err = strconv.ParseInt(string(value), 10, 64)
		return err == nil
	}
	return false
}
