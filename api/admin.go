package api

import (
	"context"
	"regexp"
	"strings"
	"time"

	"lockstep/api/auth"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

var clientIDForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

type nodeBody struct {
	ID         int    `json:"id"`
	Address    string `json:"address"`
	Version    string `json:"version"`
	State      string `json:"state"`
	Alive      bool   `json:"alive"` // its lease has not ended
	StartedAt  string `json:"started_at"`
	SeenAt     string `json:"seen_at"`
	LeaseUntil string `json:"lease_until"`
}

// getNodes lists the nodes by their heartbeat rows.
func (x *exchange) getNodes() error {
	var rows []store.NodeRow
	err := x.read(nil, func(ctx context.Context, q Queries) (err error) {
		rows, err = q.Nodes(ctx)
		return err
	})
	if err != nil {
		return err
	}
	nodes, now := make([]nodeBody, 0, len(rows)), x.server.deps.Now()
	for _, row := range rows {
		nodes = append(nodes, nodeBody{
			ID: row.ID, Address: row.Address, Version: row.Version, State: row.State, Alive: now.Before(row.LeaseUntil),
			StartedAt: stamp(row.StartedAt), SeenAt: stamp(row.SeenAt), LeaseUntil: stamp(row.LeaseUntil),
		})
	}
	return x.answer(200, map[string]any{"nodes": nodes})
}

// Locks is what the Redis locks of this node are doing. Counters count since the node's start.
type Locks struct {
	Enabled  bool         `json:"enabled"`
	Degraded bool         `json:"degraded"` // no quorum: row locks alone keep the order
	Servers  []LockServer `json:"servers"`
	Counts   LockCounts   `json:"counts"`
}

// LockServer is one Redis server.
type LockServer struct {
	Address string `json:"address"`
	Up      bool   `json:"up"`
	Error   string `json:"error,omitempty"` // why it is down
	Since   string `json:"since"`           // RFC 3339, when it went up or down
	Faults  uint64 `json:"faults"`          // how often it went down
}

// LockCounts count sets of locks and the names in them.
type LockCounts struct {
	Sets        uint64 `json:"sets"`
	Unavailable uint64 `json:"unavailable"` // sets that found no quorum
	Held        uint64 `json:"held"`        // names granted
	Busy        uint64 `json:"busy"`        // names found in another node's hands
	Split       uint64 `json:"split"`       // names without either quorum
	Lost        uint64 `json:"lost"`        // names held and lost before their release
}

func (x *exchange) getLocks() error {
	x.set("Read-From", string(store.FromSource))
	return x.answer(200, x.server.deps.Locks())
}

type clientBody struct {
	ClientID  string   `json:"client_id"`
	Name      string   `json:"name"`
	Scopes    []string `json:"scopes"`
	Owner     string   `json:"owner"` // the principal whose accounts it uses
	CreatedAt string   `json:"created_at"`
	RotatedAt string   `json:"rotated_at,omitempty"`
}

func clientOf(c auth.Client) clientBody {
	owner := c.Owner
	if owner == "" {
		owner = "client:" + c.ID
	}
	return clientBody{
		ClientID: c.ID, Name: c.Name, Scopes: c.Scopes.Names(), Owner: owner,
		CreatedAt: stamp(c.CreatedAt), RotatedAt: stamp(c.RotatedAt),
	}
}

type clientsBody struct {
	Clients    []clientBody `json:"clients"`
	NextCursor *string      `json:"next_cursor"`
}

func (x *exchange) getClients() error {
	if err := x.checkQuery("limit", "cursor"); err != nil {
		return err
	}
	asked, err := x.page("clients")
	if err != nil {
		return err
	}
	if asked.position != "" && !clientIDForm.MatchString(asked.position) {
		return badCursor()
	}
	ctx, cancel := context.WithTimeout(x.context(), readWaitMax)
	defer cancel()
	// The list has at most pageMax items, so the item beyond the page is asked for only when there is room for it.
	asked.limit = min(asked.limit, pageMax-1)
	clients, err := x.server.deps.Authority.ListClients(ctx, asked.position, asked.limit+1)
	if err != nil {
		return err
	}
	clients, next := cut(asked, clients, func(c auth.Client) string { return c.ID })
	body := clientsBody{Clients: make([]clientBody, 0, len(clients)), NextCursor: next}
	for _, client := range clients {
		body.Clients = append(body.Clients, clientOf(client))
	}
	x.set("Read-From", string(store.FromSource))
	return x.answer(200, body)
}

type newClientRequest struct {
	ClientID *string  `json:"client_id,omitempty"`
	Name     string   `json:"name"`
	Scopes   []string `json:"scopes"`
	Owner    *string  `json:"owner,omitempty"`
}

// secretBody is a client with its secret. The stored answer has none, so that no secret lies in the database: it is
// the one answer that differs from the first when it is repeated.
type secretBody struct {
	clientBody
	Secret *string `json:"client_secret"`
	Notice string  `json:"notice,omitempty"`
}

const secretNotice = "The secret was shown once and is not kept. POST /v1/admin/clients/{id}/rotate makes a new one."

func (x *exchange) postClient() error {
	request, err := decode[newClientRequest](x)
	if err != nil {
		return err
	}
	asked, err := request.client()
	if err != nil {
		return err
	}
	return x.once(request, func(ctx context.Context, tx *store.Tx) (store.Answer, store.Answer, error) {
		client, secret, err := x.server.deps.Authority.CreateClient(ctx, tx, asked)
		if err != nil {
			return store.Answer{}, store.Answer{}, err
		}
		answer, stored := shownOnce(clientOf(client), secret, 201)
		return answer, stored, nil
	})
}

func (r newClientRequest) client() (auth.NewClient, error) {
	scopes, err := auth.ParseScopes(strings.Join(r.Scopes, " "))
	if err != nil {
		return auth.NewClient{}, err
	}
	asked := auth.NewClient{Name: r.Name, Scopes: scopes}
	if r.ClientID != nil {
		asked.ID = *r.ClientID
		if asked.ID == "" {
			return asked, ledger.Refuse(ledger.InvalidRequest, "client_id is empty; leave it out to get a random one")
		}
	}
	if r.Owner != nil {
		asked.Owner = *r.Owner
	}
	return asked, asked.Validate()
}

// shownOnce makes the first answer and the one that is stored for repeats.
func shownOnce(client clientBody, secret string, status int) (answer, stored store.Answer) {
	answer = store.Answer{Status: status, ContentType: jsonType, Body: encode(secretBody{clientBody: client, Secret: &secret})}
	stored = answer
	stored.Body = encode(secretBody{clientBody: client, Notice: secretNotice})
	return answer, stored
}

// deleteClient needs no Idempotency-Key: doing it twice answers 404 and changes nothing more.
func (x *exchange) deleteClient() error {
	id, err := x.clientParam()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.context(), changeWaitMax)
	defer cancel()
	token, err := x.server.deps.Store.Change(ctx, func(ctx context.Context, tx *store.Tx) error {
		if err := x.server.deps.Authority.DeleteClient(ctx, tx, id); err != nil {
			return err
		}
		return x.server.deps.Webhooks.DeleteAll(ctx, tx, "client:"+id)
	})
	if err != nil {
		return err
	}
	return x.writeChange(store.Answer{Status: 204}, false, token)
}

type rotateRequest struct {
	OverlapSeconds *int64 `json:"overlap_seconds,omitempty"`
}

// overlap is how long the old secret stays good.
func (r rotateRequest) overlap() (time.Duration, error) {
	if r.OverlapSeconds == nil {
		return 0, nil
	}
	if seconds := *r.OverlapSeconds; seconds < 0 || seconds > int64(auth.OverlapMax/time.Second) {
		return 0, ledger.Refuse(ledger.InvalidRequest, "overlap_seconds is between 0 and %d", int64(auth.OverlapMax/time.Second))
	}
	return time.Duration(*r.OverlapSeconds) * time.Second, nil
}

type rotatedBody struct {
	ClientID string  `json:"client_id"`
	Secret   *string `json:"client_secret"`
	OldUntil string  `json:"old_secret_until,omitempty"`
	Notice   string  `json:"notice,omitempty"`
}

func (x *exchange) rotateClient() error {
	request, err := decodeOptional[rotateRequest](x)
	if err != nil {
		return err
	}
	overlap, err := request.overlap()
	if err != nil {
		return err
	}
	id, err := x.clientParam()
	if err != nil {
		return err
	}
	return x.once(request, func(ctx context.Context, tx *store.Tx) (answer, stored store.Answer, err error) {
		secret, err := x.server.deps.Authority.RotateClient(ctx, tx, id, overlap)
		if err != nil {
			return store.Answer{}, store.Answer{}, err
		}
		body := rotatedBody{ClientID: id, Secret: &secret}
		if overlap > 0 {
			body.OldUntil = stamp(x.server.deps.Now().Add(overlap))
		}
		answer = store.Answer{Status: 200, ContentType: jsonType, Body: encode(body)}
		stored = answer
		body.Secret, body.Notice = nil, secretNotice
		stored.Body = encode(body)
		return answer, stored, nil
	})
}

func (x *exchange) clientParam() (string, error) {
	id := x.param("id")
	if !clientIDForm.MatchString(id) {
		return "", ledger.Refuse(ledger.NotFound, "there is no such client")
	}
	return id, nil
}
