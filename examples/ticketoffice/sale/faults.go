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

// Faults make steps fail, for tests and the tour. A nil one makes none fail.
type Faults struct {
	mu   sync.Mutex
	left map[string]int
}

// Set has a step fail so many times from now on.
func (f *Faults) Set(step string, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left == nil {
		f.left = map[string]int{}
	}
	f.left[step] = times
}

// Left says how many failures of a step are still to come.
func (f *Faults) Left(step string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left[step]
}

// Check fails if the step is to fail now.
func (f *Faults) Check(step string) error {
	if f == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left[step] == 0 {
		return nil
	}
	f.left[step]--
	return fmt.Errorf("injected failure of step %s", step)
}
