package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"slices"
	"time"
)

// ClaimRow is an idempotency key's row. It says whose command the key stands for and, from the same commit on, what that
// command's answer was: bytes, or the transfer that the answer is rendered from.
type ClaimRow struct {
	ID         string // Claim.ID()
	Claim      Claim
	CommandID  string // of the command that holds the claim; tells "mine" from another's
	TransferID string // set when the answer is rendered again from this transfer
	Renderer   int    // version that renders it
	Answer     *Answer
	CreatedAt  time.Time // database time
}

// answerBytesMax bounds one statement's answers, below every server's default max_allowed_packet.
const answerBytesMax = 4 << 20

const claimColumns = `claim, principal, route, idem_key, fingerprint, command_id, transfer_id, renderer,
	status, location, content_type, body, language, request_id, created_at`

// InsertClaims claims keys for commands, in the order of their ids, in one statement. It waits for other transactions
// that hold one of them. A key that has a row keeps it: ReadClaims tells whose it is, for no count of rows can. Answers
// are not written yet.
func InsertClaims(ctx context.Context, tx *Tx, rows []ClaimRow) error {
	bare := sorted(rows)
	for i := range bare {
		bare[i].Answer, bare[i].TransferID = nil, ""
	}
	return putClaims(ctx, tx, bare, " ON DUPLICATE KEY UPDATE command_id = command_id")
}

// AnswerClaims stores the answers of claims that this transaction holds: one statement for every answerBytesMax.
func AnswerClaims(ctx context.Context, tx *Tx, rows []ClaimRow) error {
	rest := sorted(rows)
	for len(rest) > 0 {
		count, bytes := 0, 0
		for count < len(rest) && (count == 0 || bytes+rest[count].size() <= answerBytesMax) {
			bytes += rest[count].size()
			count++
		}
		err := putClaims(ctx, tx, rest[:count], ` ON DUPLICATE KEY UPDATE transfer_id = VALUES(transfer_id), renderer = VALUES(renderer),
			status = VALUES(status), location = VALUES(location), content_type = VALUES(content_type), body = VALUES(body)`)
		if err != nil {
			return err
		}
		rest = rest[count:]
	}
	return nil
}

// ReadClaims reads claims by their ids; ids without a row are not in the result. After InsertClaims the rows are locked,
// so what it reads stays.
func ReadClaims(ctx context.Context, tx *Tx, ids []string) (map[string]ClaimRow, error) {
	found := make(map[string]ClaimRow, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	err := tx.Query(ctx, func(rows *sql.Rows) error {
		row, err := scanClaim(rows)
		found[row.ID] = row
		return err
	}, "SELECT "+claimColumns+" FROM idempotency FORCE INDEX (PRIMARY) WHERE claim IN ("+marks(len(ids))+") ORDER BY claim",
		anys(slices.Sorted(slices.Values(ids)))...)
	if err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	return found, nil
}

// DeleteClaims gives keys back, so that no claim is committed without its answer.
func DeleteClaims(ctx context.Context, tx *Tx, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, "DELETE FROM idempotency WHERE claim IN ("+marks(len(ids))+")", anys(slices.Sorted(slices.Values(ids)))...)
	if err != nil {
		return fmt.Errorf("give claims back: %w", err)
	}
	return nil
}

// size is about what the row adds to a statement.
func (r *ClaimRow) size() int {
	const fixed = 1 << 10
	if r.Answer == nil {
		return fixed
	}
	return fixed + 2*len(r.Answer.Body) // quoting may double it
}

// sorted copies the rows into the order in which every transaction takes them.
func sorted(rows []ClaimRow) []ClaimRow {
	return slices.SortedFunc(slices.Values(rows), func(a, b ClaimRow) int { return cmp.Compare(a.ID, b.ID) })
}

func putClaims(ctx context.Context, tx *Tx, rows []ClaimRow, onDuplicate string) error {
	var values bulk
	for i := range rows {
		values.row(rows[i].values()...)
	}
	return values.exec(ctx, tx, "INSERT INTO idempotency ("+claimColumns+")", onDuplicate)
}

// values are the row's columns in the order of claimColumns.
func (r *ClaimRow) values() []any {
	claim := &r.Claim
	values := []any{
		r.ID, claim.Principal, claim.Route, claim.Key, claim.Fingerprint[:], r.CommandID, nullable(r.TransferID), nil,
		nil, nil, nil, nil, claim.Language, claim.RequestID, r.CreatedAt,
	}
	if r.TransferID != "" {
		values[7] = r.Renderer
	}
	if answer := r.Answer; answer != nil {
		body := answer.Body
		if body == nil {
			body = []byte{}
		}
		values[8], values[9], values[10], values[11] = answer.Status, answer.Location, answer.ContentType, body
	}
	return values
}

func scanClaim(rows *sql.Rows) (ClaimRow, error) {
	var (
		row                             ClaimRow
		fingerprint, body               []byte
		transfer, location, contentType sql.NullString
		renderer, status                sql.NullInt64
	)
	claim := &row.Claim
	err := rows.Scan(&row.ID, &claim.Principal, &claim.Route, &claim.Key, &fingerprint, &row.CommandID, &transfer, &renderer,
		&status, &location, &contentType, &body, &claim.Language, &claim.RequestID, &row.CreatedAt)
	if err != nil {
		return row, err
	}
	if len(fingerprint) != sha256.Size {
		return row, fmt.Errorf("claim %s has a fingerprint of %d bytes", row.ID, len(fingerprint))
	}
	copy(claim.Fingerprint[:], fingerprint)
	row.TransferID, row.Renderer = transfer.String, int(renderer.Int64)
	if status.Valid {
		row.Answer = &Answer{int(status.Int64), location.String, contentType.String, body}
	}
	return row, nil
}

func nullable(text string) any {
	if text == "" {
		return nil
	}
	return text
}
