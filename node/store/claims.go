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

const (
	claimColumns  = `claim, principal, route, idem_key, fingerprint, command_id, transfer_id, renderer, language, request_id, created_at`
	answerColumns = `status, location, content_type, body`
)

// InsertClaims queues claims of keys that have no row yet, in the order of their ids. The flush waits for other
// transactions that hold one of them, and fails where ClaimTaken says so when one has a row.
func InsertClaims(tx *Tx, rows []ClaimRow) { putClaims(tx, sorted(rows), "") }

// ClaimTaken tells whether InsertClaims met a key that has a row.
func ClaimTaken(err error) bool { return is(err, errorDuplicate) }

// ProposeClaims queues claims of keys that may have a row, which they then keep: ReadClaims tells whose it is, for no
// count of rows can.
func ProposeClaims(tx *Tx, rows []ClaimRow) {
	putClaims(tx, sorted(rows), " ON DUPLICATE KEY UPDATE command_id = command_id")
}

// AnswerClaims queues the answers of claims that this transaction holds. Beyond answerBytesMax it sends what is queued.
func AnswerClaims(ctx context.Context, tx *Tx, rows []ClaimRow) error {
	rest := sorted(rows)
	for len(rest) > 0 {
		count, bytes := 0, 0
		for count < len(rest) && (count == 0 || bytes+rest[count].size() <= answerBytesMax) {
			bytes += rest[count].size()
			count++
		}
		var values bulk
		for _, row := range rest[:count] {
			values.row(append(row.values(), row.answer()...)...)
		}
		values.queue(tx, "INSERT INTO idempotency ("+claimColumns+", "+answerColumns+")", ` ON DUPLICATE KEY UPDATE
			transfer_id = VALUES(transfer_id), renderer = VALUES(renderer), status = VALUES(status),
			location = VALUES(location), content_type = VALUES(content_type), body = VALUES(body)`)
		rest = rest[count:]
		if len(rest) == 0 {
			break
		}
		if _, err := tx.Flush(ctx); err != nil {
			return fmt.Errorf("store answers: %w", err)
		}
	}
	return nil
}

// ReadClaims reads claims by their ids; ids without a row are not in the result. After ProposeClaims the rows are locked,
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
	}, "SELECT "+claimColumns+", "+answerColumns+" FROM idempotency FORCE INDEX (PRIMARY) WHERE claim IN ("+marks(len(ids))+") ORDER BY claim",
		anys(slices.Sorted(slices.Values(ids)))...)
	if err != nil {
		return nil, fmt.Errorf("read claims: %w", err)
	}
	return found, nil
}

// DeleteClaims queues the return of keys, so that no claim is committed without its answer. It is a statement for each:
// of a list, the optimiser may make a scan of the table, which waits for every claim that others have in hand.
func DeleteClaims(tx *Tx, ids []string) {
	for _, id := range slices.Sorted(slices.Values(ids)) {
		tx.queue("DELETE FROM idempotency WHERE claim = ?", id)
	}
}

// size is about what the row adds to a statement.
func (r *ClaimRow) size() int {
	const fixed = 1 << 10
	if r.Answer == nil {
		return fixed
	}
	return fixed + 2*len(r.Answer.Body) // two hexadecimal digits for a byte
}

// sorted copies the rows into the order in which every transaction takes them.
func sorted(rows []ClaimRow) []ClaimRow {
	return slices.SortedFunc(slices.Values(rows), func(a, b ClaimRow) int { return cmp.Compare(a.ID, b.ID) })
}

// putClaims queues claims without the answers that are kept as bytes.
func putClaims(tx *Tx, rows []ClaimRow, onDuplicate string) {
	var values bulk
	for i := range rows {
		values.row(rows[i].values()...)
	}
	values.queue(tx, "INSERT INTO idempotency ("+claimColumns+")", onDuplicate)
}

// values are the row's columns in the order of claimColumns.
func (r *ClaimRow) values() []any {
	claim := &r.Claim
	return []any{
		r.ID, claim.Principal, claim.Route, claim.Key, claim.Fingerprint[:], r.CommandID, nullable(r.TransferID),
		sql.NullInt64{Int64: int64(r.Renderer), Valid: r.TransferID != ""},
		claim.Language, claim.RequestID, r.CreatedAt,
	}
}

// answer are the row's columns in the order of answerColumns.
func (r *ClaimRow) answer() []any {
	if r.Answer == nil {
		return []any{nil, nil, nil, nil}
	}
	body := r.Answer.Body
	if body == nil {
		body = []byte{}
	}
	return []any{r.Answer.Status, r.Answer.Location, r.Answer.ContentType, body}
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
		&claim.Language, &claim.RequestID, &row.CreatedAt, &status, &location, &contentType, &body)
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
