package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// load says how to keep a bank busy.
type load struct {
	name     string
	conns    int           // half of them to each of two nodes
	duration time.Duration // as long as all other loads if 0
	request  maker

	// accept, if set, judges lost connections and answers other than the expected one: nil goes on. Without it the first
	// of them ends the load with an error. Several goroutines call it at once.
	accept func(answer) error
}

// maker appends the next request to an empty buffer and tells the status that its answer must have. The generator is
// the calling goroutine's own.
type maker func(b *bank, random *rand.Rand, buffer []byte) (request []byte, want int)

// answer is what a request got.
type answer struct {
	node   int // it was sent to
	status int // 0 without an answer
	body   []byte
	err    error // the lost connection
	at     time.Duration
	took   time.Duration
}

// run keeps the load's connections busy for its duration.
func (b *bank) run(ctx context.Context, l load) (result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := make([]result, l.conns)
	var wg sync.WaitGroup
	began := time.Now()
	for i := range parts {
		wg.Go(func() {
			if err := b.work(ctx, l, i, began, &parts[i]); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return result{}, fmt.Errorf("%s: %w", l.name, err)
	}
	all := join(parts...)
	all.name, all.conns, all.took = l.name, l.conns, time.Since(began)
	return all, nil
}

// work is one connection's share of a load.
func (b *bank) work(ctx context.Context, l load, index int, began time.Time, into *result) error {
	node := index % len(b.nodes)
	w := newWire(b.nodes[node])
	defer w.close()
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	var request []byte
	var want int
	for ctx.Err() == nil {
		request, want = l.request(b, random, request[:0])
		start := time.Now()
		at := start.Sub(began)
		if at >= l.duration {
			return nil
		}
		status, body, err := w.call(request)
		took := time.Since(start)
		switch {
		case err == nil && status == want:
			into.samples = append(into.samples, sample{at: at + took, took: took, status: status})
		case l.accept != nil:
			into.others++
			if err := l.accept(answer{node: node, status: status, body: body, err: err, at: at + took, took: took}); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			return fmt.Errorf("%w: %d %s", errAnswer, status, body)
		}
	}
	return nil
}

// uniform moves money between any two of all accounts.
func uniform(b *bank, random *rand.Rand, buffer []byte) ([]byte, int) {
	from, to := pair(random, len(b.numbers))
	return b.appendTransfer(buffer, from, to), statusCreated
}

// hotAccount is the one that all transfers of the hot load touch.
const hotAccount = 0

// hotspot pays half into one account and half out of it.
func hotspot(b *bank, random *rand.Rand, buffer []byte) ([]byte, int) {
	other := 1 + random.IntN(len(b.numbers)-1)
	if random.IntN(2) == 0 {
		return b.appendTransfer(buffer, other, hotAccount), statusCreated
	}
	return b.appendTransfer(buffer, hotAccount, other), statusCreated
}

// among moves money between any two of the first count accounts.
func among(count int) maker {
	return func(b *bank, random *rand.Rand, buffer []byte) ([]byte, int) {
		from, to := pair(random, count)
		return b.appendTransfer(buffer, from, to), statusCreated
	}
}

// pair picks two different numbers below count.
func pair(random *rand.Rand, count int) (one, other int) {
	one, other = random.IntN(count), random.IntN(count-1)
	if other >= one {
		other++
	}
	return one, other
}
