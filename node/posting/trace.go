package posting

import (
	"context"
	"errors"
	"fmt"
	"time"

	"lockstep/cluster/traces"
	"lockstep/node/ledger"
	"lockstep/node/store"
)

// A traced command has a span of its own in the trace of its request, and in it one for each stage: queue, lock, transaction,
// commit. The stages are those of a batch, which many commands are in: all of them show the same times, and a link leads to the
// batch's own span, which has links to all of them.

// trace begins the span of a task whose request is traced. It ends when the task is settled.
func (t *task) trace(ctx context.Context) {
	if !traces.Traced(ctx) {
		return
	}
	_, t.span = traces.Start(ctx, fmt.Sprintf("%T", t.Operation), traces.Inside)
}

// endTrace ends the task's span with the code that its caller is told, if it failed.
func (t *task) endTrace(outcome Outcome, err error) {
	if !t.span.Traced() {
		return
	}
	if outcome.Replayed {
		t.span.Note("lockstep.replayed", "true")
	}
	if outcome.Refusal != nil {
		t.span.Note("lockstep.code", string(outcome.Refusal.Code))
	}
	if err != nil {
		t.span.Fail(string(ledger.CodeOf(err)))
	}
	t.span.End()
}

// traceBatch ends the time in the queue of a batch's traced tasks and begins the batch's span.
func traceBatch(ctx context.Context, batch []*task, lane ledger.Lane) traces.Span {
	var spans []traces.Span
	for _, t := range batch {
		if t.span.Traced() {
			t.span.Stage("queue", t.queued, "")
			spans = append(spans, t.span)
		}
	}
	if len(spans) == 0 {
		return traces.Span{}
	}
	_, span := traces.Together(ctx, "batch", traces.Inside, spans...)
	span.Count("lockstep.commands", len(batch))
	span.Count("lockstep.lane", lane.Lane)
	return span
}

// stage adds a stage that ends now to the traced tasks.
func stage(tasks []*task, name string, began time.Time, code string) {
	for _, t := range tasks {
		t.span.Stage(name, began, code)
	}
}

// degradedCode says of an error of the lock servers that the batch goes on without them.
func degradedCode(err error) string {
	if err == nil {
		return ""
	}
	return "degraded"
}

// failureCode names why a transaction did not come to its COMMIT.
func failureCode(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, errKeysUsed):
		return "key used"
	case errors.Is(err, errRaced):
		return "raced"
	}
	return classNames[store.ClassOf(err)]
}
