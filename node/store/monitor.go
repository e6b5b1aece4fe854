package store

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"time"

	"lockstep/rounds"
)

// State is what is known of the servers, for readiness and metrics.
type State struct {
	Source      SourceState
	Replicas    []ReplicaState
	Epoch       int64
	Reconciled  bool
	ClockOffset time.Duration // how far the database's clock is ahead of this node's
}

// SourceState is the last look at the source.
type SourceState struct {
	Address      string
	OK           bool   // it answered and takes writes
	Problem      string // why not
	SemiSync     bool   // a replica acknowledges each commit before it is answered
	SemiSyncAcks int    // replicas that do
}

// ReplicaState is the last look at a replica.
type ReplicaState struct {
	Address   string
	Serving   bool          // it answers reads
	Problem   string        // why not, or what is wrong with its replication
	Behind    time.Duration // the age of what it shows; CheckEvery at most when it is healthy
	IO, Apply bool          // its threads run; both false also when it may not be asked
}

// State tells what the last looks found.
func (s *Store) State() State {
	state := State{Source: s.health.get(), Epoch: s.Epoch(), Reconciled: s.Reconciled(), ClockOffset: time.Duration(s.offset.Load())}
	for _, replica := range s.replicas {
		if found := replica.get(); found.Address != state.Source.Address || len(s.candidates) == 0 {
			state.Replicas = append(state.Replicas, found)
		}
	}
	return state
}

// health is the last look at the source.
type health struct {
	mu    sync.Mutex
	state SourceState
}

func (h *health) get() SourceState {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

func (h *health) set(state SourceState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.state = state
}

// sample is a position that the source had at some time.
type sample struct {
	at       time.Time // this node's clock, before the source was asked
	position string
}

// samples are the source's positions of the last LagMax, oldest first. A replica that has reached one shows all that
// was committed before its time. While the source is away none is added, so that no replica grows older by that.
type samples struct {
	mu   sync.Mutex
	list []sample
}

func (s *samples) add(newest sample, keep time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.list) > 0 && newest.at.Sub(s.list[0].at) > keep {
		s.list = s.list[1:]
	}
	s.list = append(s.list, newest)
}

// get copies the samples, oldest first.
func (s *samples) get() []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]sample(nil), s.list...)
}

// watch looks once at everything and then goes on in the background until Close.
func (s *Store) watch(ctx context.Context) {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop, s.running = stop, running
	s.lookAtSource(ctx)
	var first sync.WaitGroup
	for _, replica := range s.replicas {
		first.Go(func() { replica.look(ctx) })
	}
	first.Wait()
	s.every(s.config.CheckEvery, s.lookAtSource)
	s.every(clockEvery, s.lookAtClock)
	s.watchCandidates()
	for _, replica := range s.replicas {
		s.every(s.config.CheckEvery, replica.look)
	}
}

// every calls look at an interval, one call at a time, until Close.
func (s *Store) every(interval time.Duration, look func(context.Context)) {
	s.ended.Go(func() { rounds.Make(s.running, interval, look) })
}

// lookMax bounds one look, so that a server that hangs is known to hang.
const lookMax = 2 * time.Second

func (s *Store) lookAtSource(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	state := SourceState{Address: s.sourceAddress()}
	at := s.config.Clock()
	position, err := s.askSource(ctx, &state)
	switch {
	case err != nil:
		state.Problem = err.Error()
	case position != "": // without a binary log there is nothing to compare replicas with
		s.samples.add(sample{at, position}, s.config.LagMax)
	}
	s.health.set(state)
}

// askSource fills in the state and answers with the source's position.
func (s *Store) askSource(ctx context.Context, state *SourceState) (string, error) {
	var position sql.NullString
	if err := s.control.QueryRowContext(ctx, s.dialect.position).Scan(&position); err != nil {
		return "", fmt.Errorf("ask the source for its position: %w", err)
	}
	var readOnly bool
	var epoch int64
	var standing string
	err := s.control.QueryRowContext(ctx, "SELECT @@GLOBAL.read_only, epoch, state FROM `system`").Scan(&readOnly, &epoch, &standing)
	if err != nil {
		return "", fmt.Errorf("ask the source for the epoch: %w", err)
	}
	s.setStanding(epoch, standing)
	if err := s.readSemiSync(ctx, state); err != nil {
		return "", err
	}
	state.OK = !readOnly
	if readOnly {
		state.Problem = "the source is read-only"
	}
	return position.String, nil
}

func (s *Store) readSemiSync(ctx context.Context, state *SourceState) error {
	err := each(ctx, s.control, func(rows *sql.Rows) error {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return err
		}
		if name == s.dialect.semiSync {
			state.SemiSync = value == "ON"
			return nil
		}
		_, err := fmt.Sscan(value, &state.SemiSyncAcks)
		return err
	}, "SHOW GLOBAL STATUS WHERE Variable_name IN (?, ?)", s.dialect.semiSync, s.dialect.semiSyncAcks)
	if err != nil {
		return fmt.Errorf("ask the source for its semi-sync state: %w", err)
	}
	state.SemiSync = state.SemiSync && state.SemiSyncAcks > 0
	return nil
}

func (s *Store) lookAtClock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	offset, err := s.measureOffset(ctx)
	if err != nil {
		return // lookAtSource reports a source that does not answer
	}
	s.offset.Store(int64(offset))
	if offset.Abs() > s.config.ClockSkewMax {
		s.config.Logger.Warn("this machine's clock is far from the database's", "offset", offset)
	}
}
