package posting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/locks"
	"lockstep/node/ledger"
	"lockstep/node/store"
	"lockstep/saga"
)

// Locker takes set locks; *locks.Locker is one.
type Locker interface {
	Acquire(ctx context.Context, names []string) (*locks.Set, error)
	// OnFree sets who hears of names that were refused and may be taken now.
	OnFree(hear func(names []string))
}

// Config bounds the engine.
type Config struct {
	Lanes             int           // of this node
	QueueMax          int           // commands that may wait; more are refused as overloaded
	BatchTransfersMax int           // transfers in one transaction; every other command counts as one
	BatchAccountsMax  int           // accounts in one transaction
	RepeatsMax        int           // tries of one batch after deadlocks and lock wait timeouts
	BackMin           time.Duration // a command of a busy account first returns to the queue for this long, then for twice as long
	BackMax           time.Duration // and so on up to this, each with up to half of it added by chance
	LateRelease       bool          // Redis locks are given back after COMMIT and not once the rows are locked; for benchmarks

	Zone *time.Location // in which the days of limits begin; nil is UTC

	// Announced, if set, hears what each committed batch has written to the outbox, so that it need not wait for the sweeper.
	// It is called by the lane and must not wait.
	Announced func(messages []saga.Message)

	// Payload renders what the webhooks of an owner are sent about a notice; nil: there are no webhooks. Its bytes are kept.
	Payload func(ledger.Notice) []byte
	// Delivering, if set, hears that a committed batch has written something for webhooks. It is called by the lane and must not
	// wait.
	Delivering func()

	// Fault, if set, is called at the points before_commit and after_commit of each batch; an error loses the answer to
	// COMMIT, or the connection before it. Nil outside of tests.
	Fault func(point string) error
}

// DefaultConfig is one lane with batches of 256 transfers.
func DefaultConfig() Config {
	return Config{
		Lanes: 1, QueueMax: 8192, BatchTransfersMax: 256, BatchAccountsMax: 512, RepeatsMax: 3,
		BackMin: 250 * time.Microsecond, BackMax: 8 * time.Millisecond,
	}
}

// Validate refuses bounds that cannot work.
func (c Config) Validate() error {
	if c.Lanes < 1 || c.QueueMax < 1 || c.BatchTransfersMax < 1 || c.BatchAccountsMax < 1 || c.RepeatsMax < 1 {
		return errors.New("posting: lanes, queue, batch sizes and repeats must be at least 1")
	}
	if c.BackMin <= 0 || c.BackMax <= c.BackMin {
		return errors.New("posting: the delay of a busy command must have a range above 0")
	}
	return nil
}

// Identity is what a node writes into its lanes' rows: who it is, and in which life.
type Identity struct {
	Node        int
	Incarnation string
}

// Engine combines commands into batches and posts them. It is safe for many goroutines.
type Engine struct {
	config   Config
	store    *store.Store
	locker   Locker // nil: row locks alone
	identity Identity
	log      *slog.Logger
	metrics  *metrics

	queue *queue
	keys  keys
	lanes sync.WaitGroup

	life    context.Context // ends when the engine gives up waiting for the database
	endLife context.CancelFunc
	lost    chan struct{} // closed when another process owns this node's id
	lose    sync.Once
}

// Open starts the engine's lanes. A nil locker means that row locks alone decide who works on an account.
func Open(ctx context.Context, config Config, db *store.Store, locker Locker, identity Identity, registry prometheus.Registerer, log *slog.Logger) (*Engine, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	e := &Engine{
		config: config, store: db, locker: locker, identity: identity, log: log,
		queue: newQueue(config, db.System()), keys: keys{inHand: map[string]*task{}}, lost: make(chan struct{}),
	}
	e.metrics = newMetrics(registry, e.queue.length)
	e.queue.onReserve = e.metrics.reserved.Inc
	if locker != nil {
		locker.OnFree(e.queue.free)
	}
	e.life, e.endLife = context.WithCancel(context.WithoutCancel(ctx))
	for number := range config.Lanes {
		l := &lane{Engine: e, lane: ledger.Lane{Node: identity.Node, Lane: number}, stripes: map[ledger.AccountID]bool{}, exposed: map[ledger.ExposureKey]bool{}, kept: map[ledger.AccountID]bool{}, mark: unknownMark}
		if err := l.start(ctx); err != nil {
			e.queue.close()
			e.endLife()
			e.lanes.Wait()
			return nil, fmt.Errorf("start lane %d: %w", number, err)
		}
		e.lanes.Go(l.run)
	}
	return e, nil
}

// Lost is closed when another process owns this node's id: the node must exit.
func (e *Engine) Lost() <-chan struct{} { return e.lost }

// Close refuses new commands, finishes what waits and stops the lanes. When ctx ends first, lanes that wait for a lost
// database give up; their callers hear that the outcome is unknown.
func (e *Engine) Close(ctx context.Context) error {
	e.queue.close()
	finished := make(chan struct{})
	go func() { e.lanes.Wait(); close(finished) }()
	defer e.endLife()
	select {
	case <-finished:
		return nil
	case <-ctx.Done():
		e.endLife()
		<-finished
		return ctx.Err()
	}
}

// Submit implements Submitter.
func (e *Engine) Submit(ctx context.Context, command Command) (Outcome, error) {
	t := newTask(command, e.store.System(), time.Now())
	if command.Claim == nil {
		return e.wait(ctx, t)
	}
	for {
		holder := e.keys.enter(t)
		if holder == nil {
			return e.wait(ctx, t)
		}
		select {
		case <-holder.done:
			if outcome, err, known := holder.answerFor(t); known {
				return outcome, err
			}
		case <-ctx.Done():
			return Outcome{}, errInProgress()
		}
	}
}

// wait queues the task and waits for its outcome or for the caller's deadline.
func (e *Engine) wait(ctx context.Context, t *task) (Outcome, error) {
	t.trace(ctx)
	if !e.queue.push(t) {
		e.settle(t, Outcome{}, ledger.Refuse(ledger.Overloaded, "this node takes no more requests at the moment; nothing was applied"), false)
		return t.outcome, t.err
	}
	select {
	case <-t.done:
	case <-ctx.Done():
		switch t.leave() {
		case left:
			e.settle(t, Outcome{}, ledger.Refuse(ledger.Overloaded, "the request waited for its turn until its deadline; nothing was applied"), false)
		case abandoned:
			return Outcome{}, errUnknown()
		}
		<-t.done
	}
	return t.outcome, t.err
}

// settle frees the task's key and makes its outcome known, in this order: who waited for it and goes on by itself must
// not find it again.
func (e *Engine) settle(t *task, outcome Outcome, err error, stored bool) {
	if t.Claim != nil {
		e.keys.leave(t)
	}
	t.endTrace(outcome, err)
	t.settle(outcome, err, stored)
	e.metrics.settled(t, err)
}

// giveBack returns tasks to the queue and settles those whose callers have heard `unknown`: nothing of them was sent in
// a COMMIT, and nobody waits for them. Other tasks with the accounts that are elsewhere wait as long.
func (e *Engine) giveBack(tasks []*task, delay time.Duration, elsewhere ...ledger.AccountID) {
	for _, t := range e.queue.giveBack(tasks, delay, elsewhere) {
		e.settle(t, Outcome{}, errUnknown(), false)
	}
}

// fail stops the engine: this process no longer owns its node id.
func (e *Engine) fail() {
	e.lose.Do(func() { close(e.lost) })
	e.queue.close()
}

func errUnknown() error {
	return ledger.Refuse(ledger.OutcomeUnknown, "the outcome is not known yet; repeat the request with the same key to learn it")
}

func errInProgress() error {
	return ledger.Refuse(ledger.RequestInProgress, "an earlier request with this key is still under way; repeat with the same key to learn its answer")
}

func errSource() error {
	return ledger.Refuse(ledger.SourceUnavailable, "the database does not take writes at the moment; nothing was applied")
}
