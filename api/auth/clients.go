package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"lockstep/node/ledger"
)

// Bounds of what a client consists of.
const (
	clientNameMax  = 100 // characters
	ownerMax       = 100
	secretBytes    = 32 // 256 random bits, so that a fast hash is enough
	secretMin      = 32 // characters of a secret that an operator brings
	secretMax      = 512
	clientPageMax  = 200
	clientIDRandom = 10 // bytes of an id that we choose
)

var (
	clientIDForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	principalForm = regexp.MustCompile(`^(client|user):[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$`)
)

// Tx is what changing clients needs of a transaction on the source; *store.Tx is one.
type Tx interface {
	Exec(ctx context.Context, query string, args ...any) (sql.Result, error)
	Query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error
}

// Client is a program that signs in with an id and a secret (RFC 6749, 2).
type Client struct {
	ID        string
	Name      string
	Scopes    Scopes
	Owner     string // the principal it acts for; empty: itself
	CreatedAt time.Time
	RotatedAt time.Time // zero: its secret is the first one
}

// NewClient asks for a client.
type NewClient struct {
	ID     string // letters, digits and . _ -, at most 64; empty: a random one
	Name   string // 1 to 100 characters
	Scopes Scopes // at least one
	Owner  string // a principal, client:<id> or user:<id>; empty: itself
}

// Validate refuses with InvalidRequest. An empty ID is welcome.
func (n NewClient) Validate() error {
	switch {
	case n.ID != "" && !clientIDForm.MatchString(n.ID):
		return ledger.Refuse(ledger.InvalidRequest, "a client id has 1 to 64 letters, digits and . _ -, and starts with a letter or digit")
	case n.Name == "" || !utf8.ValidString(n.Name) || utf8.RuneCountInString(n.Name) > clientNameMax || strings.ContainsFunc(n.Name, unicode.IsControl):
		return ledger.Refuse(ledger.InvalidRequest, "a client's name has 1 to %d characters and no control characters", clientNameMax)
	case n.Scopes == 0 || n.Scopes&^AllScopes != 0:
		return ledger.Refuse(ledger.InvalidRequest, "a client needs at least one of the scopes: %s", AllScopes)
	case n.Owner != "" && (len(n.Owner) > ownerMax || !principalForm.MatchString(n.Owner)):
		return ledger.Refuse(ledger.InvalidRequest, "an owner is a principal such as client:shop or user:alice")
	}
	return nil
}

const clientColumns = "id, name, scopes, owner, created_at, rotated_at"

func scanClient(rows *sql.Rows, more ...any) (Client, error) {
	var client Client
	var scopes string
	var rotated sql.NullTime
	fields := []any{&client.ID, &client.Name, &scopes, &client.Owner, &client.CreatedAt, &rotated}
	if err := rows.Scan(append(fields, more...)...); err != nil {
		return Client{}, fmt.Errorf("scan a client: %w", err)
	}
	client.Scopes, client.RotatedAt = storedScopes(scopes), rotated.Time
	return client, nil
}

// CreateClient adds a client in tx and makes its secret, which nobody can read again: only its SHA-256 is kept. It
// refuses with InvalidRequest, and with InvalidState when the id was ever used: ids are not used again.
func (a *Authority) CreateClient(ctx context.Context, tx Tx, asked NewClient) (Client, string, error) {
	if err := asked.Validate(); err != nil {
		return Client{}, "", err
	}
	id, secret, err := a.newCredentials(asked.ID)
	if err != nil {
		return Client{}, "", err
	}
	hash := sha256.Sum256([]byte(secret))
	client := Client{ID: id, Name: asked.Name, Scopes: asked.Scopes, Owner: asked.Owner, CreatedAt: a.now()}
	_, err = tx.Exec(ctx, `INSERT INTO clients (id, name, secret_hash, scopes, owner, created_at)
		VALUES (?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE id = id`,
		id, client.Name, hash[:], client.Scopes.String(), client.Owner, client.CreatedAt)
	if err != nil {
		return Client{}, "", fmt.Errorf("insert client %s: %w", id, err)
	}
	// Rows affected do not tell a new row from an old one; only the new row carries our secret's hash.
	mine := false
	err = tx.Query(ctx, func(*sql.Rows) error { mine = true; return nil },
		"SELECT id FROM clients WHERE id = ? AND secret_hash = ?", id, hash[:])
	if err != nil {
		return Client{}, "", fmt.Errorf("read client %s back: %w", id, err)
	}
	if !mine {
		return Client{}, "", ledger.Refuse(ledger.InvalidState, "the client id %s is taken; leave it out to get a new one", id)
	}
	return client, secret, nil
}

// newCredentials makes a secret, and an id when none was asked for.
func (a *Authority) newCredentials(id string) (string, string, error) {
	random := make([]byte, secretBytes+clientIDRandom)
	if _, err := io.ReadFull(a.config.Random, random); err != nil {
		return "", "", fmt.Errorf("make a client secret: %w", err)
	}
	if id == "" {
		id = hex.EncodeToString(random[secretBytes:])
	}
	return id, base64.RawURLEncoding.EncodeToString(random[:secretBytes]), nil
}

// ListClients lists the clients that are not deleted by ascending id, those after the given id ("" is all), at most
// limit (1 to 200; anything else is 200).
func (a *Authority) ListClients(ctx context.Context, after string, limit int) ([]Client, error) {
	if limit < 1 || limit > clientPageMax {
		limit = clientPageMax
	}
	rows, err := a.config.DB.QueryContext(ctx, "SELECT "+clientColumns+
		" FROM clients WHERE id > ? AND deleted_at IS NULL ORDER BY id LIMIT ?", after, limit)
	if err != nil {
		return nil, fmt.Errorf("list clients: %w", err)
	}
	defer rows.Close()
	clients := []Client{}
	for rows.Next() {
		client, err := scanClient(rows)
		if err != nil {
			return nil, err
		}
		clients = append(clients, client)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list clients: %w", err)
	}
	return clients, nil
}

// DeleteClient ends a client in tx: within ClientFreshFor every node refuses it new tokens and refuses those it has.
// It refuses with NotFound.
func (a *Authority) DeleteClient(ctx context.Context, tx Tx, id string) error {
	if err := lockClient(ctx, tx, id); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "UPDATE clients SET deleted_at = ? WHERE id = ?", a.now(), id); err != nil {
		return fmt.Errorf("delete client %s: %w", id, err)
	}
	return nil
}

// OverlapMax bounds how long an old secret may stay good beside the new one.
const OverlapMax = 7 * 24 * time.Hour

// RotateClient gives a client a new secret in tx. The one before it stays good for the overlap, and is refused by every
// node within ClientFreshFor after that; one that was replaced earlier is refused at once. Tokens live on to their end. It
// refuses with NotFound.
func (a *Authority) RotateClient(ctx context.Context, tx Tx, id string, overlap time.Duration) (string, error) {
	if err := lockClient(ctx, tx, id); err != nil {
		return "", err
	}
	_, secret, err := a.newCredentials(id)
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256([]byte(secret))
	now := a.now()
	_, err = tx.Exec(ctx, `UPDATE clients SET old_secret_hash = secret_hash, old_secret_until = ?, secret_hash = ?, rotated_at = ?
		WHERE id = ?`, now.Add(min(max(overlap, 0), OverlapMax)), hash[:], now, id)
	if err != nil {
		return "", fmt.Errorf("rotate the secret of client %s: %w", id, err)
	}
	return secret, nil
}

func lockClient(ctx context.Context, tx Tx, id string) error {
	there := false
	err := tx.Query(ctx, func(*sql.Rows) error { there = true; return nil },
		"SELECT id FROM clients WHERE id = ? AND deleted_at IS NULL FOR UPDATE", id)
	if err != nil {
		return fmt.Errorf("lock client %s: %w", id, err)
	}
	if !there {
		return ledger.Refuse(ledger.NotFound, "there is no client %s", id)
	}
	return nil
}

// PutClient makes the client with this id and secret, or makes the one that is there so, a deleted one included. It is
// for operators at the command line; saying it twice changes nothing more. It refuses with InvalidRequest, also a
// secret of fewer than 32 characters: it is hashed once, which is safe for random secrets only. It refuses with
// InvalidState another owner for a client with webhooks.
func (a *Authority) PutClient(ctx context.Context, asked NewClient, secret string) error {
	if err := asked.Validate(); err != nil {
		return err
	}
	if asked.ID == "" {
		return ledger.Refuse(ledger.InvalidRequest, "say the id of the client")
	}
	if len(secret) < secretMin || len(secret) > secretMax {
		return ledger.Refuse(ledger.InvalidRequest,
			"a client secret has %d to %d random characters; `openssl rand -hex 32` makes one", secretMin, secretMax)
	}
	return a.inTx(ctx, func(tx *sql.Tx) error {
		if err := a.writeClient(ctx, tx, asked, secret); err != nil {
			return err
		}
		return checkWebhooks(ctx, tx, asked)
	})
}

func (a *Authority) writeClient(ctx context.Context, tx *sql.Tx, asked NewClient, secret string) error {
	hash, now := sha256.Sum256([]byte(secret)), a.now()
	// Assignments see those before them, so what is compared with the old row comes first.
	_, err := tx.ExecContext(ctx, `INSERT INTO clients (id, name, secret_hash, scopes, owner, created_at)
		VALUES (?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE
		created_at = IF(deleted_at IS NULL, created_at, VALUES(created_at)),
		rotated_at = IF(secret_hash = VALUES(secret_hash), rotated_at, VALUES(created_at)),
		old_secret_hash = NULL, old_secret_until = NULL,
		deleted_at = NULL, name = VALUES(name), secret_hash = VALUES(secret_hash), scopes = VALUES(scopes), owner = VALUES(owner)`,
		asked.ID, asked.Name, hash[:], asked.Scopes.String(), asked.Owner, now)
	if err != nil {
		return fmt.Errorf("put client %s: %w", asked.ID, err)
	}
	return nil
}

// checkWebhooks refuses an owner whom webhooks of the client do not hear of. They cannot just follow: whoever was given their
// events is not sure to be meant to hear of the new owner. The client's row is locked, so that none is made meanwhile.
func checkWebhooks(ctx context.Context, tx *sql.Tx, asked NewClient) error {
	principal, others := "client:"+asked.ID, 0
	err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM webhooks WHERE principal = ? AND owner <> ?", principal, cmp.Or(asked.Owner, principal)).Scan(&others)
	if err != nil {
		return fmt.Errorf("count webhooks of client %s: %w", asked.ID, err)
	}
	if others > 0 {
		return ledger.Refuse(ledger.InvalidState, "the client %s has %d webhooks that hear of another owner's accounts; delete them or the client first", asked.ID, others)
	}
	return nil
}
