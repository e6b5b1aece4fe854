package e2e_test

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"lockstep/node/ledger"
)

// pairing picks the payer and the payee of a client's next payment.
type pairing func(client, round int) (from, to string)

// patientMax is how long a client asks about one payment.
const patientMax = 2 * time.Minute

// crossLoad is a load of clients who pay into the other system, and repeat a payment under its key until its end is known.
type crossLoad struct {
	*record
	x       *crossing
	amount  string
	clients int
	pick    pairing
	callers [2]caller

	made  [4]atomic.Int64 // acknowledged by node, alpha's first
	first atomic.Int64    // acknowledged by the first answer

	mu    sync.Mutex
	heard map[string]int // answers by what they said
}

// load makes a load on the accounts of a record.
func (x *crossing) load(tb testing.TB, books *record, amount string, clients int, pick pairing) *crossLoad {
	tb.Helper()
	l := &crossLoad{record: books, x: x, amount: amount, clients: clients, pick: pick, heard: map[string]int{}}
	for side := range x.sides {
		l.callers[side] = x.on(tb, side).inHaste()
	}
	return l
}

// across lets half of the clients pay between the two accounts that everybody wants, and the others between all.
func across(numbers [2][]string) pairing {
	return func(client, round int) (from, to string) {
		side, places := client%2, [2]int{}
		if client%4 >= 2 {
			places = [2]int{1 + (client+round)%(len(numbers[0])-1), 1 + (client+3*round)%(len(numbers[1])-1)}
		}
		return numbers[side][places[side]], numbers[1-side][places[1-side]]
	}
}

// start begins to pay until stop is called, which returns when each payment has come to its end.
func (l *crossLoad) start(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for client := range l.clients {
		all.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				from, to := l.pick(client, round)
				l.pay(t, (client/2+round)%2, from, to)
			}
		})
	}
	stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(stop)
	return stop
}

// pay makes one payment, and asks at the system's nodes in turn until it hears what became of it.
func (l *crossLoad) pay(tb testing.TB, node int, from, to string) {
	side := slices.Index(l.x.options.Systems, ledger.Number(from).System())
	reference, end := uuid.NewString(), time.Now().Add(patientMax)
	body := l.body(reference, from, to, l.amount)
	body["description"] = reference // the other system hears it, and can tell it to one that has forgotten the payment
	for try := 0; time.Now().Before(end); try++ {
		place := (node + try) % 2
		c := l.callers[side]
		got := c.at(c.site.nodes[place]).call(http.MethodPost, "/v1/transfers", body, "Idempotency-Key", reference, "Prefer", "wait=12")
		l.note(tb, reference, from, to, l.amount, got)
		kind, definite := heardIn(got)
		l.mu.Lock()
		l.heard[kind]++
		l.mu.Unlock()
		switch {
		case got.status == http.StatusCreated && try == 0:
			l.first.Add(1)
			fallthrough
		case got.status == http.StatusCreated:
			l.made[2*side+place].Add(1)
		}
		if definite {
			return
		}
		time.Sleep(50 * time.Millisecond) // its client has better things to do meanwhile
	}
	tb.Errorf("the outcome of payment %s stays unknown", reference)
}

// heardIn tells what an answer says, and whether it settles the payment: all else is asked about under the same key.
func heardIn(got answer) (kind string, definite bool) {
	switch {
	case got.err != nil:
		return "no answer", false
	case got.status < http.StatusBadRequest:
		return http.StatusText(got.status), got.status == http.StatusCreated
	}
	code := got.field("code")
	return code, got.status == http.StatusUnprocessableEntity || code == "peer_unavailable" && got.field("retry") == "new-key"
}

func (l *crossLoad) total() (sum int64) {
	for i := range l.made {
		sum += l.made[i].Load()
	}
	return sum
}

// flows waits until so many more payments were acknowledged by each of the nodes, by their places.
func (l *crossLoad) flows(tb testing.TB, more int64, nodes ...int) {
	tb.Helper()
	var before [4]int64
	for i := range before {
		before[i] = l.made[i].Load()
	}
	eventually(tb, "payments are made", func() bool {
		return !slices.ContainsFunc(nodes, func(i int) bool { return l.made[i].Load() < before[i]+more })
	})
}

// expect requires that each node has made payments and that clients heard nothing but these answers.
func (l *crossLoad) expect(t *testing.T, leastPerNode int64, answers ...string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("made %d + %d by alpha's nodes, %d + %d by beta's; heard %v",
		l.made[0].Load(), l.made[1].Load(), l.made[2].Load(), l.made[3].Load(), l.heard)
	for i := range l.made {
		if made := l.made[i].Load(); made < leastPerNode {
			t.Errorf("node %d of both systems' made %d payments, want at least %d", i+1, made, leastPerNode)
		}
	}
	for kind, times := range l.heard {
		if !slices.Contains(append(answers, "Created"), kind) {
			t.Errorf("clients heard %q %d times", kind, times)
		}
	}
}

// series reads a counter of a node, by the value of its first label.
func (c caller) series(name string) map[string]int64 {
	c.Helper()
	values := map[string]int64{}
	got := c.get("/metrics").expect(c, http.StatusOK, "")
	for line := range strings.Lines(string(got.body)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if found, labels, _ := strings.Cut(series, "{"); found == name {
			_, label, _ := strings.Cut(labels, `="`)
			label, _, _ = strings.Cut(label, `"`)
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				c.Fatalf("read metric %s: %v", line, err)
			}
			values[label] += int64(number)
		}
	}
	return values
}
