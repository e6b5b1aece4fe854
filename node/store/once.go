package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
)

// Bounds of Once.
const (
	onceAttemptsMax = 4
	commitMax       = 10 * time.Second // one COMMIT, also when its caller has left
)

// Work is what runs under a claim, in its transaction. It answers with what the client is told and what is stored for
// repeats, which may differ in a secret. It may run more than once, each time in a new transaction.
type Work func(ctx context.Context, tx *Tx) (answer, stored Answer, err error)

// Once runs work under the claim and stores its answer in the same transaction; a repeat gets the stored answer and
// replayed is true. It is for what the posting engine does not do: the creation of accounts and clients.
//
// Its errors hold a *ledger.Error: a refusal of work, which is rolled back and not stored; IdempotencyKeyReused for
// another request with the key; RequestInProgress when another transaction keeps the key; SourceUnavailable and Internal,
// upon which nothing was applied; OutcomeUnknown when COMMIT got no answer and asking for it did not help.
func (s *Store) Once(ctx context.Context, claim Claim, work Work) (answer Answer, replayed bool, token Token, err error) {
	o := once{store: s, claim: claim, work: work, sent: map[string]Answer{}}
	for attempt := 1; ; attempt++ {
		answer, replayed, token, err = o.attempt(ctx)
		if err == nil || attempt == onceAttemptsMax || !o.again(ctx, err) {
			break
		}
	}
	if err != nil {
		return Answer{}, false, "", o.explain(err)
	}
	return answer, replayed, token, nil
}

// once is a call of Once.
type once struct {
	store *Store
	claim Claim
	work  Work
	sent  map[string]Answer // by command id: whose COMMIT got no answer
}

// errClaimKept says that another transaction held the key for as long as a lock is waited for.
var errClaimKept = errors.New("another transaction holds the key")

// again tells whether another attempt helps. After a COMMIT without an answer the next attempt waits for that
// transaction's end and finds its claim or not: that is how its outcome is learned.
func (o *once) again(ctx context.Context, err error) bool {
	switch {
	case ctx.Err() != nil || isRefusal(err):
		return false
	case errors.Is(err, ErrCommitUnknown):
		return true
	case errors.Is(err, errClaimKept):
		return len(o.sent) > 0
	}
	return ClassOf(err) != ClassCommand
}

func (o *once) attempt(ctx context.Context) (answer Answer, replayed bool, token Token, err error) {
	tx, err := o.store.Begin(ctx)
	if err != nil {
		return Answer{}, false, "", err
	}
	defer func() { _ = tx.Rollback() }()
	row := ClaimRow{ID: o.claim.ID(), Claim: o.claim, CommandID: uuid.NewString(), CreatedAt: o.store.Now()}
	held, err := takeClaim(ctx, tx, row)
	if err != nil {
		return Answer{}, false, "", err
	}
	if _, ours := o.sent[held.CommandID]; !ours {
		clear(o.sent) // their transactions have ended without a trace
	}
	if held.CommandID != row.CommandID {
		return o.settled(ctx, held)
	}
	answer, stored, err := o.work(ctx, tx)
	if err != nil {
		return Answer{}, false, "", err
	}
	row.Answer = &stored
	if err := AnswerClaims(ctx, tx, []ClaimRow{row}); err != nil {
		return Answer{}, false, "", err
	}
	if _, err := tx.Flush(ctx); err != nil {
		return Answer{}, false, "", fmt.Errorf("store the answer: %w", err)
	}
	token, err = o.commit(ctx, tx, row.CommandID, answer)
	return answer, false, token, err
}

// takeClaim claims the key and reads back whose it is.
func takeClaim(ctx context.Context, tx *Tx, row ClaimRow) (ClaimRow, error) {
	ProposeClaims(tx, []ClaimRow{row})
	if _, err := tx.Flush(ctx); err != nil {
		if is(err, errorLockWait) || ctx.Err() != nil {
			return ClaimRow{}, fmt.Errorf("%w: %w", errClaimKept, err)
		}
		return ClaimRow{}, err
	}
	rows, err := ReadClaims(ctx, tx, []string{row.ID})
	if err != nil {
		return ClaimRow{}, err
	}
	held, there := rows[row.ID]
	if !there {
		return ClaimRow{}, fmt.Errorf("the claim %s is gone after it was made", row.ID)
	}
	return held, nil
}

// settled answers from a claim that a transaction before this one committed: ours, whose COMMIT got no answer, or
// another request's.
func (o *once) settled(ctx context.Context, held ClaimRow) (Answer, bool, Token, error) {
	answer, ours := o.sent[held.CommandID]
	switch {
	case !ours && held.Claim.Fingerprint != o.claim.Fingerprint:
		return Answer{}, false, "", ledger.Refuse(ledger.IdempotencyKeyReused, "the key was used for another request")
	case !ours && held.Answer == nil:
		return Answer{}, false, "", fmt.Errorf("the claim %s was committed without its answer", held.ID)
	case !ours:
		answer = *held.Answer
	}
	return answer, !ours, o.store.Position(ctx), nil
}

// commit lets COMMIT end even when the caller has left: an answer that is late is better than one that is unknown.
func (o *once) commit(ctx context.Context, tx *Tx, commandID string, answer Answer) (Token, error) {
	if err := ctx.Err(); err != nil {
		return "", tx.poison(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitMax)
	defer cancel()
	token, err := tx.Commit(ctx)
	if errors.Is(err, ErrCommitUnknown) {
		o.sent[commandID] = answer
	}
	return token, err
}

// explain turns an error into what the client is told.
func (o *once) explain(err error) error {
	refusal := o.refusal(err)
	if refusal == nil {
		return err
	}
	return fmt.Errorf("%w: %w", refusal, err)
}

func (o *once) refusal(err error) *ledger.Error {
	switch {
	case len(o.sent) > 0:
		return ledger.Refuse(ledger.OutcomeUnknown, "the database did not say whether the request was carried out; repeat it with the same key")
	case isRefusal(err):
		return nil
	case errors.Is(err, errClaimKept):
		return ledger.Refuse(ledger.RequestInProgress, "another request with this key is under way")
	case ClassOf(err) == ClassCommand:
		return ledger.Refuse(ledger.Internal, "the request failed; nothing was carried out")
	}
	return unavailable()
}

// Position is a token for all that is committed now, which is what a replay is given.
func (s *Store) Position(ctx context.Context) Token {
	var position sql.NullString
	if err := s.source.QueryRowContext(ctx, s.dialect.position).Scan(&position); err != nil {
		return s.newToken("")
	}
	return s.newToken(position.String)
}
