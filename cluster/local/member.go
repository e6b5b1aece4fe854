package local

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"lockstep/cluster/local/process"
)

// State is what a process of the cluster is doing.
type State string

// The states of a process.
const (
	Starting State = "starting" // not ready yet
	Running  State = "running"
	Frozen   State = "frozen"  // by stop, until cont
	Down     State = "down"    // kept down until start
	Waiting  State = "waiting" // died, and is started again in a moment
)

const (
	probePause  = 25 * time.Millisecond
	probeMax    = 2 * time.Second // one try
	restartMin  = 100 * time.Millisecond
	restartMax  = 1500 * time.Millisecond // "within 2 s" is the promise
	healthyRun  = 5 * time.Second         // after it, a death counts as the first
	logTailMax  = 12
	exitWaitMax = 5 * time.Second // for a killed process to be gone
)

// member is one supervised process of the cluster.
type member struct {
	name    string
	kind    string
	address string // where it listens
	ports   []int
	prepare func(context.Context) error // makes what the first start needs; may be nil
	clear   func() error                // takes away what would hinder a start, each time; may be nil
	spec    process.Spec                // its path is looked up at each start
	stop    syscall.Signal              // asks it to end in good order
	grace   time.Duration               // how long that may take
	probe   func(context.Context) error
	joined  func(context.Context) error // what to do each time it has become ready; may be nil
	report  func(process, text string)

	mu       sync.Mutex
	proc     *process.Process
	state    State
	frozen   State // what it was before Frozen
	down     bool  // wanted down
	restarts int
	since    time.Time
	wake     chan struct{} // tells the supervising goroutine that down changed
	ended    chan struct{} // closed when that goroutine is gone; nil before it starts
}

// start runs the process and waits until it is ready. One that ends before that
// is not tried again: what hinders it now will hinder it then.
func (m *member) start(ctx context.Context, wait time.Duration) error {
	if m.prepare != nil {
		if err := m.prepare(ctx); err != nil {
			return fmt.Errorf("prepare %s: %w", m.name, err)
		}
	}
	m.report(m.name, "starting")
	proc, err := m.launch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if err := m.becomeReady(ctx, proc); err != nil {
		tail := process.LogTail(m.spec.Log, logTailMax)
		return fmt.Errorf("%s did not become ready: %w; the last lines of %s:\n%s", m.name, err, m.spec.Log, tail)
	}
	m.report(m.name, "ready at "+m.address)
	return nil
}

// errKeptDown says that somebody wants the process down: it is not started.
var errKeptDown = errors.New("it is to stay down")

// launch starts the process, unless it is to stay down. A kill comes before it or after it, never between the question and
// the start: it would be told of a process that had ended while the next one was coming up.
func (m *member) launch() (*process.Process, error) {
	spec := m.spec
	var err error
	if spec.Path, err = process.Find(spec.Path); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return nil, errKeptDown
	}
	if m.clear != nil {
		if err := m.clear(); err != nil {
			return nil, err
		}
	}
	proc, err := process.Start(spec)
	if err != nil {
		return nil, err
	}
	m.proc, m.state, m.since = proc, Starting, time.Now()
	return proc, nil
}

// becomeReady probes until the process answers, ends, or the context does.
func (m *member) becomeReady(ctx context.Context, proc *process.Process) error {
	for {
		err := m.tryProbe(ctx)
		if err == nil {
			m.setState(proc, Starting, Running)
			return nil
		}
		select {
		case <-proc.Done():
			return fmt.Errorf("it ended with %s", proc.Ended())
		case <-ctx.Done():
			return err
		case <-time.After(probePause):
		}
	}
}

func (m *member) tryProbe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeMax)
	defer cancel()
	if err := m.probe(ctx); err != nil {
		return err
	}
	if m.joined == nil {
		return nil
	}
	return m.joined(ctx)
}

// setState moves the state of this very process, if nothing else did meanwhile.
func (m *member) setState(proc *process.Process, from, to State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc == proc && m.state == from {
		m.state = to
	}
}

// supervise starts the process again whenever it dies, until the context ends.
func (m *member) supervise(ctx context.Context) {
	ended := make(chan struct{})
	m.mu.Lock()
	m.ended = ended
	m.mu.Unlock()
	go func() {
		defer close(ended)
		delay := restartMin
		for m.awaitEnd(ctx) {
			delay = m.nextDelay(delay)
			if !m.awaitRestart(ctx, delay) {
				return
			}
			m.restart(ctx)
		}
	}()
}

// awaitEnd waits for the death of the process; false means that the context ended.
func (m *member) awaitEnd(ctx context.Context) bool {
	proc := m.current()
	select {
	case <-ctx.Done():
		return false
	case <-proc.Done():
	}
	m.ending(proc)
	if ctx.Err() == nil {
		m.report(m.name, "ended with "+proc.Ended())
	}
	return ctx.Err() == nil
}

// ending notes that the process has ended, unless its successor was started meanwhile.
func (m *member) ending(proc *process.Process) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc != proc {
		return
	}
	m.state = Waiting
	if m.down {
		m.state = Down
	}
}

// nextDelay doubles the pause of a process that dies again and again.
func (m *member) nextDelay(last time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if time.Since(m.since) > healthyRun {
		return restartMin
	}
	return min(2*last, restartMax)
}

// awaitRestart waits until the process may start again.
func (m *member) awaitRestart(ctx context.Context, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	due := false
	for {
		if due && !m.wantedDown() {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			due = true
		case <-m.wake:
			due = true // somebody asked for it: now
		}
	}
}

func (m *member) restart(ctx context.Context) {
	m.mu.Lock()
	m.restarts, m.since = m.restarts+1, time.Now()
	m.mu.Unlock()
	proc, err := m.launch()
	if err != nil { // such as too many processes: the next round tries again
		if !errors.Is(err, errKeptDown) {
			m.report(m.name, err.Error())
		}
		return
	}
	if err := m.becomeReady(ctx, proc); err == nil {
		m.report(m.name, "ready again at "+m.address)
	}
}

func (m *member) current() *process.Process {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.proc
}

func (m *member) wantedDown() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.down
}

// kill ends the process at once and waits until it is gone.
func (m *member) kill(down bool) error {
	m.mu.Lock()
	m.down = m.down || down
	if m.down && m.state == Waiting {
		m.state = Down
	}
	proc := m.proc
	m.mu.Unlock()
	proc.Signal(syscall.SIGKILL)
	select {
	case <-proc.Done():
		m.ending(proc) // who asked for it sees it, also when the supervising goroutine is late
		return nil
	case <-time.After(exitWaitMax):
		return fmt.Errorf("%s was killed but is not gone", m.name)
	}
}

// freeze stops the process where it stands; it keeps its connections and locks.
func (m *member) freeze() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state != Running && m.state != Starting && m.state != Frozen {
		return fmt.Errorf("%s is %s, so it cannot be stopped", m.name, m.state)
	}
	m.proc.Signal(syscall.SIGSTOP)
	process.AwaitStopped(m.proc.PID())
	if m.state != Frozen {
		m.frozen, m.state = m.state, Frozen
	}
	return nil
}

// thaw lets a frozen process go on.
func (m *member) thaw() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.state == Down || m.state == Waiting {
		return fmt.Errorf("%s is %s, so it cannot go on: use start", m.name, m.state)
	}
	m.proc.Signal(syscall.SIGCONT)
	if m.state == Frozen {
		m.state = m.frozen
	}
	return nil
}

// wantUp ends a `kill --down` and waits until the process is ready. One that runs
// is left alone, one that is frozen goes on.
func (m *member) wantUp(ctx context.Context) error {
	m.mu.Lock()
	m.down = false
	frozen := m.state == Frozen
	m.mu.Unlock()
	if frozen {
		return m.thaw()
	}
	return m.awaitReady(ctx, func() bool { return m.snapshot().State == Running })
}

// awaitReady urges the supervising goroutine on until the process is as it should be.
func (m *member) awaitReady(ctx context.Context, ready func() bool) error {
	for !ready() {
		select {
		case m.wake <- struct{}{}:
		case <-time.After(probePause):
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready yet: %w", m.name, context.Cause(ctx))
		}
	}
	return nil
}

// recycle ends the process in good order and waits until its successor is ready.
func (m *member) recycle(ctx context.Context, wait time.Duration) error {
	before := m.current()
	before.Stop(m.stop, m.grace)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return m.awaitReady(ctx, func() bool { return m.current() != before && m.snapshot().State == Running })
}

// end stops the process for good: supervision first, or it would start again.
func (m *member) end() {
	m.mu.Lock()
	ended := m.ended
	m.mu.Unlock()
	if ended != nil {
		<-ended
	}
	proc := m.current()
	if proc == nil {
		return // it was never started
	}
	if !proc.Stop(m.stop, m.grace) {
		m.report(m.name, fmt.Sprintf("did not end within %s and was killed", m.grace))
		return
	}
	m.report(m.name, "stopped")
}

// Status is what `ctl ps` shows of a process.
type Status struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind"`
	State    State     `json:"state"`
	PID      int       `json:"pid,omitempty"`
	Address  string    `json:"address"`
	Since    time.Time `json:"since"` // when it last started
	Restarts int       `json:"restarts"`
}

func (m *member) setKind(kind string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kind = kind
}

func (m *member) snapshot() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{Name: m.name, Kind: m.kind, State: m.state, Address: m.address, Since: m.since, Restarts: m.restarts}
	if m.proc != nil && m.state != Down && m.state != Waiting {
		s.PID = m.proc.PID()
	}
	return s
}
