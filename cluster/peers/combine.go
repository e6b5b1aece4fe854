package peers

import (
	"context"
	"errors"
	"sync"
	"time"

	"lockstep/cluster/traces"
)

// combiner gathers questions to one peer: while requests are under way, what comes meanwhile travels together in the next.
// A question that finds none under way leaves at once. Beside others a request leaves when it is worth its signatures and its
// nonce, or when its first question has waited for long enough.
type combiner[Q, A any] struct {
	ask      func(ctx context.Context, questions []Q) ([]A, error)
	size     func(question Q) int // bytes of a question in a request
	limit    int                  // requests under way at a time
	worth    int                  // questions that make a request beside others
	patience time.Duration        // that a question has for company at most; otherwise half the time of a request
	bytesMax int                  // of the questions of one request; a longer one travels alone
	onBatch  func(questions int)

	mu      sync.Mutex
	waiting []*question[Q, A]
	flying  int
	company int           // questions of a late request; a smaller one after it halves that
	took    time.Duration // by the last request
	timer   *time.Timer   // until the patience of those that wait ends; nil when none runs
}

type question[Q, A any] struct {
	ctx    context.Context // its caller's
	asked  Q
	bytes  int
	answer A
	err    error
	done   chan struct{}
}

// Questions come in crowds, for it is batches that the clients' commands were in. The first one of a crowd, which would find no
// request under way, waits a moment for the others.
const (
	companyMin     = 8
	companyShare   = 8 // of the time of a request
	companyWaitMax = 10 * time.Millisecond
)

// errRefusedWhole marks an answer that says no to a whole request: one item may be to blame, so the halves are asked.
type errRefusedWhole struct{ error }

func (e errRefusedWhole) Unwrap() error { return e.error }

// do asks a question and waits for its answer, or for the end of ctx: then the question may still be answered there.
func (c *combiner[Q, A]) do(ctx context.Context, asked Q) (A, error) {
	q := &question[Q, A]{ctx: ctx, asked: asked, bytes: c.size(asked), done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, q)
	c.launch(false)
	c.mu.Unlock()
	select {
	case <-q.done:
		return q.answer, q.err
	case <-ctx.Done():
		var none A
		return none, ctx.Err()
	}
}

// launch sends what waits, if there is room and it is time. The caller holds the lock.
func (c *combiner[Q, A]) launch(impatient bool) {
	for len(c.waiting) > 0 && c.flying < c.limit {
		if len(c.waiting) < c.worth && !impatient && (c.flying > 0 || c.company >= companyMin) {
			c.wait()
			return
		}
		count := c.fitting()
		c.company = max(count, c.company/2)
		batch := c.waiting[:count:count]
		c.waiting = c.waiting[count:]
		if c.timer != nil { // it was theirs; who comes later has patience of their own
			c.timer.Stop()
			c.timer = nil
		}
		c.flying++
		go c.fly(batch)
	}
}

// fitting is how many of the questions that wait go into the next request: at least one.
func (c *combiner[Q, A]) fitting() int {
	count, bytes := 1, c.waiting[0].bytes
	for count < min(len(c.waiting), BatchMax) && bytes+c.waiting[count].bytes <= c.bytesMax {
		bytes += c.waiting[count].bytes
		count++
	}
	return count
}

// wait has what waits sent when its patience ends.
func (c *combiner[Q, A]) wait() {
	if c.timer != nil {
		return
	}
	patience := c.patience
	if c.took > 0 {
		patience = min(c.took/2, patience)
	}
	if c.flying == 0 {
		patience = min(c.took/companyShare, companyWaitMax)
	}
	var timer *time.Timer
	timer = time.AfterFunc(patience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.timer == timer { // or those that it was for have left
			c.timer = nil
			c.launch(true)
		}
	})
	c.timer = timer
}

func (c *combiner[Q, A]) fly(batch []*question[Q, A]) {
	began := time.Now()
	c.send(batch)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = time.Since(began)
	c.flying--
	c.launch(c.flying == 0) // what waits has had company by now
}

// send asks a batch; one that is refused whole is asked again in halves, down to the question that is refused alone.
func (c *combiner[Q, A]) send(batch []*question[Q, A]) {
	questions := make([]Q, len(batch))
	for i, q := range batch {
		questions[i] = q.asked
	}
	if c.onBatch != nil {
		c.onBatch(len(batch))
	}
	ctx, span := together(batch)
	answers, err := c.ask(ctx, questions)
	span.End()
	if whole := (errRefusedWhole{}); errors.As(err, &whole) && len(batch) > 1 {
		c.send(batch[:len(batch)/2])
		c.send(batch[len(batch)/2:])
		return
	}
	for i, q := range batch {
		if q.err = err; err == nil {
			q.answer = answers[i]
		}
		close(q.done)
	}
}

// together is what a request for many runs under. It outlives callers that leave, for the others wait for it too, and is part
// of no trace of theirs but linked to all of them.
func together[Q, A any](batch []*question[Q, A]) (context.Context, traces.Span) {
	var spans []traces.Span
	for _, q := range batch {
		if span := traces.Of(q.ctx); span.Traced() {
			spans = append(spans, span)
		}
	}
	ctx, span := traces.Together(context.WithoutCancel(batch[0].ctx), "prepares", traces.Inside, spans...)
	span.Count("lockstep.transfers", len(batch))
	return ctx, span
}
