package sim

import (
	"container/heap"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// schedule is the simulation's time: one thing happens after the other, in an order that the seed fixes. Code under test
// runs in goroutines, but only ever one of them, and only until it asks for something from outside of itself.
type schedule struct {
	random  *rand.Rand
	now     time.Time
	queue   queue
	order   int
	signals chan signal
}

// begin is when every simulation starts.
var begin = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newSchedule(seed uint64) *schedule {
	return &schedule{random: rand.New(rand.NewPCG(seed, 2)), now: begin, signals: make(chan signal)} //nolint:gosec // it has to repeat
}

// event is something that will happen.
type event struct {
	at    time.Time
	order int
	do    func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at.Before(q[j].at) || q[i].at.Equal(q[j].at) && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// after does something when the time has passed.
func (s *schedule) after(pause time.Duration, do func()) {
	s.order++
	heap.Push(&s.queue, event{s.now.Add(pause), s.order, do})
}

// runUntil lets happen what happens until then.
func (s *schedule) runUntil(end time.Time) {
	for len(s.queue) > 0 && !s.queue[0].at.After(end) {
		next := heap.Pop(&s.queue).(event)
		s.now = next.at
		next.do()
	}
	s.now = end
}

// chance is true in so many of a thousand cases.
func (s *schedule) chance(perMille int) bool { return s.random.IntN(1000) < perMille }

// between draws a time.
func (s *schedule) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.random.Int64N(int64((high-low)/time.Millisecond)+1))*time.Millisecond
}

// actor is one line of work of a node: a request that it serves, a saga that it goes on with, a message in its hands.
type actor struct {
	node   *node
	resume chan bool // false: its node has died
	gone   bool
	ticket int // of what it waits for
}

// signal says that the running actor waits for what start begins or, without it, that it has ended.
type signal struct {
	actor *actor
	start func(answer func(set func()))
}

type actorKey struct{}

// errDied is what an actor sees of the outside once its node has died.
var errDied = errors.New("sim: the node has died")

// spawn starts a line of work at a node.
func (s *schedule) spawn(n *node, work func(ctx context.Context)) {
	a := &actor{node: n, resume: make(chan bool)}
	n.actors = append(n.actors, a)
	ctx := context.WithValue(context.Background(), actorKey{}, a)
	go func() {
		work(ctx)
		s.signals <- signal{actor: a}
	}()
	s.step()
}

// step waits until the running actor waits or ends.
func (s *schedule) step() {
	heard := <-s.signals
	if heard.start == nil {
		n := heard.actor.node
		n.actors = slices.DeleteFunc(n.actors, func(other *actor) bool { return other == heard.actor })
		return
	}
	a, ticket := heard.actor, heard.actor.ticket
	answer := func(set func()) { s.after(a.node.pause(), func() { s.wake(a, ticket, set) }) }
	s.after(a.node.pause(), func() {
		if !a.gone {
			heard.start(answer)
		}
	})
}

// wake gives a waiting actor its answer, the first one only.
func (s *schedule) wake(a *actor, ticket int, set func()) {
	if a.gone || a.ticket != ticket {
		return
	}
	a.ticket++
	set()
	a.resume <- true
	s.step()
}

// kill ends all work of a node, where it waits.
func (s *schedule) kill(n *node) {
	for _, a := range slices.Clone(n.actors) {
		a.gone = true
		a.resume <- false
		s.step()
	}
}

// outside asks for something from outside of the running actor. start begins it, later and on the schedule; whatever it
// answers is set before the actor goes on.
func outside(ctx context.Context, start func(answer func(set func()))) error {
	a := ctx.Value(actorKey{}).(*actor)
	if a.gone {
		return errDied
	}
	a.node.world.signals <- signal{a, start}
	if alive := <-a.resume; !alive {
		return errDied
	}
	return nil
}
