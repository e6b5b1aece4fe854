package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"lockstep/node/ledger"
)

// PeerRow is another payment system that this one exchanges money with.
type PeerRow struct {
	ID         string
	Settlement ledger.AccountID // serial of the system account for what the two owe one another
	BaseURL    string
	JWKS       string // its pinned keys (RFC 7517)
	Epoch      int64  // its epoch as last told
	ChangedAt  time.Time
}

// Peer is the peer as the ledger knows it.
func (p PeerRow) Peer() ledger.Peer { return ledger.Peer{System: p.ID, Settlement: p.Settlement} }

// Peers lists all peers, by id.
func (q *Queries) Peers(ctx context.Context) ([]PeerRow, error) {
	found, err := collect(ctx, q.conn, scanPeer, `SELECT id, settlement, base_url, jwks, epoch, changed_at FROM peers ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("list peers: %w", err)
	}
	return found, nil
}

func scanPeer(rows *sql.Rows) (PeerRow, error) {
	var p PeerRow
	err := rows.Scan(&p.ID, &p.Settlement, &p.BaseURL, &p.JWKS, &p.Epoch, &p.ChangedAt)
	return p, err
}

// settlementsMin is the serial of the first peer's settlement account.
const settlementsMin = 10

// PutPeer makes a peer known, or gives it another address and other keys.
func (s *Store) PutPeer(ctx context.Context, peer PeerRow) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return fmt.Errorf("store peer: %w", err)
	}
	defer tx.Rollback()
	serial := int64(settlementsMin)
	scan := func(rows *sql.Rows) error { return rows.Scan(&serial) }
	if err := tx.Query(ctx, scan, `SELECT COALESCE(MAX(settlement) + 1, ?) FROM peers FOR UPDATE`, settlementsMin); err != nil {
		return fmt.Errorf("store peer: %w", err)
	}
	_, err = tx.Exec(ctx, `INSERT INTO peers (id, settlement, base_url, jwks, epoch, created_at, changed_at)
		VALUES (?, ?, ?, ?, ?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)) ON DUPLICATE KEY UPDATE base_url = VALUES(base_url), jwks = VALUES(jwks),
		epoch = IF(VALUES(epoch) > epoch, VALUES(epoch), epoch), changed_at = VALUES(changed_at)`, peer.ID, serial, peer.BaseURL, peer.JWKS, peer.Epoch)
	if err != nil {
		return fmt.Errorf("store peer: %w", err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("store peer: %w", err)
	}
	return nil
}

// CapPeer bounds what the peer may owe us in a currency, in minor units; nil lifts the bound.
func (s *Store) CapPeer(ctx context.Context, key ledger.ExposureKey, limit *int64) error {
	if err := s.MakeExposure(ctx, key); err != nil {
		return err
	}
	var value sql.NullInt64
	if limit != nil {
		value = sql.NullInt64{Int64: *limit, Valid: true}
	}
	result, err := s.source.ExecContext(ctx, `UPDATE exposures SET cap = ? WHERE peer = ? AND currency = ?`, value, key.Peer, key.Currency)
	if err != nil {
		return fmt.Errorf("cap a peer: %w", err)
	}
	if rows, err := result.RowsAffected(); err != nil || rows != 1 {
		return errors.Join(fmt.Errorf("there is no peer %s", key.Peer), err)
	}
	return nil
}

// RaiseEpoch notes that a peer has begun an epoch, in all its exposures at once: from then on what it said in an earlier
// one changes nothing. A lower or equal epoch changes nothing itself.
func (s *Store) RaiseEpoch(ctx context.Context, peer string, epoch int64) error {
	tx, err := s.Begin(ctx)
	if err != nil {
		return fmt.Errorf("raise the epoch of a peer: %w", err)
	}
	defer tx.Rollback()
	// The peer's row comes first: who makes an exposure meanwhile reads the epoch there, and waits for this one or is seen.
	if _, err := tx.Exec(ctx, `UPDATE peers SET epoch = ? WHERE id = ? AND epoch < ?`, epoch, peer, epoch); err != nil {
		return fmt.Errorf("raise the epoch of a peer: %w", err)
	}
	if _, err := tx.Exec(ctx, `UPDATE exposures SET epoch = ? WHERE peer = ? AND epoch < ?`, epoch, peer, epoch); err != nil {
		return fmt.Errorf("raise the epoch of a peer: %w", err)
	}
	if _, err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("raise the epoch of a peer: %w", err)
	}
	return nil
}

// Exposures lists what peers owe and are owed.
func (q *Queries) Exposures(ctx context.Context) ([]ledger.Exposure, error) {
	found, err := collect(ctx, q.conn, scanExposure, `SELECT `+exposureColumns+` FROM exposures ORDER BY peer, currency`)
	if err != nil {
		return nil, fmt.Errorf("list exposures: %w", err)
	}
	return found, nil
}

// RememberNonce keeps a nonce of a peer's key until a time, and tells whether it is new. What says so is the primary key,
// so that two nodes which get the same request take it once.
func (s *Store) RememberNonce(ctx context.Context, keyID, nonce string, until time.Time) (fresh bool, err error) {
	_, err = s.source.ExecContext(ctx, `INSERT INTO peer_nonces (keyid, nonce, keep_until) VALUES (?, ?, ?)`, keyID, nonce, until.UTC())
	switch {
	case err == nil:
		return true, nil
	case is(err, errorDuplicate):
		return false, nil
	}
	return false, fmt.Errorf("remember a nonce: %w", err)
}

// noncesMax is how many nonces one statement forgets.
const noncesMax = 1000

// ForgetNonces deletes nonces whose time is over, by small deletes.
func (s *Store) ForgetNonces(ctx context.Context) error {
	for {
		result, err := s.source.ExecContext(ctx, `DELETE FROM peer_nonces WHERE keep_until < UTC_TIMESTAMP(6) LIMIT ?`, noncesMax)
		if err != nil {
			return fmt.Errorf("forget nonces: %w", err)
		}
		if rows, err := result.RowsAffected(); err != nil || rows < noncesMax {
			return err
		}
	}
}
