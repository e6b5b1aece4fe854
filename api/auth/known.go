package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// ClientFreshFor is how long a node trusts its reading of a client: for so long may a deletion, a rotation or a change
// of scopes, made through another node, be unknown to it.
const ClientFreshFor = 2 * time.Second

// Bounds of the memory of clients.
const (
	clientsKnownMax  = 10_000
	clientReadMax    = time.Second
	clientReadsAtMax = 8               // of refused secrets, at a time
	clientRetryAfter = 1 * time.Second // between readings of a client that fail
)

// knownClient is one reading of a client; it never changes.
type knownClient struct {
	client    Client
	exists    bool
	hash      [sha256.Size]byte
	old       [sha256.Size]byte // the secret before, which is good until oldUntil
	oldUntil  time.Time
	principal string
	owner     string
	readAt    time.Time
	failedAt  time.Time // of a later reading that failed
	failure   error
}

// accepts compares in constant time; for a client that is not there it does the same work.
func (k *knownClient) accepts(secret string, now time.Time) bool {
	hash := sha256.Sum256([]byte(secret))
	current := subtle.ConstantTimeCompare(hash[:], k.hash[:]) == 1
	old := subtle.ConstantTimeCompare(hash[:], k.old[:]) == 1
	return k.exists && (current || old && now.Before(k.oldUntil))
}

// within tells whether now is less than a duration after a time; a clock that was set back makes it false.
func within(now, after time.Time, atMost time.Duration) bool {
	age := now.Sub(after)
	return age >= 0 && age < atMost
}

// knownClients keeps what was read about clients for ClientFreshFor, so that neither requests nor token requests cost a
// statement each.
type knownClients struct {
	db     *sql.DB
	clock  func() time.Time
	logger *slog.Logger

	mu     sync.RWMutex
	byID   map[string]*knownClient
	flight singleflight.Group
	reads  chan struct{} // a place per reading that a refused secret costs
}

// get tells what is known of a client. When the database does not answer it returns the last reading, however old, or
// nil, together with the error; the caller decides what an old reading is good for.
func (k *knownClients) get(ctx context.Context, id string) (*knownClient, error) {
	k.mu.RLock()
	known := k.byID[id]
	k.mu.RUnlock()
	if known != nil {
		now := k.clock()
		if within(now, known.readAt, ClientFreshFor) {
			return known, nil
		}
		if within(now, known.failedAt, clientRetryAfter) {
			return known, known.failure
		}
	}
	// One reading for all who wait; it must not end with the first one's request.
	result, err, _ := k.flight.Do(id, func() (any, error) { return k.read(context.WithoutCancel(ctx), id) })
	if err != nil {
		return k.failed(id, known, err), err
	}
	return result.(*knownClient), nil
}

// getNow reads the client now, whatever is known. Refusing a secret needs it: another node may just have rotated the
// secret or made the client. At most clientReadsAtMax run at a time, since anyone can ask.
func (k *knownClients) getNow(ctx context.Context, id string) (*knownClient, error) {
	select {
	case k.reads <- struct{}{}:
		defer func() { <-k.reads }()
		known, err := k.read(ctx, id)
		if err != nil {
			k.logFailure(id, err)
		}
		return known, err
	case <-ctx.Done():
		return nil, fmt.Errorf("wait to read client %s: %w", id, ctx.Err())
	}
}

func (k *knownClients) read(ctx context.Context, id string) (*knownClient, error) {
	ctx, cancel := context.WithTimeout(ctx, clientReadMax)
	defer cancel()
	known := &knownClient{principal: "client:" + id, readAt: k.clock()}
	known.owner = known.principal
	rows, err := k.db.QueryContext(ctx, "SELECT "+clientColumns+", secret_hash, old_secret_hash, old_secret_until FROM clients WHERE id = ? AND deleted_at IS NULL", id)
	if err != nil {
		return nil, fmt.Errorf("read client %s: %w", id, err)
	}
	defer rows.Close()
	for rows.Next() {
		var hash, old []byte
		var oldUntil sql.NullTime
		if known.client, err = scanClient(rows, &hash, &old, &oldUntil); err != nil {
			return nil, err
		}
		known.exists = copy(known.hash[:], hash) == sha256.Size
		if copy(known.old[:], old) == sha256.Size {
			known.oldUntil = oldUntil.Time
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read client %s: %w", id, err)
	}
	if known.client.Owner != "" {
		known.owner = known.client.Owner
	}
	k.put(id, known)
	return known, nil
}

// failed remembers that a reading failed, so that an outage costs one statement a second and client, not one a request.
func (k *knownClients) failed(id string, known *knownClient, err error) *knownClient {
	k.logFailure(id, err)
	if known == nil {
		return nil
	}
	marked := *known
	marked.failedAt, marked.failure = k.clock(), err
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byID[id] == known {
		k.byID[id] = &marked
	}
	return &marked
}

func (k *knownClients) logFailure(id string, err error) {
	if !errors.Is(err, context.Canceled) {
		k.logger.Warn("cannot read an OAuth client", "client", id, "error", err)
	}
}

// put makes room by dropping any other client when full: a dropped one costs a statement, nothing else.
func (k *knownClients) put(id string, known *knownClient) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before, there := k.byID[id]
	if there && before.readAt.After(known.readAt) {
		return // readings overtake one another
	}
	if !there && len(k.byID) >= clientsKnownMax {
		for other := range k.byID {
			delete(k.byID, other)
			break
		}
	}
	k.byID[id] = known
}
