package e2e_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
)

// A node that is asked for many times what it takes refuses the rest, with a time to come back, and goes on with what it
// took. Refused payments have no effect and may be repeated with their key; reads and readyz have room of their
// own; the node's memory is bounded, and it is as before once the crowd is gone.
func TestANodeRefusesWhatIsMoreThanItTakes(t *testing.T) {
	const (
		takes    = 8
		clients  = 10 * takes
		least    = 300 // payments, and as many refusals
		mostHeap = 200 << 20
	)
	s := shared(t)
	node := s.join(t, map[string]any{"requests_max": takes})
	o := &overload{TB: t, c: s.as(t, s.operator).inHaste().at(node.base), books: newRecord("KRW")}
	for range 6 {
		o.numbers = append(o.numbers, o.books.open(o.c, "1000000"))
	}
	stop := o.crowd(clients)
	defer stop()
	var heap int64
	eventually(t, "payments are made and others refused", func() bool {
		o.c.get("/readyz").expect(t, http.StatusOK, "")
		o.c.posted(o.numbers[0])
		memory := o.c.at(node.admin).metrics()
		heap = max(heap, memory["go_memstats_heap_inuse_bytes"]+memory["go_memstats_stack_inuse_bytes"])
		return o.paid.Load() >= least && o.refused.Load() >= least
	})
	stop()
	if heap > mostHeap || heap == 0 {
		t.Errorf("heap and stacks had %d MiB, want at most %d", heap>>20, mostHeap>>20)
	}
	calm := time.Now()
	o.afterwards(takes)
	counted := o.c.at(node.admin).metric("lockstep_http_overloaded_total")
	t.Logf("%d payments and %d refusals under a crowd of %d, heap and stacks up to %d MiB; as before %v after it",
		o.paid.Load(), o.refused.Load(), clients, heap>>20, time.Since(calm).Round(time.Millisecond))
	if counted != o.refused.Load() {
		t.Errorf("the node counted %d refusals, its clients %d", counted, o.refused.Load())
	}
	o.books.audit(o.c)
	s.verify(t)
}

// overload is a crowd of clients at one node.
type overload struct {
	testing.TB
	c             caller
	books         *record
	numbers       []string
	paid, refused atomic.Int64
}

// crowd pays until stop is called, which may be done twice. Half of the refused payments are given up, the others come again with their key.
func (o *overload) crowd(clients int) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for round := i; ctx.Err() == nil; round++ {
				reference := uuid.NewString()
				for try := round % 2; try < 4 && !o.pay(reference, i, round); try += 2 {
					time.Sleep(5 * time.Millisecond) // sooner than they were asked to, as crowds do
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// pay makes a payment, and tells whether it was made: it may be refused for want of room only.
func (o *overload) pay(reference string, client, round int) bool {
	from, to := pair(client, round, len(o.numbers))
	got := o.c.call(http.MethodPost, "/v1/transfers", o.books.body(reference, o.numbers[from], o.numbers[to], "7"),
		"Idempotency-Key", reference, "Prefer", "wait=30")
	o.books.note(o, reference, o.numbers[from], o.numbers[to], "7", got)
	switch {
	case got.status == http.StatusCreated:
		o.paid.Add(1)
		return true
	case got.status != http.StatusServiceUnavailable || got.field("code") != "overloaded" || got.field("outcome") != "not_applied" ||
		got.field("retry") != "later" || got.header.Get("Retry-After") != "1":
		o.Errorf("a payment is answered with %v and %v", got, got.header)
	}
	o.refused.Add(1)
	return false
}

// afterwards requires that as many clients as the node takes at a time are all served again.
func (o *overload) afterwards(clients int) {
	var wg sync.WaitGroup
	refused := o.refused.Load()
	for i := range clients {
		wg.Go(func() {
			for round := range 5 {
				o.pay(uuid.NewString(), i, round)
			}
		})
	}
	wg.Wait()
	if again := o.refused.Load() - refused; again > 0 {
		o.Errorf("%d payments were refused when the crowd was gone", again)
	}
}
