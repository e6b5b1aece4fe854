package client

import (
	"context"
	"net/url"
	"strconv"
	"time"
)

// Neighbours are the payment systems that a system knows.
type Neighbours struct {
	System string      `json:"system"`
	Epoch  int64       `json:"epoch"`
	KeyIDs []string    `json:"key_ids"` // the system's own between systems
	Peers  []Neighbour `json:"peers"`
}

// Neighbour is another payment system, and how the answering node last found it.
type Neighbour struct {
	ID        string     `json:"id"`
	BaseURL   string     `json:"base_url"`
	Epoch     int64      `json:"epoch"`
	KeyIDs    []string   `json:"key_ids"` // that are pinned
	Reach     string     `json:"reach"`   // up, down or unknown
	LastError string     `json:"last_error"`
	AskedAt   time.Time  `json:"asked_at"` // zero when the node has not asked it
	ChangedAt time.Time  `json:"changed_at"`
	Exposures []Exposure `json:"exposures"`
}

// Exposure is what a peer owes the system in one currency.
type Exposure struct {
	Currency string `json:"currency"`
	Open     string `json:"open"` // negative when the system owes
	Reserved string `json:"reserved"`
	Credited string `json:"credited"`
	Posted   string `json:"posted"`
	Settled  string `json:"settled"`
	Cap      string `json:"cap"` // empty: there is no bound
}

// Peers lists the systems that this one knows; for operators.
func (c *Client) Peers(ctx context.Context, options ...Option) (Neighbours, error) {
	return get[Neighbours](ctx, c, "/v1/admin/peers", nil, options)
}

// Saga is a transfer between systems as work that is brought to its end. Its id is the transfer's.
type Saga struct {
	ID         string    `json:"id"`
	Kind       string    `json:"kind"`  // remit: the system pays; await: it has promised
	State      string    `json:"state"` // running, compensating, parked, done or failed
	Attempt    int       `json:"attempt"`
	Reason     string    `json:"reason"`  // why the last attempt failed, or why it is parked
	NextAt     time.Time `json:"next_at"` // zero when it has ended or is parked
	LeaseOwner string    `json:"lease_owner"`
	AgeSeconds int64     `json:"age_seconds"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	Payer      string    `json:"payer"`
	Payee      string    `json:"payee"`
	Transfer   *Transfer `json:"transfer"`
}

// Sagas lists sagas that are pending, stuck, parked or done; at most limit, or what the system thinks right for 0.
func (c *Client) Sagas(ctx context.Context, state string, limit int, options ...Option) ([]Saga, error) {
	query := url.Values{"state": {state}}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	answer, err := get[struct {
		Sagas []Saga `json:"sagas"`
	}](ctx, c, "/v1/admin/sagas", query, options)
	return answer.Sagas, err
}

// RetrySaga makes a saga due at once, whether it waits or is parked. One that has ended is refused with invalid_state.
func (c *Client) RetrySaga(ctx context.Context, id string, options ...Option) (Saga, error) {
	return post[Saga](ctx, c, "/v1/admin/sagas/"+url.PathEscape(id)+"/retry", struct{}{}, options)
}

// AbortSaga gives a transfer up that the system pays and has not decided. After the pivot it is refused with invalid_state.
func (c *Client) AbortSaga(ctx context.Context, id string, options ...Option) (Saga, error) {
	return post[Saga](ctx, c, "/v1/admin/sagas/"+url.PathEscape(id)+"/abort", struct{}{}, options)
}

// DeadLetters are the messages that wait for an operator.
type DeadLetters struct {
	Letters []DeadLetter `json:"dead_letters"`
	Broker  string       `json:"broker"` // up, down or none
}

// DeadLetter is one of them.
type DeadLetter struct {
	ID          string    `json:"id"`
	Source      string    `json:"source"` // peer or outbox
	Peer        string    `json:"peer"`
	Types       []string  `json:"types"`
	TransferIDs []string  `json:"transfer_ids"`
	Reason      string    `json:"reason"`
	Attempts    int       `json:"attempts"`
	At          time.Time `json:"at"`
}

// DeadLetters lists them.
func (c *Client) DeadLetters(ctx context.Context, options ...Option) (DeadLetters, error) {
	return get[DeadLetters](ctx, c, "/v1/admin/dead-letters", nil, options)
}

// ReplayDeadLetter has one handled, or published, again.
func (c *Client) ReplayDeadLetter(ctx context.Context, id string, options ...Option) error {
	_, err := post[struct{}](ctx, c, "/v1/admin/dead-letters/"+url.PathEscape(id)+"/replay", struct{}{}, options)
	return err
}
