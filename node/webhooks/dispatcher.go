package webhooks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"lockstep/node/store"
)

// Dispatcher sends what is due. Any number of them share a database: a delivery is in the hands of one at a time, and who dies
// with it only delays it.
type Dispatcher struct {
	config  Config
	db      *store.Store
	secrets Sealer
	sender  *sender
	metrics *metrics
	log     *slog.Logger

	woken chan struct{}
	tried chan store.Tried

	mu               sync.Mutex
	webhooks, owners shares // of attempts under way
	total            int    // of all

	stop                       context.CancelFunc
	looking, sending, settling sync.WaitGroup
	closed                     sync.Once
}

// settlesMax is how many outcomes one transaction writes.
const settlesMax = 64

// Open starts a dispatcher. The end of ctx does not stop it, Close does. The clock is the node's own.
func Open(ctx context.Context, config Config, db *store.Store, secrets Sealer, clock func() time.Time, registry prometheus.Registerer, log *slog.Logger) (*Dispatcher, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("open webhooks: %w", err)
	}
	d := &Dispatcher{
		config: config, db: db, secrets: secrets, sender: newSender(config, clock), log: log,
		woken: make(chan struct{}, 1), tried: make(chan store.Tried, settlesMax),
		webhooks: shares{config.ShareMax, map[string]int{}}, owners: shares{config.OwnerMax, map[string]int{}},
	}
	d.metrics = newMetrics(registry, db)
	ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	d.looking.Go(func() { d.look(ctx) })
	d.settling.Go(d.settle)
	return d, nil
}

// Close stops looking, lets attempts under way end and writes what came of them. It may be called twice.
func (d *Dispatcher) Close() {
	d.closed.Do(func() {
		d.stop()
		d.looking.Wait()
		d.sending.Wait()
		close(d.tried)
		d.settling.Wait()
		d.sender.close()
	})
}

// Wake makes the dispatcher look at once.
func (d *Dispatcher) Wake() {
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// look takes in hand what is due, until ctx ends.
func (d *Dispatcher) look(ctx context.Context) {
	for {
		more, err := d.pass(ctx)
		if err != nil && ctx.Err() == nil {
			d.log.Debug("no deliveries could be taken in hand", "error", err)
		}
		if more && err == nil {
			continue
		}
		poll := d.config.Poll/2 + rand.N(d.config.Poll) //nolint:gosec // it spreads the nodes
		select {
		case <-ctx.Done():
			return
		case <-d.woken:
		case <-time.After(poll):
		}
	}
}

// pass takes as much in hand as there is room for, and tells whether there may be more.
func (d *Dispatcher) pass(ctx context.Context) (more bool, err error) {
	free, busy := d.room()
	if free == 0 || ctx.Err() != nil {
		return false, nil
	}
	began := time.Now()
	var taken []store.Webhook
	claimed, more, err := d.db.ClaimDeliveries(ctx, free, d.config.lease(), busy, func(hook store.Webhook) bool {
		if !d.take(hook.ID, hook.Owner) {
			return false
		}
		taken = append(taken, hook)
		return true
	})
	if err != nil {
		for _, hook := range taken {
			d.leave(hook.ID, hook.Owner)
		}
		return false, err
	}
	for _, c := range claimed {
		d.sending.Go(func() { d.deliver(c, began.Add(d.config.Timeout)) })
	}
	return more, nil
}

// shares counts attempts under way, of which nobody may have more than max.
type shares struct {
	max    int
	inHand map[string]int
}

func (s shares) full(of string) bool { return s.inHand[of] >= s.max }

func (s shares) allFull() (full []string) {
	for of := range s.inHand {
		if s.full(of) {
			full = append(full, of)
		}
	}
	return full
}

func (s shares) leave(of string) {
	if s.inHand[of]--; s.inHand[of] == 0 {
		delete(s.inHand, of)
	}
}

// room tells how many more attempts may begin, and who has as many as they may.
func (d *Dispatcher) room() (free int, busy store.Busy) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.WorkersMax - d.total, store.Busy{Webhooks: d.webhooks.allFull(), Owners: d.owners.allFull()}
}

func (d *Dispatcher) take(webhook, owner string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.webhooks.full(webhook) || d.owners.full(owner) {
		return false
	}
	d.webhooks.inHand[webhook]++
	d.owners.inHand[owner]++
	d.total++
	return true
}

func (d *Dispatcher) leave(webhook, owner string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.webhooks.leave(webhook)
	d.owners.leave(owner)
	d.total--
}

// deliver makes one attempt. No transaction is open meanwhile. After the deadline it is not begun: a process that was stopped
// for longer than its lease must not send what another one has in hand by now.
func (d *Dispatcher) deliver(c store.Claimed, deadline time.Time) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	tried := d.attempt(ctx, c)
	d.leave(c.Webhook, c.Owner)
	d.tried <- tried
}

func (d *Dispatcher) attempt(ctx context.Context, c store.Claimed) store.Tried {
	secret, err := d.secrets.Open(c.Webhook, c.Secret)
	var said answered
	if err == nil {
		said, err = d.sender.send(ctx, c.URL, c.ID, c.Payload, secret)
	} else {
		err = &failure{"the webhook's secret cannot be read", err}
	}
	tried := store.Tried{Claimed: c, State: store.DeliveryDelivered, Status: said.status}
	if err != nil {
		pause, again := d.config.pause(c.Attempts, c.Age, said.after, rand.Float64()) //nolint:gosec // it spreads retries
		tried.State, tried.Pause, tried.Reason = store.DeliveryFailed, pause, err.Error()
		if again {
			tried.State = store.DeliveryPending
		}
	}
	if cause := errors.Unwrap(err); cause != nil {
		d.log.Debug("an event was not delivered", "webhook", c.Webhook, "delivery", c.ID, "reason", tried.Reason, "cause", cause)
	}
	d.metrics.attempt(tried, errors.Is(err, ErrRefused))
	return tried
}

// settle writes what came of attempts, of many together.
func (d *Dispatcher) settle() {
	for first := range d.tried {
		batch := []store.Tried{first}
		for more := true; more && len(batch) < settlesMax; {
			select {
			case next, open := <-d.tried:
				if more = open; open {
					batch = append(batch, next)
				}
			default:
				more = false
			}
		}
		d.write(batch)
		d.Wake() // for successors
	}
}

// writesMax is how often an outcome is tried to be written; then the lease ends, and the event is sent once more.
const writesMax = 5

func (d *Dispatcher) write(batch []store.Tried) {
	ctx, cancel := context.WithTimeout(context.Background(), d.config.Settle)
	defer cancel()
	err := d.db.SettleDeliveries(ctx, batch)
	for try := 1; err != nil && try < writesMax && ctx.Err() == nil; try++ {
		time.Sleep(time.Duration(try) * 200 * time.Millisecond)
		err = d.db.SettleDeliveries(ctx, batch)
	}
	if err != nil {
		d.log.Warn("what came of deliveries could not be written; they are sent again", "error", err, "deliveries", len(batch))
		return
	}
	for webhook := range backAgain(batch) {
		if err := d.db.WakeDeliveries(ctx, webhook); err != nil {
			d.log.Debug("deliveries that rest were not woken", "error", err)
		}
	}
}

// backAgain are webhooks whose receiver has taken what it had not taken before. What else rests after failures need not wait.
func backAgain(batch []store.Tried) map[string]bool {
	webhooks := map[string]bool{}
	for _, t := range batch {
		if t.State == store.DeliveryDelivered && t.Attempts > 1 {
			webhooks[t.Webhook] = true
		}
	}
	return webhooks
}

// Bounds of Forget.
const (
	forgetMax = 1000             // deliveries that one statement deletes
	forgetFor = 20 * time.Second // then the rest is left to the next time
)

// Forget deletes from the log what ended long ago.
func (d *Dispatcher) Forget(ctx context.Context) error {
	for began := time.Now(); time.Since(began) < forgetFor; {
		forgotten, err := d.db.ForgetDeliveries(ctx, d.config.Keep, forgetMax)
		if err != nil || forgotten < forgetMax {
			return err
		}
	}
	return nil
}
