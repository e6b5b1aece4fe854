// Package posting is the combining engine: it turns concurrent commands on the same accounts into one database
// transaction and gives each caller its own answer.
package posting

import (
	"context"

	"lockstep/node/ledger"
	"lockstep/node/store"
)

// Renderer turns results into answers. It must be pure: the same version renders the same row to the same bytes for
// ever, because answers about transfers are rendered again, not stored.
type Renderer interface {
	// Version is what new answers are rendered with.
	Version() int
	// Render makes the answer to a result, or to a refusal when that is not nil.
	Render(version int, result ledger.Result, refusal *ledger.Error) store.Answer
}

// Command is one change of balances that waits to be combined with others.
type Command struct {
	Operation ledger.Operation
	Claim     *store.Claim // nil: asked without an idempotency key (PATCH, expiry)
	Renderer  Renderer     // may be nil only when Claim is
}

// Outcome is what became of a command whose COMMIT is known.
type Outcome struct {
	Answer   store.Answer  // empty without a Renderer
	Replayed bool          // the answer is that of an earlier request with the key
	Token    store.Token   // a state that contains the answer
	Result   ledger.Result // of this command; of a replay, the transfer that its answer was rendered from, if any
	Refusal  *ledger.Error // set when this command was refused
}

// Submitter is what the edge needs of the engine.
//
// Submit waits until ctx ends at most. Its errors are *ledger.Error values: Overloaded, SourceUnavailable, Internal
// (nothing was applied), IdempotencyKeyReused, RequestInProgress and OutcomeUnknown (to be asked again with the same
// key). A refusal decided in the transaction is no error: it is an Outcome with its Answer.
type Submitter interface {
	Submit(ctx context.Context, command Command) (Outcome, error)
}
