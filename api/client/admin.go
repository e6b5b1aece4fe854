package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// OAuthClient is a program that may call the system.
type OAuthClient struct {
	ClientID  string    `json:"client_id"`
	Name      string    `json:"name"`
	Scopes    []string  `json:"scopes"`
	Owner     string    `json:"owner"` // the principal whose accounts it uses
	CreatedAt time.Time `json:"created_at"`
	RotatedAt time.Time `json:"rotated_at"` // zero: its secret is the first one
	// Secret is in the first answer to CreateClient only. When that answer was lost it is empty; RotateClient makes a
	// new one.
	Secret string `json:"client_secret"`
}

// OAuthClients is a page of clients.
type OAuthClients struct {
	Clients    []OAuthClient `json:"clients"`
	NextCursor string        `json:"next_cursor"`
}

// NewOAuthClient asks for a client. Without an id the system chooses one; without an owner it owns what it opens.
type NewOAuthClient struct {
	ClientID string   `json:"client_id,omitempty"`
	Name     string   `json:"name"`
	Scopes   []string `json:"scopes"`
	Owner    string   `json:"owner,omitempty"`
}

// CreateClient makes a client; see OAuthClient.Secret.
func (c *Client) CreateClient(ctx context.Context, asked NewOAuthClient, options ...Option) (OAuthClient, error) {
	return post[OAuthClient](ctx, c, "/v1/admin/clients", asked, options)
}

// Clients lists the clients of the system.
func (c *Client) Clients(ctx context.Context, page Page, options ...Option) (OAuthClients, error) {
	return get[OAuthClients](ctx, c, "/v1/admin/clients", page.query(), options)
}

// DeleteClient ends a client and, within seconds, its tokens. It takes no key: done twice it is done once.
func (c *Client) DeleteClient(ctx context.Context, id string, options ...Option) error {
	return c.do(ctx, call{method: http.MethodDelete, path: "/v1/admin/clients/" + url.PathEscape(id)}, options, nil)
}

// RotateClient gives a client a new secret and returns it. It is empty when the first answer was lost: then rotate
// again.
func (c *Client) RotateClient(ctx context.Context, id string, options ...Option) (string, error) {
	answer, err := post[struct {
		Secret string `json:"client_secret"`
	}](ctx, c, "/v1/admin/clients/"+url.PathEscape(id)+"/rotate", struct{}{}, options)
	return answer.Secret, err
}

// Node is one node of the system, by its heartbeat.
type Node struct {
	ID         int       `json:"id"`
	Address    string    `json:"address"`
	Version    string    `json:"version"`
	State      string    `json:"state"`
	Alive      bool      `json:"alive"` // its lease has not ended
	StartedAt  time.Time `json:"started_at"`
	SeenAt     time.Time `json:"seen_at"`
	LeaseUntil time.Time `json:"lease_until"`
}

// Nodes lists the nodes of the system.
func (c *Client) Nodes(ctx context.Context, options ...Option) ([]Node, error) {
	answer, err := get[struct {
		Nodes []Node `json:"nodes"`
	}](ctx, c, "/v1/admin/nodes", nil, options)
	return answer.Nodes, err
}

// Locks is what the Redis locks of the answering node are doing.
type Locks struct {
	Enabled  bool         `json:"enabled"`
	Degraded bool         `json:"degraded"` // no quorum: row locks alone keep the order
	Servers  []LockServer `json:"servers"`
	Counts   LockCounts   `json:"counts"`
}

// LockServer is one Redis server.
type LockServer struct {
	Address string    `json:"address"`
	Up      bool      `json:"up"`
	Error   string    `json:"error"`
	Since   time.Time `json:"since"`
	Faults  uint64    `json:"faults"`
}

// LockCounts count sets of locks, and names in them, since the node's start.
type LockCounts struct {
	Sets        uint64 `json:"sets"`
	Unavailable uint64 `json:"unavailable"`
	Held        uint64 `json:"held"`
	Busy        uint64 `json:"busy"`
	Split       uint64 `json:"split"`
	Lost        uint64 `json:"lost"`
}

// Locks reads the state of the locks.
func (c *Client) Locks(ctx context.Context, options ...Option) (Locks, error) {
	return get[Locks](ctx, c, "/v1/admin/locks", nil, options)
}

// System is what a system says of itself to everybody.
type System struct {
	System     string   `json:"system"`
	Version    string   `json:"version"`
	Currencies []string `json:"currencies"`
}

// System tells which system this is.
func (c *Client) System(ctx context.Context, options ...Option) (System, error) {
	var into System
	err := c.do(ctx, call{method: http.MethodGet, path: "/.well-known/lockstep", anonymous: true}, options, &into)
	return into, err
}
