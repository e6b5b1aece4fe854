package sale

import (
	"fmt"
	"sync"
)

// Steps at which a fault can be injected. Those up to Capture take the sale back, those after it are tried again.
const (
	StepToken   = "token"
	StepRecord  = "record"
	StepHold    = "hold"
	StepSeat    = "seat"
	StepCapture = "capture"
	StepExpire  = "expire"
	StepPaid    = "paid"
	StepSold    = "sold"
	StepPush    = "push"
	StepData    = "data"
)

// Faults make steps of single payments fail, for tests and the tour. A nil one makes none fail.
type Faults struct {
	mu   sync.Mutex
	left map[point]int
}

type point struct{ step, payment string }

// Set has a step of a payment fail so many times from now on.
func (f *Faults) Set(step, payment string, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == nil {
		f.left = map[point]int{}
	}
	f.left[point{step, payment}] = times
}

// Left says how many failures of a step are still to come.
func (f *Faults) Left(step, payment string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left[point{step, payment}]
}

// Check fails if the step of the sale is to fail now.
func (f *Faults) Check(step string, s Sale) error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	at := point{step, s.Payment}
	if f.left[at] == 0 {
		return nil
	}
	f.left[at]--
	return fmt.Errorf("injected failure of step %s", step)
}
