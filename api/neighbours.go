package api

import (
	"context"

	"lockstep/api/httpsig"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

type peersBody struct {
	System string     `json:"system"`
	Epoch  int64      `json:"epoch"`
	KeyIDs []string   `json:"key_ids"`
	Peers  []peerBody `json:"peers"`
}

// peerBody is another payment system as an operator sees it.
type peerBody struct {
	ID        string         `json:"id"`
	BaseURL   string         `json:"base_url"`
	Epoch     int64          `json:"epoch"`
	KeyIDs    []string       `json:"key_ids"`
	Reach     string         `json:"reach"` // up, down, or unknown: this node has not asked it yet
	LastError string         `json:"last_error,omitempty"`
	AskedAt   string         `json:"asked_at,omitempty"`
	ChangedAt string         `json:"changed_at"`
	Exposures []exposureBody `json:"exposures"`
}

// exposureBody is what a peer owes in one currency.
type exposureBody struct {
	Currency ledger.Currency `json:"currency"`
	Open     string          `json:"open"`
	Reserved string          `json:"reserved"`
	Credited string          `json:"credited"`
	Posted   string          `json:"posted"`
	Settled  string          `json:"settled"`
	Cap      string          `json:"cap,omitempty"` // absent: there is no bound
}

func exposureOf(e ledger.Exposure) exposureBody {
	decimal := func(minor int64) string { return ledger.Money{Minor: minor, Currency: e.Currency}.Decimal() }
	body := exposureBody{
		Currency: e.Currency, Open: decimal(e.Open()), Reserved: decimal(e.Reserved), Credited: decimal(e.Credited),
		Posted: decimal(e.Posted), Settled: decimal(e.Settled),
	}
	if e.Capped {
		body.Cap = decimal(e.Cap)
	}
	return body
}

// getPeers shows an operator the systems that this one knows.
func (x *exchange) getPeers() error {
	p, err := x.peers()
	if err != nil {
		return err
	}
	var rows []store.PeerRow
	var exposures []ledger.Exposure
	err = x.read(nil, func(ctx context.Context, q Queries) (err error) {
		if rows, err = q.Peers(ctx); err != nil {
			return err
		}
		exposures, err = q.Exposures(ctx)
		return err
	})
	if err != nil {
		return err
	}
	body := peersBody{System: x.server.deps.System, Epoch: p.Epoch(), KeyIDs: keyIDs(p.Directory.JWKS()), Peers: []peerBody{}}
	for _, row := range rows {
		body.Peers = append(body.Peers, p.neighbour(row, exposures))
	}
	return x.answer(200, body)
}

func (p *Peers) neighbour(row store.PeerRow, exposures []ledger.Exposure) peerBody {
	body := peerBody{
		ID: row.ID, BaseURL: row.BaseURL, Epoch: row.Epoch, KeyIDs: keyIDs([]byte(row.JWKS)), Reach: "unknown", ChangedAt: stamp(row.ChangedAt),
		Exposures: []exposureBody{},
	}
	if last, asked := p.Client.Last(row.ID); asked {
		body.Reach, body.AskedAt = "up", stamp(last.At)
		if last.Err != nil {
			body.Reach, body.LastError = "down", last.Err.Error()
		}
	}
	for _, exposure := range exposures {
		if exposure.Peer == row.ID {
			body.Exposures = append(body.Exposures, exposureOf(exposure))
		}
	}
	return body
}

// keyIDs names the keys of a set; one that cannot be read shows none, for none of it is believed.
func keyIDs(jwks []byte) []string {
	keys, _ := httpsig.ParseJWKS(jwks)
	ids := make([]string, len(keys))
	for i, key := range keys {
		ids[i] = key.KeyID
	}
	return ids
}
