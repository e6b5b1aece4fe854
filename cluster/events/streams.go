package events

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// duplicateWindow is how long the broker remembers message ids.
	duplicateWindow = 2 * time.Minute

	// consumerName is the durable consumer that all nodes of a system share.
	consumerName = "inbound"

	// unackedMax bounds what may be in the hands of all nodes of a system at a time.
	unackedMax = 1024

	// Making streams is tried again after a pause that grows from the first to the second, and looked after in between.
	layoutRetryMin = 100 * time.Millisecond
	layoutRetryMax = 5 * time.Second
	layoutEvery    = time.Minute
	layoutMax      = 20 * time.Second // for all streams; a cluster elects a leader for each
)

func inbound(system string) string      { return "IN-" + system }
func graveyard(system string) string    { return "DEAD-" + system }
func ownEvents(system string) string    { return "EVENTS-" + system }
func letterAt(system, id string) string { return "lockstep.dead." + system + "." + id }
func replayAt(system, id string) string { return "lockstep.replay." + system + "." + id }

// streams are all that a system has. A word with a place of its own stands for dead letters and replays, and they are one
// word shorter than transfers, so that no two streams can claim the same subject.
func (c Config) streams() []jetstream.StreamConfig {
	stream := func(name string, subjects ...string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Subjects: subjects, Storage: jetstream.FileStorage, Replicas: c.Replicas,
			Retention: jetstream.LimitsPolicy, MaxAge: c.MaxAge, Duplicates: duplicateWindow,
			MaxMsgSize: dataMax + headersMax,
		}
	}
	in := stream(inbound(c.System), Transfer("*", c.System, "*"), replayAt(c.System, "*"))
	dead := stream(graveyard(c.System), letterAt(c.System, "*"))
	dead.MaxMsgsPerSubject = 1    // a letter that dies again replaces itself
	dead.MaxMsgSize += headersMax // with why it died
	return []jetstream.StreamConfig{in, dead, stream(ownEvents(c.System), Own(c.System, ">"))}
}

// consumer delivers without limit: a message is given up by a dead letter that is there, never by a count at the broker.
func (c Config) consumer() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: consumerName, AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckWait: c.AckWait, MaxDeliver: -1, MaxAckPending: unackedMax, Replicas: c.Replicas,
	}
}

// keepLayout makes the streams whenever they may be missing, until the Bus is closed.
func (b *Bus) keepLayout() {
	pause := layoutRetryMin
	for {
		wait := layoutEvery
		if b.conn.IsConnected() {
			err := b.makeLayout()
			b.layoutDone(err)
			if err == nil {
				pause = layoutRetryMin
			} else {
				wait, pause = pause, min(2*pause, layoutRetryMax)
			}
		}
		select {
		case <-b.life.Done():
			return
		case <-b.look:
			if wait < layoutEvery && !sleep(b.life, wait) { // a hundred complaints are no reason to hurry
				return
			}
		case <-time.After(wait):
		}
	}
}

// makeLayout may run on all nodes at once: each asks for the same.
func (b *Bus) makeLayout() error {
	ctx, cancel, err := b.bound(b.life, layoutMax)
	if err != nil {
		return err
	}
	defer cancel()
	for _, config := range b.config.streams() {
		if _, err := b.js.CreateOrUpdateStream(ctx, config); err != nil {
			return fmt.Errorf("make stream %s: %w", config.Name, err)
		}
	}
	if _, err := b.js.CreateOrUpdateConsumer(ctx, inbound(b.config.System), b.config.consumer()); err != nil {
		return fmt.Errorf("make the consumer of %s: %w", inbound(b.config.System), err)
	}
	return nil
}

func (b *Bus) layoutDone(err error) {
	b.mu.Lock()
	before := b.layout
	b.layout = err
	b.mu.Unlock()
	switch {
	case b.life.Err() != nil:
	case err != nil:
		b.log.Warn("event streams are not there yet", "error", err)
	case before != nil:
		b.log.Info("event streams are there", "system", b.config.System)
	}
}

// lookAfter asks for a look at the streams soon. It never blocks.
func (b *Bus) lookAfter() {
	select {
	case b.look <- struct{}{}:
	default:
	}
}

// sleep waits unless the context ends first, and tells whether it did wait.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
