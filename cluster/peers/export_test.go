package peers

import (
	"context"
	"time"
)

// ReadFact reads what a statement says.
var ReadFact = readFact

// Bounds.
const (
	FlyingMax    = flyingMax
	BreakerAfter = breakerAfter

	CompanyWaitMax = companyWaitMax
)

// Combiner is a combiner of numbers, each as long as it says.
type Combiner struct{ inside combiner[int, int] }

// NewCombiner makes one.
func NewCombiner(limit, bytesMax int, ask func(ctx context.Context, questions []int) ([]int, error)) *Combiner {
	return &Combiner{combiner[int, int]{ask: ask, limit: limit, bytesMax: bytesMax, size: func(question int) int { return question }}}
}

// Gathers makes requests beside others wait until they have so many questions, or for so long.
func (c *Combiner) Gathers(worth int, patience time.Duration) {
	c.inside.worth, c.inside.patience = worth, patience
}

// Took says how long the last request took.
func (c *Combiner) Took(took time.Duration) {
	c.inside.mu.Lock()
	defer c.inside.mu.Unlock()
	c.inside.took = took
}

// Company is how many questions are expected to come together.
func (c *Combiner) Company() int {
	c.inside.mu.Lock()
	defer c.inside.mu.Unlock()
	return c.inside.company
}

// Do asks.
func (c *Combiner) Do(ctx context.Context, question int) (int, error) {
	return c.inside.do(ctx, question)
}

// Waiting counts the questions that are in no request yet.
func (c *Combiner) Waiting() int {
	c.inside.mu.Lock()
	defer c.inside.mu.Unlock()
	return len(c.inside.waiting)
}

// RefusedWhole is the error of a request that is refused as a whole.
func RefusedWhole(err error) error { return errRefusedWhole{err} }
